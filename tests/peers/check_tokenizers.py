"""Compares puck's tokenizers with Hugging Face's `tokenizers`, which must read the tokenizer.json that
puck writes to the same ids and the same text, and whose own files puck must read or refuse.

    check_tokenizers.py PUCK [VENV]     prints "N passed, N failed"
"""

import base64
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

if len(sys.argv) > 2 and not sys.prefix == os.path.realpath(sys.argv[2]):
    python = str(Path(sys.argv[2]) / "bin" / "python")
    os.execv(python, [python, *sys.argv[:2]])

sys.path.insert(0, str(Path(__file__).parents[2] / "bench/peers"))
import bpe
import tiktoken
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        processors, trainers)
from transformers import GPT2TokenizerFast, PreTrainedTokenizerFast

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
    return result.stderr if result.returncode != 0 else read_ids(folder)


def command_ids(folder, *arguments):
    subprocess.run([PUCK, "tokenize", *arguments, "--output", folder / "data", "--val-fraction", "0"],
                   check=True, capture_output=True)
    return read_ids(folder)


def read_ids(folder):
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
    order = list(bpe.alphabet().values())
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


GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def assigned(c):
    """In Unicode 14; private and half characters are not letters in any version."""
    return unicodedata.category(c) != "Cn"


def same_ids(name, path, encode, samples, folder):
    """puck with the tokenizer of `path`, and what puck writes of it, against encode(text)."""
    for title, text in samples:
        expected = encode(text)
        ids = puck_ids(text, path, folder)
        check(f"{name}: ids of {title}", ids == expected, str(ids)[:200])
    written = str(folder / "data" / "tokenizer.json")
    theirs = Tokenizer.from_file(written)
    for title, text in samples:
        check(f"{name}: ids of {title} by what puck wrote",
              theirs.encode(text, add_special_tokens=False).ids == encode(text))


def plays(vocab_bpe, peer, folder):
    """GPT-2's tokens of the plays, 90 to 10."""
    path = Path(os.environ.get("PUCK_TEXT", "../shared/data/tinyshakespeare.txt"))
    if not path.exists():
        return
    text = path.read_bytes().decode()
    cut = len(text) - (len(text) + 9) // 10
    counts = [len(peer.encode_ordinary(part)) for part in (text[:cut], text[cut:])]
    made = subprocess.run([PUCK, "tokenize", "--input", path, "--tokenizer", vocab_bpe, "--output",
                           folder / "plays", "--json"], capture_output=True, text=True)
    line = json.loads(made.stdout)
    check("GPT-2's tokens of the plays", [line["n_train"], line["n_val"]] == counts, (line, counts))


def random_strings(vocab_bpe, peer, folder, n=10000):
    """GPT-2's tokens of strings of code points, a third of which have a say in the split."""
    rng, codes = random.Random(2), [c for c in map(chr, range(1, 0x110000))
                                    if unicodedata.category(c) not in ("Cn", "Cs")]
    split = " \t\n\r\v\x85\xa0\u180e\u2003\u3000'stmdrevlLL09\xb2\u0664azA\xe9\u4e00.,!\u0301"
    strings = ["".join(rng.choice(split if rng.random() < 0.3 else codes) for _ in range(rng.randrange(60)))
               for _ in range(n)]
    source = folder / "strings.jsonl"
    source.write_text("".join(json.dumps({"text": s}) + "\n" for s in strings))
    ids = command_ids(folder, "--input", source, "--field", "text", "--tokenizer", vocab_bpe)
    at, wrong = 0, []
    for s in strings:
        expected = peer.encode_ordinary(s + "\n")  # which puck puts behind each text
        if ids[at:at + len(expected)] != expected:
            wrong.append(s)
        at += len(expected)
    check(f"{n} random strings", not wrong and at == len(ids), str(wrong[:3]))


