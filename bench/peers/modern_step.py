#!/usr/bin/env python3
"""Training steps of a modern preset's model by Muon and AdamW, on random tokens: the twin of
`puck bench step --preset NAME`. Its settings are puck's own, which `puck train --dry-run` prints.
The last line it prints is JSON."""
import argparse
import tomllib

import timed
import torch
from nanochat import Config, NanoChat, Optimizer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="file with `key = value` lines")
    parser.add_argument("--vocab", type=int, default=65)
    timed.add_options(parser, steps=50, warmup=5)
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

    def step():
        loss = forward(inputs, targets)
        loss.backward()
        if s["clip"]:
            torch.nn.utils.clip_grad_norm_(model.parameters(), s["clip"])
        optimizer.step()
        optimizer.zero_grad()
        return loss

    timed.run(step, o)


if __name__ == "__main__":
    main()
