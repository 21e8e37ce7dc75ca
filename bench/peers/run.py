#!/usr/bin/env python3
"""puck and PyTorch on the same work, in turn, so that a noisy machine is noisy to both.

  step124m      training steps of GPT-2 124M at B 4, T 64, clipped
  shakespeare   nanoGPT's CPU recipe on both sides; `puck eval` scores both models
  modern-step   training steps of --preset shakespeare-cpu: NanoChat's blocks, Muon and AdamW
  ffn-step      training steps of a feed-forward model: context 16, embedding 32, 2 x 512, B 512
  rnn-step      training steps of a recurrent model: a layer of 512, B 64, T 64
  time-to-loss  nanoGPT's whole recipe in PyTorch, and how soon puck is there with fewer steps
  generate      greedy text from random weights of 124M, one stream; the peer is transformers
  bpe-encode    Shakespeare's plays to GPT-2's tokens, one thread; the peer is tiktoken
  bpe-word      one word of 2 MB, and how a byte of it compares with one of a word of 128 kB; tiktoken
  bpe-learn     16,384 tokens learned from the plays; the peer is tokenizers

    bench/peers/run.py [WORK...] [--repeats 5] [--steps N] [--variants eager,compiled]

Each repeat runs puck, then every variant of the peer; the variant with the best median counts.
Prints one table and appends a line a work to bench/results/peers.jsonl. Runs from the repository
root with the Python that has bench/peers/requirements.txt; `make bench-peers` sees to both."""
import argparse
import codecs
import datetime
import hashlib
import json
import os
import platform
import random
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version  # importing torch would show in the children's peak memory
from pathlib import Path

import bpe  # beside this file

PEERS = Path(os.path.relpath(Path(__file__).parent))
RESULTS = "bench/results/peers.jsonl"


class Failed(Exception):
    pass


class Bench:
    """What every work needs: the options, a folder for what it makes, a log, the commands."""

    def __init__(self, o, folder, log):
        self.o, self.folder, self.log = o, Path(folder), log
        self.common = ["--threads", str(o.threads)]
        self.commands = {}  # by side: the last command, for the record

    def run(self, command, side=None, watch=None):
        """Runs a command; `watch` is called with its output's descriptor instead of reading it.
        Returns its first JSON line (or {}) with wall_sec and peak_bytes."""
        command = [str(part) for part in command]
        print("+", shlex.join(command), file=self.log, flush=True)
        if side:
            self.commands[side] = shlex.join(["python", *command[1:]] if command[0] ==
                                             sys.executable else command)
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log)
        watched = watch(process.stdout.fileno()) if watch else {}
        lines = process.stdout.read().decode(errors="replace").splitlines()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - start
        if status:
            raise Failed(f"{shlex.join(command)} failed")
        rows = [json.loads(line) for line in lines if line.startswith("{")]
        return {**(rows[0] if rows else {}), **watched, "wall_sec": wall,
                "peak_bytes": usage.ru_maxrss * 1024}

    def puck(self, *arguments, **kw):
        return self.run([self.o.puck, *arguments, "--device", "cpu", *self.common], **kw)

    def peers(self, script, *arguments):
        """What each variant of a peer's script printed."""
        found = {}
        for variant in list(self.o.variants):
            extra = [*self.common, *VARIANTS[variant]]
            command = [sys.executable, PEERS / script, *arguments, *extra]
            command = [str(part).replace("VARIANT", variant) for part in command]
            try:
                found[variant] = self.run(command, side=variant)
            except Failed as e:
                # A machine without a compiler, say: the others go on.
                self.o.variants.remove(variant)
                print(f"{variant} is left out: {e}", file=sys.stderr)
                if not self.o.variants:
                    raise
        return found

    def score(self, folder):
        return self.puck("eval", "--data", self.o.data, "--json", "--from", folder)


    def puck_step(self, *arguments):
        f = self.puck("bench", "step", *arguments, "--repeats", self.o.steps, "--json", side="puck")
        return {"step_sec": f["median_sec"], "fastest_sec": f["min_sec"],
                "peak_bytes": f["peak_bytes"]}


def pick(figures, *names):
    return {name: figures[name] for name in names}


# ---- works: one repeat each; returns puck's figures and the peer's by variant ----

