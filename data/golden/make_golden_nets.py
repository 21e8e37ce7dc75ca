"""Writes data/golden/ffn-tiny and rnn-tiny, as make_golden.py does for the transformers.

    python data/golden/make_golden_nets.py        (torch, transformers >= 5, safetensors)

The folders are puck's own: config.json with its model_type, matrices (in, out) as the formulas have
them. What differs from make_golden.py's golden.safetensors:
    ffn   targets (steps,B); tokens hold <PAD>, the row after the vocabulary's last, on the left
    rnn   tokens, targets (steps,T,B): the batches follow each other in the text, the state at a
          batch's end is that at the next one's start, and no gradient goes back across
The passes are written out, and compared with torch.nn's layers in double.
"""
import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file

from make_golden import ADAMW, BATCH, STEPS, compare, gelu, train

FFN = dict(kind="ffn", layers=2, channels=6, hidden=20, context=5, vocab=33, seed=4)
RNN = dict(kind="rnn", layers=2, channels=10, hidden=18, context=7, vocab=33, seed=5)


def ffn_logits(p, v, tokens):
    h = p["embed.weight"][tokens].flatten(-2)
    for l in range(v["layers"]):
        h = gelu(h @ p[f"hidden.{l}.weight"] + p[f"hidden.{l}.bias"])
    return (h @ p["output.weight"] + p["output.bias"])[:, None]


def rnn_logits(p, v, tokens):
    x = p["embed.weight"][tokens]
    state = v.setdefault("carry", [torch.zeros(BATCH, v["hidden"], dtype=x.dtype)] * v["layers"])
    carry = []
    for l in range(v["layers"]):
        h, rows = state[l], []
        for t in range(v["context"]):
            h = torch.tanh(x[t] @ p[f"rnn.{l}.W_xh"] + h @ p[f"rnn.{l}.W_hh"] + p[f"rnn.{l}.b_h"])
            rows.append(h)
        x = torch.stack(rows)
        carry.append(h.detach())
    v["carry"] = carry
    return x @ p["W_ho"] + p["b_o"]


def weights_of(v):
    E, H, V = v["channels"], v["hidden"], v["vocab"]
    shapes = {"embed.weight": (V + 1, E)}
    for l in range(v["layers"]):
        if v["kind"] == "ffn":
            shapes[f"hidden.{l}.weight"] = (H if l else v["context"] * E, H)
            shapes[f"hidden.{l}.bias"] = (H,)
        else:
            shapes[f"rnn.{l}.W_xh"] = (H if l else E, H)
            shapes[f"rnn.{l}.W_hh"] = (H, H)
            shapes[f"rnn.{l}.b_h"] = (H,)
    output = ("output.weight", "output.bias") if v["kind"] == "ffn" else ("W_ho", "b_o")
    shapes.update(zip(output, ((H, V), (V,))))
    return {n: torch.randn(s) * 0.3 for n, s in shapes.items()}


def batches(v):
    T, V = v["context"], v["vocab"]
    if v["kind"] == "ffn":
        tokens = torch.randint(V, (STEPS, BATCH, T), dtype=torch.int32)
        tokens[0, 0, :3] = V  # <PAD>
        tokens[2, 1, :4] = V
        targets = torch.randint(V, (STEPS, BATCH), dtype=torch.int32)
        targets[1, 2] = -1
        return tokens, targets
    text = torch.randint(V, (STEPS * T, BATCH), dtype=torch.int32)
    start = torch.full((1, BATCH), V, dtype=torch.int32)  # <START>
    tokens = torch.cat([start, text[:-1]]).view(STEPS, T, BATCH)
    targets = text.clone().view(STEPS, T, BATCH)
    targets[-1, 4:, 1] = -1
    return tokens, targets


def check_against_layers(p, v, tokens):
    """torch.nn's own layers on the same weights."""
    if v["kind"] == "ffn":
        h = torch.nn.functional.embedding(tokens.long(), p["embed.weight"]).flatten(-2)
        for l in range(v["layers"]):
            h = torch.nn.functional.gelu(torch.nn.functional.linear(
                h, p[f"hidden.{l}.weight"].T, p[f"hidden.{l}.bias"]), approximate="tanh")
        return torch.nn.functional.linear(h, p["output.weight"].T, p["output.bias"])[:, None]
    net = torch.nn.RNN(v["channels"], v["hidden"], v["layers"]).double()
    for l in range(v["layers"]):
        for name, w in ((f"weight_ih_l{l}", p[f"rnn.{l}.W_xh"].T),
                        (f"weight_hh_l{l}", p[f"rnn.{l}.W_hh"].T),
                        (f"bias_ih_l{l}", p[f"rnn.{l}.b_h"]),
                        (f"bias_hh_l{l}", torch.zeros(v["hidden"]))):
            getattr(net, name).data.copy_(w)
    return net(p["embed.weight"][tokens])[0] @ p["W_ho"] + p["b_o"]


def write(v):
    folder = pathlib.Path(__file__).parent / f"{v['kind']}-tiny"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    torch.manual_seed(v["seed"])
    weights = weights_of(v)
    config = {"model_type": f"puck-{v['kind']}", "vocab_size": v["vocab"], "context": v["context"],
              "layers": v["layers"], "channels": v["channels"], "hidden": v["hidden"],
              "activation": "gelu"}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})

    double = {n: w.double() for n, w in weights.items()}
    tokens, targets = batches(v)
    golden = {"tokens": tokens, "targets": targets,
              "adamw": torch.tensor(list(ADAMW.values()), dtype=torch.float64)}
    train(dict(double), v, ffn_logits if v["kind"] == "ffn" else rnn_logits, tokens,
          targets[:, :, None] if v["kind"] == "ffn" else targets, golden)
    with torch.no_grad():
        compare("logits", golden["logits"], check_against_layers(double, v, tokens[0]))
    save_file({n: t.contiguous() for n, t in golden.items()}, folder / "golden.safetensors")
    print(v["kind"], "losses", " ".join(f"{x:.4f}" for x in golden["losses"]))


for variant in (FFN, RNN):
    write(variant)
