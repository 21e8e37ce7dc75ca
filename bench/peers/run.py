#!/usr/bin/env python3
"""puck and PyTorch on the same work, in turn, so that a noisy machine is noisy to both.

  bench/peers/run.py shakespeare [--steps 2000]   train, then `puck eval` scores both models
  bench/peers/run.py step124m [--steps 10]        training steps of GPT-2 124M at B 4, T 64

Prints one table and appends one line to bench/results/peers.jsonl. Runs from the repository root
with the Python that has bench/peers/requirements.txt; `make bench-peers` sees to both."""
import argparse
import datetime
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PEERS = Path(os.path.relpath(Path(__file__).parent))


def run(command, log):
    """Runs a command. Returns its first JSON line (or {}) with wall_sec and peak_bytes."""
    print("+", shlex.join(command), file=log, flush=True)
    before = datetime.datetime.now()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    lines = process.stdout.read().splitlines()
    _, status, usage = os.wait4(process.pid, 0)
    wall = (datetime.datetime.now() - before).total_seconds()
    if status:
        sys.exit(f"{shlex.join(command)} failed; its messages are in {log.name}")
    rows = [json.loads(line) for line in lines if line.startswith("{")]
    return {**(rows[0] if rows else {}), "wall_sec": wall, "peak_bytes": usage.ru_maxrss * 1024}


def puck_step_sec(metrics):
    """Median seconds a step of a run: most lines of metrics.jsonl have no evaluation between."""
    rows = [json.loads(line) for line in open(metrics)]
    rows = [row for row in rows if row.get("tokens_per_sec")]
    return statistics.median(12 * 64 / row["tokens_per_sec"] for row in rows)


def shakespeare(o, work, i, log):
    """One run of each: figures by name, for (puck, peer)."""
    common = ["--threads", str(o.threads)]
    text = ["--data", o.data]
    folders = work / f"puck-{i}", work / f"peer-{i}"
    train = [o.puck, "train", "--preset", "shakespeare-cpu-gpt2", *text, "--run", str(folders[0]),
             "--steps", str(o.steps), "--seed", str(i + 1), "--device", "cpu", *common]
    peer = [sys.executable, str(PEERS / "shakespeare.py"), *text, "--save", str(folders[1]),
            "--steps", str(o.steps), "--seed", str(i + 1), *common, *o.compiled]
    ours, theirs = run(train, log), run(peer, log)
    score = [o.puck, "eval", *text, "--json", "--device", "cpu", *common, "--from"]
    losses = [run([*score, str(folder)], log)["loss"] for folder in folders]
    # The whole process for puck, import and compilation aside for the peer: the harder comparison.
    return train, peer, (
        {"total_sec": ours["wall_sec"], "step_sec": puck_step_sec(folders[0] / "metrics.jsonl"),
         "peak_bytes": ours["peak_bytes"], "val_loss": losses[0]},
        {"total_sec": theirs["total_sec"], "step_sec": theirs["step_sec"],
         "peak_bytes": theirs["peak_bytes"], "val_loss": losses[1]})


def step124m(o, work, i, log):
    common = ["--threads", str(o.threads)]
    bench = [o.puck, "bench", "step", "--preset", "gpt2", "--batch-size", "4", "--micro-batch", "4",
             "--context", "64", "--repeats", str(o.steps), "--json", "--device", "cpu", *common]
    peer = [sys.executable, str(PEERS / "step124m.py"), "--steps", str(o.steps), *common,
            *o.compiled]
    ours, theirs = run(bench, log), run(peer, log)
    return bench, peer, ({"step_sec": ours["median_sec"], "peak_bytes": ours["peak_bytes"]},
                         {"step_sec": theirs["step_sec"], "peak_bytes": theirs["peak_bytes"]})


WORKS = {"shakespeare": (shakespeare, 2000), "step124m": (step124m, 10)}


def summary(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values),
            "runs": values}


def show(name, value):
    if name == "peak_bytes":
        return f"{value / 1e6:.0f} MB"
    if name == "step_sec":
        return f"{value * 1e3:.2f} ms"
    return f"{value:.2f} s" if name == "total_sec" else f"{value:.4f}"


def print_table(figures):
    print(f"{'':12}  {'puck':>28}  {'PyTorch':>28}  PyTorch / puck")
    for name, (ours, theirs) in figures.items():
        cells = [f"{show(name, s['median'])} ({show(name, s['min'])} .. {show(name, s['max'])})"
                 for s in (ours, theirs)]
        print(f"{name:12}  {cells[0]:>28}  {cells[1]:>28}  {theirs['median'] / ours['median']:.2f}")


def cpu_name():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, help="steps of each run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", default="data/text/tinyshakespeare.txt")
    parser.add_argument("--puck", default="./puck")
    parser.add_argument("--compile", action="store_true", help="the peer uses torch.compile")
    parser.add_argument("--no-record", action="store_true")
    o = parser.parse_args()
    work, steps = WORKS[o.work]
    o.steps = o.steps or steps
    o.compiled = ["--compile"] if o.compile else []

    runs = []
    with tempfile.TemporaryDirectory(prefix="puck-peers-") as folder:
        log = open(Path(folder) / "log", "w")
        for i in range(o.repeats):
            try:
                ours, theirs, figures = work(o, Path(folder), i, log)
            except SystemExit:
                log.flush()
                sys.stderr.write(open(log.name).read())
                raise
            runs.append(figures)
            pairs = [f"{k} {show(k, v)} | {show(k, figures[1][k])}" for k, v in figures[0].items()]
            print(f"{i + 1}/{o.repeats}", *pairs, sep="   ", file=sys.stderr)
    figures = {name: [summary([pair[side][name] for pair in runs]) for side in (0, 1)]
               for name in runs[0][0]}
    print_table(figures)
    if o.no_record:
        return
    import torch
    commit = ["git", "describe", "--always", "--dirty"]
    record = {
        "bench": f"peers/{o.work}", "date": datetime.date.today().isoformat(),
        "commit": subprocess.check_output(commit, text=True).strip(),
        "device": f"{cpu_name()}, {os.cpu_count()} cores", "threads": o.threads,
        "repeats": o.repeats, "steps": o.steps,
        "command": shlex.join(ours).replace(folder, "TMP"),
        "peer": f"PyTorch {torch.__version__}{', compiled' if o.compile else ''}",
        "peer_command": shlex.join(["python", *theirs[1:]]).replace(folder, "TMP"),
        "figures": {name: {"puck": pair[0], "peer": pair[1],
                           "ratio": pair[1]["median"] / pair[0]["median"]}
                    for name, pair in figures.items()}}
    os.makedirs("bench/results", exist_ok=True)
    with open("bench/results/peers.jsonl", "a") as out:
        out.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
