"""Compares puck's checkpoints with transformers: folders that puck saved must load there to the
same logits, folders that transformers saved must load in puck to the same logits, and `puck eval`
must report the loss of the same windows. GPT-2 and NanoChat, both ways. TensorBoard must read the
values of metrics.jsonl. The models of bench/peers must be what they are called.

    check_checkpoints.py PUCK [WORKDIR]     prints "N passed, N failed"

The logits of puck come from tests/peers/logits.c, built beside it.
"""

import json
import logging
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import (AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GPT2Config,
                          GPT2LMHeadModel, GPT2Model, GPT2TokenizerFast, NanoChatConfig,
                          NanoChatForCausalLM)

sys.path.append("bench/peers")
import gpt2
import nanochat

PUCK = os.path.abspath(sys.argv[1])
LOGITS = "build/tests/peers/logits"
passed = failed = 0


def check(name, good, detail=""):
    global passed, failed
    passed += bool(good)
    failed += not good
    print(("ok     " if good else "FAILED ") + name, detail)


class Warnings(logging.Handler):
    """What transformers says at its usual level while it loads."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


warnings = Warnings()
logging.getLogger("transformers").addHandler(warnings)
transformers.utils.logging.disable_progress_bar()


def run(*command):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True)


def puck_logits(folder, tokens):
    result = run(LOGITS, folder, *tokens)
    if result.returncode != 0:
        return result.stderr
    return torch.tensor([[float(x) for x in line.split()] for line in result.stdout.splitlines()])


def compare(name, folder, model, bound):
    """Logits of puck against the model's in double, over a whole context of random tokens."""
    config = model.config
    tokens = [random.randrange(config.vocab_size) for _ in range(config.max_position_embeddings)]
    with torch.no_grad():
        want = model.double().eval()(torch.tensor([tokens])).logits[0]
    have = puck_logits(folder, tokens)
    if isinstance(have, str):
        check(name, False, have)
        return
    error = ((have - want).norm() / want.norm()).item()
    check(name, error < bound, f"relative error {error:.1e}")


# ---- folders that puck saved ----

def train(work, name, *options):
    words = "the cat sat on a mat and the dog ran off to be or not to be".split()
    text = work / "text.txt"
    text.write_text("\n".join(" ".join(random.choices(words, k=9)) for _ in range(300)))
    result = run(PUCK, "train", "--data", text, "--run", work / name, "--device", "cpu",
                 "--steps", 8, "--batch-size", 4, "--lr", "0.05", "--seed", 3, "--log-every", 2,
                 *options)
    assert result.returncode == 0, result.stderr
    return work / name / "ckpt" / "latest"


def check_saved(name, folder, kind=GPT2LMHeadModel):
    warnings.lines.clear()
    model, info = kind.from_pretrained(folder, output_loading_info=True)
    check(f"{name}: every key, and no other", not any(info.values()), info)
    assert isinstance(AutoModelForCausalLM.from_pretrained(folder), kind)
    GenerationConfig.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    check(f"{name}: without a warning", not warnings.lines, warnings.lines)
    text = "the cat\n\n  or  not"
    ids = tokenizer(text)["input_ids"]
    check(f"{name}: tokenizer", len(ids) == len(text) and tokenizer.decode(ids) == text, ids)
    c = model.config
    check(f"{name}: no token ids of the class's own",
          (c.bos_token_id, c.eos_token_id, c.pad_token_id) == (None, None, None))
    with torch.no_grad():
        out = model.generate(torch.tensor([ids[:5]]), max_new_tokens=4)
    check(f"{name}: generates", out.shape == (1, 9))
    compare(f"{name}: logits", folder, model, 1e-5)


def tokens_of(shard):
    data = shard.read_bytes()
    magic, version, n = struct.unpack("<3i", data[:12])
    assert (magic, version) == (20240520, 1)
    return torch.tensor(struct.unpack(f"<{n}H", data[1024:]))


