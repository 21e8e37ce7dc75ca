#!/usr/bin/env python3
"""The results, from bench/results/*.jsonl alone: the newest record of each work.

    bench/report.py            prints the tables, draws bench/results/{speed,loss}.svg
    bench/report.py --write    also puts the short one between the README's two results marks, and
                               all figures between those of bench/results/README.md

Needs nothing but Python's own library. A figure without a record is not drawn."""
import argparse
import json
import math
from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
README, RESULTS = HERE.parent / "README.md", HERE / "results/README.md"
MARKS = "<!-- results -->", "<!-- /results -->"

# Works in the table's order, with the figure that the speed picture shows.
WORKS = {"peers/time-to-loss": ("nanoGPT's CPU result, from start to evaluated model", "total_sec"),
         "peers/shakespeare": ("nanoGPT's CPU recipe, {steps} steps", "step_sec"),
         "peers/modern-step": ("`shakespeare-cpu`, 100 steps", "step_sec"),
         "peers/step124m": ("GPT-2 124M, B 4, T 64, AdamW", "step_sec"),
         "peers/generate": ("text from GPT-2 124M, float, one stream", "tokens_per_sec"),
         "peers/ffn-step": ("feed-forward, context 16, 2 x 512, batch 512", "step_sec"),
         "peers/rnn-step": ("recurrent, 512, batch 64 of 64", "step_sec"),
         "peers/bpe-encode": ("the plays as GPT-2's tokens, one thread", "encode_sec"),
         "peers/bpe-word": ("one word of 2 MB", "encode_sec"),
         "peers/bpe-learn": ("16,384 tokens learned from the plays", "learn_sec")}


def seconds(x):
    return f"{x * 1e3:.1f} ms" if x < 1 else f"{x:.2f} s"


FIGURES = {"total_sec": ("in all", lambda x: f"{x:.1f} s"),
           "step_sec": ("a step", seconds), "fastest_sec": ("the fastest step", seconds),
           "encode_sec": ("encoded", seconds), "learn_sec": ("in all", seconds),
           "growth": ("a byte, against one of a word of 128 kB", lambda x: f"{x:.2f}"),
           "tokens_per_sec": ("tokens a second", lambda x: f"{x:.1f}"),
           "copy_share": ("share of copy speed", lambda x: f"{100 * x:.0f} %"),
           "copy_bytes_per_sec": ("copy speed, read and written", lambda x: f"{x * 1e-9:.1f} GB/s"),
           "val_loss": ("validation loss, nats per character", lambda x: f"{x:.3f}"),
           "peak_bytes": ("peak memory", lambda x: f"{x / 1e6:.0f} MB")}
MORE_IS_BETTER = {"tokens_per_sec"}
NO_RATIO = {"val_loss", "copy_share", "copy_bytes_per_sec", "growth"}


def newest():
    """By bench: the last record of the newest day."""
    records = {}
    for path in sorted((HERE / "results").glob("*.jsonl")):
        for line in path.read_text().splitlines():
            r = json.loads(line)
            old = records.get(r["bench"])
            if old is None or r["date"] >= old["date"]:
                records[r["bench"]] = r
    return records


# ---- the table ----

def spread(show, figure):
    if figure["min"] == figure["max"]:
        return show(figure["median"])
    return f"{show(figure['median'])} ({show(figure['min'])} to {show(figure['max'])})"


