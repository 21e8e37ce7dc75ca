#!/bin/bash
# Training is a pure function of its settings: stopped and resumed anywhere, on any number of threads,
# in another folder, by a signal or by plan, it leaves the same bytes, time fields aside.
set -u
. tests/tap.sh
. tests/train/small.sh

# run_in FOLDER ARGUMENTS...: 30 steps, or what is left of them, in a folder that is made if need be.
run_in() {
    local folder=$1
    shift
    mkdir -p "$work/$folder"
    make_text >"$work/$folder/text.txt"
    (cd "$work/$folder" && small_train 30 "${often[@]}" "$@") >>"$work/log" 2>&1
}

check "30 steps" run_in whole
if [ ! -e "$work/whole/run/ckpt/latest" ]; then
    cat "$work/log"
    echo "Bail out! a plain run fails"
    exit 1
fi

# One run stops after every step; at each stop a copy of it goes on to the end.
resumed=()
for ((k = 1; k < 30; k++)); do
    run_in each-step --stop-after 1
    cp -r "$work/each-step" "$work/at-$k"
    run_in "at-$k" &
    resumed+=("$work/at-$k")
    case $k in 22 | 24 | 28) cp -r "$work/each-step" "$work/older-$k" ;; esac
done
wait
run_in each-step
same_run "stopped at every k of 30 steps and resumed" "${resumed[@]}"
same_run "stopped after every step" "$work/each-step"

# With the newest checkpoint gone it starts from the one before; the sample of step 22, the metrics of 24
# and the evaluation of 28 are written again, not twice.
for k in 22 24 28; do
    rm -r "$work/older-$k/run/ckpt/step-000000$k"
    run_in "older-$k"
done
same_run "resumed from the checkpoint before the last" "$work"/older-*

for n in 2 3 4; do threads=$n run_in "threads-$n"; done
same_run "threads 1 to 4" "$work"/threads-[2-4]

run_in mixed --stop-after 13
threads=3 run_in mixed --stop-after 4 --recompute block
threads=2 run_in mixed --recompute mlp
same_run "resumed with other threads and recompute" "$work/mixed"

mkdir -p "$work/a/much/deeper/folder"
make_text >"$work/a/much/deeper/folder/text.txt"
(cd "$work/a/much/deeper/folder" &&
    env -i HOME=/ LC_ALL=C.UTF-8 TZ=Asia/Tokyo OMP_NUM_THREADS=3 OPENBLAS_NUM_THREADS=2 \
        PADDING="$(printf '%4000s' x)" "$puck" train --data text.txt --run run --steps 30 --threads 1 \
        "${model[@]}" "${recipe[@]}" "${often[@]}") >>"$work/log" 2>&1
same_run "another folder and environment" "$work/a/much/deeper/folder"

# interrupted NAME ARGUMENTS...: 30 steps in one go, and stopped at step 13.
interrupted() {
    local name=$1
    shift
    run_in "$name" "$@"
    run_in "$name-resumed" "$@" --stop-after 13
    run_in "$name-resumed"
    whole=$work/$name same_run "$name" "$work/$name-resumed"
}
interrupted no-bias --no-bias --order random --schedule wsd

# NanoChat's blocks and Muon, whose momentum must come back; then a mix that only puck reads.
modern=(--positions rotary-reversed --norm rmsnorm-plain --embed-norm --qk-norm --activation relu2
    --no-tie-embeddings --softcap 15 --no-bias --kv-heads 1 --init modern --optimizer muon)
run_in modern "${modern[@]}"
for k in 1 8 13 29; do
    run_in "modern-$k" "${modern[@]}" --stop-after "$k"
    run_in "modern-$k" &
done
for n in 2 3 4; do threads=$n run_in "modern-threads-$n" "${modern[@]}" & done
run_in modern-mixed "${modern[@]}" --stop-after 7
threads=3 run_in modern-mixed --stop-after 9 --recompute block
threads=2 run_in modern-mixed --recompute mlp
wait
whole=$work/modern same_run "Muon, stopped at k and resumed" "$work"/modern-{1,8,13,29,mixed}
whole=$work/modern same_run "Muon on threads 1 to 4" "$work"/modern-threads-[2-4]
check "it learns" awk '{ last = $1; if (NR == 1) first = $1 } END { exit !(last < first - 0.5) }' \
    <(losses "$work/modern")
interrupted own-format --positions rotary --rope-base 100 --norm rmsnorm --activation swiglu \
    --hidden 24 --optimizer muon --format puck
check "a mix of its own is saved as puck's" \
    grep -q '"model_type": "puck"' "$work/own-format/run/ckpt/latest/config.json"

# A run that ends early does so at the same step, with a rate at which the loss does not fall.
early=(--patience 3 --eval-every 2 --eval-batches 2 --sample-every 3 --lr 2 --clip 0)
run_in early "${early[@]}"
check "three evaluations without a better loss end a run" \
    grep -q '"evals_since_best": 3' "$work/early/run/ckpt/latest/state.json"
for ((k = 1; k < 12; k++)); do
    run_in "early-$k" "${early[@]}" --stop-after "$k"
    run_in "early-$k" "${early[@]}" &
done
wait
whole=$work/early same_run "stopped and resumed before an early end" "$work"/early-*

# Samples of bytes that are no text: NUL ends no file.
mkdir "$work/bytes" "$work/bytes-older"
for folder in bytes bytes-older; do
    for ((k = 0; k < 400; k++)); do printf 'a\0b\0\n\0'; done >"$work/$folder/zeros"
done
zeros=(--data zeros --tokenizer byte --lr 0.05)
run_in bytes "${zeros[@]}"
run_in bytes-older "${zeros[@]}" --stop-after 24
rm -r "$work/bytes-older/run/ckpt/step-00000024"
run_in bytes-older "${zeros[@]}"
check "a sample has NUL" test "$(tr -dc '\0' <"$work/bytes/run/samples.txt" | wc -c)" -gt 0
whole=$work/bytes same_run "samples with NUL are written again, not twice" "$work/bytes-older"

# Smaller parts of a batch change the order of sums only: 30 steps grow 1e-7 to less than 1e-5.
for n in 2 1; do
    run_in "micro-$n" --micro-batch $n
    paste <(losses "$work/whole") <(losses "$work/micro-$n") >"$work/pairs"
    check "micro-batches of $n" awk '
        { d = ($1 - $2) / $1; if (!(d < 1e-5 && d > -1e-5)) { print; exit bad = 1 } n++ }
        END { exit bad || n != 10 }' "$work/pairs"
done

# What a foreign folder says about dropout and the norms' epsilon holds after a resume too.
cp -r data/golden/gpt2-tiny "$work/foreign"
sed -i -E 's/("[a-z]+_pdrop": )[0-9.]+/\10.2/; s/("layer_norm_epsilon": )[0-9.e-]+/\10.001/' \
    "$work/foreign/config.json"
model=()
interrupted finetuned --init-from ../foreign

finish
