#!/usr/bin/env bash
# What a run folder outlives: moved and changed texts, other tokenizers, --fresh, streams that are closed.
. tests/cli/lib.sh
make_text >"$work/text.txt"
cd "$work" || exit 1
train=("$puck" train "${tiny[@]}" --steps 4)
works "a run" -- "${train[@]}" --data text.txt --run whole
works "half a run" -- "${train[@]}" --data text.txt --run half --stop-after 2

# copy: a copy of the half run to go on with, as `run`.
copy() { rm -rf run && cp -a half run && checkpoints run >before; }
same_weights() { cmp "whole/ckpt/latest/$1" "run/ckpt/latest/$1"; }

mkdir -p taken/data
echo mine >taken/data/notes
refuses 1 "a run whose data folder is in use" notes "another folder" -- \
    "${train[@]}" --data text.txt --run taken
check "which stays" test -e taken/data/notes

checkpoints whole >before
refuses 1 "a run in a checkpoint" "(whole/ckpt/latest)" MANIFEST.json -- \
    "${train[@]}" --data text.txt --run whole/ckpt/latest
check "which stays whole" diff before <(checkpoints whole)
mkdir site own
echo 'baseURL = "here"' >site/config.toml
refuses 1 "a run beside another's config.toml" "(site)" config.toml -- \
    "${train[@]}" --data text.txt --run site
check "which stays too" grep -q baseURL site/config.toml
echo 'seed = 3' >own/config.toml
works "a run beside the config that it is given" -- \
    "${train[@]}" --data text.txt --run own --config own/config.toml

copy
# Lines of metrics.jsonl that are none, of whom else, and of a crash.
sed -i '1a what is this' run/metrics.jsonl
printf '{"step": 2, "train_l' >>run/metrics.jsonl
works "a run goes on from damaged metrics" -- "$puck" train --run run
check "of which the lines that are whole stay" diff <(grep -o '^{"step": [0-9]*' run/metrics.jsonl) \
    <(grep -o '^{"step": [0-9]*' whole/metrics.jsonl)
check "and no others" cmp <(wc -l <run/metrics.jsonl) <(wc -l <whole/metrics.jsonl)

copy
mv text.txt moved.txt
works "a run goes on when its text is gone" -- "$puck" train --run run
check "to the same bytes" same_weights model.safetensors
copy
mkdir elsewhere
works "and from another folder" -- bash -c 'cd elsewhere && "$1" train --run ../run' bash "$puck"
check "to the same bytes too" same_weights optim.safetensors
mv moved.txt text.txt

# Every letter one further: the ids are those of the old text, so only the tokenizer tells them apart.
copy
tr a-y b-z <text.txt >shifted.txt
refuses '[12]' "a text with other letters" U+0075 shifted.txt -- \
    "${train[@]}" --data shifted.txt --run run
refuses '[12]' "and with --override" U+0075 shifted.txt -- \
    "${train[@]}" --data shifted.txt --run run --override
refuses 2 "and with a tokenizer of its own" --tokenizer -- \
    "${train[@]}" --data shifted.txt --run run --override --tokenizer char
works "its tokens" -- "$puck" tokenize --input shifted.txt --output shifted
refuses 2 "tokens of another tokenizer" --data tokenizer.json -- \
    "${train[@]}" --data shifted --run run --override
copy
head -n 140 text.txt >shorter.txt
refuses 2 "another text of the same letters" --data --override -- \
    "${train[@]}" --data shorter.txt --run run
check "the checkpoints are as they were" diff before <(checkpoints run)
mv text.txt moved.txt
works "the run goes on from its own data" -- "$puck" train --run run
mv moved.txt text.txt
check "to the same bytes once more" same_weights model.safetensors
copy
refuses 2 "another split" --data --override -- "$puck" train --run run --val-fraction 0.5
works "another text, with --override" -- "${train[@]}" --data shorter.txt --run run --override

# A finetuned run keeps the tokenizer that it began with, though its text has fewer characters.
grep -o 'the line' text.txt >fewer.txt
works "finetuning on fewer characters" "vocabulary 21" -- "$puck" train --data fewer.txt \
    --init-from whole --run fewer --batch-size 2 --steps 4 --stop-after 2 --device cpu
refuses 2 "which goes on from its own weights alone" --init-from whole half -- \
    "$puck" train --run fewer --init-from half
refuses 2 "as a run does that began without" --init-from none whole -- \
    "$puck" train --run half --init-from whole
works "goes on" "resuming" -- "$puck" train --data fewer.txt --run fewer
refuses 2 "finetuning on tokens of another tokenizer" --data whole/ckpt -- \
    "$puck" train --data shifted --init-from whole --run other --batch-size 2 --device cpu
refuses 2 "a tokenizer for tokens" --tokenizer shifted -- \
    "${train[@]}" --data shifted --tokenizer byte --run other

works "a dry run of a run says what is recorded" "layers = 1" "steps = 4" "1 layers" -- \
    "$puck" train --run whole --dry-run
works "a dry run of finetuning says what the weights say" "layers = 1" "1 layers" -- \
    "$puck" train --init-from whole --dry-run --data text.txt --device cpu
refuses 2 "a dry run with another model" --layers -- "$puck" train --run whole --layers 2 --dry-run

for n in 1 2; do
    works "--fresh, time $n" "fresh.old-$n" -- bash -c \
        '"${@:2}" --run fresh >first 2>&1; "${@:2}" --run fresh/ --fresh' bash x "${train[@]}" --data text.txt
    check "the earlier run is beside it" test -e fresh.old-$n/ckpt/latest -a -e fresh/ckpt/latest
done
checkpoints fresh >before
refuses 1 "--fresh with a text that is not there" none.txt -- \
    "${train[@]}" --data none.txt --run fresh --fresh
refuses 2 "--fresh with the data of the run itself" fresh/data --fresh -- \
    "${train[@]}" --data fresh/data --run fresh --fresh
check "the run is as it was" diff before <(checkpoints fresh)
ln -s nowhere dangling
refuses 1 "a run folder that is a broken link" dangling -- "${train[@]}" --data text.txt --run dangling

# The log must not end up in the files of the run.
for closed in '2>&-' '<&- >&- 2>&-'; do
    rm -rf closed
    works "closed: $closed" -- \
        bash -c "\"\$@\" --data text.txt --run closed $closed" bash "${train[@]}"
    check "the lock holds a number alone" cmp closed/lock <(grep -xE '[0-9]+' closed/lock)
    check "the weights are the same" \
        cmp {whole,closed}/ckpt/latest/model.safetensors
done
refuses 1 "a text for a stream that is closed" written -- \
    bash -c '"$1" generate --from whole -n 3 --device cpu >&-' bash "$puck"
cd / && finish
