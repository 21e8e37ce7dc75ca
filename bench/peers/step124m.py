#!/usr/bin/env python3
"""Training steps of GPT-2 124M at B 4, T 64, clipped at 1, on random tokens: the twin of
`puck bench step --preset gpt2 --batch-size 4 --context 64`. The last line it prints is JSON."""
import argparse

import timed
import torch
from gpt2 import GPT2, Config


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--context", type=int, default=64)
    timed.add_options(parser, steps=10, warmup=2)
    parser.add_argument("--device", default="cpu", help="cuda: in bf16 by autocast, as is usual")
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    on_cuda = o.device != "cpu"
    torch.manual_seed(1)
    # On a GPU with the vocabulary padded to a multiple of 64, which is faster there.
    config = Config(vocab=50304 if on_cuda else 50257, context=o.context, layers=12,
                    heads=12, channels=768)
    model = GPT2(config).to(o.device)
    optimizer = model.optimizer(6e-4, (0.9, 0.95), 0.1)
    forward = torch.compile(model) if o.compile else model
    tokens = torch.randint(config.vocab, (o.batch, o.context + 1), device=o.device)
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def step():
        with torch.autocast(o.device, torch.bfloat16, enabled=on_cuda):
            loss = forward(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    timed.run(step, o)


if __name__ == "__main__":
    main()