def step124m(b, i):
    ours = b.puck_step("--preset", "gpt2", "--batch-size", 4, "--micro-batch", 4, "--context", 64)
    theirs = b.peers("step124m.py", "--steps", b.o.steps)
    return ours, {v: pick(f, "step_sec", "fastest_sec", "peak_bytes") for v, f in theirs.items()}


def shakespeare(b, i):
    """The whole process for puck, import and compilation aside for the peer: the harder
    comparison."""
    run = b.folder / f"puck-{i}"
    ours = b.puck("train", "--preset", "shakespeare-cpu-gpt2", "--data", b.o.data, "--run", run,
                  "--steps", b.o.steps, "--seed", i + 1, side="puck")
    rows = [json.loads(line) for line in open(run / "metrics.jsonl")]
    # Most lines of metrics.jsonl have no evaluation between.
    step = statistics.median(12 * 64 / r["tokens_per_sec"] for r in rows if r.get("tokens_per_sec"))
    saved = b.folder / f"peer-{i}-VARIANT"
    theirs = b.peers("shakespeare.py", "--data", b.o.data, "--save", saved, "--steps", b.o.steps,
                     "--seed", i + 1)
    for variant, f in theirs.items():
        f["val_loss"] = b.score(str(saved).replace("VARIANT", variant))["loss"]
    return ({"step_sec": step, "total_sec": ours["wall_sec"], "peak_bytes": ours["peak_bytes"],
             "val_loss": b.score(run)["loss"]},
            {v: pick(f, "step_sec", "total_sec", "peak_bytes", "val_loss")
             for v, f in theirs.items()})


def modern_step(b, i):
    ours = b.puck_step("--preset", "shakespeare-cpu")
    settings = b.folder / "settings.toml"
    if not settings.exists():
        text = subprocess.run([b.o.puck, "train", "--preset", "shakespeare-cpu", "--data", b.o.data,
                               "--run", b.folder / "none", "--dry-run"], check=True, text=True,
                              stdout=subprocess.PIPE, stderr=b.log).stdout
        # Behind the settings comes what they make: the model, the memory plan.
        settings.write_text(text[:text.index("\n\nmodel ")])
    theirs = b.peers("modern_step.py", "--settings", settings, "--steps", b.o.steps)
    return ours, {v: pick(f, "step_sec", "fastest_sec", "peak_bytes") for v, f in theirs.items()}


def net_step(b, model, **sizes):
    """Of --preset shakespeare-ffn or -rnn with these sizes and AdamW."""
    flags = [f"--{'batch-size' if name == 'batch' else name}={n}" for name, n in sizes.items()]
    ours = b.puck_step("--preset", f"shakespeare-{model}", "--optimizer", "adamw", *flags)
    theirs = b.peers("nets_step.py", "--model", model, "--steps", b.o.steps,
                     *(f"--{name}={n}" for name, n in sizes.items()))
    return ours, {v: pick(f, "step_sec", "fastest_sec", "peak_bytes") for v, f in theirs.items()}


def ffn_step(b, i):
    return net_step(b, "ffn", context=16, channels=32, layers=2, hidden=512, batch=512)


def rnn_step(b, i):
    return net_step(b, "rnn", context=64, channels=64, layers=1, hidden=512, batch=64)


# A recipe for a few seconds instead of a minute (bench/LOG.md, "the shortest way to a loss").
SPRINT = ["--preset", "shakespeare-cpu", "--context", 64, "--batch-size", 8, "--heads", 2,
          "--hidden", 384, "--lr", 0.015, "--muon-momentum", 0.85, "--warmup", 5,
          "--decay-fraction", 0.8]


def time_to_loss(b, i):
    """From the start of training to a model on disk, and one evaluation of it by `puck eval`: for
    puck the whole process, for the peer without import and compilation. Estimates on the way count
    for both. In steps, --steps is the peer's and --reach-steps puck's."""
    saved = b.folder / f"peer-{i}-VARIANT"
    theirs = b.peers("shakespeare.py", "--data", b.o.data, "--save", saved, "--steps", b.o.steps,
                     "--seed", i + 1)
    for variant, f in theirs.items():
        score = b.score(str(saved).replace("VARIANT", variant))
        f.update(total_sec=f["total_sec"] + score["wall_sec"], val_loss=score["loss"])
    run = b.folder / f"puck-{i}"
    ours = b.puck("train", *SPRINT, "--data", b.o.data, "--run", run,
                  "--steps", b.o.reach_steps, "--seed", i + 1, side="puck")
    score = b.score(run)
    rows = [json.loads(line) for line in open(run / "metrics.jsonl")]
    # Estimates of the validation loss on the way, by seconds: of the last repeat, for the figure.
    b.curves = {"puck": [[r["elapsed_sec"], r["val_loss"]] for r in rows if "val_loss" in r],
                **{variant: f["val_curve"] for variant, f in theirs.items()}}
    return ({"total_sec": ours["wall_sec"] + score["wall_sec"], "val_loss": score["loss"],
             "peak_bytes": ours["peak_bytes"]},
            {v: pick(f, "total_sec", "val_loss", "peak_bytes") for v, f in theirs.items()})


