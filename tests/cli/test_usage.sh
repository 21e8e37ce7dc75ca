#!/usr/bin/env bash
# The command line itself: help, and wrong commands, options, values and config files.
. tests/cli/lib.sh
make_text >"$work/text.txt"
train=("$puck" train --data "$work/text.txt" --run "$work/run" "${tiny[@]}")

works "puck alone" "usage: puck COMMAND" generate -- "$puck"
works "puck help" "Common calls" shakespeare-cpu-gpt2 "Exit codes" -- "$puck" help
works "puck --help" "Common calls" -- "$puck" --help
works "puck -V" "puck " -- "$puck" -V
for command in train generate eval tokenize info bench plot embed classify; do
    works "puck $command --help" "usage: puck $command" --quiet -- "$puck" $command --help
    cp "$work/stdout" "$work/first"
    works "puck help $command" "usage: puck $command" -- "$puck" help $command
    check "both are the same text" cmp "$work/first" "$work/stdout"
    check "help goes to stdout alone" test ! -s "$work/stderr"
done

refuses 2 "unknown command" '"trian"' 'Did you mean `puck train`?' -- "$puck" trian
refuses 2 "unknown command, none near" '"frobnicate"' '`puck help`' -- "$puck" frobnicate
refuses 2 "unknown topic of help" '"evla"' 'puck help eval' -- "$puck" help evla
refuses 2 "help on two commands" "(eval)" -- "$puck" help train eval
refuses 2 "unknown option" --layer "Did you mean --layers?" -- "${train[@]}" --layer 3
refuses 2 "unknown option, none near" --zzzzzzz "--help" -- "${train[@]}" --zzzzzzz 3
refuses 2 "unknown short option" "(-q)" -- "${train[@]}" -q
refuses 2 "option of another command" --threads "puck train, puck generate, puck eval" -- \
    "$puck" embed --threads 3
refuses 2 "option of another command" --top-k "puck generate" -- "${train[@]}" --top-k 3
refuses 2 "argument that is no option" "(steps)" -- "${train[@]}" steps 3
refuses 2 "option without its value" --steps "needs a value" -- "${train[@]}" --steps
refuses 2 "unknown preset" '"shakespear-gpt2"' "Did you mean shakespeare-gpt2?" -- \
    "${train[@]}" --preset shakespear-gpt2
refuses 2 "unknown device" --device '"cudo"' "Did you mean cuda?" -- "${train[@]}" --device cudo
mkdir "$work/alone" && cp "$puck" "$work/alone/puck" # without the back ends that lie beside it
refuses 1 "a device that is not there" libpuck_emu.so "--device cpu" -- \
    "$work/alone/puck" "${train[@]:1}" --device emu

refuses 2 "below the range" --layers "from 1 to 256" '"0"' -- "${train[@]}" --layers 0
refuses 2 "above the range" --dropout "0.95" '"1.5"' -- "${train[@]}" --dropout 1.5
refuses 2 "beyond 64 bits" --steps "99999999999999999999" -- "${train[@]}" --steps 99999999999999999999
refuses 2 "not a number" --lr '"nan"' -- "${train[@]}" --lr nan
refuses 2 "a pass whose size is beyond 64 bits" --micro-batch "1000000 x 1000000" -- "$puck" train \
    --data "$work/text.txt" --batch-size 1000000 --context 1000000 --vocab-size 16777216 --dry-run
refuses 2 "a window beyond any layer" --context "1048576 embeddings of 65536" -- "$puck" train \
    --data "$work/text.txt" --model ffn --context 1048576 --channels 65536 --dry-run
refuses 2 "heads beyond any layer" --head-size "256 heads of 65536" -- "$puck" train \
    --data "$work/text.txt" --heads 256 --head-size 65536 --channels 256 --dry-run
refuses 2 "half a number" --steps '"3x"' -- "${train[@]}" --steps 3x
refuses 2 "not a choice" --schedule "cosine|linear|constant|wsd" '"cos"' -- "${train[@]}" --schedule cos
refuses 2 "heads that do not divide channels" 3 8 -- "${train[@]}" --heads 3
refuses 2 "key-value heads that do not divide heads" --kv-heads "3 key-value heads" -- \
    "${train[@]}" --heads 4 --kv-heads 3 --format puck
refuses 2 "an odd head size with rotary positions" "even head size, not 1" -- \
    "${train[@]}" --heads 8 --channels 8 --positions rotary --format puck
refuses 2 "a soft-cap below zero" --softcap '"-1"' -- "${train[@]}" --softcap -1
refuses 2 "a soft-cap that is no number" --softcap '"nan"' -- "${train[@]}" --softcap nan
refuses 2 "a mix that transformers has not" --format "--positions learned" "--norm rmsnorm-plain" -- \
    "${train[@]}" --positions rotary --norm rmsnorm
refuses 2 "the same, planned only" --format "format puck" -- \
    "${train[@]}" --activation swiglu --dry-run
refuses 2 "Muon's rate on a schedule of zeros" --lr Muon -- "${train[@]}" --optimizer muon --lr 0
refuses 2 "an optimizer that is none" "adamw|muon" -- "${train[@]}" --optimizer sgd
refuses 2 "a size that is none" --device-memory '"80GB"' -- \
    "$puck" info --preset gpt2 --device-memory 80GB

for option in init-from config preset run data; do
    refuses 2 "--$option without text" "--$option" empty -- "${train[@]}" --$option ""
