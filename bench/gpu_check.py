#!/usr/bin/env python3
"""Everything of puck that needs a GPU, shown on the one at hand, in stages:

  ops       every op against double precision, in bf16 and f32; whole tiny models; the roofs
  train     graph = eager, resume = one run, the shakespeare preset to its loss
  ranks     collectives and training through NCCL, with the one rank that there is
  bench     single ops and whole steps of GPT-2 124M, beside the roofs
  sanitize  compute-sanitizer's four tools over the ops' smallest cases
  peers     the same step in PyTorch, eager and compiled

Each stage appends its figures to a record when it ends, and the table printed last has what was
reached within --budget seconds. Runs in a folder made by `make gpu-bundle`, or in a built checkout.
With --device emu it is a rehearsal without a card."""
import argparse
import datetime
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent
if ROOT.name == "bench":  # in a checkout; a bundle has this file at its root
    ROOT = ROOT.parent
STAGES = ["ops", "train", "ranks", "bench", "sanitize", "peers"]
TEXT = ROOT / "data/text/tinyshakespeare.txt"
PROGRAMS = ["puck", "build/tests/ops/test_ops_device", "build/tests/model/test_device",
            "build/tests/cuda/test_comm"]


class Check:
    def __init__(self, o, card):
        self.o = o
        self.card = card
        self.about = about(o, card)
        self.end = time.monotonic() + o.budget
        self.rows = []
        self.record = Path(o.record)
        self.log = open(o.log, "w")
        self.emulated = o.device == "emu"
        self.library = str(ROOT / f"libpuck_{o.device}.so")
        self.environment = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="TAP",
                                PUCK_TEST_DEVICE=self.library)
        folders = [str(ROOT / "lib"), *cuda_folders()]
        self.own_path = os.environ.get("LD_LIBRARY_PATH", "")
        self.environment["LD_LIBRARY_PATH"] = ":".join([*folders, *filter(None, [self.own_path])])

    def left(self):
        return self.end - time.monotonic()

    def run(self, command, limit=300, environment=None):
        """(exit code, output of both streams, seconds); code None: there was no time. What the
        command has started ends with it."""
        limit = min(limit, self.left())
        if limit <= 1:
            return None, "", 0
        command = [str(part) for part in command]
        print("+", shlex.join(command), file=self.log, flush=True)
        start = time.monotonic()
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                       cwd=ROOT, text=True, errors="replace",
                                       start_new_session=True,
                                       env={**self.environment, **(environment or {})})
        except OSError as e:
            print(e, file=self.log, flush=True)
            return 127, str(e), 0
        code = None
        try:
            text = process.communicate(timeout=limit)[0]
            code = process.returncode
        except subprocess.TimeoutExpired:
            kill_group(process)
            text = process.communicate()[0]
        finally:
            kill_group(process)
        seconds = time.monotonic() - start
        print(text, f"# exit {code} after {seconds:.1f} s", sep="\n", file=self.log, flush=True)
        return code, text, seconds

    def failure(self, stage, name, code, text):
        """The row of a command that failed: with the last thing that it said."""
        said = [line.strip() for line in text.splitlines() if line.strip()]
        why = "there was no time" if code is None else f"exit {code}"
        self.row(stage, name, None if code is None else False, ": ".join([why, *said[-1:]])[:200])

    def row(self, stage, name, good, figure, **values):
        """One line of the table and of the record. `good`: True, False, or None: not measured."""
        self.rows.append((stage, name, good, figure))
        mark = {True: "ok", False: "FAILED", None: "not measured"}[good]
        print(f"{stage:9} {name:44} {mark:13} {figure}", flush=True)
        with open(self.record, "a") as out:
            line = {"bench": f"gpu/{stage}", "name": name, "good": good, "figure": figure,
                    **values, **self.about}
            out.write(json.dumps(line) + "\n")

    def puck(self, *arguments, **kw):
        device = ["--device", "emu" if self.emulated else self.o.device]
        return self.run([ROOT / "puck", *arguments, *device], **kw)


def kill_group(process):
    """Of a process and all that it has started, if any is left."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def first_object(text):
    """The first JSON object in a command's output, which may have lines of the log around it."""
    return json.JSONDecoder().raw_decode(text[text.index("{"):])[0]


def cuda_folders():
    """Where CUDA's libraries may lie beyond the loader's own list: a toolkit, Python's packages."""
    found = [path for path in ("/usr/local/cuda/lib64",) if os.path.isdir(path)]
    for base in {*sys.path, *(str(Path(p) / "site-packages") for p in sys.path)}:
        found += [str(p) for p in Path(base or ".").glob("nvidia/*/lib") if p.is_dir()]
    return found


