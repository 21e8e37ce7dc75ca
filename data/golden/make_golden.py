"""Writes data/golden: two tiny GPT-2s as transformers saves them, and what they must compute.

    python data/golden/make_golden.py        (torch, transformers, safetensors)

Each folder holds config.json and model.safetensors (f32) from GPT2LMHeadModel.save_pretrained, and
golden.safetensors (f64, computed in double from those f32 weights):
    tokens, targets   (steps,B,T) i32; a target of -1 is ignored
    adamw             lr, beta1, beta2, eps, weight decay (matrices and embeddings only), clip
    logits            (B,T,V) of batch 0 before the first step
    losses            (steps) before each step, mean over valid targets
    norms             (steps) gradient norm before clipping
    grad.NAME         gradient of batch 0's loss, shaped as on disk
    final.NAME        weights after the last step
The passes below are written out here and then compared with transformers and torch.optim.AdamW, so
that a mistake in either shows.
"""
import math
import pathlib
import shutil

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

BATCH, STEPS = 3, 10
ADAMW = dict(lr=1e-2, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, clip=1.0)
# context 12 and 33 or 65 symbols: neither is a multiple of a vector's or of the padding's width.
VARIANTS = {
    "gpt2-tiny": dict(layers=2, heads=2, channels=32, context=16, vocab=65, bias=True, seed=1),
    "gpt2-tiny-nobias": dict(layers=1, heads=4, channels=16, context=12, vocab=33, bias=False,
                             seed=2),
}


def layer_norm(x, w, b):
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    y = (x - mean) / torch.sqrt(variance + 1e-5) * w
    return y if b is None else y + b


def gelu(u):
    return 0.5 * u * (1 + torch.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u**3)))


def forward(p, v, tokens):
    """Logits (B,T,V) from weights named and shaped as on disk: matrices are (in, out)."""
    B, T = tokens.shape
    H, D = v["heads"], v["channels"] // v["heads"]
    get = lambda name: p.get("transformer." + name)

    def linear(x, name):
        b = get(name + ".bias")
        y = x @ get(name + ".weight")
        return y if b is None else y + b

    def norm(x, name):
        return layer_norm(x, get(name + ".weight"), get(name + ".bias"))

    x = get("wte.weight")[tokens] + get("wpe.weight")[:T]
    future = torch.ones(T, T, dtype=torch.bool).triu(1)
    for l in range(v["layers"]):
        q, k, w = linear(norm(x, f"h.{l}.ln_1"), f"h.{l}.attn.c_attn").chunk(3, dim=-1)
        q, k, w = (t.view(B, T, H, D).transpose(1, 2) for t in (q, k, w))
        scores = (q @ k.transpose(2, 3) / math.sqrt(D)).masked_fill(future, -math.inf)
        y = (torch.softmax(scores, -1) @ w).transpose(1, 2).reshape(B, T, H * D)
        x = x + linear(y, f"h.{l}.attn.c_proj")
        x = x + linear(gelu(linear(norm(x, f"h.{l}.ln_2"), f"h.{l}.mlp.c_fc")), f"h.{l}.mlp.c_proj")
    return norm(x, "ln_f") @ get("wte.weight").T


def loss_of(logits, targets):
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten().long(), ignore_index=-1)


def make_model(v):
    """Weights far from their usual start, so that every term shows in the result."""
    torch.manual_seed(v["seed"])
    model = GPT2LMHeadModel(GPT2Config(
        vocab_size=v["vocab"], n_positions=v["context"], n_embd=v["channels"], n_layer=v["layers"],
        n_head=v["heads"], resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=None, eos_token_id=None))
    with torch.no_grad():
        for name, w in model.named_parameters():
            if name.endswith(".bias"):
                w.normal_(0, 0.2) if v["bias"] else w.zero_()
            else:
                w.normal_(1.0 if ".ln_" in name else 0.0, 0.2)
    return model