done
refuses 2 "zero over zero where there was no gradient" --adam-eps 1e-20 -- "${train[@]}" --adam-eps 0
refuses 2 "a rate that would rise" --min-lr 0.01 -- "${train[@]}" --min-lr 0.02
for idle in "min-count 3" "window 3" "negatives 3" "subsample 0.1" "rope-base 100" "decay-fraction 0.5" \
    "muon-lr 0.1"; do
    # shellcheck disable=SC2086
    refuses 2 "--$idle, which nothing reads" "--${idle% *}" "or give --" -- "${train[@]}" --$idle
done
refuses 2 "an activation of a recurrent model" "--activation" "--model gpt" -- "$puck" train \
    --data "$work/text.txt" --model rnn --activation relu2 --dry-run
printf 'x' >"$work/"$'new\nline\033'
refuses 1 "control characters in a name and in a file" "(new?line?)" -- \
    env -C "$work" "$puck" info --from $'new\nline\033'
refuses 2 "patience without evaluations" --patience --eval-every -- "${train[@]}" --patience 2
refuses 2 "patience without a validation part" --patience --val-fraction -- \
    "${train[@]}" --patience 2 --eval-every 2 --val-fraction 0
refuses 2 "a device to plan for, and no plan" --device-memory --dry-run -- \
    "${train[@]}" --device-memory 80G
refuses 2 "filling and sampling" --fill temperature -- \
    "$puck" generate --from "$work/run" --fill "a ___" --temperature 1
refuses 2 "greedy with a temperature" --greedy temperature -- \
    "$puck" generate --from "$work/run" --greedy --temperature 1
for option in steps warmup min-lr schedule decay-fraction; do
    refuses 2 "bench has no use for --$option" "--$option" train -- "$puck" bench step --$option 1
done

printf 'steps = 3\n\nlayres = 4\n' >"$work/wrong.toml"
refuses 2 "config file with a wrong key" "$work/wrong.toml:3" '"layres"' "Did you mean layers?" -- \
    "${train[@]}" --config "$work/wrong.toml"
printf 'steps = 3\nlayers = many\n' >"$work/wrong.toml"
refuses 2 "config file with a wrong value" "$work/wrong.toml:2" '"many"' -- \
    "${train[@]}" --config "$work/wrong.toml"
refuses 1 "config file that is not there" "$work/none.toml" "No such file" -- \
    "${train[@]}" --config "$work/none.toml"
check "no checkpoint was made" test ! -e "$work/run/ckpt"

works "info of this machine" "device" "threads" "shakespeare-gpt2" -- "$puck" info --device cpu
works "info of a preset" "parameters" "flops per token" "memory plan" "total" -- \
    "$puck" info --preset shakespeare-cpu-gpt2 --device cpu
works "info of a device that is not there" "memory plan" "of 80000 MB" -- \
    "$puck" info --preset gpt2 --device cpu --device-memory 80G
cp "$puck" "$work/lone-puck" # beside no library
works "a plan without the CUDA library says whose it is" "planned for a cpu, in f32" "no libpuck_cuda.so" -- \
    "$work/lone-puck" info --preset gpt2 --device-memory 80G
works "info of GPT-2 counts its parameters" '"parameters": 124439808' '"without_lookups": 123653376' -- \
    "$puck" info --preset gpt2 --device cpu --json
works "info of 64 GPUs" "ranks                    64" "nodes                    8" "efficiency" "   512" -- \
    "$puck" info --preset gpt2 --device cpu --ranks 64 --nodes 8
works "info of GPUs with other inputs" '"compute_ms": 2' '"input_net_gbps": 100.0' '"nodes": 1,' -- \
    "$puck" info --preset gpt2 --device cpu --ranks 4 --gpu-tflops 4100 --net-gbps 100 --json
refuses 2 "info of ranks that do not divide the batch" --batch-size "batch of 512" "600 would do" -- \
    "$puck" info --preset gpt2 --device cpu --ranks 200
refuses 2 "info of nodes that do not divide the ranks" --nodes "63 or 66 ranks would do" -- \
    "$puck" info --preset gpt2 --device cpu --ranks 64 --nodes 3
refuses 2 "info of more nodes than ranks" --nodes "(--nodes). 8 ranks would do" -- \
    "$puck" info --preset gpt2 --device cpu --ranks 4 --nodes 8
refuses 2 "info of nodes of no ranks" --nodes --ranks -- "$puck" info --preset gpt2 --nodes 3
"$puck" info --device auto --verbose >"$work/stdout" 2>"$work/stderr"
check "--verbose says more" grep -q "^debug: " "$work/stderr"
"$puck" info --device auto --quiet >"$work/stdout" 2>"$work/stderr"
check "--quiet says nothing" test ! -s "$work/stderr"
works "info of a modern size counts both ways" '"parameters": 162201600' \
    '"without_lookups": 123568128' '"optimizer": "muon"' -- \
    "$puck" info --preset modern-124m --device cpu --json
works "info of n-grams knows their own defaults" '"context": 5' '"channels": 48' -- \
    "$puck" info --model ngram --device cpu --json
refuses 2 "bench of word vectors" --model "puck bench ops" -- "$puck" bench step --model skipgram
works "info of a recipe" '"steps": 7' '"layers": 4' -- "$puck" info --steps 7 --device cpu --json
refuses 2 "info of a checkpoint and a recipe" --from -- "$puck" info --from "$work" --steps 7
refuses 2 "info of two things" --from -- "$puck" info --from "$work" --preset gpt2
if [ -w /dev/full ]; then
    refuses 1 "standard output that is full" "standard output" -- bash -c "'$puck' help >/dev/full"
else
    skip "standard output that is full" "there is no /dev/full"
fi
finish
