#!/usr/bin/env bash
# Damaged and foreign checkpoints, and runs that are gone on with in another way.
. tests/cli/lib.sh
make_text >"$work/text.txt"
train=("$puck" train --data "$work/text.txt" "${tiny[@]}" --save-every 2)
works "a run with two checkpoints" -- "${train[@]}" --run "$work/good" --steps 6 --stop-after 4
newest=$(readlink "$work/good/ckpt/latest")
oldest=$(cd "$work/good/ckpt" && ls -d step-* | head -n 1)
check "they are two" test "$newest" != "$oldest"

# copy NAME: a copy of the run to harm, in $run.
copy() {
    run=$work/$1
    rm -rf "$run"
    cp -a "$work/good" "$run"
}
flip() { printf '\x5a' | dd of="$1" bs=1 seek=200 conv=notrunc status=none; }
cut_short() { truncate -s -5 "$1"; }

for harm in flip cut_short rm; do
    for file in model.safetensors state.json MANIFEST.json; do
        copy damaged
        $harm "$run/ckpt/$newest/$file"
        works "$harm $file: the older one is used, loudly" warning "$newest" -- \
            "$puck" generate --from "$run" --prompt the --tokens 3 --device cpu
    done
done
copy resumed
flip "$run/ckpt/$newest/optim.safetensors"
works "a run goes on from the older one" warning "$newest" -- "${train[@]}" --run "$run" --steps 6

copy damaged
flip "$run/ckpt/$newest/model.safetensors"
cut_short "$run/ckpt/$oldest/model.safetensors"
checkpoints "$run" >"$work/before"
refuses 1 "no checkpoint is whole" "$run" -- "$puck" generate --from "$run" --device cpu
refuses 1 "a run does not begin anew over damaged checkpoints" "$run" -- \
    "${train[@]}" --run "$run" --steps 6
refuses 1 "a damaged checkpoint named itself" "$newest" model.safetensors -- \
    "$puck" info --from "$run/ckpt/$newest"
untouched "the damaged ones are as they were" "$run"

mkdir "$work/unsaved" && : >"$work/unsaved/config.toml"
refuses 1 "a run that has not been saved yet" "$work/unsaved" "no checkpoint yet" -- \
    "$puck" generate --from "$work/unsaved" --device cpu
mkdir "$work/llama"
echo '{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8}' \
    >"$work/llama/config.json"
cp "$work/good/ckpt/$newest"/{model.safetensors,tokenizer.json} "$work/llama"
refuses '[12]' "a checkpoint of another architecture" llama -- \
    "$puck" generate --from "$work/llama" --device cpu
refuses '[12]' "starting from another architecture" llama -- \
    "${train[@]}" --run "$work/new" --steps 2 --init-from "$work/llama"

copy changed
checkpoints "$run" >"$work/before"
refuses 2 "a changed model" layers 1 2 -- "${train[@]}" --run "$run" --steps 6 --layers 2
refuses 2 "a changed recipe" lr --override -- "${train[@]}" --run "$run" --steps 6 --lr 0.5
refuses '[12]' "starting from a model of another size" layers -- \
    "${train[@]}" --run "$work/new2" --steps 2 --layers 2 --init-from "$run"
untouched "the checkpoints are as they were" "$run"
works "the run goes on to its end" -- "${train[@]}" --run "$run" --steps 6
checkpoints "$run" >"$work/before"
works "a finished run says so" finished -- "${train[@]}" --run "$run" --steps 6
untouched "and is as it was" "$run"
works "info of a run" step-00000006 verified step char -- "$puck" info --from "$run"
finish
