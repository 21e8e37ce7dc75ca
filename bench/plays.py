"""Comedy or tragedy of a play of which no line was learnt from: each play of FOLDER, made by
data/speeches.py, is scored by a model of all the others. Usage: plays.py FOLDER [OPTION OF TRAIN ...]"""

import json
import pathlib
import subprocess
import sys
import tempfile

TRAIN = ["./puck", "train", "--preset", "shakespeare-classify", "--val-fraction", "0", "--quiet"]
EVAL = ["./puck", "eval", "--split", "all", "--json"]


def score(play, others, work, options):
    """(texts, accuracy)"""
    data, run = work / f"{play.stem}.tsv", work / play.stem
    data.write_text("".join(other.read_text(encoding="utf-8") for other in others), encoding="utf-8")
    subprocess.run([*TRAIN, *options, "--data", data, "--run", run], check=True)
    result = subprocess.run([*EVAL, "--from", run, "--data", play], check=True, capture_output=True)
    line = json.loads(result.stdout)
    return line["texts"], line["accuracy"]


def main(folder, *options):
    plays = sorted(pathlib.Path(folder, "plays").glob("*.tsv"))
    n_all = right = 0
    with tempfile.TemporaryDirectory() as work:
        for play in plays:
            others = [other for other in plays if other != play]
            n, accuracy = score(play, others, pathlib.Path(work), options)
            print(f"{play.stem:30} {n:6} {accuracy:.3f}", flush=True)
            n_all += n
            right += n * accuracy
    print(f"{'all, each learnt from the others':30} {n_all:6} {right / n_all:.3f}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
