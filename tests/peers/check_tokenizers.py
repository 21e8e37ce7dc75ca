"""Compares puck's tokenizers with Hugging Face's `tokenizers`, which must read the tokenizer.json that
puck writes to the same ids and the same text, and whose own files puck must read or refuse.

    check_tokenizers.py PUCK [VENV]     prints "N passed, N failed"
"""

import json
import os
import random
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

if len(sys.argv) > 2 and not sys.prefix == os.path.realpath(sys.argv[2]):
    python = str(Path(sys.argv[2]) / "bin" / "python")
    os.execv(python, [python, *sys.argv[:2]])

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PUCK = os.path.abspath(sys.argv[1])
passed = failed = 0


def check(name, good, detail=""):
    global passed, failed
    passed += bool(good)
    failed += not good
    if not good:
        print(f"FAILED {name} {detail}")


def run_puck(text, tokenizer, folder):
    source = folder / "text.txt"
    source.write_bytes(text if isinstance(text, bytes) else text.encode())
    return subprocess.run(
        [PUCK, "tokenize", "--input", source, "--tokenizer", tokenizer, "--output", folder / "data",
         "--val-fraction", "0"], capture_output=True, text=True)


def puck_ids(text, tokenizer, folder):
    result = run_puck(text, tokenizer, folder)
    if result.returncode != 0:
        return result.stderr
    shard = (folder / "data" / "train_000000.bin").read_bytes()
    magic, version, n = struct.unpack("<3i", shard[:12])
    assert (magic, version) in [(20240520, 1), (20240801, 7)]
    return list(struct.unpack(f"<{n}{'H' if version == 1 else 'I'}", shard[1024:]))


def texts():
    yield "ascii", "".join(map(chr, range(1, 128)))
    yield "latin", "".join(map(chr, range(1, 256)))
    yield "spaces", "  two  leading\t\ttabs\r\nlines\n\n\n trailing . , ' n't 's ! ?  "
    yield "quotes", "\"\\/\b\f\n\r\t{}[]:,\u2028\u2029\u0085\u00a0\ufeff"
    yield "special", "<unk><s></s><pad>[CLS]<|endoftext|>##a</w>\u0120\u010a"
    yield "scripts", "Ελληνικά кириллица العربية 日本語 한국어 ไทย हिन्दी"
    yield "joined", "e\u0301 \u1100\u1161\u11a8 👩‍👩‍👧‍👦 🇩🇪 \U0010ffff \ufffe\uffff \ue000"
    rng = random.Random(1)
    for size in (10, 300, 3000):
        codes = [rng.choice([rng.randrange(1, 0x250), rng.randrange(1, 0xD800),
                             rng.randrange(0xE000, 0x110000)]) for _ in range(size)]
        yield f"random {size}", "".join(map(chr, codes))
    yield "wide", "".join(chr(c) for c in range(0x4E00, 0x4E00 + 20000)) \
        + "".join(chr(c) for c in range(0x20000, 0x20000 + 42000)) + "".join(map(chr, range(0xAC00, 0xBC00)))
    path = os.environ.get("PUCK_TEXT", "../shared/data/tinyshakespeare.txt")
    if os.path.exists(path):
        yield "shakespeare", Path(path).read_bytes().decode()


def compare(name, text, kind, folder):
    ids = puck_ids(text, kind, folder)
    path = str(folder / "data" / "tokenizer.json")
    theirs = Tokenizer.from_file(path)
    expected = theirs.encode(text).ids
    check(f"{name}: {kind} ids", ids == expected, str(ids)[:200])
    check(f"{name}: {kind} text", theirs.decode(expected, skip_special_tokens=False) == text)
    if kind == "char":
        vocab = {c: i for i, c in enumerate(sorted(set(text)))}
        check(f"{name}: char vocabulary", theirs.get_vocab() == vocab)
    wrapped = PreTrainedTokenizerFast(tokenizer_file=path, clean_up_tokenization_spaces=False)
    check(f"{name}: {kind} through transformers",
          wrapped(text)["input_ids"] == expected and wrapped.decode(expected) == text)
    # Their own writing of the same tokenizer.
    theirs.save(str(folder / "theirs.json"))
    check(f"{name}: {kind} file written by tokenizers",
          puck_ids(text, folder / "theirs.json", folder) == expected)


