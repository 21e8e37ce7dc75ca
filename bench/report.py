#!/usr/bin/env python3
"""The README's results table from bench/results/*.jsonl: the newest record of a work and device."""
import json
from pathlib import Path

TITLES = {"peers/shakespeare": "nanoGPT's CPU recipe, {steps} steps",
          "peers/step124m": "GPT-2 124M, B 4, T 64"}
FIGURES = {"total_sec": ("training in all", lambda x: f"{x:.1f} s"),
           "step_sec": ("a step", lambda x: f"{x * 1e3:.1f} ms"),
           "val_loss": ("validation loss (nats per character)", lambda x: f"{x:.3f}"),
           "peak_bytes": ("peak memory", lambda x: f"{x / 1e6:.0f} MB")}


def newest():
    """Peers' records and commands' records."""
    records = {}
    for path in sorted(Path(__file__).parent.glob("results/*.jsonl")):
        for line in path.read_text().splitlines():
            r = json.loads(line)
            if r["bench"] not in TITLES and not r["bench"].startswith("commands/"):
                continue
            key = r["bench"], r["device"], r.get("threads"), r.get("steps")
            if key not in records or r["date"] >= records[key]["date"]:
                records[key] = r
    return records.values()


def print_commands(records):
    print("| command | runs | seconds, median (least to greatest) | peak memory | record |")
    print("|---|---|---|---|---|")
    for r in records:
        print(f"| `{r['command']}` | {r['repeats']} | {r['median_sec']:.3f} ({r['min_sec']:.3f} to "
              f"{r['max_sec']:.3f}) | {r['peak_bytes'] / 1e6:.0f} MB | {r['device']}, "
              f"{r['commit']}, {r['date']} |")


def print_peers(records):
    print("| work | figure | puck | PyTorch | PyTorch / puck | record |")
    print("|---|---|---|---|---|---|")
    for r in records:
        where = (f"{r['device']}, {r['threads']} threads, {r['repeats']} runs in turn, "
                 f"{r['peer']}, {r['commit']}, {r['date']}")
        for i, (name, f) in enumerate(r["figures"].items()):
            title, show = FIGURES[name]
            cells = [f"{show(f[side]['median'])} ({show(f[side]['min'])} to {show(f[side]['max'])})"
                     for side in ("puck", "peer")]
            ratio = "" if name == "val_loss" else f"{f['ratio']:.2f}"
            print(f"| {TITLES[r['bench']].format(**r) if i == 0 else ''} | {title} | {cells[0]} | "
                  f"{cells[1]} | {ratio} | {where if i == 0 else ''} |")


def main():
    records = list(newest())
    print_peers(r for r in records if r["bench"] in TITLES)
    print()
    print_commands(r for r in records if r["bench"] not in TITLES)


if __name__ == "__main__":
    main()
