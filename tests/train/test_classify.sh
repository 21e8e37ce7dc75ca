#!/bin/bash
# Sequence to vector: labelled texts are learnt by each kind of model, scored, asked on standard input,
# by any threads and across a resume, from scratch and from a language model.
. tests/cli/lib.sh
# The class is that of the one word that is no filler, wherever it stands.
words=(sun rose joy night grave woe)
for ((i = 0; i < 60; i++)); do
    text=
    for ((k = 0; k < 3 + i % 4; k++)); do
        if ((k == i % 3)); then text+="${words[i % 6]} "; else text+="the and of "; fi
    done
    echo "$text"$'\t'"$([ $((i % 6)) -lt 3 ] && echo comedy || echo tragedy)"
done >"$work/texts.tsv"
train=("$puck" train --task classify --tokenizer word --context 16 --layers 1 --channels 16 --lr 0.02
    --batch-size 16 --eval-every 20 --device cpu --steps 60)
for kind in gpt ffn rnn; do
    call=("${train[@]}" --data "$work/texts.tsv" --model $kind --hidden 32)
    run=$work/$kind
    works "$kind: learns" "texts           12" "accuracy        1.0000" "naive Bayes     1.0000" -- \
        "${call[@]}" --threads 1 --run "$run"
    check "$kind: no kinds where there are none" grep -q "for validation, 2 classes$" "$work/stderr"
    works "$kind: other threads" "accuracy        1.0000" -- "${call[@]}" --threads 2 --run "$run-2"
    for k in 1 2 3; do "${call[@]}" --stop-after 25 --run "$run-stopped" >/dev/null 2>&1; done
    for other in 2 stopped; do
        for file in model optim; do
            check "$kind, $other: same $file" cmp "$run/ckpt/latest/$file.safetensors" \
                "$run-$other/ckpt/latest/$file.safetensors"
        done
    done
    works "$kind: scores the same part" "texts           12" "accuracy        1.0000" -- \
        "$puck" eval --from "$run/ckpt/best" --data "$work/texts.tsv" --device cpu
    works "$kind: scores all" '"texts": 60' '"confusion": [[30, 0], [0, 30]]' '"macro_f1": 1.0' -- \
        "$puck" eval --from "$run/ckpt/best" --data "$work/texts.tsv" --split all --json --device cpu
    sed -n '1p;4p' "$work/texts.tsv" | cut -f 1 | "$puck" classify --from "$run" --device cpu 2>/dev/null |
        cut -f 1 >"$work/labels"
    check "$kind: classifies lines" test "$(cat "$work/labels")" = $'comedy\ntragedy'
done
gpt=("${train[@]}" --model gpt --hidden 32)

# Of labels with a slash the kind counts: that of a play that was not there in training too.
sed -E 's!(sun|night).*!&/one!; t; s!$!/two!' "$work/texts.tsv" >"$work/kinds.tsv"
works "kinds: learns" "4 classes of 2 kinds" "accuracy        1.0000" -- \
    "${train[@]}" --data "$work/kinds.tsv" --model ffn --hidden 32 --run "$work/kinds"
printf 'the sun\tcomedy/three\nthe woe\ttragedy\n' >"$work/unseen.tsv"
works "kinds: scores them alone" '"labels": ["comedy", "tragedy"], "confusion": [[1, 0], [0, 1]]' -- \
    "$puck" eval --from "$work/kinds" --data "$work/unseen.tsv" --split all --json --device cpu
check "kinds: says them" test "$(echo "the rose" | "$puck" classify --from "$work/kinds" --device cpu \
    2>/dev/null | cut -f 1)" = comedy
printf 'the sun\tcomedy/one\nthe king\thistory/one\n' >"$work/unseen.tsv"
refuses 1 "a kind unseen in training" "unseen.tsv:2" "history/one" "comedy/one, comedy/two" -- \
    "$puck" eval --from "$work/kinds" --data "$work/unseen.tsv" --device cpu

# The same examples as JSON lines, from the weights of a language model of their texts, whose tied head
# gives way to one of classes.
sed -E 's/^(.*)\t(.*)$/{"text": "\1", "label": "\2"}/' "$work/texts.tsv" >"$work/texts.jsonl"
cut -f 1 "$work/texts.tsv" >"$work/text.txt"
small=(--layers 1 --channels 16 --hidden 32 --context 16 --batch-size 8 --device cpu --steps 10 --eval-every 0)
for kind in gpt ffn rnn; do
    works "$kind: a language model" "step 10" -- "$puck" train --data "$work/text.txt" --model $kind \
        --tokenizer word --run "$work/lm-$kind" "${small[@]}"
    works "$kind: goes on from it" "accuracy        1.0000" -- "$puck" train --task classify \
        --data "$work/texts.jsonl" --init-from "$work/lm-$kind" --lr 0.02 --batch-size 16 \
        --eval-every 20 --steps $([ $kind = ffn ] && echo 300 || echo 60) --device cpu --run "$work/transfer-$kind"
done
# The share of the tokens that each class had is kept with a feed-forward model, which needs it.
check "shares" grep -q '"shares"' "$work/ffn/ckpt/latest/labels.json"
rm "$work/transfer-ffn/ckpt/latest/MANIFEST.json"
sed -i 's/"shares": \[/&0, /' "$work/transfer-ffn/ckpt/latest/labels.json"
refuses 1 "a share of nothing" "labels.json" "above 0" -- bash -c \
    "echo the sun | '$puck' classify --from '$work/transfer-ffn/ckpt/latest' --device cpu"
