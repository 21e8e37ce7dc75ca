#!/usr/bin/env python3
"""Training steps of a feed-forward or a recurrent language model by AdamW, clipped at 1, on random
tokens: the twin of `puck bench step --preset shakespeare-ffn` and `shakespeare-rnn` of the same
sizes. The last line it prints is JSON."""
import argparse

import timed
import torch
import torch.nn as nn
import torch.nn.functional as F


class FeedForward(nn.Module):
    """Bengio and others 2003: the embeddings of `context` tokens side by side, hidden layers."""

    def __init__(self, o):
        super().__init__()
        self.embed = nn.Embedding(o.vocab + 1, o.channels)  # the last row is <PAD>
        widths = [o.context * o.channels] + [o.hidden] * o.layers
        self.layers = nn.ModuleList(map(nn.Linear, widths, widths[1:]))
        self.output = nn.Linear(o.hidden, o.vocab)

    def forward(self, tokens, state):
        x = self.embed(tokens).flatten(1)
        for layer in self.layers:
            x = F.gelu(layer(x), approximate="tanh")
        return self.output(x), state


class Recurrent(nn.Module):
    """Elman 1990; tokens (T,B). nn.RNN is the faster one as it is, steps written out are the faster
    ones to compile. Its second bias of each layer, which puck has not, stays zero."""

    def __init__(self, o):
        super().__init__()
        self.unrolled = o.compile
        self.embed = nn.Embedding(o.vocab + 1, o.channels)  # the last row is <START>
        self.rnn = nn.RNN(o.channels, o.hidden, o.layers)
        self.output = nn.Linear(o.hidden, o.vocab)
        for name, p in self.rnn.named_parameters():
            if name.startswith("bias_hh"):
                nn.init.zeros_(p).requires_grad_(False)

    def layer(self, l, x, h):
        get, steps = (lambda name: getattr(self.rnn, f"{name}_l{l}")), []
        inputs = F.linear(x, get("weight_ih"), get("bias_ih"))
        for u in inputs.unbind():
            h = torch.tanh(torch.addmm(u, h, get("weight_hh").T))
            steps.append(h)
        return torch.stack(steps)

    def forward(self, tokens, state):
        x = self.embed(tokens)
        if not self.unrolled:
            x, state = self.rnn(x, state)
            return self.output(x), state.detach()
        last = []
        for l, h in enumerate(state):
            x = self.layer(l, x, h)
            last.append(x[-1].detach())
        return self.output(x), torch.stack(last)


MODELS = {"ffn": FeedForward, "rnn": Recurrent}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, required=True)
    for name, value in {"vocab": 65, "context": 16, "channels": 32, "layers": 2, "hidden": 512,
                        "batch": 512}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    timed.add_options(parser, steps=50, warmup=5)
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(1)
    model = MODELS[o.model](o)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, betas=(0.9, 0.95), weight_decay=0, fused=True)
    forward = torch.compile(model) if o.compile else model
    shape = (o.batch, o.context) if o.model == "ffn" else (o.context, o.batch)
    tokens = torch.randint(o.vocab, shape)
    targets = torch.randint(o.vocab, (o.batch,) if o.model == "ffn" else shape).flatten()
    state = torch.zeros(o.layers, o.batch, o.hidden)

    def step():
        nonlocal state
        logits, state = forward(tokens, state)
        loss = F.cross_entropy(logits.view(-1, o.vocab), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    timed.run(step, o)


if __name__ == "__main__":
    main()
