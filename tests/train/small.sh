# Sourced after tap.sh: a small run, and what of it must not depend on when, where and how it ran.

# 710 characters for training: 30 steps of 4 windows of 16 pass the end of the text twice, and its last
# window is short.
make_text() {
    local i
    for ((i = 1; i <= 45; i++)); do
        echo "line $i: $((i * i % 97)) of $((i * 31 % 89))"
    done
}

model=(--layers 1 --heads 2 --channels 16 --context 16 --dropout 0.1)
recipe=(--batch-size 4 --lr 0.01 --min-lr 0.001 --warmup 5 --device cpu)
often=(--eval-every 7 --save-every 8 --sample-every 11 --log-every 3)

# small_train STEPS ARGUMENTS...: in the current folder, which holds text.txt, into ./run.
# `small_exec ... &` is the same with the program itself as the job.
small_exec() {
    local steps=$1
    shift
    exec "$puck" train --data text.txt --run run --steps "$steps" --threads "${threads:-1}" \
        "${model[@]}" "${recipe[@]}" "$@"
}
small_train() (small_exec "$@")

# A JSON file without its time fields, whichever way it is laid out.
without_times() {
    sed -E 's/"(tokens_per_sec|elapsed_sec|mfu|gflops_per_sec)": *[^,}]*//g' "$1"
}

# traces FOLDER: one line for each thing in a run that must be equal. The options of config.toml that
# only say how it ran are left out, and so are the manifest's entries of the files that differ; of the
# algorithms that a device has chosen the order does.
traces() {
    local last=$1/run/ckpt/latest best=$1/run/ckpt/best file
    echo "latest $(readlink "$last") best $(readlink "$best")"
    for file in model.safetensors optim.safetensors config.json tokenizer.json \
        generation_config.json; do
        echo "$file $(sha256sum <"$last/$file")"
    done
    for file in model.safetensors optim.safetensors; do
        echo "best/$file $(sha256sum <"$best/$file")"
    done
    echo "samples $(sha256sum <"$1/run/samples.txt")"
    grep -vE '^(threads|recompute|micro_batch|micro-batch) ' "$last/config.toml"
    without_times "$last/state.json"
    tr -d ' \n' <"$last/MANIFEST.json" | sed -E 's/"(state.json|config.toml|algorithms.txt)":\{[^}]*\}//g'
    echo
    without_times "$1/run/metrics.jsonl"
}

# same_run NAME FOLDER...: each left the traces of $whole, if that is set, or of $work/whole.
same_run() {
    local name=$1 folder
    shift
    traces "${whole:-$work/whole}" >"$work/expected"
    for folder in "$@"; do
        traces "$folder" >"$work/traces" 2>&1
        if ! diff "$work/expected" "$work/traces" >"$work/diff"; then
            fail "$name: ${folder##*/}" "$work/diff"
            return
        fi
    done
    pass "$name"
}

# losses FOLDER: train_loss of every line that has one.
losses() {
    sed -nE 's/.*"train_loss": *([^,}]*).*/\1/p' "$1/run/metrics.jsonl"
}