def gpt2_files(vocab_bpe, samples, folder):
    """GPT-2's vocabulary in the other forms that it is given in."""
    peer = bpe.gpt2(vocab_bpe)
    random_strings(vocab_bpe, peer, folder)
    plays(vocab_bpe, peer, folder)
    merges = [line.split() for line in Path(vocab_bpe).read_text().split("\n")[1:] if line]
    tokens = [*bpe.alphabet(), *(a + b for a, b in merges), "<|endoftext|>"]
    old = folder / "old"
    old.mkdir()
    (old / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (old / "merges.txt").write_bytes(Path(vocab_bpe).read_bytes())
    encode = lambda text: peer.encode(text, allowed_special="all")
    same_ids("vocab.json and merges.txt", old, encode, samples, folder)
    GPT2TokenizerFast.from_pretrained(str(old)).save_pretrained(str(folder / "saved"))
    same_ids("GPT2TokenizerFast.save_pretrained", folder / "saved", encode, samples, folder)
    (folder / "gpt2.tiktoken").write_text("".join(
        f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in peer._mergeable_ranks.items()))
    same_ids("tiktoken's ranks", folder / "gpt2.tiktoken", encode, samples, folder)


def learned(name, text, n_vocab, min_count, folder):
    """A vocabulary that puck learns: the merges and the ids of Hugging Face's trainer."""
    source = folder / "learn.txt"
    source.write_bytes(text.encode())
    ids = command_ids(folder, "--input", source, "--tokenizer", "bpe", "--vocab-size", str(n_vocab),
                      "--min-count", str(min_count))
    ours = (folder / "data" / "tokenizer.json").read_text()
    theirs, trainer = bpe.learner(n_vocab, min_count)
    theirs.train_from_iterator([text], trainer)
    check(f"{name}: merges", bpe.merges_sha(ours) == bpe.merges_sha(theirs.to_str()))
    vocab = {token: i for token, i in json.loads(ours)["model"]["vocab"].items() if i < n_vocab - 1}
    check(f"{name}: vocabulary", vocab == theirs.get_vocab())
    check(f"{name}: ids", ids == theirs.encode(text).ids == Tokenizer.from_str(ours).encode(text).ids)


def trained(samples, folder):
    """Vocabularies that `tokenizers` trains, with other splits and special tokens."""
    corpus = [text for _, text in samples]
    cases = {
        "ByteLevel": pre_tokenizers.ByteLevel(add_prefix_space=False),
        "GPT-2's pattern": pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(GPT2_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
        "Llama 3's pattern": pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
        "a pattern with gaps": pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(r"\p{Lu}\p{Ll}*|[\d\s]{2}|\u00e9+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
    }
    for name, split in cases.items():
        for whole in (False, True):
            t = Tokenizer(models.BPE(ignore_merges=whole))
            t.pre_tokenizer = split
            t.decoder = decoders.ByteLevel()
            t.train_from_iterator(corpus, trainers.BpeTrainer(
                vocab_size=1500, special_tokens=["<s>", "<pad>", "<|im start|>"], show_progress=False,
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
            t.add_tokens([AddedToken("<s>x", normalized=False), AddedToken("ROMEO", normalized=False)])
            t.post_processor = processors.TemplateProcessing(
                single="<s> $A", special_tokens=[("<s>", t.token_to_id("<s>"))])
            path = folder / "trained.json"
            t.save(str(path))
            if whole:  # the older form of merges
                old = json.loads(path.read_text())
                old["model"]["merges"] = [" ".join(m) for m in old["model"]["merges"]]
                path.write_text(json.dumps(old))
            encode = lambda text: t.encode(text, add_special_tokens=False).ids
            same_ids(f"{name}, ignore_merges {whole}", path, encode, samples, folder)


def cl100k_like(samples, folder):
    """A ranks file of as many tokens as cl100k_base: its split is taken. Most of them end with bytes that
    no text has."""
    import tiktoken_ext.openai_public as public
    public.load_tiktoken_bpe = lambda *a, **k: {}
    split = public.cl100k_base()["pat_str"]
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.train_from_iterator([s for _, s in samples], trainers.BpeTrainer(
        vocab_size=6000, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    byte_of = bpe.alphabet()
    ranks = {bytes(byte_of[c] for c in token): i for token, i in t.get_vocab().items()}
    for token in [token for token in ranks if token[0] < 0xC0]:
        for end in [*range(0xC0, 0xC2), *range(0xF5, 0x100)]:
            for twice in (b"", bytes([end])):
                if len(ranks) < 100256:
                    ranks[token + bytes([end]) + twice] = len(ranks)
    assert len(ranks) == 100256, len(ranks)
    peer = tiktoken.Encoding("cl100k", pat_str=split, mergeable_ranks=ranks,
                             special_tokens={"<|endoftext|>": 100257, "<|fim_prefix|>": 100258,
                                             "<|fim_middle|>": 100259, "<|fim_suffix|>": 100260,
                                             "<|endofprompt|>": 100276})
    path = folder / "cl100k.tiktoken"
    path.write_text("".join(f"{base64.b64encode(token).decode()} {rank}\n"
                            for token, rank in sorted(ranks.items(), key=lambda x: x[1])))
    samples = [*samples, ("fim", "a<|fim_prefix|>b 1234567'LL'\u017f\n\n  "), ("blanks", "a\n\n  ")]
    same_ids("ranks with cl100k's split", path, lambda text: peer.encode(text, allowed_special="all"),
             samples, folder)


def foreign_pairs(folder):
    """Byte pairs that puck must refuse by name."""
    bytes_vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}

    def make(split=None, normalizer=None, added=None):
        t = Tokenizer(models.BPE(vocab={**bytes_vocab, "ab": 256}, merges=[("a", "b")]))
        t.pre_tokenizer = split or pre_tokenizers.ByteLevel(add_prefix_space=False)
        t.decoder = decoders.ByteLevel()
        if normalizer:
            t.normalizer = normalizer
        if added:
            t.add_tokens([added])
        return t

    def splits(*patterns, behavior="isolated"):
        return pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(p), behavior) for p in patterns]
            + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])

    cases = {
        "NFC": make(normalizer=normalizers.NFC()),
        "add_prefix_space": make(pre_tokenizers.ByteLevel(add_prefix_space=True)),
        "Removed": make(splits(r"\s+", behavior="removed")),
        "Sequence of 3": make(splits(r"\s+", r"\d")),
        "Digits": make(pre_tokenizers.Sequence([pre_tokenizers.Digits(True),
                                                pre_tokenizers.ByteLevel(False, use_regex=False)])),
        "\\w+": make(splits(r"a|\w+")),
        "(?<=a)b": make(splits(r"c|(?<=a)b")),
        "may match nothing": make(splits(r"a*")),
        "[^\\S]": make(splits(r"[^\S]")),
        "lstrip": make(added=AddedToken("<x>", lstrip=True)),
        "single_word": make(added=AddedToken("xyz", single_word=True)),
    }
    for word, t in cases.items():
        t.save(str(folder / "theirs.json"))
        result = run_puck("abc", folder / "theirs.json", folder)
        check(f"refusal of {word}", result.returncode == 1 and word.strip("[^]") in result.stderr,
              result.stderr)


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
    # PCRE2's tables are those of Unicode 14, as are those of Python 3.11.
    few = [(title, "".join(c for c in sample[:60000] if assigned(c)))
           for title, sample in texts() if title != "wide"]
    for which in gpt2:
        gpt2_files(which, few, scratch)
    for title, text in few:
        if title in ("random 3000", "shakespeare"):
            learned(f"learned from {title}", text, 1000 if title == "shakespeare" else 300, 2, scratch)
            learned(f"learned from {title}, rare pairs too", text, 2000, 1, scratch)
    trained(few, scratch)
    cl100k_like(few, scratch)
    foreign_pairs(scratch)
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