def generate(b, i):
    """puck's tokens are timed as they arrive. The share of copy speed is that of the bytes of all
    weights that a token reads: 124M floats, the lookup of its position aside."""
    folder = b.folder / "gpt2-124m"
    if not folder.exists():
        b.run([sys.executable, PEERS / "generate.py", "--make", folder])
    roof = b.puck("bench", "feed", "--json")
    copy = roof["gbps"] / roof["share_of_roof"] * 1e9  # bytes read and written, a second
    ours = b.puck("generate", "--from", folder, "--greedy", "--tokens", b.o.steps, side="puck",
                  watch=lambda descriptor: watch_text(descriptor, b.o.steps))
    theirs = b.peers("generate.py", "--from", folder, "--tokens", b.o.steps)
    config = json.loads((folder / "config.json").read_text())
    weights = (folder / "model.safetensors").stat().st_size
    read = weights - 4 * config["n_positions"] * config["n_embd"]
    for f in (ours, *theirs.values()):
        f.update(copy_share=read * f["tokens_per_sec"] / copy, copy_bytes_per_sec=copy)
    for variant, f in theirs.items():
        same = sum(chr(0x10000 + a) == c for a, c in zip(f["ids"], ours["text"]))
        if same < b.o.steps:
            print(f"{same} of {b.o.steps} tokens of {variant} are puck's", file=sys.stderr)
    names = "tokens_per_sec", "copy_share", "copy_bytes_per_sec", "peak_bytes"
    return pick(ours, *names), {v: pick(f, *names) for v, f in theirs.items()}


def watch_text(descriptor, n_tokens):
    """Reads a text of one character a token. The first token has the start of the program in it, so
    the speed is that of the others."""
    decoder, text, times = codecs.getincrementaldecoder("utf-8")(), "", []
    while block := os.read(descriptor, 4096):
        new = decoder.decode(block)
        times += [time.perf_counter()] * len(new)
        text += new
    if len(text) < n_tokens or n_tokens < 2:
        raise Failed(f"puck generate wrote {len(text)} characters, not {n_tokens}")
    return {"text": text, "tokens_per_sec": (n_tokens - 1) / (times[n_tokens - 1] - times[0])}


def check_same(name, ours, theirs):
    """What is timed must be the same work."""
    if ours != theirs:
        raise Failed(f"puck's {name} are not the peer's")


def encode(b, text):
    """Text to ids, on one thread, and the ids' checksum: both sides with an empty cache."""
    b.o.threads = 1  # for the record: neither has more
    out = b.folder / "tokens"
    ours = b.run([b.o.puck, "tokenize", "--tokenizer", b.o.gpt2, "--input", text, "--output", out,
                  "--val-fraction", "0", "--json"], side="puck")
    theirs = b.peers("bpe.py", "encode", "--vocab", b.o.gpt2, "--data", text)
    shards = sorted(out.glob("train_*.bin"))
    sha = hashlib.sha256(b"".join(shard.read_bytes()[1024:] for shard in shards)).hexdigest()
    for f in theirs.values():
        check_same("tokens", sha, f["sha"])
    return ours, theirs


def bpe_encode(b, i):
    ours, theirs = encode(b, b.o.plays)
    return pick(ours, "encode_sec"), {v: pick(f, "encode_sec") for v, f in theirs.items()}


def bpe_word(b, i):
    """Letters at random, in which merges reach no further than in a text of words."""
    rng, sec = random.Random(1), {}
    for size in 1 << 17, 1 << 21:
        word = b.folder / "word.txt"
        word.write_text("".join(rng.choices("etaoinshrdlucmfwypvbgkqjxz", k=size)))
        ours, theirs = encode(b, word)
        for side, f in {"puck": ours, **theirs}.items():
            before = sec.get(side)
            sec[side] = {"encode_sec": f["encode_sec"]}
            if before:
                sec[side]["growth"] = f["encode_sec"] / before["encode_sec"] / 16
    return sec.pop("puck"), sec


