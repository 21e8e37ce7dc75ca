#!/usr/bin/env python3
"""The story of language modelling in one table: bench/ladder.py [--only NAME,...] [--write]

Each rung learns the first 90 % of a text and is scored on the rest, in nats per character: n-grams
by counting, here; networks by `puck train` and `puck eval`, each within five minutes on two cores.
Prints the table, appends a record a rung to --record, and draws bench/results/ladder.svg from the
newest record of each; --write also puts the table between the README's two ladder marks. Needs
nothing but Python's own library."""
import argparse
import datetime
import json
import math
import os
import random
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import report

HERE = Path(__file__).parent
MARKS = "<!-- ladder -->", "<!-- /ladder -->"
PROMPT = "ROMEO:\n"
SHOWN = 64  # characters of a text in the table
TEMPERATURE = 0.8

# Steps fill about the budget of five minutes on two cores, for at most 1.2 million parameters.
NETWORKS = {
    "ffn": ["--preset", "shakespeare-ffn"],
    "rnn": ["--preset", "shakespeare-rnn"],
    "gpt2": ["--preset", "shakespeare-cpu-gpt2", "--steps", "7000"],
    "modern": ["--preset", "shakespeare-cpu", "--steps", "4500"],
}
NGRAMS = {"unigram": 1, "bigram": 2, "trigram": 3, "5-gram": 5}
TITLES = {"ffn": "feed-forward", "rnn": "recurrent",
          "gpt2": "GPT, GPT-2's blocks", "modern": "GPT, today's blocks"}
RUNGS = [*NGRAMS, *NETWORKS]


class AddTenth:
    """p(c | context) = (count + 0.1) / (count of context + 0.1 V): V = 65 makes it 6.5."""

    def __init__(self, text, order, alphabet):
        self.order, self.alphabet = order, alphabet
        self.counts = Counter(text[i:i + order] for i in range(len(text) - order + 1))
        self.contexts = Counter()
        for gram, n in self.counts.items():
            self.contexts[gram[:-1]] += n
        self.parameters = len(self.counts)

    def probability(self, context, char):
        smooth = 0.1
        return ((self.counts[context + char] + smooth)
                / (self.contexts[context] + smooth * len(self.alphabet)))


class WittenBell:
    """Interpolated: p_k(c | h) = (count(h c) + kinds(h) p_{k-1}(c | h')) / (count(h) + kinds(h)),
    kinds(h) the different characters seen after h, h' without its first one, p_0 = 1 / V."""

    def __init__(self, text, order, alphabet):
        self.order, self.alphabet = order, alphabet
        self.counts, self.contexts, self.kinds = [], [], []
        for k in range(1, order + 1):
            counts = Counter(text[i:i + k] for i in range(len(text) - k + 1))
            contexts, kinds = Counter(), Counter()
            for gram, n in counts.items():
                contexts[gram[:-1]] += n
                kinds[gram[:-1]] += 1
            self.counts.append(counts)
            self.contexts.append(contexts)
            self.kinds.append(kinds)
        self.parameters = sum(map(len, self.counts))

    def probability(self, context, char):
        p = 1 / len(self.alphabet)
        for k in range(self.order):
            h = context[len(context) - k:]
            if kinds := self.kinds[k][h]:
                p = (self.counts[k][h + char] + kinds * p) / (self.contexts[k][h] + kinds)
        return p


def score(model, text):
    """Nats per character; contexts lie inside the text, so its first order - 1 characters have no
    score."""
    known, total, past = defaultdict(int), 0.0, model.order - 1
    for i in range(past, len(text)):
        known[text[i - past:i + 1]] += 1
    for gram, n in known.items():
        total -= n * math.log(model.probability(gram[:-1], gram[-1]))
    return total / (len(text) - past)


