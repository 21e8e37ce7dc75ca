#!/bin/bash
# Sequence to sequence: pairs are learnt, scored and written, by any threads and across a resume.
. tests/cli/lib.sh
for i in 1 2 3 4 5; do for d in 0 1 2 3 4 5 6 7 8 9; do printf '%s\tx%s\n' $d $d; done; done >"$work/pairs.tsv"
train=("$puck" train --task pairs --data "$work/pairs.tsv" --layers 1 --heads 2 --channels 32 --context 8
    --batch-size 10 --lr 0.01 --val-fraction 0.2 --eval-every 20 --device cpu --steps 150)
works "trains" "step 150" -- "${train[@]}" --threads 1 --run "$work/run"
works "other threads" "step 150" -- "${train[@]}" --threads 3 --run "$work/run-3"
works "other micro-batches" "step 150" -- "${train[@]}" --micro-batch 5 --run "$work/run-micro"
for k in 1 2 3; do "${train[@]}" --stop-after 60 --run "$work/run-stopped" >/dev/null 2>&1; done
for other in 3 stopped; do
    for file in model optim; do
        check "$other: same $file" cmp "$work/run/ckpt/latest/$file.safetensors" \
            "$work/run-$other/ckpt/latest/$file.safetensors"
    done
done
generate=("$puck" generate --pairs --from "$work/run" --device cpu)
works "scores" "exact match     1.0000 (50 of 50)" -- "${generate[@]}" --data "$work/pairs.tsv"
printf '7\n3' | "${generate[@]}" >"$work/targets" 2>/dev/null
check "writes targets" test "$(cat "$work/targets")" = $'x7\nx3'

printf '7\tx7\n\u00e77\tx7\n' >"$work/strange.tsv"
printf '{"source": "7", "target": "x7"}\n{"source": "\u00e77", "target": "x7"}\n' >"$work/strange.jsonl"
for place in tsv:2:1 jsonl:2; do
    refuses 1 "a character unseen in training: ${place%%:*}" "strange.$place)" "U+00E7" -- \
        "${generate[@]}" --data "$work/strange.${place%%:*}"
done

# The same pairs as JSON lines give the same model.
sed -E 's/^(.*)\t(.*)$/{"source": "\1", "target": "\2"}/' "$work/pairs.tsv" >"$work/pairs.jsonl"
json=("${train[@]}" --data "$work/pairs.jsonl" --run "$work/run-json")
works "a dry run of JSON lines" "vocabulary 13" -- "${json[@]}" --dry-run
works "JSON lines" "saved step 60" -- "${json[@]}" --stop-after 60
rm "$work/run-json/pairs.tsv"
works "resumed, without --data" "step 150" -- "$puck" train --run "$work/run-json"
check "json: same model" cmp "$work/run/ckpt/latest/model.safetensors" "$work/run-json/ckpt/latest/model.safetensors"
works "scores JSON lines" "exact match     1.0000 (50 of 50)" -- "${generate[@]}" --data "$work/pairs.jsonl"
bad_json() {
    printf '{"source": "1", "target": "x1"}\n%s\n' "$2" >"$work/bad.jsonl"
    refuses 1 "JSON: $1" "bad.jsonl:2" -- "${train[@]}" --data "$work/bad.jsonl" --run "$work/no"
    refuses 1 "generate, JSON: $1" "bad.jsonl:2" -- "${generate[@]}" --data "$work/bad.jsonl"
}
bad_json "no target" '{"source": "1"}'
bad_json "no object" '"1"'
bad_json "an empty source" '{"source": "", "target": "x1"}'
bad_json "a tab" '{"source": "1\t2", "target": "x1"}'
bad_json "a carriage return" '{"source": "1", "target": "x1\r"}'
bad_json "a line's end" '{"source": "1", "target": "x\n1"}'
: >"$work/empty.tsv"
refuses 1 "an empty file" empty.tsv -- "${train[@]}" --data "$work/empty.tsv" --run "$work/no"
refuses 1 "no pairs to score" empty.tsv -- "${generate[@]}" --data "$work/empty.tsv"

# bad TEXT MESSAGE: refused by train as data and by generate as a test, with its line
bad() {
    printf "$1" >"$work/bad.tsv"
    refuses 1 "train: $1" "bad.tsv:2" -- "${train[@]}" --data "$work/bad.tsv" --run "$work/no"
    refuses 1 "generate: $1" "bad.tsv:2" -- "${generate[@]}" --data "$work/bad.tsv"
}
bad '1\tx1\n\n2\tx2\n'
bad '1\tx1\n2 x2\n'
bad '1\tx1\n2\tx2\tx3\n'
bad '1\tx1\n\tx2\n'
bad '1\tx1\n2\tx2\r\n'
printf '7\r\n3\r\n' | "${generate[@]}" >"$work/targets" 2>/dev/null
check "sources that end with a carriage return" test "$(cat "$work/targets")" = $'x7\nx3'
printf '1\tx1\n123\t123456\n' >"$work/long.tsv"
refuses 2 "a pair beyond the context" "--context" -- "${train[@]}" --data "$work/long.tsv" \
    --val-fraction 0 --eval-every 0 --batch-size 2 --run "$work/long"
printf '7\n12345678\n' >"$work/sources"
refuses 1 "a source beyond the context" "standard input:2" -- \
    bash -c "\"\$@\" <'$work/sources'" - "${generate[@]}"
printf 'äöüä\tx\n%.0s' {1..20} >"$work/wide.tsv" # 5 tokens of 9 bytes
works "characters of two bytes" -- "${train[@]}" --data "$work/wide.tsv" --steps 1 --run "$work/wide"
works "a source fits by its tokens" "exact match" -- \
    "$puck" generate --pairs --from "$work/wide" --data "$work/wide.tsv" --device cpu
works "a language model" -- "${train[@]}" --task text --steps 1 --run "$work/text"
refuses 2 "pairs of a language model" "--pairs" "--task pairs" -- \
    "$puck" generate --pairs --from "$work/text" --data "$work/pairs.tsv" --device cpu
refuses 2 "a prompt of pairs" "--pairs takes no --prompt" -- "${generate[@]}" --prompt 7
refuses 1 "more pairs a batch than there are" "40 lines" "--batch-size" -- \
    "${train[@]}" --batch-size 50 --run "$work/no"
refuses 2 "pairs of another model" "--task" -- "${train[@]}" --model ffn --run "$work/no"
refuses 2 "the loss of a text" "generate --pairs" -- \
    "$puck" eval --from "$work/run" --data "$work/pairs.tsv" --device cpu
finish
