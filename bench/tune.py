#!/usr/bin/env python3
"""Which recipe has the lowest loss after a given time: bench/tune.py [--seconds 60] VARIANT...

A VARIANT is a list of puck's options in one argument, such as "--context 128 --lr 0.005", laid over
--preset. Its steps follow from the time that one step takes (the fastest of `puck bench step`, so a
busy machine changes little), then it trains and `puck eval` scores it. Prints a table and appends a
line each to bench/results/tune.jsonl."""
import argparse
import datetime
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path


def output(command, log):
    print("+", shlex.join(command), file=log, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True)
    if done.returncode:
        sys.exit(f"{shlex.join(command)} failed: see {log.name}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def measure(o, variant, seed, work, log):
    common = ["--preset", o.preset, *shlex.split(variant), "--device", "cpu", "--threads",
              str(o.threads)]
    only_train = ("--warmup", "--schedule", "--decay-fraction", "--min-lr")
    bench, skip = [], False
    for word in common:  # what `puck bench` does not take
        skip_now, skip = skip, word in only_train
        if not skip_now and not skip:
            bench.append(word)
    rows = output([o.puck, "bench", "step", *bench, "--repeats", "40", "--json"], log)
    step_sec = next(row["min_sec"] for row in rows if row["op"] == "step")
    steps = o.steps or int(o.seconds / step_sec)
    run = str(work / f"run-{abs(hash((variant, seed)))}")
    train = [o.puck, "train", *common, "--data", o.data, "--run", run, "--steps", str(steps),
             "--seed", str(seed), "--eval-every", "0", "--save-every", "0"]
    output(train, log)
    score = output([o.puck, "eval", "--from", run, "--data", o.data, "--json", "--device", "cpu"],
                   log)[0]
    return {"step_ms": step_sec * 1e3, "steps": steps, "loss": score["loss"],
            "command": shlex.join(train).replace(str(work), "TMP")}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", default=[""])
    parser.add_argument("--seconds", type=float, default=60, help="of steps, evaluation aside")
    parser.add_argument("--steps", type=int, help="these, whatever time they take")
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--preset", default="shakespeare-cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", default="data/text/tinyshakespeare.txt")
    parser.add_argument("--puck", default="./puck")
    parser.add_argument("--record", default="bench/results/tune.jsonl")
    o = parser.parse_args()
    commit = subprocess.check_output(["git", "describe", "--always", "--dirty"], text=True).strip()
    with tempfile.TemporaryDirectory(prefix="puck-tune-") as folder:
        log = open(Path(folder) / "log", "w")
        print(f"{'loss':>7} {'steps':>6} {'ms':>7} seed  variant")
        for variant in o.variants:
            for seed in map(int, o.seeds.split(",")):
                try:
                    r = measure(o, variant, seed, Path(folder), log)
                except SystemExit:
                    log.flush()
                    print(Path(log.name).read_text()[-2000:], file=sys.stderr)
                    raise
                print(f"{r['loss']:7.4f} {r['steps']:6d} {r['step_ms']:7.2f} {seed:4d}  {variant}",
                      flush=True)
                record = {"bench": "tune", "date": datetime.date.today().isoformat(),
                          "commit": commit, "preset": o.preset, "variant": variant, "seed": seed,
                          "threads": o.threads, "cores": os.cpu_count(), **r}
                with open(o.record, "a") as out:
                    out.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
