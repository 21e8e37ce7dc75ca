#!/bin/bash
# What a user is told when a card will not do, or fails: shown on the emulator, which can pretend both.
. tests/cli/lib.sh

emu=(--device emu --layers 1 --heads 1 --channels 16 --context 8 --batch-size 2)
seq 500 | tr '\n' ' ' >"$work/text.txt"
train=("$puck" train --data "$work/text.txt" --run "$work/run" --eval-every 0 --steps 6 --save-every 2 "${emu[@]}")

refuses 1 "a card too old" "compute capability is 7.5, puck needs 8.0" "--device cpu" -- \
    env PUCK_EMU_CAPABILITY=75 "${train[@]}"
refuses 1 "no cuBLASLt" "cuBLASLt does not load" "Install cuBLAS of CUDA 13" -- env PUCK_EMU_NO_LT=1 "${train[@]}"

# cuda:N is looked for beside the program.
mkdir "$work/bin"
cp "$puck" "$work/bin/puck"
cp "$(dirname "$puck")/libpuck_emu.so" "$work/bin/libpuck_cuda.so"
refuses 2 "a card's number too high" "--device" "there is no card 3" -- \
    "$work/bin/puck" info --device cuda:3
works "auto takes a card that answers" "auto: it answers" -- "$work/bin/puck" info

refuses 1 "a plan larger than the card" "the run needs" "are free" "--micro-batch" -- \
    "$puck" train --data "$work/text.txt" --tokenizer byte --run "$work/large" --preset gpt2 --device emu
"$puck" info --preset gpt2 --device emu >"$work/out"
check "the emulator takes nothing itself" eval 'grep -q "  total " "$work/out" && ! grep -q "own" "$work/out"'
"$puck" train --data "$work/text.txt" --run "$work/odd" --format puck --device emu --layers 1 --heads 1 \
    --channels 1026 --context 8 --batch-size 2 --positions rotary >"$work/out" 2>&1
code=$?
check "a head that no kernel takes is refused where the op begins" \
    eval '[ $code != 0 ] && grep -q "rope.cu:.*heads of 1026; at most 512" "$work/out"'

"${train[@]}" --stop-after 3 >/dev/null 2>&1
PUCK_EMU_FAIL_LAUNCH=200 "${train[@]}" --steps 600 --override --graph off --save-every 1 >"$work/out" 2>&1
code=$?
check "a fault in the middle names kernel, place and checkpoint" \
    eval '[ $code != 0 ] && grep -qE "\.cu:[0-9]+: .* did not start, or one before it failed" "$work/out" &&
        grep -q "the last good checkpoint is step-" "$work/out" && grep -q "To go on: puck train" "$work/out"'
works "and the run goes on from there" "resuming" -- "${train[@]}" --override --steps 12
finish