def make_batches(v):
    shape = (STEPS, BATCH, v["context"])
    tokens = torch.randint(v["vocab"], shape, dtype=torch.int32)
    tokens[0, 0, :3] = v["vocab"] - 1  # the last row of the embedding, and a token that repeats
    targets = torch.randint(v["vocab"], shape, dtype=torch.int32)
    targets[torch.rand(shape) < 0.15] = -1
    targets[1, 2] = -1  # a whole sequence ignored
    return tokens, targets


def compare(what, a, b, bound=1e-12):
    error = (a - b).norm() / b.norm()
    assert error < bound, f"{what}: {error}"


def train(p, v, tokens, targets, golden):
    """AdamW after Loshchilov and Hutter; clip factor min(1, clip / norm)."""
    a = ADAMW
    m = {n: torch.zeros_like(w) for n, w in p.items()}
    s = {n: torch.zeros_like(w) for n, w in p.items()}
    decays = {n: w.dim() == 2 for n, w in p.items()}
    twin = {n: w.clone() for n, w in p.items()}
    peer = torch.optim.AdamW(
        [dict(params=[twin[n] for n in p if decays[n]], weight_decay=a["weight_decay"]),
         dict(params=[twin[n] for n in p if not decays[n]], weight_decay=0.0)],
        lr=a["lr"], betas=(a["beta1"], a["beta2"]), eps=a["eps"])
    losses, norms = [], []
    for t in range(1, STEPS + 1):
        w = {n: x.clone().requires_grad_() for n, x in p.items()}
        logits = forward(w, v, tokens[t - 1])
        loss = loss_of(logits, targets[t - 1])
        grads = dict(zip(w, torch.autograd.grad(loss, list(w.values()))))
        if t == 1:
            golden["logits"] = logits.detach()
            golden.update({f"grad.{n}": g for n, g in grads.items()})
        norm = math.sqrt(sum((g**2).sum().item() for g in grads.values()))
        losses.append(loss.item())
        norms.append(norm)
        for n in p:
            g = grads[n] * min(1.0, a["clip"] / norm)
            twin[n].grad = g
            m[n] = a["beta1"] * m[n] + (1 - a["beta1"]) * g
            s[n] = a["beta2"] * s[n] + (1 - a["beta2"]) * g**2
            mhat, shat = m[n] / (1 - a["beta1"] ** t), s[n] / (1 - a["beta2"] ** t)
            decay = a["weight_decay"] if decays[n] else 0.0
            p[n] = p[n] - a["lr"] * (mhat / (shat.sqrt() + a["eps"]) + decay * p[n])
        peer.step()
    for n in p:
        compare(f"AdamW {n}", p[n], twin[n])
    golden["losses"] = torch.tensor(losses, dtype=torch.float64)
    golden["norms"] = torch.tensor(norms, dtype=torch.float64)
    golden.update({f"final.{n}": x for n, x in p.items()})


def write(name, v):
    folder = pathlib.Path(__file__).parent / name
    shutil.rmtree(folder, ignore_errors=True)
    model = make_model(v)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)

    weights = {n: w.double() for n, w in load_file(folder / "model.safetensors").items()}
    if not v["bias"]:
        weights = {n: w for n, w in weights.items() if not n.endswith(".bias")}
    tokens, targets = make_batches(v)
    golden = {"tokens": tokens, "targets": targets,
              "adamw": torch.tensor(list(ADAMW.values()), dtype=torch.float64)}
    train(dict(weights), v, tokens, targets, golden)

    # transformers in double must agree: logits, loss, every gradient.
    model = GPT2LMHeadModel.from_pretrained(folder).double()
    logits = model(tokens[0].long()).logits
    loss = loss_of(logits, targets[0])
    loss.backward()
    compare("logits", golden["logits"], logits.detach())
    compare("loss", golden["losses"][0], loss.detach())
    for n, w in model.named_parameters():
        if n in weights:
            compare(n, golden["grad." + n], w.grad, 1e-11)
    save_file({n: t.contiguous() for n, t in golden.items()}, folder / "golden.safetensors")
    print(name, f"{sum(w.numel() for w in weights.values())} parameters, losses",
          " ".join(f"{x:.4f}" for x in golden["losses"]))


if __name__ == "__main__":
    for variant in VARIANTS.items():
        write(*variant)
