"""GPT-2 in PyTorch, as fast as its own fused operations make it: what puck is measured against."""
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
    channels: int
    bias: bool = True
    dropout: float = 0.0


class Norm(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(c.channels))
        self.bias = nn.Parameter(torch.zeros(c.channels)) if c.bias else None

    def forward(self, x):
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class Attention(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.heads, self.dropout = c.heads, c.dropout
        self.c_attn = nn.Linear(c.channels, 3 * c.channels, bias=c.bias)
        self.c_proj = nn.Linear(c.channels, c.channels, bias=c.bias)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (t.view(B, T, self.heads, -1).transpose(1, 2)
                   for t in self.c_attn(x).split(C, dim=2))
        rate = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=True)
        return self.c_proj(y.transpose(1, 2).reshape(B, T, C))


class Mlp(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.c_fc = nn.Linear(c.channels, 4 * c.channels, bias=c.bias)
        self.c_proj = nn.Linear(4 * c.channels, c.channels, bias=c.bias)

    def forward(self, x):
        # GPT-2's tanh form, so that the weights mean the same everywhere.
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.ln_1, self.attn = Norm(c), Attention(c)
        self.ln_2, self.mlp = Norm(c), Mlp(c)
        self.drop = nn.Dropout(c.dropout)

    def forward(self, x):
        x = x + self.drop(self.attn(self.ln_1(x)))
        return x + self.drop(self.mlp(self.ln_2(x)))


class GPT2(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.config = c
        self.wte = nn.Embedding(c.vocab, c.channels)
        self.wpe = nn.Embedding(c.context, c.channels)
        self.drop = nn.Dropout(c.dropout)
        self.h = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.ln_f = Norm(c)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                residual = name.endswith("c_proj.weight")
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * c.layers) if residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, tokens, targets):
        x = self.wte(tokens) + self.wpe.weight[:tokens.shape[1]]
        x = self.drop(x)
        for block in self.h:
            x = block(x)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        return F.cross_entropy(logits.view(-1, self.config.vocab), targets.view(-1))

    def optimizer(self, lr, betas, weight_decay):
        """AdamW in its fused form; only matrices and embeddings decay."""
        matrices = [p for p in self.parameters() if p.dim() == 2]
        vectors = [p for p in self.parameters() if p.dim() != 2]
        groups = [{"params": matrices, "weight_decay": weight_decay},
                  {"params": vectors, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)

    def save(self, folder, vocabulary):
        """A folder in the layout of transformers' GPT2LMHeadModel: `puck eval --from` reads it.
        `vocabulary` lists the characters by id."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {}
        for name, p in self.named_parameters():
            in_out = p.dim() == 2 and name.startswith("h.")  # stored (in, out) there
            tensors[name] = (p.detach().T if in_out else p.detach()).contiguous()
            if not self.config.bias and name.startswith(("h.", "ln_f")):
                tensors[name[:-len("weight")] + "bias"] = torch.zeros(p.shape[0])
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        c = self.config
        config = {
            "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": c.vocab,
            "n_positions": c.context, "n_ctx": c.context, "n_embd": c.channels,
            "n_layer": c.layers, "n_head": c.heads, "n_inner": None,
            "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
            "attn_pdrop": c.dropout, "embd_pdrop": c.dropout, "resid_pdrop": c.dropout,
            "initializer_range": 0.02, "bos_token_id": None, "eos_token_id": None,
            "tie_word_embeddings": True, "torch_dtype": "float32"}
        tokenizer = {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
            "normalizer": None, "pre_tokenizer": None, "post_processor": None,
            "decoder": {"type": "Fuse"},
            "model": {"type": "BPE", "vocab": {ch: i for i, ch in enumerate(vocabulary)},
                      "merges": []}}
        (folder / "config.json").write_text(json.dumps(config, indent=2))
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer, indent=2))