def first_line(command):
    try:
        text = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True, timeout=60).stdout
        return text.splitlines()[0].strip() if text.strip() else ""
    except (OSError, subprocess.TimeoutExpired):
        return ""


def about(o, card):
    """What every line of the record says of the machine."""
    card = first_line(["nvidia-smi", "-i", card, "--query-gpu=name,driver_version",
                       "--format=csv,noheader"])
    commit = ROOT / "COMMIT"
    commit = commit.read_text().strip() if commit.exists() else \
        first_line(["git", "-C", str(ROOT), "describe", "--always", "--dirty"])
    name, _, driver = card.partition(", ")
    return {"date": datetime.date.today().isoformat(), "commit": commit,
            "device": o.device if o.device == "emu" else name or "no card", "driver": driver,
            "command": f"gpu-check --stage {o.stage} --budget {o.budget:g}"}


# ---- stages ----

def tests(check, stage, program, *arguments, limit=200):
    path = ROOT / "build/tests" / program
    code, text, seconds = check.run([path, *arguments], limit=limit)
    passed = len(re.findall(r"^ok\b(?!.*# SKIP)", text, re.M))
    failed = re.findall(r"^not ok\b[ 0-9-]*(.*)", text, re.M)
    good = False if failed else None if code is None else code == 0 and passed > 0
    name = " ".join([Path(program).name, *(Path(a).name for a in arguments)])
    names = f" ({', '.join(failed)})" if failed else ""
    end = "" if code == 0 or failed else ", there was no time" if code is None else f", exit {code}"
    check.row(stage, name, good,
              f"{passed} passed, {len(failed)} failed{names}, {seconds:.0f} s{end}",
              passed=passed, failed=len(failed))


def stage_ops(check):
    for dtype in ("bf16", "f32"):
        tests(check, "ops", "ops/test_ops_device", check.library, dtype)
    tests(check, "ops", "model/test_device")


def bytes_of_run(folder):
    """A hash of what a run trained: weights, moments, and metrics without their times."""
    digest = hashlib.sha256()
    for name in ("model.safetensors", "optim.safetensors"):
        digest.update((Path(folder) / "ckpt/latest" / name).read_bytes())
    text = (Path(folder) / "metrics.jsonl").read_text()
    digest.update(re.sub(r'"(tokens_per_sec|elapsed_sec|mfu|gflops_per_sec)": *[^,}]*', "",
                         text).encode())
    return digest.hexdigest()


def equal_runs(check, stage, name, one, two, environment=None):
    """Two ways to train must leave the same bytes. Each is a list of calls; the second one's may
    have variables of their own."""
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        train_both(check, stage, name, [(one, None), (two, environment)], Path(folder))


TINY = ["--layers", "2", "--heads", "2", "--channels", "64", "--context", "32"]


def train_both(check, stage, name, ways, work):
    steps = "20" if check.emulated else "60"
    size = TINY if check.emulated else ["--preset", "shakespeare-gpt2"]
    hashes = []
    for i, (calls, environment) in enumerate(ways):
        run = work / str(i)
        if i == 1:  # timing may choose other algorithms in every run: both use the first one's
            run.mkdir()
            shutil.copy(work / "0/algorithms.txt", run)
        for call in calls:
            code, out, _ = check.puck("train", *size, "--data", TEXT, "--run", run, "--steps",
                                      steps, "--eval-every", "10", "--batch-size", "8", *call,
                                      limit=60, environment=environment)
            if code != 0:
                return check.failure(stage, name, code, out)
        hashes.append(bytes_of_run(run))
    good = hashes[0] == hashes[1]
    check.row(stage, name, good, "the same bytes" if good else "other bytes")


def train_to_end(check, name, size, work):
    run = work / name
    code, out, seconds = check.puck("train", *size, "--data", TEXT, "--run", run, limit=300)
    if code != 0:
        return check.failure("train", name, code, out)
    code, out, _ = check.puck("eval", "--from", run / "ckpt/best", "--data", TEXT, "--json")
    if code != 0:
        return check.failure("train", f"{name}, evaluated", code, out)
    loss = first_object(out)["loss"]
    speed = re.findall(r'"tokens_per_sec": *([0-9.]+)', (run / "metrics.jsonl").read_text())
    check.row("train", name, True,
              f"best loss {loss:.4f} nats per character, {seconds:.1f} s in all", loss=loss,
              seconds=seconds, tokens_per_sec=float(speed[-1]) if speed else None)


