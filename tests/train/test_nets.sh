#!/bin/bash
# Models that are no transformer train, resume, evaluate and generate by the same commands.
. tests/cli/lib.sh
make_text >"$work/text.txt"
for kind in ffn rnn; do
    train=("$puck" train --data "$work/text.txt" --model $kind --layers 2 --channels 8 --hidden 24
        --context 6 --batch-size 16 --lr 0.01 --eval-every 5 --sample-every 4 --device cpu)
    run=$work/$kind
    works "$kind: trains" "step 12" -- "${train[@]}" --steps 12 --threads 1 --run "$run"
    works "$kind: other threads" "step 12" -- "${train[@]}" --steps 12 --threads 3 --run "$run-3"
    for k in 1 2 3; do "${train[@]}" --steps 12 --stop-after 5 --run "$run-stopped" >/dev/null 2>&1; done
    for other in 3 stopped; do
        for file in model optim; do
            check "$kind, $other: same $file" cmp "$run/ckpt/latest/$file.safetensors" \
                "$run-$other/ckpt/latest/$file.safetensors"
        done
        if [ $kind = rnn ]; then
            check "$kind, $other: same carry" cmp "$run/ckpt/latest/carry.safetensors" \
                "$run-$other/ckpt/latest/carry.safetensors"
        fi
        check "$kind, $other: same samples" cmp "$run/samples.txt" "$run-$other/samples.txt"
    done
    works "$kind: evaluates" "loss " -- "$puck" eval --from "$run" --data "$work/text.txt" --device cpu
    works "$kind: generates beyond its context" "line" -- \
        "$puck" generate --from "$run" --prompt "line" --tokens 40 --device cpu
    works "$kind: is described" "$kind" -- "$puck" info --from "$run" --device cpu
    works "$kind: is timed" "backward" -- \
        "$puck" bench step --preset shakespeare-$kind --batch-size 4 --repeats 2 --device cpu
    works "$kind: by the settings of another run" "step 12" -- \
        "$puck" train --config "$run/config.toml" --run "$run-again"
    check "$kind: the same weights" cmp "$run/ckpt/latest/model.safetensors" \
        "$run-again/ckpt/latest/model.safetensors"
    refuses 2 "$kind: an option of transformers" --heads $kind -- "${train[@]}" --heads 2 --run "$work/no"
    refuses 2 "$kind: a context of nothing" --context -- "${train[@]}" --context 0 --run "$work/no"
    refuses 2 "$kind: --fill" --fill -- \
        "$puck" generate --from "$run" --fill "line ___" --candidates "1,2" --device cpu
    refuses 2 "$kind: another model in the run" --model gpt -- \
        "${train[@]}" --model gpt --run "$run"
    [ $kind = ffn ] || refuses 2 "$kind: a batch in parts" --micro-batch -- \
        "${train[@]}" --micro-batch 8 --run "$work/no"
done
finish