# Dropout, and the emulator, which stops and goes on with the same bits.
ffn=(--data "$work/texts.tsv" --model ffn --hidden 16 --context 2 --dropout 0.2 --device emu --eval-every 0)
works "emu: in one go" "accuracy" -- "${train[@]}" "${ffn[@]}" --steps 4 --run "$work/emu"
for k in 1 2; do
    "${train[@]}" "${ffn[@]}" --steps 4 --stop-after 2 --run "$work/emu-stopped" >/dev/null 2>&1
done
for file in model optim; do
    check "emu: same $file" cmp "$work/emu/ckpt/latest/$file.safetensors" \
        "$work/emu-stopped/ckpt/latest/$file.safetensors"
done

# Without a step nothing but the head differs.
works "no step" "step 0" -- "$puck" train --task classify --data "$work/texts.jsonl" --device cpu \
    --init-from "$work/lm-gpt" --steps 0 --run "$work/copied"
check "the weights are the language model's" python3 - "$work/lm-gpt" "$work/copied" <<'PYTHON'
import json, struct, sys

def tensors(run):
    data = open(run + "/ckpt/latest/model.safetensors", "rb").read()
    n = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8 : 8 + n])
    return {k: data[8 + n + v["data_offsets"][0] : 8 + n + v["data_offsets"][1]]
            for k, v in head.items() if k != "__metadata__"}

a, b = tensors(sys.argv[1]), tensors(sys.argv[2])
assert len(b.pop("score.weight")) == 2 * 16 * 4
assert a == b and len(a) > 10
PYTHON

break_weights "$work/gpt/ckpt/latest" "$work/broken"
refuses 1 "the score of weights that are no numbers" "older checkpoint" -- \
    "$puck" eval --from "$work/broken" --data "$work/texts.tsv" --device cpu --json
refuses 1 "the class of a text by such weights" "older checkpoint" -- \
    bash -c "echo the sun | \"\$@\"" - "$puck" classify --from "$work/broken" --device cpu --json

# bad NAME CODE WORD TEXT: refused as data to learn from.
bad() {
    printf "$4" >"$work/bad.tsv"
    refuses "$2" "$1" "$3" -- "${gpt[@]}" --data "$work/bad.tsv" --run "$work/no"
}
bad "an empty file" 1 "bad.tsv" ''
bad "a line without a label" 1 "bad.tsv:2" 'a\tx\nb\n'
bad "a class of one example" 1 "bad.tsv:3" 'a\tx\nb\tx\nc\ty\n'
bad "labels of one kind" 1 "bad.tsv" 'a\tx/1\nb\tx/1\nc\tx/2\nd\tx/2\n'
bad "a text without a token" 1 "bad.tsv:1" '  \tx\na\ty\nb\tx\nc\ty\n'
printf 'the sun\tcomedy\nthe king\thistory\n' >"$work/unseen.tsv"
refuses 1 "a label unseen in training" "unseen.tsv:2" "history" "comedy, tragedy" -- \
    "$puck" eval --from "$work/gpt" --data "$work/unseen.tsv" --device cpu
printf 'the sun\tcomedy\nthe s\u00efn\tcomedy\n' >"$work/strange.tsv"
sed -E 's/^(.*)\t(.*)$/{"text": "\1", "label": "\2"}/' "$work/strange.tsv" >"$work/strange.jsonl"
works "one of characters" "step 0" -- \
    "${gpt[@]}" --tokenizer char --data "$work/texts.tsv" --steps 0 --run "$work/chars"
for place in tsv:2:6 jsonl:2; do
    refuses 1 "a character unseen in training: ${place%%:*}" "(strange.$place)" "U+00EF" -- \
        env -C "$work" "$puck" eval --from chars --data "strange.${place%%:*}" --device cpu
done
printf 'the sun\n\n' >"$work/lines"
printf 'the\0sun\n' >"$work/nul"
printf 'the sun\nthe \xff\n' >"$work/utf8"
for file in lines:2 nul:1 utf8:2:5; do
    refuses 1 "classify: ${file%%:*}" "standard input:${file#*:})" -- \
        bash -c "\"\$@\" <'$work/${file%%:*}'" - "$puck" classify --from "$work/gpt" --device cpu
done
refuses 1 "classify by a language model" "no classifier" -- \
    "$puck" classify --from "$work/lm-gpt" --device cpu
refuses 1 "a text by a classifier" "puck classify" -- "$puck" generate --from "$work/gpt" --device cpu
refuses 2 "a blank by a classifier" "--fill" -- \
    "$puck" generate --from "$work/gpt" --fill "the ___" --device cpu
refuses 2 "a language model from a classifier" "--task classify" -- "$puck" train \
    --data "$work/text.txt" --init-from "$work/gpt" --run "$work/no" --device cpu
refuses 2 "a context of zero" "--context" "1" -- \
    "${train[@]}" --data "$work/texts.tsv" --context 0 --run "$work/no"
bad "NUL" 1 "bad.tsv:1:2" 'a\0b\tx\nc\ty\n'
bad "invalid UTF-8" 1 "bad.tsv:2:2" 'a\tx\nb\377\ty\n'
refuses 2 "samples" "--sample-every" -- \
    "${gpt[@]}" --data "$work/texts.tsv" --sample-every 5 --run "$work/no"
refuses 2 "word vectors" "--task" -- \
    "$puck" train --task classify --model skipgram --data "$work/texts.tsv" --run "$work/no"
refuses 2 "tokens without labels" "--data" -- "${gpt[@]}" --data "$work/lm-gpt/data" --run "$work/no"
works "a dry run knows the classes" "parameters" -- \
    "${gpt[@]}" --data "$work/texts.tsv" --dry-run
finish