def stage_train(check):
    equal_runs(check, "train", "graph = eager", [["--graph", "on"]], [["--graph", "off"]])
    equal_runs(check, "train", "resume = one run", [[]],
               [["--stop-after", "7"], ["--stop-after", "6"], []])
    equal_runs(check, "train", "recompute = kept", [[]], [["--recompute", "block"]])
    equal_runs(check, "train", "two runs", [[]], [[]])
    sizes = {"tiny": [*TINY, "--steps", "20", "--eval-every", "10"]} if check.emulated else \
        {preset: ["--preset", preset] for preset in check.o.presets.split(",")}
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        for name, size in sizes.items():
            train_to_end(check, name, size, Path(folder))


def stage_ranks(check):
    tests(check, "ranks", "cuda/test_comm", check.library, limit=60)
    equal_runs(check, "ranks", "through NCCL = without", [[]], [[]], {"PUCK_ALWAYS_NCCL": "1"})


def used_bytes(check):
    """Of the card's memory, by all programs; None where nvidia-smi does not say."""
    text = first_line(["nvidia-smi", "-i", check.card, "--query-gpu=memory.used",
                       "--format=csv,noheader,nounits"])
    return int(text) << 20 if text.isdigit() else None


PLAN_AIM = 0.02  # how far a plan may be from what is used


def check_plan(check, size):
    """The printed plan against what the card says that a run takes beyond an empty card, and the
    parts of what CUDA itself takes: at the first arena, and by the end of the last step."""
    calls = [check.puck("info", *size, "--json"), check.puck("info", "--json")]
    for code, out, _ in calls:
        if code != 0:
            return check.failure("bench", "memory plan", code, out)
    plan, machine = (first_object(out) for _, out, _ in calls)
    planned, own = plan["memory_bytes"]["total"], plan["memory_bytes"]["device"]
    before, end = None if check.emulated else used_bytes(check), threading.Event()
    opened = machine["memory_bytes"] - machine["memory_free"] - (before or 0)
    seen = [before]

    def watch():
        while not end.is_set() and seen[-1] is not None:
            seen.append(used_bytes(check))
    watcher = threading.Thread(target=watch)
    watcher.start()
    code, out, _ = check.puck("bench", "step", *size, "--repeats", "30", limit=100)
    end.set()
    watcher.join()
    if code != 0:
        return check.failure("bench", "memory plan", code, out)
    parts = {"planned_bytes": planned, "arena_bytes": planned - own, "own_planned_bytes": own,
             "own_opened_bytes": opened, "used_before_bytes": before}
    if None in seen:
        return check.row("bench", "memory plan", None,
                         f"planned {planned * 1e-6:.0f} MB, {own * 1e-6:.0f} of them the device's "
                         f"own; no card says what is used", **parts)
    used = max(seen) - before
    parts.update(used_bytes=used, own_used_bytes=used - parts["arena_bytes"])
    check.row("bench", "memory plan", abs(used / planned - 1) <= PLAN_AIM,
              f"planned {planned * 1e-6:.0f} MB, used {used * 1e-6:.0f} MB, "
              f"{100 * (used / planned - 1):+.1f} %; the device's own: {own * 1e-6:.0f} MB planned, "
              f"{opened * 1e-6:.0f} before the first arena, "
              f"{parts['own_used_bytes'] * 1e-6:.0f} by the last step", **parts)


def bench_row(check, line):
    figures = [f"{line['median_sec'] * 1e3:.3f} ms"]
    if "tokens_per_sec" in line:
        figures.append(f"{line['tokens_per_sec']:.0f} tok/s")
    if "gflops" in line:
        figures.append(f"{line['gflops'] * 1e-3:.1f} TFLOP/s")
    elif "gbps" in line:
        figures.append(f"{line['gbps']:.0f} GB/s")
    if "share_of_roof" in line:
        figures.append(f"{100 * line['share_of_roof']:.0f} % of its roof")
    row = {k: v for k, v in line.items() if k not in ("device", "command")}
    check.row("bench", f"{line['op']} {line['shape']}"[:44], True, ", ".join(figures), **row)


def stage_bench(check):
    size = ["--layers", "1", "--heads", "2", "--channels", "32", "--context", "16",
            "--batch-size", "2"] if check.emulated else \
        ["--preset", "gpt2", "--batch-size", "64", "--micro-batch", "64"]
    check_plan(check, size)
    for what in ("step", "ops"):
        code, out, _ = check.puck("bench", what, *size, "--repeats",
                                  "1" if check.emulated else "10", "--json", limit=200)
        lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        if code != 0 or not lines:
            check.failure("bench", f"bench {what}", code, out)
        for line in lines:
            bench_row(check, line)


