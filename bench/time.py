#!/usr/bin/env python3
"""Times a whole command and records it: bench/time.py NAME [--repeats 10] -- COMMAND ...

Prints and appends to bench/results/commands.jsonl: median, least and greatest wall seconds, and the
largest peak memory of the command itself (children that it waited for included)."""
import argparse
import datetime
import json
import os
import shlex
import statistics
import subprocess
import time


def cpu_name():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return os.uname().machine


def run(command):
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{shlex.join(command)} failed")
    return time.perf_counter() - start, usage.ru_maxrss * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("command", nargs="+")
    o = parser.parse_args()
    seconds, peaks = zip(*(run(o.command) for _ in range(o.repeats)))
    commit = subprocess.check_output(["git", "describe", "--always", "--dirty"], text=True).strip()
    record = {"bench": f"commands/{o.name}", "date": datetime.date.today().isoformat(),
              "commit": commit, "device": f"{cpu_name()}, {os.cpu_count()} cores",
              "command": shlex.join(o.command), "repeats": o.repeats,
              "median_sec": statistics.median(seconds), "min_sec": min(seconds),
              "max_sec": max(seconds), "peak_bytes": max(peaks)}
    print(json.dumps(record, indent=1))
    os.makedirs("bench/results", exist_ok=True)
    with open("bench/results/commands.jsonl", "a") as out:
        out.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
