#!/usr/bin/env bash
# Ranks on the emulator, each with a pretended card: the CUDA kernels and kernels/cuda/comm.cu train one
# model on 1, 2 and 3 processes with the same losses; what is captured gives the same bits.
. tests/dist/lib.sh
. tests/dist/dead.sh

cd "$work" || exit 1
# A rank that is stuck goes on beating, and the other waits in its device: rank 1's has come less far. That
# takes over ten seconds.
recipe+=(--device emu --dtype f32)
export PUCK_TEST_STUCK=1,6
disturb stuck :
unset PUCK_TEST_STUCK

model=(--layers 1 --heads 2 --channels 16 --context 16 --dropout 0.1)
recipe=(--batch-size 6 --lr 0.001 --clip 1 --device emu --dtype f32 --log-every 1 --eval-every 10 --eval-batches 1
    --save-every 0)
beside rank_train 1 one 50
rank_train 2 two 50 2>"$work/err"
check "two ranks train" test $? = 0
rank_train 3 three 50 --stop-after 12 2>"$work/err"
check "three ranks train" test $? = 0
all_done
mkdir -p start/run && head -n 13 one/run/metrics.jsonl >start/run/metrics.jsonl # an estimate at step 10
for pair in "one two" "start three"; do
    close_series "losses of $pair" train_loss 1e-6 $pair
    close_series "gradient norms of $pair" grad_norm 1e-6 $pair
    close_series "estimates of the validation loss of $pair" val_loss 1e-6 $pair
done

# same_weights NAME FOLDER_A FOLDER_B
same_weights() {
    check "$1" cmp "$2/run/ckpt/latest/model.safetensors" "$3/run/ckpt/latest/model.safetensors"
}
buckets=(--bucket-mb 0.001 --eval-every 0)
beside rank_train 2 zero 6 "${buckets[@]}"
beside rank_train 2 whole 6 "${buckets[@]}" --no-zero
all_done
same_weights "ZeRO on = off, in many buckets" zero whole
beside rank_train 2 eager 6 "${buckets[@]}" --graph off
rank_train 2 again 6 "${buckets[@]}" --stop-after 2 2>/dev/null
rank_train 2 again 6 "${buckets[@]}" 2>/dev/null
all_done
same_weights "graph on = graph off" zero eager
same_weights "2 steps and 4 = 6" zero again

# Rank 0 times products for all: what they computed is what both compute when they are told its choices.
timed() { # RANK: its command, with times of its own
    echo env PUCK_EMU_TIMES=$1 "$puck" train --data text.txt --run run --steps 4 --threads 1 "${model[@]}" \
        "${recipe[@]}" "${buckets[@]}"
}
mkdir -p timed told/run && make_text >timed/text.txt
(cd timed && mpirun --allow-run-as-root --oversubscribe -np 1 $(timed 1) : -np 1 $(timed 2) >out 2>&1 </dev/null)
cp timed/run/algorithms.txt told/run 2>/dev/null
rank_train 2 told 4 "${buckets[@]}" 2>/dev/null
check "several algorithms are the fastest" eval 'grep -q "= 1 0" timed/run/algorithms.txt &&
    grep -q "= 2 0" timed/run/algorithms.txt'
same_weights "all ranks take those that rank 0 has found" timed told

# The updated weights arrive under the next forward pass, and each part is waited for: left out, it fails.
buckets+=(--layers 2)
beside rank_train 1 alone 4 "${buckets[@]}"
export PUCK_ALWAYS_NCCL=1
skips() { # NUMBER
    PUCK_EMU_SKIP_WAIT=$1 rank_train 1 skips-$1 4 "${buckets[@]}" 2>skips-$1.err
}
for number in 0 1 2 3; do beside skips $number; done
all_done
for number in 0 1 2; do
    check "without wait $number of the graph the weights are missed" grep -q '^puck: .*not finite' skips-$number.err
done
same_weights "these are all; through NCCL = without" alone skips-3
unset PUCK_ALWAYS_NCCL

# As on a card: bf16, Muon, several micro-batches. Sums in another order (1e-7) turn over the bf16 rounding
# (2e-3) of a few values of many, and the loss is a mean of 96 tokens'.
half=(--dtype bf16 --optimizer muon --micro-batch 1 --eval-every 0)
beside rank_train 1 one-half 5 "${half[@]}"
beside rank_train 2 half 5 "${half[@]}"
beside rank_train 2 half-whole 5 "${half[@]}" --no-zero
rank_train 2 half-again 5 "${half[@]}" --stop-after 3 2>/dev/null
cp -a half-again half-alone
beside rank_train 1 half-alone 5 "${half[@]}"
rank_train 2 half-again 5 "${half[@]}" 2>/dev/null
all_done
close_series "bf16, Muon, micro-batches" train_loss 5e-4 one-half half
# The ranks share out the master weights too, and the bits stay: GPT-2 has 12 bytes a parameter of state.
same_weights "bf16: ZeRO on = off" half half-whole
same_weights "bf16: 3 steps and 2 = 5" half half-again
close_series "bf16: 3 steps on 2 ranks, 2 on one" train_loss 5e-4 one-half half-alone
optimiser_mb() {
    ranks 2 "$puck" train --preset gpt2 --vocab-size 50257 --device emu --dtype bf16 --batch-size 2 --context 64 \
        --device-memory 80G --dry-run "$@" 2>/dev/null | awk '$1 == "optimiser" { print $2 }'
}
whole=$(optimiser_mb --no-zero) part=$(optimiser_mb)
check "of the optimiser's $whole MB a rank has $part MB" awk -v w="$whole" -v p="$part" \
    'BEGIN { exit !(w > 1480 && w < 1490 && p <= 0.52 * w) }'

PUCK_EMU_CARDS=1 attempt_train 2 none 5
refused "one card for two ranks" 2 "rank 0 on" "and rank 1 on" "have the same card" "one process per card"
PUCK_EMU_CARDS=2 attempt_train 3 none 5
refused "two cards for three" 2 "rank 2 on" "no card for process 3 of this host, which has 2"
PUCK_EMU_NO_NCCL=1 attempt_train 2 none 5
refused "no NCCL" 1 "NCCL" "libnccl.so.2" "Install NCCL 2 for CUDA 13"

ended stuck "rank 1 on $host is stuck: it has been in one step" "rank 0 on $host"
finish
