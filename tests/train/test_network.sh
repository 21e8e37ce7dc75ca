#!/bin/bash
# Training and generating open no socket and start no program: traced, they make one execve (their own)
# and no network call.
set -u
. tests/tap.sh
. tests/train/small.sh

if ! strace -o /dev/null true 2>/dev/null; then
    skip "no network, no programs" "strace is missing or may not trace"
    finish
fi

make_text >"$work/text.txt"
cd "$work" || exit 1
traced() { strace -f -qq -e trace=%network,execve,execveat -o "$1.trace" "${@:2}"; }
quiet() {
    cat "$1"
    [ "$(grep -c 'exec' "$1")" = 1 ] && ! grep -v 'exec\|^[0-9]* *---\|+++' "$1"
}

check "train runs" traced train "$puck" train --data text.txt --run run --steps 5 "${model[@]}" \
    --batch-size 4 --eval-every 3 --save-every 3 --sample-every 3
check "train touches no network and runs nothing" quiet train.trace
check "generate runs" traced generate "$puck" generate --from run --prompt line --tokens 10
check "generate touches no network and runs nothing" quiet generate.trace
cd / && finish
