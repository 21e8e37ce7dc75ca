#!/bin/bash
# puck bench: each kind prints its rows, JSON lines hold every field, a wrong call is refused.
. tests/tap.sh

small=(--layers 1 --heads 2 --channels 16 --context 8 --batch-size 2 --repeats 2 --threads 1
    --device cpu)

# Every line is an object with the fields that records are made of, and positive times.
json_lines() {
    $puck bench "$@" "${small[@]}" --json >"$work/out" && [ -s "$work/out" ] &&
        while read -r line; do
            for field in op shape median_sec min_sec spread device threads command; do
                [[ $line == *"\"$field\": "* ]] || { echo "no $field: $line"; return 1; }
            done
            [[ $line =~ \"min_sec\":\ [0-9.e-]*[1-9] ]] || { echo "no time: $line"; return 1; }
        done <"$work/out"
}

has_ops() {
    for op in "$@"; do
        grep -q "\"op\": \"$op\"" "$work/out" || { echo "no row of $op"; return 1; }
    done
}

# One token in all 16 rows: dx, tokens, order, starts, twice dwpe and twice one row of dwte.
counts_rows_that_occur() {
    json_lines ops --vocab-size 1 &&
        sed -n 's/.*"embed_backward".*"median_sec": \([^,]*\),.*"gbps": \([^,]*\),.*/\1 \2/p' "$work/out" |
        awk '{ print bytes = $1 * $2 * 1e9 } END { exit !(bytes > 2370 && bytes < 2374) }'
}

# The other models, in the small preset of each; a step of ffn's has as many targets as rows.
net_lines() {
    local -a small=(--layers 1 --channels 4 --hidden 16 --context 8 --batch-size 2 --repeats 2
        --threads 1 --device cpu)
    json_lines "$1" --model "$2"
}

has_table() {
    $puck bench step "${small[@]}" >"$work/out" && grep -q '^step .* 2 x 8, ' "$work/out"
}

refused() {
    local status=0
    $puck bench "$@" >"$work/out" 2>"$work/err" || status=$?
    [ $status -eq 2 ] && [ ! -s "$work/out" ] && grep -q '^puck: ' "$work/err"
}

check "bench step prints JSON lines" json_lines step
check "bench step has the step and its phases" has_ops step forward backward update
check "bench decode prints JSON lines" json_lines decode
check "bench decode has a token and a block of a prompt" has_ops token prompt
check "bench feed prints JSON lines" json_lines feed
check "bench ops prints JSON lines" json_lines ops --dropout 0.1 --recompute mlp
check "bench ops has every op that the model calls" has_ops embed_forward embed_backward \
    residual_norm_forward residual_norm_backward linear_forward linear_backward_input \
    linear_backward_weight attention_forward attention_backward attention_decode \
    activation_forward dropout_forward dropout_backward classifier loss_sum grad_norm adamw
check "bench ops counts the rows of a table that occur" counts_rows_that_occur
check "bench step of a feed-forward model" net_lines step ffn
check "bench decode of a feed-forward model" net_lines decode ffn
check "bench step prints a table" has_table
check "bench alone is refused" refused
check "bench of an unknown thing is refused" refused speed
check "bench of two things is refused" refused ops step
check "bench feed needs a folder of tokens" refused feed --data "$work/none"
finish
