#!/usr/bin/env bash
# ZeRO-1: the same bits whether ranks share out the optimiser's state or not; checkpoints that any number
# of ranks reads.
. tests/dist/lib.sh

recipe=(--batch-size 12 --lr 0.01 --device cpu --log-every 1 --eval-every 0 --save-every 0)
muon=(--optimizer muon --norm rmsnorm --no-bias --no-tie-embeddings --format puck)
cd "$work" || exit 1

# same_bits NAME FOLDER_A FOLDER_B: weights and everything reported.
same_bits() {
    for run in "$2" "$3"; do
        sha256sum <"$run/run/ckpt/latest/model.safetensors"
        without_times "$run/run/metrics.jsonl"
        echo --
    done >"$work/both"
    if [ "$(grep -c . "$work/both")" -gt 4 ] &&
        awk '/^--$/ { part++; next } { text[part + 0] = text[part + 0] "\n" $0 }
             END { exit text[0] != text[1] }' "$work/both"; then
        pass "$1"
    else
        fail "$1" "$work/both"
    fi
}

# Buckets of a kilobyte; the other runs have one.
beside rank_train 2 on-2-many 8 --layers 2 --bucket-mb 0.001
beside rank_train 2 off-2-many 8 --layers 2 --bucket-mb 0.001 --no-zero
beside rank_train 1 one-many 8 --layers 2
all_done
same_bits "several buckets: ZeRO on is ZeRO off" on-2-many off-2-many
close_series "several buckets: losses of one rank" train_loss 1e-6 one-many on-2-many

for n in 2 3; do
    for kind in adamw muon; do
        [ $n-$kind != 3-adamw ] || continue
        options=()
        [ $kind = adamw ] || options=("${muon[@]}")
        beside rank_train $n on-$n-$kind 8 "${options[@]}"
        beside rank_train $n off-$n-$kind 8 --no-zero "${options[@]}"
        all_done
        same_bits "$kind on $n ranks: ZeRO on is ZeRO off" on-$n-$kind off-$n-$kind
    done
done

# Each rank writes its part; what was whole is one file.
check "three ranks write three parts" test -e on-3-muon/run/ckpt/latest/optim-00003-of-00003.safetensors
check "without ZeRO there is one" test -e off-3-muon/run/ckpt/latest/optim.safetensors

# Steps 1 to 8 as above, 9 to 12 on any number of ranks: the losses of 12 steps on one.
for kind in adamw muon; do
    options=()
    [ $kind = adamw ] || options=("${muon[@]}")
    beside rank_train 1 whole-$kind 12 "${options[@]}"
    rank_train 4 part-$kind 12 "${options[@]}" --stop-after 8 2>/dev/null
    for n in 1 2 3; do
        mkdir -p $n && cp -a part-$kind $n/
        beside rank_train $n $n/part-$kind 12
    done
    all_done
    for n in 1 2 3; do
        # Muon turns the rounding of small gradients into steps of full size.
        limit=1e-6
        [ $kind = adamw ] || limit=1e-4
        close_series "$kind: saved by 4 ranks, resumed by $n" train_loss $limit whole-$kind $n/part-$kind
    done
done
# Resumed by as many, it is the run that was not stopped, bit for bit.
beside rank_train 4 undisturbed 12
beside rank_train 4 part-adamw 12
all_done
same_bits "saved and resumed by 4 ranks" undisturbed part-adamw

rm part-muon/run/ckpt/latest/optim-00002-of-00004.safetensors
attempt_train 2 part-muon 12
refused "a missing part is named" 1 "none of the 1 checkpoints is whole"
check "with its file" grep -q "optim-00002-of-00004.safetensors" "$work/stderr"

# Of the moments of GPT-2's 124 million parameters each of 2 ranks has half.
optimiser_mb() {
    ranks 2 "$puck" train --preset gpt2 --vocab-size 50257 --device cpu --batch-size 2 --context 64 \
        --dry-run "$@" 2>/dev/null | awk '$1 == "optimiser" { print $2 }'
}
whole=$(optimiser_mb --no-zero) half=$(optimiser_mb)
check "half of the optimiser's $whole MB is $half MB" awk -v w="$whole" -v h="$half" \
    'BEGIN { exit !(w > 900 && h <= 0.52 * w) }'
finish