def bpe_learn(b, i):
    out = b.folder / "learned"
    ours = b.run([b.o.puck, "tokenize", "--tokenizer", "bpe", "--vocab-size", 16384, "--input", b.o.plays,
                  "--output", out, "--val-fraction", "0", "--json", *b.common], side="puck")
    theirs = b.peers("bpe.py", "learn", "--data", b.o.plays)
    if "text" in theirs:
        check_same("merges", bpe.merges_sha((out / "tokenizer.json").read_text()), theirs["text"]["sha"])
    return pick(ours, "learn_sec"), {v: pick(f, "learn_sec") for v, f in theirs.items()}


# By name: function, --steps, what decides which variant is best, and the variants of the peer.
TORCH = "eager,compiled"
WORKS = {"step124m": (step124m, 5, "step_sec", TORCH),
         "shakespeare": (shakespeare, 500, "step_sec", TORCH),
         "modern-step": (modern_step, 100, "step_sec", TORCH),
         "ffn-step": (ffn_step, 100, "step_sec", TORCH), "rnn-step": (rnn_step, 20, "step_sec", TORCH),
         "time-to-loss": (time_to_loss, 2000, "total_sec", TORCH),
         "generate": (generate, 128, "tokens_per_sec", TORCH),
         "bpe-encode": (bpe_encode, 1, "encode_sec", "list,array"),
         "bpe-word": (bpe_word, 1, "encode_sec", "list,array"),
         "bpe-learn": (bpe_learn, 1, "learn_sec", "text,lines")}
VARIANTS = {"eager": [], "compiled": ["--compile"],
            **{v: ["--variant", v] for v in ("list", "array", "text", "lines")}}
# What the peer is made of, beside PyTorch or instead of it.
PEER_PACKAGES = {"generate": ["transformers", "torch"], "bpe-encode": ["tiktoken"],
                 "bpe-word": ["tiktoken"], "bpe-learn": ["tokenizers"]}

# How a figure is printed, and which way it is better: -1 less, 1 more, 0 neither.
FIGURES = {"step_sec": (-1, lambda x: f"{x * 1e3:.2f} ms"),
           "fastest_sec": (-1, lambda x: f"{x * 1e3:.2f} ms"),
           "total_sec": (-1, lambda x: f"{x:.2f} s"),
           "encode_sec": (-1, lambda x: f"{x * 1e3:.1f} ms"),
           "learn_sec": (-1, lambda x: f"{x:.3f} s"),
           "growth": (-1, lambda x: f"{x:.2f}"),
           "peak_bytes": (-1, lambda x: f"{x / 1e6:.0f} MB"),
           "tokens_per_sec": (1, lambda x: f"{x:.2f} tok/s"),
           "val_loss": (0, lambda x: f"{x:.4f}"),
           "copy_share": (0, lambda x: f"{100 * x:.1f} %"),
           "copy_bytes_per_sec": (0, lambda x: f"{x * 1e-9:.2f} GB/s")}


def summary(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values),
            "runs": values}


def ratio(name, ours, theirs):
    """Above 1: puck is better. None where a figure has no better."""
    way = FIGURES[name][0]
    return (theirs["median"] / ours["median"]) ** -way if way else None


def summarise(runs, decides):
    """Figures of both sides, the best variant, and all variants' figures."""
    names = list(runs[0][0])
    variants = [v for v in runs[0][1] if all(v in theirs for _, theirs in runs)]
    by_variant = {v: {n: summary([theirs[v][n] for _, theirs in runs]) for n in names}
                  for v in variants}
    best = min(variants, key=lambda v: by_variant[v][decides]["median"] * -FIGURES[decides][0])
    ours = {n: summary([figures[n] for figures, _ in runs]) for n in names}
    figures = {n: {"puck": ours[n], "peer": by_variant[best][n],
                   "ratio": ratio(n, ours[n], by_variant[best][n])} for n in names}
    return figures, best, by_variant