def short_table(records, gpu):
    """A line a work: its speed, and the loss where both ran to one."""
    lines = ["| work, median | puck | peer | times as fast |", "|---|---|---|---|"]
    for bench, (title, name) in WORKS.items():
        if bench not in records:
            continue
        r = records[bench]
        f, (label, show) = r["figures"][name], FIGURES[name]
        more = {side: f", loss {r['figures']['val_loss'][side]['median']:.3f}" if "reached" in r
                else "" for side in ("puck", "peer")}
        lines.append(f"| {title.format(**r)}: {label} | {show(f['puck']['median'])}{more['puck']} | "
                     f"{show(f['peer']['median'])}{more['peer']} | {f['ratio']:.2f} |")
    for step in (r for r in gpu.values() if r["name"].startswith("step ")):
        peers = [r["step_sec"] for r in gpu.values()
                 if r["bench"] == "gpu/peers" and r["commit"] == step["commit"]]  # of one call
        if peers:
            batch, context = step["name"].split(",")[0].removeprefix("step ").split(" x ")
            lines.append(f"| GPT-2 124M, B {batch}, T {context}, bf16, {step['device']}: a step | "
                         f"{seconds(step['median_sec'])} | {seconds(min(peers))} | "
                         f"{min(peers) / step['median_sec']:.2f} |")
    return "\n".join(lines)


def table(records):
    lines = ["| work, median (extremes) | puck | peer | times as good |", "|---|---|---|---|"]
    notes = {}  # what a record was made by: the works' titles
    for bench in WORKS:
        if bench not in records:
            continue
        r = records[bench]
        title = WORKS[bench][0].format(**r)
        for name, f in r["figures"].items():
            if name == "peak_bytes" and " bench " in r["command"]:
                continue  # the roof's buffers are in it
            label, show = FIGURES[name]
            ratio = "" if name in NO_RATIO else f"{f['ratio']:.2f}"
            lines.append(f"| {title}: {label} | {spread(show, f['puck'])} | "
                         f"{spread(show, f['peer'])} | {ratio} |")
        note = (f"{r['repeats']} runs in turn, {r['threads']} thread{'s'[:r['threads'] > 1]}, "
                f"{r['device']}; peer {r['peer']}; {r['commit']}, {r['date']}"
                + (f"; puck's loss was not above the peer's in {r['reached']}"
                   if "reached" in r else "") + ".")
        notes.setdefault(note, []).append(title)
    for bench, r in records.items():
        if bench.startswith("commands/"):
            show = lambda x: f"{x * 1e3:.0f} ms" if x < 1 else f"{x:.1f} s"
            figure = {key: r[key + "_sec"] for key in ("median", "min", "max")}
            lines.append(f"| `{r['command']}`, {r['repeats']} runs | {spread(show, figure)} | | |")
    return "\n".join(lines + [""] + [f"- {'; '.join(titles)}: {note}" for note, titles in notes.items()])


def newest_gpu():
    """What gpu-check has recorded last on a card, by name."""
    path = HERE / "results/gpu.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {r["name"]: r for r in rows if r["device"] != "emu"}


def gpu_table(rows):
    """Figures of one op are in the record alone."""
    lines = []
    steps = [r for r in rows.values() if r["name"].startswith("step ")]
    for step in steps:
        lines.append(f"| GPT-2 124M in bf16, {step['name']} channels | {step['figure']} |")
    for r in rows.values():
        if r["bench"] == "gpu/peers":
            same = [s for s in steps if s["commit"] == r["commit"]]  # of one call
            ratio = "".join(f"; puck {r['step_sec'] / s['median_sec']:.2f} times as fast"
                            for s in same)
            lines.append(f"| {r['name']}, bf16 | {r['figure']}{ratio} |")
    for r in rows.values():
        if r["bench"] == "gpu/train" or r["name"] == "memory plan":
            lines.append(f"| {r['name']} | {r['figure']} |")
        elif r["bench"] in ("gpu/ops", "gpu/sanitize"):
            lines.append(f"| {r['name']} | {'all right' if r['good'] else 'FAILED'}: "
                         f"{r['figure']} |")
    if not lines:
        return ""
    last = list(rows.values())[-1]
    head = f"\n{last['device']}, driver {last['driver']}, {last['date']}; shares are of the roofs " \
        "that the same call measured."
    return "\n".join(["", head, "", "| on a card | |", "|---|---|", *lines])


