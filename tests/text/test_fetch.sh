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
finish
