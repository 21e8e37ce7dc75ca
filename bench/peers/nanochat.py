"""NanoChat's architecture in PyTorch and Muon, as fast as its own fused operations make them: what
puck's modern presets are measured against."""
import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F


@dataclass
class Config:
    vocab: int
    context: int
    layers: int
    heads: int
    kv_heads: int
    channels: int
    hidden: int
    base: float = 10000.0
    eps: float = 1e-6
    softcap: float = 15.0


def norm(x, eps):
    return F.rms_norm(x, x.shape[-1:], eps=eps)


class Attention(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.config, self.size = c, c.channels // c.heads
        # One product for q, k and v; Muon takes them apart.
        self.rows = [c.heads * self.size, c.kv_heads * self.size, c.kv_heads * self.size]
        self.qkv = nn.Linear(c.channels, sum(self.rows), bias=False)
        self.proj = nn.Linear(c.channels, c.channels, bias=False)

    def forward(self, x, cos, sin):
        B, T, C = x.shape
        c = self.config
        qkv = self.qkv(x).view(B, T, c.heads + 2 * c.kv_heads, self.size)
        qk, v = qkv.split([c.heads + c.kv_heads, c.kv_heads], dim=2)
        x1, x2 = qk.chunk(2, dim=3)
        qk = norm(torch.cat([x1 * cos + x2 * sin, x2 * cos - x1 * sin], dim=3), c.eps)
        q, k = qk.split([c.heads, c.kv_heads], dim=2)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True,
                                           enable_gqa=c.kv_heads < c.heads)
        return self.proj(y.transpose(1, 2).reshape(B, T, C))


class Block(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.eps, self.attn = c.eps, Attention(c)
        self.fc1 = nn.Linear(c.channels, c.hidden, bias=False)
        self.fc2 = nn.Linear(c.hidden, c.channels, bias=False)

    def forward(self, x, cos, sin):
        x = x + self.attn(norm(x, self.eps), cos, sin)
        return x + self.fc2(F.relu(self.fc1(norm(x, self.eps))).square())


class NanoChat(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.config = c
        self.embed = nn.Embedding(c.vocab, c.channels)
        self.h = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.head = nn.Linear(c.channels, c.vocab, bias=False)
        half = c.channels // c.heads // 2
        angle = torch.outer(torch.arange(c.context), c.base ** (-torch.arange(half) / half))
        self.register_buffer("cos", angle.cos()[:, None])  # (T, 1, D/2): all heads alike
        self.register_buffer("sin", angle.sin()[:, None])
        for name, p in self.named_parameters():
            if name.endswith(("proj.weight", "fc2.weight", "head.weight")):
                nn.init.zeros_(p)
            else:
                nn.init.normal_(p, std=1 if p is self.embed.weight else c.channels ** -0.5)

    def forward(self, tokens, targets):
        c, T = self.config, tokens.shape[1]
        cos, sin = self.cos[:T], self.sin[:T]
        x = norm(self.embed(tokens), c.eps)
        for block in self.h:
            x = block(x, cos, sin)
        logits = c.softcap * torch.tanh(self.head(norm(x, c.eps)) / c.softcap)
        return F.cross_entropy(logits.view(-1, c.vocab), targets.view(-1))

    def matrices(self):
        """Muon's: (parameter, first row, rows), q, k and v each for itself."""
        for block in self.h:
            first = 0
            for rows in block.attn.rows:
                yield block.attn.qkv.weight, first, rows
                first += rows
            for layer in (block.attn.proj, block.fc1, block.fc2):
                yield layer.weight, 0, layer.out_features

    def save(self, folder):
        """A folder in the layout of transformers' NanoChatForCausalLM."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"model.embed_tokens.weight": self.embed.weight,
                   "lm_head.weight": self.head.weight}
        for i, block in enumerate(self.h):
            at = f"model.layers.{i}."
            for name, w in zip("qkv", block.attn.qkv.weight.split(block.attn.rows)):
                tensors[f"{at}self_attn.{name}_proj.weight"] = w
            tensors[at + "self_attn.o_proj.weight"] = block.attn.proj.weight
            tensors[at + "mlp.fc1.weight"] = block.fc1.weight
            tensors[at + "mlp.fc2.weight"] = block.fc2.weight
        tensors = {n: w.detach().clone() for n, w in tensors.items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        c = self.config
        config = {
            "architectures": ["NanoChatForCausalLM"], "model_type": "nanochat",
            "vocab_size": c.vocab, "max_position_embeddings": c.context,
            "hidden_size": c.channels, "intermediate_size": c.hidden,
            "num_hidden_layers": c.layers, "num_attention_heads": c.heads,
            "num_key_value_heads": c.kv_heads, "hidden_act": "relu2", "rms_norm_eps": c.eps,
            "rope_parameters": {"rope_type": "default", "rope_theta": c.base},
            "final_logit_softcapping": c.softcap, "attention_bias": False,
            "tie_word_embeddings": False, "bos_token_id": None, "eos_token_id": None,
            "pad_token_id": None, "dtype": "float32"}
        (folder / "config.json").write_text(json.dumps(config, indent=2))


def newton_schulz(x):
    """Five steps on a batch of matrices (n, rows, columns), rows <= columns."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-30)
    for _ in range(5):
        s = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(s, s, s, beta=b, alpha=c), x, beta=a)
    return x


class Muon:
    """Muon (Jordan and others 2024) with Nesterov's momentum. Matrices of one shape go through the
    Newton-Schulz steps together; a tall one goes turned."""

    def __init__(self, matrices, lr, momentum, weight_decay, compiled=False):
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.iterate = torch.compile(newton_schulz) if compiled else newton_schulz
        self.groups = {}
        for p, first, rows in matrices:
            shape = tuple(sorted((rows, p.shape[1])))
            self.groups.setdefault(shape, []).append((p, slice(first, first + rows)))
        self.state = {shape: torch.zeros(len(group), *shape)
                      for shape, group in self.groups.items()}

    @torch.no_grad()
    def step(self):
        for shape, group in self.groups.items():
            turned = [p.shape[1] == shape[0] for p, _ in group]
            grads = [p.grad[rows].T if t else p.grad[rows] for (p, rows), t in zip(group, turned)]
            grads, state = torch.stack(grads), self.state[shape]
            state.lerp_(grads, 1 - self.momentum)
            updates = self.iterate(grads.lerp_(state, self.momentum))
            weights = [p[rows] for p, rows in group]
            updates = [(u.T if t else u) * math.sqrt(max(1, w.shape[0] / w.shape[1]))
                       for u, t, w in zip(updates, turned, weights)]
            torch._foreach_mul_(weights, 1 - self.lr * self.weight_decay)
            torch._foreach_add_(weights, updates, alpha=-self.lr)


class Optimizer:
    """Muon for the matrices of the blocks, AdamW in its fused form for embedding and head."""

    def __init__(self, model, lr, muon_lr, betas, momentum, weight_decay, compiled=False):
        self.muon = Muon(model.matrices(), muon_lr, momentum, weight_decay, compiled)
        self.adamw = torch.optim.AdamW([model.embed.weight, model.head.weight], lr=lr, betas=betas,
                                       weight_decay=weight_decay, fused=True)
        self.parameters = list(model.parameters())

    def step(self):
        self.muon.step()
        self.adamw.step()

    def zero_grad(self):
        for p in self.parameters:
            p.grad = None