def print_table(records):
    form = "{:13}  {:18}  {:>32}  {:>32}  {:>6}"
    print(form.format("work", "median (extremes)", "puck", "peer", "ratio"))
    for r in records:
        for name, f in r["figures"].items():
            show = FIGURES[name][1]
            cells = [f"{show(s['median'])} ({show(s['min'])} .. {show(s['max'])})"
                     for s in (f["puck"], f["peer"])]
            print(form.format(r["bench"][len("peers/"):], name, *cells,
                              f"{f['ratio']:.2f}" if f["ratio"] else ""))
        unit = "tokens" if r["bench"] == "peers/generate" else "steps"
        length = "" if r["bench"].startswith("peers/bpe") else f", {r['steps']} {unit}"
        print(f"{'':13}  {r['peer']}; {r['repeats']} repeats{length}"
              + (f"; puck's loss is not above the peer's in {r['reached']}" if "reached" in r
                 else ""))


def cpu_name():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def make_record(name, b, runs):
    figures, best, by_variant = summarise(runs, WORKS[name][2])
    title = {"torch": "PyTorch"}
    peer = [f"{title.get(p, p)} {version(p)}" for p in PEER_PACKAGES.get(name, ["torch"])]
    record = {
        "bench": f"peers/{name}", "date": datetime.date.today().isoformat(),
        "commit": b.o.commit,
        "device": f"{cpu_name()}, {os.cpu_count()} cores", "threads": b.o.threads,
        "repeats": len(runs), "steps": b.o.steps,
        "command": b.commands["puck"].replace(str(b.folder), "TMP"),
        "peer": ", ".join([*peer, best]),
        "peer_command": b.commands[best].replace(str(b.folder), "TMP"),
        "figures": figures, "variants": by_variant}
    if name == "time-to-loss":
        f = figures["val_loss"]
        pairs = list(zip(f["puck"]["runs"], f["peer"]["runs"]))
        record["reached"] = f"{sum(a <= b for a, b in pairs)} of {len(pairs)}"
        record["reach_steps"] = b.o.reach_steps
        record["curves"] = {"puck": b.curves["puck"], "peer": b.curves[best]}
    return record


def measure(name, o):
    work, steps, _, variants = WORKS[name]
    o = argparse.Namespace(**vars(o))
    o.steps, o.variants = o.steps or steps, (o.variants or variants).split(",")
    runs = []
    with tempfile.TemporaryDirectory(prefix="puck-peers-") as folder:
        log = open(Path(folder) / "log", "w")
        b = Bench(o, folder, log)
        for i in range(o.repeats):
            try:
                ours, theirs = work(b, i)
            except Failed as e:
                log.flush()
                sys.stderr.write(open(log.name).read())
                sys.exit(f"{name}: {e}; its messages are above")
            runs.append((ours, theirs))
            sides = {"puck": ours, **theirs}
            print(f"{name} {i + 1}/{o.repeats}", *(
                f"{side} " + ", ".join(FIGURES[n][1](x) for n, x in figures.items())
                for side, figures in sides.items()), sep="   ", file=sys.stderr)
        return make_record(name, b, runs)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", nargs="*", metavar="WORK", help="default: all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, help="steps of each run, or tokens")
    parser.add_argument("--reach-steps", type=int, default=300,
                        help="time-to-loss: steps of puck's run")
    parser.add_argument("--variants", help="of the peer; default: all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", default="data/text/tinyshakespeare.txt")
    parser.add_argument("--plays", default="data/text/shakespeare-plays.txt", help="bpe-...: the text")
    parser.add_argument("--gpt2", default="data/text/gpt2-vocab.bpe", help="bpe-encode, bpe-word")
    parser.add_argument("--puck", default="./puck")
    parser.add_argument("--no-record", action="store_true")
    o = parser.parse_args()
    for name in o.work:
        if name not in WORKS:
            parser.error(f"there is no work {name}: there are {', '.join(WORKS)}")
        variants = WORKS[name][3].split(",")
        if o.variants and not set(o.variants.split(",")) <= set(variants):
            parser.error(f"--variants of {name} are {', '.join(variants)}")
    o.commit = subprocess.check_output(["git", "describe", "--always", "--dirty"], text=True).strip()
    records = []  # each makes the tree dirty
    for name in o.work or WORKS:
        records.append(measure(name, o))
        if not o.no_record:
            os.makedirs(os.path.dirname(RESULTS), exist_ok=True)
            with open(RESULTS, "a") as out:
                out.write(json.dumps(records[-1]) + "\n")
    print_table(records)


if __name__ == "__main__":
    main()
