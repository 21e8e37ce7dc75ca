#!/usr/bin/env bash
# The case table on the checker, which looks at every access to memory, in one schedule; and that
# every kernel of kernels/cuda ran there.
. tests/tap.sh
program=${BUILD:-build}/tests/ops/test_ops_device
checker=${BUILD:-build}/libpuck_emu_check.so
export PUCK_EMU_LAUNCHES=$work/launches PUCK_EMU_SCHEDULE=shuffle:2
for dtype in f32 bf16; do
    check "no race, no stray access: $dtype" "$program" "$checker" $dtype
done
# What only ranks need has no row in the table: two steps with NCCL's collectives between.
seq 300 | tr '\n' ' ' >"$work/text.txt"
check "no race, no stray access: a step of ranks" env PUCK_ALWAYS_NCCL=1 "$puck" train \
    --data "$work/text.txt" --run "$work/run" --device "$checker" --steps 2 --eval-every 0 \
    --layers 1 --heads 1 --channels 16 --context 8 --batch-size 2
# What reads a batch of word vectors writes their gradient over it.
for dtype in f32 bf16; do
    check "no race, no stray access: steps of word vectors, $dtype" "$puck" train --model skipgram \
        --data "$work/text.txt" --run "$work/words-$dtype" --device "$checker" --dtype $dtype --steps 2 \
        --eval-every 0 --channels 16 --batch-size 64
done

# FILE KERNEL: names behind __global__ and its attributes, and what was launched, without brackets and
# template arguments.
for file in kernels/cuda/*.cu; do
    { tr '\n' ' ' <"$file" && echo; } | sed 's/__global__/\n&/g' | sed -nE \
        "s:^__global__ +(static +)?void +(__launch_bounds__\([^)]*\) *)?([a-z0-9_]+)\(.*:$file \3:p"
done | sort -u >"$work/kernels"
sed -E 's/ \(*([a-z0-9_]+).*/ \1/' "$work/launches" | sort -u >"$work/ran"
comm -23 "$work/kernels" "$work/ran" >"$work/missed"
n=$(wc -l <"$work/kernels")
if [ "$n" -ge "$(cat kernels/cuda/*.cu | grep -c __global__)" ] && [ ! -s "$work/missed" ]; then
    pass "all $n kernels ran"
else
    fail "all $n kernels ran" "$work/missed"
fi
finish
