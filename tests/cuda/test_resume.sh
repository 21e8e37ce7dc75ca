#!/bin/bash
# A run on the emulator, in bf16: stopped and resumed, or launched op by op, it leaves the same bytes.
set -u
. tests/tap.sh
. tests/train/small.sh

make_text >"$work/text.txt"
run() { # FOLDER ARGUMENTS...: in a folder of its own
    mkdir -p "$work/$1" && cd "$work/$1" && cp "$work/text.txt" . || exit 1
    shift
    small_train 8 --eval-every 4 --sample-every 5 --save-every 3 --log-every 1 --device emu --dtype bf16 "$@" >>log 2>&1
    local code=$?
    cd - >/dev/null || exit 1
    [ $code = 0 ] || fail "a run on the emulator" "$work/log"
}
run whole
run resumed --stop-after 1
run resumed --stop-after 4
run resumed
run eager --graph off
same_run "resumed after 1 and after 5 of 8 steps" "$work/resumed"
check "graph on = graph off" cmp "$work/whole/run/ckpt/latest/model.safetensors" \
    "$work/eager/run/ckpt/latest/model.safetensors"
check "so are the moments" cmp "$work/whole/run/ckpt/latest/optim.safetensors" \
    "$work/eager/run/ckpt/latest/optim.safetensors"
finish
