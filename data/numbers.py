"""Numbers and their English words, a pair a line: FOLDER/train.tsv and FOLDER/test.tsv, without a
number in both. Usage: numbers.py FOLDER [PAIRS TESTS SEED], by default 20000 1000 1."""

import pathlib
import random
import sys

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def words(n):
    """0 to 999,999 in words."""
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10 - 2] + ("-" + ONES[n % 10] if n % 10 else "")
    name, unit = ("thousand", 1000) if n >= 1000 else ("hundred", 100)
    return words(n // unit) + " " + name + (" " + words(n % unit) if n % unit else "")


def main(folder, pairs=20000, tests=1000, seed=1):
    numbers = random.Random(int(seed)).sample(range(1000000), int(pairs) + int(tests))
    parts = {"train": numbers[: int(pairs)], "test": numbers[int(pairs) :]}
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, part in parts.items():
            lines = [f"{n}\t{words(n)}\n" for n in part]
            (folder / f"{name}.tsv").write_text("".join(lines))
    except OSError as error:
        sys.exit(f"numbers.py: {error}. Give a folder that can be written.")


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
