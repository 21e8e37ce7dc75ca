#!/usr/bin/env bash
# Ranks on the emulator, each with a pretended card: the CUDA kernels and kernels/cuda/comm.cu train one
# model on 1, 2 and 3 processes with the same losses; what is captured gives the same bits.
. tests/dist/lib.sh

model=(--layers 1 --heads 2 --channels 16 --context 16 --dropout 0.1)
recipe=(--batch-size 6 --lr 0.001 --clip 1 --device emu --dtype f32 --log-every 1 --eval-every 10 --eval-batches 1
    --save-every 0)
cd "$work" || exit 1
rank_train 1 one 50 2>/dev/null || fail "one rank trains"
for n in 2 3; do
    rank_train $n r$n 50 2>"$work/err"
    check "$n ranks train" test $? = 0
    close_series "losses of $n ranks are those of one" train_loss 1e-6 one r$n
    close_series "gradient norms too" grad_norm 1e-6 one r$n
    close_series "estimates of the validation loss too" val_loss 1e-6 one r$n
done

# same_weights NAME FOLDER_A FOLDER_B
same_weights() {
    check "$1" cmp "$2/run/ckpt/latest/model.safetensors" "$3/run/ckpt/latest/model.safetensors"
}
rank_train 2 eager 50 --graph off 2>/dev/null
same_weights "graph on = graph off" r2 eager
rank_train 2 whole 50 --no-zero --bucket-mb 0.001 2>/dev/null
rank_train 2 zero 50 --bucket-mb 0.001 2>/dev/null
same_weights "ZeRO on = off, in many buckets" zero whole
rank_train 2 again 50 --stop-after 20 2>/dev/null
rank_train 2 again 50 2>/dev/null
same_weights "20 steps and 30 = 50" r2 again

# As on a card: bf16, Muon, several micro-batches. Sums in another order (1e-7) turn over the bf16 rounding
# (2e-3) of a few values of many, and the loss is a mean of 96 tokens'.
half=(--dtype bf16 --optimizer muon --micro-batch 1)
rank_train 1 one-half 10 "${half[@]}" 2>/dev/null
rank_train 2 half 10 "${half[@]}" 2>/dev/null
close_series "bf16, Muon, micro-batches" train_loss 5e-4 one-half half

PUCK_EMU_CARDS=1 attempt_train 2 none 5
refused "one card for two ranks" 2 "rank 0 on" "and rank 1 on" "have the same card" "one process per card"
PUCK_EMU_CARDS=2 attempt_train 3 none 5
refused "two cards for three" 2 "rank 2 on" "no card for process 3 of this host, which has 2"
PUCK_EMU_NO_NCCL=1 attempt_train 2 none 5
refused "no NCCL" 1 "NCCL" "libnccl.so.2" "Install NCCL 2 for CUDA 13"
finish
