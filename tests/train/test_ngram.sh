#!/usr/bin/env bash
# Is this n-gram real? A text whose every middle word follows from its neighbours, one that nothing follows
# from; the same bits for any number of threads and after a resume; what it refuses.
. tests/cli/lib.sh
train=("$puck" train --model ngram --device cpu --log-every 1 --batch-size 256 --steps 150)
eval=("$puck" eval --device cpu --quiet)

# accuracy RUN: in per mille, of the validation part
accuracy() { "${eval[@]}" --from "$work/$1" --data "$work/$1/data" | awk '/^accuracy/ { print int(1000 * $2) }'; }

for i in {1..160}; do printf '%s' {a..z}; done >"$work/order.txt"
works "a text in order" "1 hidden layers of 192 on embeddings of 48, context 5" -- \
    "${train[@]}" --data "$work/order.txt" --run "$work/order"
part=$(accuracy order)
check "what has one right answer is known: $part per mille" test "$part" -ge 980
# Random numbers are x = 48271 x mod 2^31-1, from 7 on; b is as frequent as three others.
awk 'BEGIN { x = 7; for (i = 0; i < 20000; i++) { x = x * 48271 % 2147483647
    printf "%s", substr("aabbbcdefghijklmnopq", 1 + x % 20, 1) } }' >"$work/chance.txt"
works "a text by chance" -- "${train[@]}" --data "$work/chance.txt" --run "$work/chance"
part=$(accuracy chance)
check "of what is chance half is right: $part per mille" test "$part" -ge 450 -a "$part" -le 550
works "counts" "n-grams scored  3992, half of them real" -- \
    "${eval[@]}" --from "$work/chance" --data "$work/chance/data"
works "as JSON" '"ngrams": 3992' '"accuracy": 0.' -- \
    "${eval[@]}" --json --from "$work/chance" --data "$work/chance/data"
check "its type" grep -q '"model_type": "puck-ngram"' "$work/order/ckpt/latest/config.json"
works "its vectors serve" -- "$puck" embed nearest a --from "$work/order" --quiet

small=("${train[@]}" --data "$work/order.txt" --steps 12 --batch-size 64 --channels 8 --eval-every 6 --context 3)
works "one thread" -- "${small[@]}" --run "$work/one" --threads 1
works "two threads" -- "${small[@]}" --run "$work/two" --threads 2
works "in parts" -- "${small[@]}" --run "$work/micro" --micro-batch 16
works "a part of it" -- "${small[@]}" --run "$work/part" --stop-after 7
works "resumed" "resuming" -- "${small[@]}" --run "$work/part"
for other in two part; do
    for file in model optim; do
        check "$other: the same $file" cmp "$work/one/ckpt/latest/$file.safetensors" \
            "$work/$other/ckpt/latest/$file.safetensors"
    done
done
works "on the emulator" -- "${small[@]}" --run "$work/emu" --device emu --dtype f32 --steps 2 --eval-every 0
works "as long on the CPU" -- "${small[@]}" --run "$work/cpu" --steps 2 --eval-every 0
# Two losses of about 0.7, from sums of a few hundred terms in single precision.
check "the same losses" awk -F"[:,]" '/train_loss/ { if (NR == FNR) cpu[FNR] = $4
    else if (($4 - cpu[FNR])^2 > 1e-10) exit 1; else n++ } END { if (n != 2) exit 1 }' \
    "$work/cpu/metrics.jsonl" "$work/emu/metrics.jsonl"

refuses 2 "no middle" --context odd -- "${small[@]}" --run "$work/x" --context 4
refuses 2 "heads" --heads ngram -- "${small[@]}" --run "$work/x" --heads 2
refuses 2 "samples" --sample-every "puck embed" -- "${small[@]}" --run "$work/x" --sample-every 2
refuses 1 "text from it" "puck embed" -- "$puck" generate --from "$work/one" --device cpu
printf 'abcd' >"$work/short.txt"
refuses 1 "a text shorter than an n-gram" n-gram -- "${eval[@]}" --from "$work/order" --data "$work/short.txt"
refuses 1 "training on one" "too few" -- "${train[@]}" --data "$work/short.txt" --val-fraction 0 --run "$work/x"
finish
