#!/usr/bin/env python3
"""Greedy text from a GPT-2 by transformers' generate with its KV cache, one stream: the twin of
`puck generate --greedy`. The last line it prints is JSON.

  generate.py --make FOLDER     writes random weights of GPT-2 124M, with a tokenizer
  generate.py --from FOLDER     seconds a token, after one text to warm up"""
import argparse
import json
import os
import resource
import time

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers
from gpt2 import GPT2, Config


def make(folder):
    """Every token is one character beyond the plane of the usual ones: four bytes of UTF-8."""
    torch.manual_seed(1)
    config = Config(vocab=50257, context=1024, layers=12, heads=12, channels=768)
    GPT2(config).save(folder, [chr(0x10000 + i) for i in range(config.vocab)])


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--make", metavar="FOLDER")
    parser.add_argument("--from", dest="folder", metavar="FOLDER")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="and a cache of fixed size")
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    if o.make:
        return make(o.make)
    transformers.utils.logging.disable_progress_bar()
    model = transformers.GPT2LMHeadModel.from_pretrained(o.folder, dtype=torch.float32).eval()
    settings = dict(do_sample=False, max_new_tokens=o.tokens, min_new_tokens=o.tokens,
                    pad_token_id=0)
    if o.compile:
        model.forward = torch.compile(model.forward, dynamic=False)
        settings["cache_implementation"] = "static"
    else:
        settings["use_cache"] = True
    prompt = torch.zeros(1, 1, dtype=torch.long)
    attention_mask = torch.ones_like(prompt)
    with torch.inference_mode():
        for _ in range(2):  # the first text warms up, and compiles
            before = time.perf_counter()
            out = model.generate(prompt, attention_mask=attention_mask, **settings)
            seconds = time.perf_counter() - before
    assert out.shape[1] == 1 + o.tokens
    print(json.dumps({"tokens_per_sec": o.tokens / seconds, "ids": out[0, 1:].tolist(),
                      "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                      "threads": o.threads, "compiled": o.compile, "torch": torch.__version__,
                      "transformers": transformers.__version__}))


if __name__ == "__main__":
    main()
