#!/usr/bin/env python3
"""Training steps of a modern preset's model by Muon and AdamW, on random tokens: the twin of
`puck bench step --preset NAME`. Its settings are puck's own, which `puck train --dry-run` prints.
The last line it prints is JSON."""
import argparse
import json
import resource
import time
import tomllib

import torch
from nanochat import Config, NanoChat, Optimizer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="file with `key = value` lines")
    parser.add_argument("--vocab", type=int, default=65)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(1)
    with open(o.settings, "rb") as file:
        s = tomllib.load(file)
    config = Config(vocab=o.vocab, context=s["context"], layers=s["layers"], heads=s["heads"],
                    kv_heads=s["kv_heads"] or s["heads"], channels=s["channels"],
                    hidden=s["hidden"] or 4 * s["channels"])
    model = NanoChat(config)
    # No output projection is zero after the first steps, so none is here.
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=config.channels ** -0.5)
    optimizer = Optimizer(model, lr=s["lr"], muon_lr=s["muon_lr"], betas=(s["beta1"], s["beta2"]),
                          momentum=s["muon_momentum"], weight_decay=s["weight_decay"],
                          compiled=o.compile)
    forward = torch.compile(model) if o.compile else model
    tokens = torch.randint(config.vocab, (s["batch_size"], config.context + 1))
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    step_sec = []
    for _ in range(o.warmup + o.steps):
        before = time.perf_counter()
        loss = forward(inputs, targets)
        loss.backward()
        if s["clip"]:
            torch.nn.utils.clip_grad_norm_(model.parameters(), s["clip"])
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        step_sec.append(time.perf_counter() - before)
    step_sec = sorted(step_sec[o.warmup:])
    print(json.dumps({"step_sec": step_sec[len(step_sec) // 2], "fastest_sec": step_sec[0],
                      "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                      "threads": o.threads, "compiled": o.compile, "loss": loss.item(),
                      "torch": torch.__version__}))


if __name__ == "__main__":
    main()
