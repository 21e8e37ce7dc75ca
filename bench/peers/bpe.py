#!/usr/bin/env python3
"""Byte pairs by the peers: `encode`, GPT-2's tokens of a text by tiktoken on one thread, and `learn`, a
vocabulary by Hugging Face's `tokenizers`. Only that work is timed. The last line it prints is JSON.

Variants of encode: list (encode_ordinary) and array (encode_to_numpy). Of learn: text, the text as one
piece, from which the merges are puck's, and lines, from its file, whose lines it splits in parallel."""
import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path


def alphabet():
    """GPT-2's characters for bytes, in the order of their ids: {character: byte}."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


def gpt2(path):
    """tiktoken's encoding from GPT-2's vocab.bpe, without a network."""
    import tiktoken
    from tiktoken_ext.openai_public import r50k_pat_str

    byte_of = alphabet()
    ranks = {bytes([b]): i for i, b in enumerate(byte_of.values())}
    for line in Path(path).read_text(encoding="utf-8").split("\n")[1:-1]:
        ranks[bytes(byte_of[c] for c in line if c != " ")] = len(ranks)
    return tiktoken.Encoding("gpt2", pat_str=r50k_pat_str, mergeable_ranks=ranks,
                             special_tokens={"<|endoftext|>": len(ranks)})


def encode(o):
    import numpy
    encoding, text = gpt2(o.vocab), Path(o.data).read_text(encoding="utf-8")
    run = encoding.encode_to_numpy if o.variant == "array" else encoding.encode_ordinary
    start = time.perf_counter()
    ids = run(text)
    sec = time.perf_counter() - start
    return {"encode_sec": sec, "sha": hashlib.sha256(
        numpy.asarray(ids, dtype="<u2").tobytes()).hexdigest()}


def merges_sha(tokenizer_json):
    """The same for the same merges, however the file writes them."""
    merges = json.loads(tokenizer_json)["model"]["merges"]
    pairs = [m if isinstance(m, str) else " ".join(m) for m in merges]
    return hashlib.sha256("\n".join(pairs).encode()).hexdigest()


def learner(n_vocab, min_count):
    """Hugging Face's tokenizer and trainer, as puck has them: it has no <|endoftext|>, so one token less
    than puck's vocabulary."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=n_vocab - 1, min_frequency=min_count, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    return tokenizer, trainer


def learn(o):
    os.environ["RAYON_NUM_THREADS"] = str(o.threads)
    tokenizer, trainer = learner(o.vocab_size, 2)
    text = Path(o.data).read_text(encoding="utf-8")
    start = time.perf_counter()
    if o.variant == "lines":
        tokenizer.train([o.data], trainer)
    else:
        tokenizer.train_from_iterator([text], trainer)
    return {"learn_sec": time.perf_counter() - start, "sha": merges_sha(tokenizer.to_str())}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=["encode", "learn"])
    parser.add_argument("--data", required=True)
    parser.add_argument("--variant")
    parser.add_argument("--vocab", help="encode: GPT-2's vocab.bpe")
    parser.add_argument("--vocab-size", type=int, default=16384, help="learn")
    parser.add_argument("--threads", type=int, default=2, help="learn")
    o = parser.parse_args()
    print(json.dumps(encode(o) if o.work == "encode" else learn(o)))


if __name__ == "__main__":
    sys.exit(main())