def write_text(model, seed):
    """Characters after the prompt, drawn as `puck generate --temperature 0.8` draws them."""
    draw, text = random.Random(seed), PROMPT
    while len(text) < len(PROMPT) + 2 * SHOWN:
        context = text[len(text) - model.order + 1:] if model.order > 1 else ""
        weights = [model.probability(context, c) ** (1 / TEMPERATURE) for c in model.alphabet]
        text += draw.choices(model.alphabet, weights)[0]
    return text


class Clock:
    """Seconds that pass, and those of processors: on a machine that others use too, the second over
    the threads is what the first would be without them."""

    def __init__(self, who):
        self.who, self.start, self.used = who, time.perf_counter(), self.cpu(who)

    @staticmethod
    def cpu(who):
        used = resource.getrusage(who)
        return used.ru_utime + used.ru_stime

    def read(self):
        return {"seconds": time.perf_counter() - self.start,
                "cpu_seconds": self.cpu(self.who) - self.used}


def run_ngram(name, text, o):
    split = len(text) - math.ceil(len(text) * 0.1)  # as puck splits: the last tenth, rounded up
    alphabet = sorted(set(text))
    clock = Clock(resource.RUSAGE_SELF)
    kind = WittenBell if NGRAMS[name] > 3 else AddTenth
    model = kind(text[:split], NGRAMS[name], alphabet)
    seconds = clock.read()
    return {"parameters": model.parameters, **seconds,
            "loss": score(model, text[split:]), "text": write_text(model, o.seed),
            "command": f"bench/ladder.py --only {name}"}


def puck(o, *arguments):
    command = [o.puck, *map(str, arguments)]
    print("+", shlex.join(command), file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"ladder: this failed: {shlex.join(command)}")
    return done.stdout


def run_network(name, _, o):
    machine = ["--device", "cpu", "--threads", o.threads]
    train = [*NETWORKS[name], *machine, "--seed", o.seed, "--save-every", 0, "--eval-every", 0]
    if o.steps:
        train += ["--steps", o.steps]
    with tempfile.TemporaryDirectory(prefix="puck-ladder-") as folder:
        run = f"{folder}/run"
        clock = Clock(resource.RUSAGE_CHILDREN)
        puck(o, "train", *train, "--data", o.data, "--run", run, "--quiet")
        seconds = clock.read()
        rest = ["--from", run, *machine, "--quiet", "--json"]
        told = json.loads(puck(o, "info", *rest[:2], "--device", "cpu", "--json").splitlines()[0])
        result = json.loads(puck(o, "eval", *rest, "--data", o.data))
        text = json.loads(puck(o, "generate", *rest, "--prompt", PROMPT, "--tokens", 2 * SHOWN,
                               "--temperature", TEMPERATURE, "--seed", o.seed))["text"]
    return {"parameters": told["parameters"], **seconds, "loss": result["loss"],
            "text": text, "command": shlex.join(["./puck", "train", *map(str, train), "--data",
                                                 o.data, "--run", "RUN"])}


# ---- what is shown ----

def newest(path):
    """The last record of each rung."""
    records = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        r = json.loads(line)
        records[r["bench"].removeprefix("ladder/")] = r
    return [(name, records[name]) for name in RUNGS if name in records]


def show_seconds(x):
    if x is None:
        return "not measured"
    return f"{x:.1f} s" if x < 10 else f"{x:.0f} s"


def show_text(text):
    """What follows the prompt, in one line that Markdown takes as it is."""
    line = " / ".join(part for part in text.removeprefix(PROMPT).split("\n") if part.strip())
    line = line[:SHOWN].rsplit(" ", 1)[0] if len(line) > SHOWN else line
    return "`" + line.replace("`", "'").replace("|", "/") + "`"