def check_eval(name, work):
    """Windows of T with stride T/2, the second half scored, the first window whole."""
    folder = work / name / "ckpt" / "latest"
    result = run(PUCK, "eval", "--from", folder, "--data", work / name / "data", "--json")
    have = json.loads(result.stdout)["loss"]
    model = AutoModelForCausalLM.from_pretrained(folder).double().eval()
    tokens = tokens_of(work / name / "data" / "val_000000.bin")
    T = model.config.max_position_embeddings
    total, scored = 0.0, 0  # `scored` targets are done: those of inputs 0 .. scored-1
    for first in range(0, len(tokens), T // 2):
        if scored >= len(tokens) - 1:
            break
        window = tokens[first:first + T + 1]
        with torch.no_grad():
            logits = model(window[None, :-1]).logits[0]
        losses = F.cross_entropy(logits, window[1:], reduction="none")
        total += losses[scored - first:].sum().item()
        scored = first + len(window) - 1
    want = total / scored
    check(f"{name}: eval's loss", abs(have - want) < 1e-5 * want, f"{have:.8f} {want:.8f}")


def check_events(name, work):
    events = EventAccumulator(str(work / name))
    events.Reload()
    lines = [json.loads(line) for line in (work / name / "metrics.jsonl").open()]
    for tag, key in [("train/loss", "train_loss"), ("train/lr", "lr"), ("val/loss", "val_loss")]:
        want = [(line["step"], line[key]) for line in lines if key in line]
        have = [(e.step, e.value) for e in events.Scalars(tag)]
        same = len(have) == len(want) > 0 and all(
            a[0] == b[0] and abs(a[1] - b[1]) <= 1e-6 * abs(b[1]) for a, b in zip(have, want))
        check(f"{name}: TensorBoard's {tag}", same, "" if same else (have, want))


# ---- folders that transformers saved ----

def random_model(kind=GPT2LMHeadModel, **changes):
    settings = dict(vocab_size=131, n_positions=24, n_embd=48, n_layer=3, n_head=4,
                    bos_token_id=None, eos_token_id=None)
    model = kind(GPT2Config(**settings | changes))
    with torch.no_grad():
        for name, w in model.named_parameters():
            w.normal_(1.0 if ".ln_" in name or name.startswith("ln_") else 0.0, 0.2)
    return model


def random_nanochat(**changes):
    settings = dict(vocab_size=131, max_position_embeddings=24, hidden_size=48,
                    intermediate_size=112, num_hidden_layers=3, num_attention_heads=4,
                    num_key_value_heads=2, bos_token_id=None, eos_token_id=None, pad_token_id=None)
    model = NanoChatForCausalLM(NanoChatConfig(**settings | changes))
    with torch.no_grad():
        for name, w in model.named_parameters():
            w.normal_(0, 1.0 if name == "lm_head.weight" else 0.2)  # the soft-cap bends
    return model


def check_loads(work):
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        for shards in ("10GB", "60KB"):
            name = f"{str(dtype)[6:]}, {'shards' if shards == '60KB' else 'one file'}"
            folder = work / name.replace(", ", "-")
            model = random_model().to(dtype)
            model.save_pretrained(folder, max_shard_size=shards)
            assert (len(list(folder.glob("*.safetensors"))) > 2) == (shards == "60KB")
            compare(name, folder, model, 1e-4)

    folder = work / "base"
    base = random_model(GPT2Model)
    base.save_pretrained(folder)
    assert "wte.weight" in load_file(folder / "model.safetensors")
    head = GPT2LMHeadModel(base.config)
    head.transformer.load_state_dict(base.state_dict())
    compare("without prefix", folder, head, 1e-4)

    folder = work / "old"  # as files of 2019: masks, a head beside the embedding, no prefix
    model = random_model(n_inner=80, activation_function="gelu_pytorch_tanh")
    model.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    weights = {n.removeprefix("transformer."): w for n, w in weights.items()}
    for layer in range(3):
        weights[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 24, 24).tril().bool()
        weights[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    weights["lm_head.weight"] = weights["wte.weight"].clone()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    compare("masks, head, n_inner", folder, model, 1e-4)

    folder = work / "head"
    model = random_model(tie_word_embeddings=False)
    model.save_pretrained(folder)
    compare("a head of its own", folder, model, 1e-4)


def check_finetuned(work):
    """A GPT-2 with its vocabulary, which may be rounded up: it is finetuned with its own tokenizer, and
    what comes of it loads there again."""
    vocab_bpe = Path("../shared/data/gpt2-vocab.bpe")
    if not vocab_bpe.exists():
        print("SKIPPED finetuning GPT-2: its vocabulary is not here")
        return
    text = work / "verse.txt"
    text.write_text("But soft, what light through yonder window breaks?\n" * 40)
    for n_vocab, fast in ((50257, True), (50304, False)):
        folder, tuned = work / f"hf-{n_vocab}", work / f"tuned-{n_vocab}"
        random_model(vocab_size=n_vocab).save_pretrained(folder)
        old = work / f"old-{n_vocab}" if fast else folder
        old.mkdir(exist_ok=True)
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        letters = [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
        merges = [line for line in vocab_bpe.read_text().split("\n")[1:] if line]
        tokens = letters + [m.replace(" ", "") for m in merges] + ["<|endoftext|>"]
        (old / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
        (old / "merges.txt").write_bytes(vocab_bpe.read_bytes())
        peer = GPT2TokenizerFast.from_pretrained(str(old))
        if fast:
            peer.save_pretrained(folder)
        result = run(PUCK, "train", "--init-from", folder, "--data", text, "--run", tuned, "--steps", 3,
                     "--batch-size", 2, "--device", "cpu", "--eval-every", 0, "--lr", "0.01")
        check(f"GPT-2 of {n_vocab} is finetuned", result.returncode == 0,
              result.stderr[-300:] if result.returncode else "")
        latest = tuned / "ckpt" / "latest"
        sample = "But soft!<|endoftext|> It's the east,  and Juliet is the sun."
        ids = AutoTokenizer.from_pretrained(latest)(sample)["input_ids"]
        check(f"GPT-2 of {n_vocab}: its tokenizer", ids == peer(sample)["input_ids"], ids)
        model = GPT2LMHeadModel.from_pretrained(latest)
        check(f"GPT-2 of {n_vocab}: its vocabulary", model.config.vocab_size == n_vocab)
        compare(f"GPT-2 of {n_vocab}: logits", latest, model, 1e-4)
        result = run(PUCK, "generate", "--from", folder, "--prompt", "But soft", "--tokens", 5, "--greedy",
                     "--device", "cpu")
        want = GPT2LMHeadModel.from_pretrained(folder).generate(
            torch.tensor([peer("But soft")["input_ids"]]), max_new_tokens=5, do_sample=False,
            suppress_tokens=list(range(50257, n_vocab)) or None, pad_token_id=0)
        check(f"GPT-2 of {n_vocab} speaks", result.stdout.rstrip("\n") == peer.decode(want[0]),
              (result.stdout, peer.decode(want[0]), result.stderr[-200:]))


def check_nanochat_loads(work):
    for dtype in (torch.float32, torch.bfloat16):
        for shards in ("10GB", "60KB"):
            name = f"NanoChat, {str(dtype)[6:]}, {'shards' if shards == '60KB' else 'one file'}"
            folder = work / name.replace(", ", "-")
            model = random_nanochat().to(dtype)
            model.save_pretrained(folder, max_shard_size=shards)
            assert (len(list(folder.glob("*.safetensors"))) > 2) == (shards == "60KB")
            # Read again: .to() has rounded the angles too, which are in no file.
            model = NanoChatForCausalLM.from_pretrained(folder, dtype=torch.float32)
            compare(name, folder, model, 1e-4)
    for name, changes in [
            ("one key-value head", dict(num_key_value_heads=1)),
            ("as many key-value heads", dict(num_key_value_heads=4)),
            ("base, cap and epsilon", dict(final_logit_softcapping=5.0, rms_norm_eps=1e-2,
                                           rope_parameters=dict(rope_type="default",
                                                                rope_theta=300.0))),
            ("tied", dict(tie_word_embeddings=True))]:
        folder = work / name.replace(" ", "-")
        model = random_nanochat(**changes)
        model.save_pretrained(folder)
        compare(f"NanoChat, {name}", folder, model, 1e-4)


def check_bench_models(work):
    """The peers that puck is measured against compute GPT-2 and NanoChat."""
    sizes = dict(vocab=67, context=16, layers=2, heads=4, channels=32)
    models = [("gpt2", gpt2.GPT2(gpt2.Config(**sizes)), ["abc"]),
              ("nanochat", nanochat.NanoChat(nanochat.Config(**sizes, kv_heads=2, hidden=80)), [])]
    for name, model, more in models:
        with torch.no_grad():
            for p in model.parameters():
                p.normal_(0, 0.3)
        folder = work / f"bench-{name}"
        model.save(folder, *more)
        twin, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        tokens, targets = torch.randint(67, (2, 3, 16))
        with torch.no_grad():
            have = model.eval()(tokens, targets).item()
            want = F.cross_entropy(twin.eval()(tokens).logits.flatten(0, 1), targets.flatten())
        check(f"bench/peers' {name}", not any(info.values()) and abs(have / want.item() - 1) < 1e-5,
              f"{have:.6f} {want.item():.6f}")


def check_refused(work):
    def refused(name, folder, word):
        result = run(LOGITS, folder, 1, 2)
        check(f"refused: {name}", result.returncode == 1 and word in result.stderr,
              result.stderr.strip())

    for key, value in [("activation_function", "gelu"), ("scale_attn_by_inverse_layer_idx", True),
                       ("scale_attn_weights", False), ("add_cross_attention", True)]:
        random_model(**{key: value}).save_pretrained(work / key)
        refused(key, work / key, key)
    folder = work / "untied"
    random_model().save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["transformer.wte.weight"] + 1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    refused("another head", folder, "lm_head.weight")

    for key, value in [("attention_bias", True), ("hidden_act", "silu")]:
        random_nanochat(**{key: value}).save_pretrained(work / f"nanochat-{key}")
        refused(f"NanoChat, {key}", work / f"nanochat-{key}", key)
    folder = work / "nanochat-tensors"
    random_nanochat().save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.1.self_attn.k_proj.weight"
    save_file({n: w for n, w in weights.items() if n != name}, folder / "model.safetensors")
    refused("NanoChat, a tensor that is missing", folder, name)
    save_file({**weights, "model.extra.weight": torch.ones(3)}, folder / "model.safetensors")
    refused("NanoChat, a tensor too many", folder, "model.extra.weight")


def main():
    random.seed(1)
    torch.manual_seed(1)
    work = Path(tempfile.mkdtemp(dir=sys.argv[2] if len(sys.argv) > 2 else None))
    try:
        subprocess.run(["make", "-s", LOGITS], check=True)
        shape = ["--layers", 2, "--heads", 3, "--channels", 36, "--context", 16]
        check_saved("plain", train(work, "plain", *shape))
        check_saved("no biases", train(work, "bare", "--no-bias", "--dropout", "0.1", *shape))
        # The modern presets' architecture with grouped heads, trained by Muon and AdamW.
        modern = ["--preset", "shakespeare-cpu", "--layers", 2, "--heads", 4, "--kv-heads", 2,
                  "--channels", 32, "--context", 16, "--warmup", 2]
        check_saved("modern", train(work, "modern", *modern), NanoChatForCausalLM)
        check_events("plain", work)
        check_eval("plain", work)
        check_eval("bare", work)
        check_eval("modern", work)
        check_loads(work)
        check_finetuned(work)
        check_nanochat_loads(work)
        check_bench_models(work)
        check_refused(work)
    finally:
        shutil.rmtree(work)
    print(f"{passed} passed, {failed} failed")
    return failed != 0 or passed == 0


if __name__ == "__main__":
    sys.exit(main())
