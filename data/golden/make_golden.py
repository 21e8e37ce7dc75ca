"""Writes data/golden: tiny GPT-2s and a tiny NanoChat as transformers saves them, and what they
must compute.

    python data/golden/make_golden.py [FOLDER...]        (torch, transformers >= 5, safetensors)

Each folder holds config.json and model.safetensors (f32) from save_pretrained of GPT2LMHeadModel or
NanoChatForCausalLM, and golden.safetensors (f64, computed in double from those f32 weights):
    tokens, targets   (steps,B,T) i32; a target of -1 is ignored
    adamw             lr, beta1, beta2, eps, weight decay (matrices and embeddings only), clip
    muon              lr, momentum, weight decay: nanochat-tiny only. Muon trains the matrices of
                      the blocks (q, k and v each for itself), AdamW the embedding and the head; the
                      clip factor is that of the norm over all gradients
    logits            (B,T,V) of batch 0 before the first step, after the soft-cap
    losses            (steps) before each step, mean over valid targets
    norms             (steps) gradient norm before clipping
    grad.NAME         gradient of batch 0's loss, shaped as on disk
    final.NAME        weights after the last step
The passes below are written out here and then compared with transformers, AdamW with
torch.optim.AdamW, and Newton-Schulz steps with their effect on the singular values, so that a
mistake in either shows.
"""
import math
import pathlib
import shutil
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, NanoChatConfig, NanoChatForCausalLM

BATCH, STEPS = 3, 10
ADAMW = dict(lr=1e-2, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, clip=1.0)
MUON = dict(lr=2e-2, momentum=0.95, weight_decay=0.05)
# context 12 and 33 or 65 symbols: neither is a multiple of a vector's or of the padding's width.
VARIANTS = {
    "gpt2-tiny": dict(layers=2, heads=2, channels=32, context=16, vocab=65, bias=True, seed=1),
    "gpt2-tiny-nobias": dict(layers=1, heads=4, channels=16, context=12, vocab=33, bias=False,
                             seed=2),
    # heads of 6: three rotating pairs; two query heads share a key-value head; no zero weights
    "nanochat-tiny": dict(layers=2, heads=4, kv_heads=2, channels=24, hidden=96, context=12,
                          vocab=65, seed=3),
}


def layer_norm(x, w, b):
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    y = (x - mean) / torch.sqrt(variance + 1e-5) * w
    return y if b is None else y + b


def gelu(u):
    return 0.5 * u * (1 + torch.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u**3)))


def gpt2_logits(p, v, tokens):
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


def rms_norm(x):
    return x / torch.sqrt((x**2).mean(-1, keepdim=True) + 1e-6)


def rotate(x):
    """x cos + r(x) sin with r(x) = (x2, -x1): NanoChat's sign. x (B,H,T,D)."""
    T, D = x.shape[-2:]
    pair = torch.arange(D // 2, dtype=x.dtype)
    angle = torch.arange(T, dtype=x.dtype)[:, None] * 10000.0 ** (-2 * pair / D)
    x1, x2 = x.chunk(2, dim=-1)
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([x1 * cos + x2 * sin, x2 * cos - x1 * sin], dim=-1)


def nanochat_logits(p, v, tokens):
    """The same for NanoChat: matrices are (out, in), norms have no weight, there are no biases."""
    B, T = tokens.shape
    D = v["channels"] // v["heads"]
    x = rms_norm(p["model.embed_tokens.weight"][tokens])
    future = torch.ones(T, T, dtype=torch.bool).triu(1)
    for l in range(v["layers"]):
        linear = lambda x, name: x @ p[f"model.layers.{l}.{name}.weight"].T
        q, k, w = (linear(rms_norm(x), f"self_attn.{name}_proj").view(B, T, -1, D).transpose(1, 2)
                   for name in "qkv")
        q, k = rms_norm(rotate(q)), rms_norm(rotate(k))
        group = v["heads"] // v["kv_heads"]  # query heads that read one key-value head
        k, w = (t.repeat_interleave(group, dim=1) for t in (k, w))
        scores = (q @ k.transpose(2, 3) / math.sqrt(D)).masked_fill(future, -math.inf)
        y = (torch.softmax(scores, -1) @ w).transpose(1, 2).reshape(B, T, -1)
        x = x + linear(y, "self_attn.o_proj")
        x = x + linear(torch.relu(linear(rms_norm(x), "mlp.fc1")) ** 2, "mlp.fc2")
    return 15 * torch.tanh(rms_norm(x) @ p["lm_head.weight"].T / 15)


def loss_of(logits, targets):
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten().long(), ignore_index=-1)


def make_gpt2(v):
    """Weights far from their usual start, so that every term shows in the result."""
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


def make_nanochat(v):
    """Likewise; the head so large that the soft-cap bends."""
    model = NanoChatForCausalLM(NanoChatConfig(
        vocab_size=v["vocab"], max_position_embeddings=v["context"], hidden_size=v["channels"],
        intermediate_size=v["hidden"], num_hidden_layers=v["layers"],
        num_attention_heads=v["heads"], num_key_value_heads=v["kv_heads"],
        bos_token_id=None, eos_token_id=None, pad_token_id=None))
    with torch.no_grad():
        for name, w in model.named_parameters():
            w.normal_(0, 1.0 if name == "lm_head.weight" else 0.2)
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


