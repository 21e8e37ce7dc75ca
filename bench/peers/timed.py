"""What the twins of `puck bench step` share: their options, and steps timed one by one."""
import json
import resource
import time

import torch


def add_options(parser, steps, warmup):
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--warmup", type=int, default=warmup)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true")


def run(step, o):
    """step() updates the model and returns its loss. Prints one line of JSON."""
    step_sec = []
    for _ in range(o.warmup + o.steps):
        before = time.perf_counter()
        loss = step().item()
        step_sec.append(time.perf_counter() - before)
    step_sec = sorted(step_sec[o.warmup:])
    peak_bytes = (torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else
                  resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    print(json.dumps({"step_sec": step_sec[len(step_sec) // 2], "fastest_sec": step_sec[0],
                      "peak_bytes": peak_bytes, "threads": o.threads, "compiled": o.compile,
                      "loss": loss, "torch": torch.__version__}))