def table(records):
    lines = ["| model | parameters | seconds | seconds of processors | nats per character | "
             "what it writes after `ROMEO:` |", "|---|---|---|---|---|---|"]
    for name, r in records:
        cells = [TITLES.get(name, name), f"{r['parameters']:,}", show_seconds(r["seconds"]),
                 show_seconds(r.get("cpu_seconds")), f"{r['loss']:.4f}", show_text(r["text"])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(records, path):
    """A bar a rung from 0: nats per character; the dashed end is the blind guess, log V."""
    left, width, row, top = 40, 760, 46, 62
    bottom = top + row * len(records)
    guess = math.log(records[0][1]["alphabet"])
    scale = (width - left - 60) / guess
    p = report.Picture(width, bottom + 48)
    p.text(left, 24, "What each model still does not know of Shakespeare", style="title")
    p.text(left, 46, "nats per character of the validation part; less is better")
    for tick in report.ticks(0, guess):
        p.line([(left + tick * scale, top), (left + tick * scale, bottom)], "grid")
        p.text(left + tick * scale, bottom + 17, f"{tick:g}", "middle")
    for i, (name, r) in enumerate(records):
        y = top + row * i
        p.text(left + 4, y + 14, f"{TITLES.get(name, name)}: {r['parameters']:,} parameters, "
               f"{show_seconds(r['seconds'])} of learning")
        p.box(left, y + 20, r["loss"] * scale, 16, "peer" if name in NGRAMS else "puck")
        p.text(left + r["loss"] * scale + 7, y + 33, f"{r['loss']:.3f}")
    p.line([(left + guess * scale, top), (left + guess * scale, bottom)], "axis")
    p.text(left + guess * scale + 4, top + 14, "a blind")
    p.text(left + guess * scale + 4, top + 30, "guess")
    p.line([(left, bottom), (width - 40, bottom)], "axis")
    p.line([(left, top), (left, bottom)], "axis")
    p.text((left + width - 40) / 2, bottom + 38, "nats per character", "middle")
    p.save(path)


def write_readme(path, text):
    old = path.read_text()
    for mark in MARKS:
        if old.count(mark) != 1:
            raise SystemExit(f"ladder: {path} needs the line {mark} once; the table goes between")
    before, rest = old.split(MARKS[0])
    path.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{rest.split(MARKS[1])[1]}")


def options():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(RUNGS), help="these rungs, by name")
    parser.add_argument("--data", default="data/text/tinyshakespeare.txt")
    parser.add_argument("--steps", type=int, help="of every network, for a quick look")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--puck", default="./puck")
    parser.add_argument("--record", type=Path, default=HERE / "results/ladder.jsonl")
    parser.add_argument("--picture", type=Path, default=HERE / "results/ladder.svg")
    parser.add_argument("--readme", type=Path, default=HERE.parent / "README.md")
    parser.add_argument("--write", action="store_true", help="the table into the README")
    parser.add_argument("--list-networks", action="store_true", help="their names, then end")
    o = parser.parse_args()
    o.only = [name for name in o.only.split(",") if name]
    for name in o.only:
        if name not in RUNGS:
            raise SystemExit(f"ladder: there is no rung \"{name}\" (--only). "
                             f"There are: {', '.join(RUNGS)}")
    return o


def main():
    o = options()
    if o.list_networks:
        print(*NETWORKS)
        return
    try:
        with open(o.data, encoding="utf-8", newline="") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f"ladder: {o.data} cannot be read: {error}. data/fetch.sh fetches a text")
    try:
        commit = subprocess.check_output(["git", "describe", "--always", "--dirty"], text=True,
                                         stderr=subprocess.DEVNULL).strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    for name in o.only:
        r = (run_ngram if name in NGRAMS else run_network)(name, text, o)
        record = {"bench": f"ladder/{name}", "date": datetime.date.today().isoformat(),
                  "commit": commit, "threads": o.threads if name in NETWORKS else 1,
                  "cores": os.cpu_count(), "alphabet": len(set(text)), "seed": o.seed, **r}
        with open(o.record, "a", encoding="utf-8") as out:
            out.write(json.dumps(record) + "\n")
    records = newest(o.record)
    shown = table(records)
    print(shown)
    if records:
        draw(records, o.picture)
    if o.write:
        write_readme(o.readme, shown)


if __name__ == "__main__":
    main()