def newton_schulz(u):
    """Five steps towards the nearest orthogonal matrix, on the side with fewer rows."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = u / (u.norm() + 1e-30)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(5):
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    x = x.T if tall else x

    # The same steps are a polynomial of each singular value.
    left, values, right = torch.linalg.svd(u / u.norm(), full_matrices=False)
    for _ in range(5):
        values = a * values + b * values**3 + c * values**5
    compare("Newton-Schulz", x, left @ values.diag() @ right, 1e-11)
    return x


def muon_step(w, momentum, grad):
    """Muon (Jordan and others 2024) with Nesterov's momentum; returns w and momentum."""
    mu = MUON["momentum"]
    momentum = mu * momentum + (1 - mu) * grad
    update = newton_schulz((1 - mu) * grad + mu * momentum)
    scale = math.sqrt(max(1.0, w.shape[0] / w.shape[1]))
    return w - MUON["lr"] * (scale * update + MUON["weight_decay"] * w), momentum


def train(p, v, logits_of, tokens, targets, golden):
    """Muon on the blocks of a NanoChat; AdamW after Loshchilov and Hutter on all else; clip factor
    min(1, clip / norm)."""
    a = ADAMW
    m = {n: torch.zeros_like(w) for n, w in p.items()}
    s = {n: torch.zeros_like(w) for n, w in p.items()}
    decays = {n: w.dim() == 2 for n, w in p.items()}
    by_muon = {n: n.startswith("model.layers.") for n in p}
    twin = {n: w.clone() for n, w in p.items() if not by_muon[n]}
    peer = torch.optim.AdamW(
        [dict(params=[twin[n] for n in twin if decays[n]], weight_decay=a["weight_decay"]),
         dict(params=[twin[n] for n in twin if not decays[n]], weight_decay=0.0)],
        lr=a["lr"], betas=(a["beta1"], a["beta2"]), eps=a["eps"])
    losses, norms = [], []
    for t in range(1, STEPS + 1):
        w = {n: x.clone().requires_grad_() for n, x in p.items()}
        logits = logits_of(w, v, tokens[t - 1])
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
            if by_muon[n]:
                p[n], m[n] = muon_step(p[n], m[n], g)
                continue
            twin[n].grad = g
            m[n] = a["beta1"] * m[n] + (1 - a["beta1"]) * g
            s[n] = a["beta2"] * s[n] + (1 - a["beta2"]) * g**2
            mhat, shat = m[n] / (1 - a["beta1"] ** t), s[n] / (1 - a["beta2"] ** t)
            decay = a["weight_decay"] if decays[n] else 0.0
            p[n] = p[n] - a["lr"] * (mhat / (shat.sqrt() + a["eps"]) + decay * p[n])
        peer.step()
    for n in twin:
        compare(f"AdamW {n}", p[n], twin[n])
    golden["losses"] = torch.tensor(losses, dtype=torch.float64)
    golden["norms"] = torch.tensor(norms, dtype=torch.float64)
    golden.update({f"final.{n}": x for n, x in p.items()})


def write(name, v):
    folder = pathlib.Path(__file__).parent / name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(v["seed"])
    nanochat = "kv_heads" in v
    model = make_nanochat(v) if nanochat else make_gpt2(v)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)

    weights = {n: w.double() for n, w in load_file(folder / "model.safetensors").items()}
    if not v.get("bias", True):
        weights = {n: w for n, w in weights.items() if not n.endswith(".bias")}
    tokens, targets = make_batches(v)
    golden = {"tokens": tokens, "targets": targets,
              "adamw": torch.tensor(list(ADAMW.values()), dtype=torch.float64)}
    if nanochat:
        golden["muon"] = torch.tensor(list(MUON.values()), dtype=torch.float64)
    train(dict(weights), v, nanochat_logits if nanochat else gpt2_logits, tokens, targets, golden)

    # transformers in double must agree: logits, loss, every gradient. Its NanoChat takes norms and
    # angles in float whatever the type, so there the agreement is that of floats.
    bound, grad_bound = (1e-6, 3e-6) if nanochat else (1e-12, 1e-11)
    model = type(model).from_pretrained(folder).double()
    logits = model(tokens[0].long()).logits
    loss = loss_of(logits, targets[0])
    loss.backward()
    compare("logits", golden["logits"], logits.detach(), bound)
    compare("loss", golden["losses"][0], loss.detach(), bound)
    compared = [n for n, _ in model.named_parameters() if n in weights]
    assert len(compared) == len(weights)
    for n in compared:
        compare(n, golden["grad." + n], model.get_parameter(n).grad, grad_bound)
    save_file({n: t.contiguous() for n, t in golden.items()}, folder / "golden.safetensors")
    print(name, f"{sum(w.numel() for w in weights.values())} parameters, losses",
          " ".join(f"{x:.4f}" for x in golden["losses"]))


if __name__ == "__main__":
    for name in sys.argv[1:] or VARIANTS:
        write(name, VARIANTS[name])
