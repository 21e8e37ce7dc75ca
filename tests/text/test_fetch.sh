#!/usr/bin/env bash
# data/fetch.sh: each source that needs no network, and what it says when one fails.
. tests/tap.sh
mkdir -p "$work/clone/data" "$work/bin"
cp data/fetch.sh "$work/clone/data/"
fetch=$work/clone/data/fetch.sh
out=$work/out/text.txt
export PUCK_TEXT_URL=file://$work/none

says() { # WORDS CODE COMMAND...: it exits with the code, says the words, prints and leaves nothing
    local words=$1 code=$2
    shift 2
    printed=$("$@" 2>"$work/said")
    [ $? = "$code" ] && grep -q -- "$words" "$work/said" && [ -z "$printed" ] &&
        [ -z "$(ls -A "$work/out" 2>/dev/null)" ]
}
gives() { # COMMAND...: it prints the path of the whole text, and nothing else is left
    printed=$("$@" 2>"$work/said")
    [ "$printed" = "$out" ] && cmp -s "$out" "$text" && [ "$(ls -A "$work/out")" = text.txt ]
}

check "unknown source" says "data/fetch.sh" 2 "$fetch" --source moon --output "$out"
check "missing copy" says "cannot read" 1 "$fetch" --output "$out" "$work/none"
check "another file as copy" says "not the one expected" 1 "$fetch" --output "$out" "$fetch"
check "web without an answer" says "no answer from\|neither curl" 1 "$fetch" --source web --output "$out"
for tool in bash sed sha256sum cut mktemp rm mv mkdir cp dirname; do
    ln -s "$(command -v "$tool")" "$work/bin/"
done
check "no tool at all" says "no source works. Give a copy" 1 env PATH="$work/bin" "$fetch" --output "$out"

for text in "${PUCK_TEXT:-}" data/text/tinyshakespeare.txt ../shared/data/tinyshakespeare.txt; do
    if [ -f "$text" ]; then break; fi
done
if [ -f "$text" ] && [ "$(wc -c <"$text")" = 1115394 ]; then
    check "copy" gives "$fetch" --output "$out" "$text"
    check "second call fetches nothing" gives env PATH="$work/bin" "$fetch" --output "$out"
    echo damaged >"$out"
    mkdir -p "$work/shared/data"
    cp "$text" "$work/shared/data/tinyshakespeare.txt"
    check "copy beside the checkout replaces a damaged one" gives "$fetch" --output "$out"
    rm -r "$out" "$work/shared"
    if command -v curl >/dev/null; then
        export PUCK_TEXT_URL=file://$(realpath "$text")
        check "web" gives "$fetch" --source web --output "$out"
    else
        skip "web" "curl is not installed"
    fi
else
    skip "each source of the text" "the text is not here"
fi
# GPT-2's vocabulary, by puck itself: beside it lies the script, and it starts no other.
puck=${PUCK:-./puck}
mkdir -p "$work/built/data"
cp "$puck" "$work/built/puck"
cp data/fetch.sh "$work/built/data/"
export PUCK_GPT2_URL=file://$work/none
show() { echo "But soft" | PATH=$1 "$work/built/puck" tokenize --input - --tokenizer gpt2 --show; }
offline() {
    printed=$(show "$work/bin" 2>"$work/said")
    [ $? = 1 ] && [ -z "$printed" ] && [ "$(grep -c '^puck: ' "$work/said")" = 1 ] &&
        grep -q "could not be fetched (gpt2). Give the path of its vocab.bpe" "$work/said"
}
named() { show "$1" >"$work/shown" 2>"$work/said" && grep -q "1537 2705" "$work/shown"; }
check "gpt2 without a network" offline
for vocab in "${PUCK_GPT2:-}" data/text/gpt2-vocab.bpe ../shared/data/gpt2-vocab.bpe; do
    if [ -f "$vocab" ]; then break; fi
done
if [ -f "$vocab" ]; then
    rm -rf "$work/out"
    head -c 1000 "$vocab" >"$work/cut"
    check "a damaged copy of gpt2" says "not the one expected" 1 "$fetch" --gpt2 --output "$out" "$work/cut"
    export PUCK_GPT2_URL=file://$(realpath "$vocab")
    if command -v curl >/dev/null; then
        check "gpt2 from the web" named "$PATH"
        check "gpt2 from what was fetched" named "$work/bin"
    fi
else
    skip "gpt2 by name" "the vocabulary is not here"
fi
finish
