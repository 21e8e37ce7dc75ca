#!/usr/bin/env bash
# Ranks do not change the result: the same batch on 1, 2 and 4 ranks gives the same losses to 1e-6, which
# leaves room for sums in another order (about 1e-7 a step in f32) and for nothing else. One rank speaks.
. tests/dist/lib.sh

recipe=(--batch-size 8 --lr 0.001 --clip 1 --device cpu --log-every 1 --eval-every 10 --eval-batches 1
    --save-every 0)
cd "$work" || exit 1
beside rank_train 1 one 50 --sample-every 25
for n in 2 4; do
    rank_train $n r$n 50 --sample-every 25 2>"$work/err"
    check "$n ranks train" test $? = 0
    all_done
    close_series "losses of $n ranks are those of one" train_loss 1e-6 one r$n
    close_series "gradient norms too" grad_norm 1e-6 one r$n
    close_series "estimates of the validation loss too" val_loss 1e-6 one r$n
    check "one of $n ranks speaks" test "$(grep -c '^memory plan' "$work/err")" = 1
    check "a sample is written by one" test "$(grep -c '^=== step' r$n/run/samples.txt)" = 2
done

# Two micro-batches of two sequences on each rank; Muon; the last window of the text is short.
beside rank_train 1 one-muon 50 --optimizer muon
beside rank_train 2 two-muon 50 --optimizer muon --micro-batch 2
all_done
close_series "Muon with micro-batches on 2 ranks" train_loss 1e-5 one-muon two-muon

# A whole split is scored by the reported definition where that is less work.
beside rank_train 2 all 10 --eval-batches 100
beside rank_train 1 one-all 10 --eval-batches 100
all_done
close_series "a whole split is scored by both ranks" val_loss 1e-6 one-all all

# A run goes on with another number of ranks.
rank_train 2 moved 50 --stop-after 20 2>/dev/null
rank_train 1 moved 50 2>/dev/null
close_series "20 steps on 2 ranks, 30 on one" train_loss 1e-6 one moved

# Communication and waiting are phases of a step of ranks; one of them prints.
ranks 2 "$puck" bench step --layers 1 --channels 16 --heads 2 --context 8 --batch-size 4 --repeats 2 --threads 1 \
    --device cpu >"$work/table" 2>/dev/null
for phase in step forward backward update communication waiting; do
    check "bench step of 2 ranks has one row of $phase" test "$(grep -c "^$phase " "$work/table")" = 1
done

# Models of every kind and task; one that carries states from batch to batch has one rank.
gpt=("${model[@]}")
same_on_two() {
    local name=$1 n
    shift
    for n in 1 2; do beside rank_train $n $n-$name 6 "$@"; done
    all_done
    close_series "$name on 2 ranks" train_loss 1e-6 1-$name 2-$name
}
model=(--channels 8)
same_on_two ffn --model ffn --layers 1 --hidden 16 --context 4
same_on_two ngram --model ngram --layers 1 --hidden 16 --context 3
same_on_two skipgram --model skipgram
for n in 1 2; do
    mkdir -p $n-classes
    for ((i = 0; i < 40; i++)); do echo "text $((i * i % 17))"$'\t'"class $((i % 3))"; done >$n-classes/text.tsv
    ranks $n "$puck" train --task classify --tokenizer word --data $n-classes/text.tsv --run $n-classes/run --steps 6 \
        --threads 1 --layers 1 --heads 2 --channels 16 --context 8 "${recipe[@]}" >/dev/null 2>&1
done
close_series "classes on 2 ranks" train_loss 1e-6 1-classes 2-classes
attempt_train 2 carried 6 --model rnn --layers 1 --context 4
refused "a recurrent model" 2 "--model" "trains on one rank"
model=("${gpt[@]}")

attempt_train 2 odd 10 --batch-size 7
refused "a batch that the ranks do not divide" 2 "--batch-size" "2 ranks" "6 or 8 would do"
attempt_train 2 odd 10 --micro-batch 3
refused "a micro-batch that does not divide a rank's part" 2 "--micro-batch" "part of 4"
attempt_train 2 odd 10 --stpes 4
refused "a wrong option is told once" 2 "--steps"
attempt 2 "$puck" eval --from one/run --data one/text.txt
refused "a command that has no ranks" 2 "puck eval runs as one process"
mkdir alone && cp "$puck" alone/puck
attempt 2 alone/puck train --data one/text.txt --run alone/run
refused "a build without MPI" 2 "libpuck_mpi.so" "2 ranks were started"
finish