def write_between_marks(page, text):
    old = page.read_text()
    for mark in MARKS:
        if old.count(mark) != 1:
            raise SystemExit(f"{page} needs the line {mark} once; the table goes between both")
    before, rest = old.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    page.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")


# ---- pictures: SVG that follows the reader's light or dark page ----

STYLE = """
text { font: 13px system-ui, 'DejaVu Sans', sans-serif; fill: #57606a }
.title { font-weight: bold; font-size: 15px }
.axis { stroke: #8c959f; stroke-width: 1; fill: none }
.grid { stroke: #8c959f; stroke-opacity: 0.3; fill: none }
.puck { fill: #1f77d0; stroke: #1f77d0 } .peer { fill: #d9720b; stroke: #d9720b }
path.puck, path.peer { fill: none; stroke-width: 2.5 }
.whisker { stroke: #24292f; stroke-width: 1.5; fill: none }
@media (prefers-color-scheme: dark) {
  text { fill: #c9d1d9 } .whisker { stroke: #c9d1d9 }
  .puck { fill: #58a6ff; stroke: #58a6ff } .peer { fill: #f0a04b; stroke: #f0a04b }
  path.puck, path.peer { fill: none }
}"""


class Picture:
    def __init__(self, width, height):
        self.size, self.parts = (width, height), []

    def text(self, x, y, text, anchor="start", style="", turned=False):
        turn = f' transform="rotate(-90 {x} {y})"' if turned else ""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}"'
                          f'{turn}>{escape(text)}</text>')

    def line(self, points, style):
        self.parts.append(f'<path class="{style}" d="M'
                          + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + '"/>')

    def box(self, x, y, width, height, style):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
                          f'height="{height:.1f}" class="{style}"/>')

    def dot(self, x, y, style):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" class="{style}"/>')

    def save(self, path):
        width, height = self.size
        path.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}">\n<style>{STYLE}\n</style>\n'
            + "\n".join(self.parts) + "\n</svg>\n")
        print(f"{path} written")


def ticks(low, high, most=7):
    """Round values between both, at most `most` of them."""
    raw = (high - low) / most
    step = next(m * 10 ** math.floor(math.log10(raw)) for m in (1, 2, 5, 10)
                if m * 10 ** math.floor(math.log10(raw)) >= raw)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def ratios(name, f):
    """Puck's advantage in each repeat: the two runs beside each other."""
    pairs = zip(f["puck"]["runs"], f["peer"]["runs"])
    return [a / b if name in MORE_IS_BETTER else b / a for a, b in pairs]


def draw_speed(records, path):
    """How many times as fast as the peer: a bar a work, whiskers over the repeats."""
    shown = [(records[b], *WORKS[b]) for b in WORKS if b in records]
    if not shown:
        return
    left, width, row = 40, 760, 50
    bottom = 74 + row * len(shown)
    p = Picture(width, bottom + 48)
    best = max(max(ratios(name, r["figures"][name])) for r, _, name in shown)
    scale = (width - left - 40) / (max(best, 2) * 1.05)
    p.text(left, 24, "Speed beside others", style="title")
    p.box(left, 38, 14, 12, "puck")
    p.text(left + 20, 49, "puck")
    p.line([(left + 70, 38), (left + 70, 50)], "peer")
    p.text(left + 78, 49, "fastest variant of the peer = 1;  whisker: extremes of the repeats")
    for tick in ticks(0, max(best, 2) * 1.05):
        x = left + tick * scale
        p.line([(x, 66), (x, bottom)], "grid")
        p.text(x, bottom + 17, f"{tick:g}", "middle")
    for i, (r, title, name) in enumerate(shown):
        f, y = r["figures"][name], 74 + row * i
        show, all_ratios = FIGURES[name][1], ratios(name, f)
        p.text(left + 4, y + 12, f"{title.format(**r).replace('`', '')}: {FIGURES[name][0]} "
               f"{show(f['puck']['median'])}, peer {show(f['peer']['median'])}, "
               f"{f['ratio']:.2f} times")
        p.box(left, y + 18, f["ratio"] * scale, 16, "puck")
        low, high = (left + x * scale for x in (min(all_ratios), max(all_ratios)))
        p.line([(low, y + 26), (high, y + 26)], "whisker")
        for x in (low, high):
            p.line([(x, y + 21), (x, y + 31)], "whisker")
        p.line([(left + scale, y + 15), (left + scale, y + 37)], "peer")
    p.line([(left, bottom), (width - 40, bottom)], "axis")
    p.line([(left, 66), (left, bottom)], "axis")
    p.text((left + width - 40) / 2, bottom + 38, "times as fast as the peer", "middle")
    p.save(path)