def stage_sanitize(check):
    if check.emulated:
        return check.row("sanitize", "compute-sanitizer", None, "the emulator has its own checks")
    program = ROOT / "build/tests/ops/test_ops_device"
    sanitizer = shutil.which("compute-sanitizer") or \
        shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if not sanitizer:
        return check.row("sanitize", "compute-sanitizer", None, "it is not installed")
    for tool in ("memcheck", "racecheck", "initcheck", "synccheck"):
        code, text, seconds = check.run(
            [sanitizer, "--tool", tool, "--error-exitcode", "9", program, check.library,
             "bf16"], limit=check.o.sanitize_limit, environment={"PUCK_TEST_SMALL": "1"})
        if code is None:
            check.failure("sanitize", tool, code, "")
            continue
        passed = len(re.findall(r"^ok\b", text, re.M))
        summary = (re.findall(r"ERROR SUMMARY: (.*)|RACECHECK SUMMARY: (.*)", text) or [("", "")])
        summary = summary[-1][0] or summary[-1][1] or f"exit {code}"
        check.row("sanitize", tool, code == 0 and passed > 0,
                  f"{passed} tests ran, {summary}, {seconds:.0f} s", passed=passed)


def stage_peers(check):
    script = ROOT / "bench/peers/step124m.py"
    shape = ["--device", "cuda", "--batch", "64", "--context", "1024", "--steps", "10"]
    if check.emulated:
        shape = ["--batch", "1", "--context", "16", "--steps", "1"]
    for extra in ([], ["--compile"]):
        # With the libraries that PyTorch came with, not with puck's.
        code, text, _ = check.run([sys.executable, script, *shape, *extra], limit=240,
                                  environment={"LD_LIBRARY_PATH": check.own_path})
        lines = [line for line in text.splitlines() if line.startswith("{")]
        name = "PyTorch 124M step" + (", compiled" if extra else ", eager")
        if code != 0 or not lines:  # no fault of puck's
            check.row("peers", name, None, (text.strip().splitlines() or ["no time"])[-1][:200])
            continue
        r = json.loads(lines[-1])
        tokens = int(shape[shape.index("--batch") + 1]) * int(shape[shape.index("--context") + 1])
        check.row("peers", name, True, f"{r['step_sec'] * 1e3:.1f} ms, "
                  f"{tokens / r['step_sec']:.0f} tok/s, torch {r['torch']}", **r)


# ---- all of them ----

def choose_card(o):
    """cuda:N becomes the only card that the programs see. Returns nvidia-smi's name of it."""
    kind, _, number = o.device.partition(":")
    if number:
        os.environ["CUDA_VISIBLE_DEVICES"] = number
    o.device = kind
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]


def missing_files(check):
    return [path for path in (*PROGRAMS, Path(check.library).name, TEXT.relative_to(ROOT))
            if not (ROOT / path).exists()]


def run_stage(check, stage):
    """What a stage did not expect is a row, and the others still run."""
    if check.left() <= 1:
        return check.row(stage, "all", None, "the budget was spent")
    try:
        globals()[f"stage_{stage}"](check)
    except Exception as e:
        print(traceback.format_exc(), file=check.log, flush=True)
        check.row(stage, "all", False, f"{type(e).__name__}: {e}"[:200])


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or emu")
    parser.add_argument("--stage", default=",".join(STAGES), help="comma-separated, in this order")
    parser.add_argument("--budget", type=float, default=540, help="seconds in all")
    parser.add_argument("--presets", default="shakespeare,shakespeare-gpt2",
                        help="trained to their end")
    parser.add_argument("--sanitize-limit", type=float, default=150, help="seconds a tool")
    parser.add_argument("--record", default="gpu.jsonl", help="appended to")
    parser.add_argument("--log", default="gpu-check.log", help="what the programs printed")
    o = parser.parse_args()
    stages = o.stage.split(",")
    for stage in stages:
        if stage not in STAGES:
            parser.error(f"there is no stage {stage}: there are {', '.join(STAGES)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends what runs too
    card = choose_card(o)
    check = Check(o, card)
    missing = missing_files(check)
    if missing:
        parser.error(f"{', '.join(map(str, missing))} missing: build with `make gpu-bundle`"
                     + ("" if o.device == "cuda" else " and `make emu`"))
    for stage in stages:
        run_stage(check, stage)
    failed = sum(good is False for _, _, good, _ in check.rows)
    missing = sum(good is None for _, _, good, _ in check.rows)
    passed = len(check.rows) - failed - missing
    print(f"{passed} ok, {failed} failed, {missing} not measured; figures in {o.record}, "
          f"output in {o.log}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