def words(name, text, kind, folder):
    """Words and marks: the same ids there; their text is joined otherwise, by spaces alone."""
    ids = puck_ids(text, kind, folder)
    path = str(folder / "data" / "tokenizer.json")
    theirs = Tokenizer.from_file(path)
    check(f"{name} ids", ids == theirs.encode(text).ids, str(ids)[:200])
    theirs.save(str(folder / "theirs.json"))
    check(f"{name} file written by tokenizers",
          puck_ids(text, folder / "theirs.json", folder) == ids)


def unknown(folder):
    puck_ids("abc", "char", folder)
    theirs = Tokenizer.from_file(str(folder / "data" / "tokenizer.json"))
    try:
        check("an unknown character is an error there too", False, str(theirs.encode("abXc").ids))
    except Exception as error:
        check("an unknown character is an error there too", "not found in the vocabulary" in str(error))


def byte_text(folder):
    """All bytes, which no str holds: against the order that GPT-2's tokenizer gives them."""
    ids = puck_ids(bytes(range(256)), "byte", folder)
    vocab = json.loads((folder / "data" / "tokenizer.json").read_text())["model"]["vocab"]
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    order = printable + [b for b in range(256) if b not in printable]
    check("all bytes", ids == [order.index(b) for b in range(256)])
    check("the byte alphabet", sorted(vocab) == sorted(pre_tokenizers.ByteLevel.alphabet()))


def foreign(folder):
    """What puck must refuse by name: it would give other ids."""
    letters = {c: i for i, c in enumerate("abc \n")}

    def make(model=None, **parts):
        t = Tokenizer(model or models.BPE(vocab=letters, merges=[]))
        t.decoder = decoders.Fuse()
        for key, value in parts.items():
            setattr(t, key, value)
        return t

    added = make()
    added.add_special_tokens(["<|endoftext|>"])
    padded = make()
    padded.enable_padding()
    cut = make()
    cut.enable_truncation(10)
    cases = {
        "merges": make(models.BPE(vocab={**letters, "ab": 5}, merges=[("a", "b")])),
        "unk_token": make(models.BPE(vocab=letters, merges=[], unk_token="a")),
        "dropout": make(models.BPE(vocab=letters, merges=[], dropout=0.1)),
        "byte_fallback": make(models.BPE(vocab=letters, merges=[], byte_fallback=True)),
        "end_of_word_suffix": make(models.BPE(vocab=letters, merges=[], end_of_word_suffix="</w>")),
        "pre_tokenizer": make(models.WordLevel(vocab=letters, unk_token="a")),
        "Unigram": make(models.Unigram([("a", -1.0), ("b", -2.0)], None)),
        "WordPiece": make(models.WordPiece(vocab=letters, unk_token="a")),
        "Lowercase": make(normalizer=normalizers.Lowercase()),
        "NFC": make(normalizer=normalizers.NFC()),
        "Whitespace": make(pre_tokenizer=pre_tokenizers.Whitespace()),
        "decoder": make(decoder=decoders.BPEDecoder()),
        "added_tokens": added,
        "padding": padded,
        "truncation": cut,
    }
    for word, t in cases.items():
        t.save(str(folder / "theirs.json"))
        result = run_puck("abc", folder / "theirs.json", folder)
        check(f"refusal of {word}", result.returncode == 1 and word in result.stderr, result.stderr)


# GPT-2's vocabulary, where it is.
gpt2 = [str(p) for p in [Path("../shared/data/gpt2-vocab.bpe").resolve()] if p.exists()]
with tempfile.TemporaryDirectory() as name:
    scratch = Path(name)
    for title, sample in texts():
        for which in ("char", "byte", *gpt2):
            compare(title, sample, which, scratch)
        # Capitals that C and Rust map otherwise, as their Unicode is of another year, are among them.
        for which in ("word",) if title.startswith("random") else ("word", "word-lower"):
            words(f"{title}: {which}", f"{sample}\n{sample}", which, scratch)
    unknown(scratch)
    byte_text(scratch)
    foreign(scratch)
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