def draw_loss(records, path):
    """Validation loss by seconds: estimates on the way, and the reported loss at the end."""
    r = records.get("peers/time-to-loss")
    if not r:
        return
    left, top, right, bottom, width, height = 64, 84, 730, 344, 760, 394
    ends = {side: (r["figures"]["total_sec"][side]["median"],
                   r["figures"]["val_loss"][side]["median"]) for side in ("puck", "peer")}
    curves = {side: [(x, y) for x, y in r["curves"][side] if y is not None] for side in ends}
    points = [point for curve in curves.values() for point in curve] + list(ends.values())
    # The first estimate, of a model that knows nothing, would flatten all else.
    most = max(x for x, _ in points) * 1.03
    low, high = min(y for _, y in points) - 0.2, 3.0
    at = lambda x, y: (left + x / most * (right - left),
                       bottom - (min(y, high) - low) / (high - low) * (bottom - top))
    p = Picture(width, height)
    p.text(left, 24, "nanoGPT's CPU result on tinyshakespeare, characters", style="title")
    for tick in ticks(low, high):
        x, y = at(0, tick)
        p.line([(x, y), (right, y)], "grid")
        p.text(x - 8, y + 4, f"{tick:.1f}", "end")
    for tick in ticks(0, most):
        x, y = at(tick, low)
        p.line([(x, y), (x, y + 5)], "axis")
        p.text(x, y + 20, f"{tick:g}", "middle")
    names = {"puck": f"puck, shakespeare-cpu, {r['reach_steps']} steps",
             "peer": f"nanoGPT's recipe, {r['steps']} steps: {r['peer']}"}
    for i, (side, (x, y)) in enumerate(ends.items()):
        inside = [point for point in curves[side] if point[1] < high]
        p.line([at(*point) for point in inside], side)
        p.dot(*at(x, y), side)
        key = 44 + 20 * i
        p.line([(left, key), (left + 24, key)], side)
        p.text(left + 30, key + 4, names[side])
        on = at(x, y)
        p.text(on[0] + 8 if i == 0 else on[0], on[1] + 22, f"{y:.3f} after {x:.0f} s",
               "start" if i == 0 else "end")
    p.line([(left, top), (left, bottom), (right, bottom)], "axis")
    p.text((left + right) / 2, height - 10,
           "seconds; lines: the last repeat; dots: medians, over the whole validation part, time counted", "middle")
    p.text(16, (top + bottom) / 2, "validation loss, nats per character", "middle", turned=True)
    p.save(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="the tables into both pages")
    parser.add_argument("--pictures", default=HERE / "results",
                        metavar="FOLDER", type=Path)
    o = parser.parse_args()
    records, gpu = newest(), newest_gpu()
    short, whole = short_table(records, gpu), table(records) + gpu_table(gpu)
    print(f"{short}\n\n{whole}")
    draw_speed(records, o.pictures / "speed.svg")
    draw_loss(records, o.pictures / "loss.svg")
    if o.write:
        write_between_marks(README, short)
        write_between_marks(RESULTS, whole)


if __name__ == "__main__":
    main()
