#!/usr/bin/env python3
"""nanoGPT's CPU recipe for a character model of Shakespeare: twin of --preset shakespeare-cpu-gpt2.

Same windows at random offsets, learning rate and clipping, and nanoGPT's estimates on the way:
every 250 steps and at the end, 20 batches of each part. The last line it prints is JSON; its
total_sec is from the reading of the text to the saved weights, but for the time that torch.compile
takes."""
import argparse
import json
import math
import time

import torch
from gpt2 import GPT2, Config

CONTEXT, BATCH = 64, 12
WARMUP, PEAK, FLOOR = 100, 1e-3, 1e-4
EVAL_EVERY, EVAL_BATCHES = 250, 20


def learning_rate(step, steps):
    if step < WARMUP:
        return PEAK * (step + 1) / (WARMUP + 1)
    done = (step - WARMUP) / max(1, steps - WARMUP)
    return FLOOR + 0.5 * (1 + math.cos(math.pi * done)) * (PEAK - FLOOR)


def batch(tokens):
    starts = torch.randint(len(tokens) - CONTEXT, (BATCH,))
    windows = torch.stack([tokens[i:i + CONTEXT + 1] for i in starts])
    return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()


@torch.no_grad()
def estimate(model, parts):
    model.eval()
    loss = {name: sum(model(*batch(tokens)).item() for _ in range(EVAL_BATCHES)) / EVAL_BATCHES
            for name, tokens in parts.items()}
    model.train()
    return loss


def compile_model(model, tokens):
    """The compiled model and how long that took; the random numbers drawn are taken back."""
    before, drawn = time.perf_counter(), torch.get_rng_state()
    forward = torch.compile(model)
    forward(*batch(tokens)).backward()
    model.zero_grad()
    with torch.no_grad():
        model.eval()
        forward(*batch(tokens))
        model.train()
    torch.set_rng_state(drawn)
    return forward, time.perf_counter() - before


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data/tinyshakespeare.txt")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--save", help="folder for the trained weights")
    o = parser.parse_args()
    start = time.perf_counter()
    torch.set_num_threads(o.threads)
    torch.manual_seed(o.seed)

    text = open(o.data, encoding="utf-8", newline="").read()
    vocabulary = sorted(set(text))
    number = {ch: i for i, ch in enumerate(vocabulary)}
    tokens = torch.tensor([number[ch] for ch in text])
    n_train = int(0.9 * len(tokens))
    parts = {"train": tokens[:n_train], "val": tokens[n_train:]}

    model = GPT2(Config(len(vocabulary), CONTEXT, layers=4, heads=4, channels=128, bias=False))
    optimizer = model.optimizer(PEAK, (0.9, 0.99), 0.1)
    forward, compile_sec = compile_model(model, tokens) if o.compile else (model, 0.0)

    step_sec, curve = [], []
    for step in range(o.steps + 1):
        if step % EVAL_EVERY == 0 or step == o.steps:
            loss = estimate(forward, parts)
            curve.append([time.perf_counter() - start - compile_sec, loss["val"]])
            print(f"step {step}: train {loss['train']:.4f}, val {loss['val']:.4f} (estimates)",
                  flush=True)
        if step == o.steps:
            break
        before = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, o.steps)
        forward(*batch(parts["train"])).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step_sec.append(time.perf_counter() - before)

    if o.save:
        model.save(o.save, vocabulary)
    step_sec.sort()
    print(json.dumps({"steps": o.steps, "threads": o.threads, "compiled": o.compile,
                      "step_sec": step_sec[len(step_sec) // 2],
                      "total_sec": time.perf_counter() - start - compile_sec,
                      "compile_sec": compile_sec,
                      "val_curve": curve, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
