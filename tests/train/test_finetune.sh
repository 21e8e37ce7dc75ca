#!/usr/bin/env bash
# A GPT-2 as Hugging Face's folders have it, its tokenizer in two files and its vocabulary rounded up: it is
# finetuned, speaks and is scored with its own tokenizer, and with no other.
. tests/cli/lib.sh
for ((i = 0; i < 60; i++)); do echo "the cat and the hat sat on a mat $((i * i % 101))"; done >"$work/text.txt"
cd "$work" || exit 1
puck=$(cd "$OLDPWD" && realpath "$puck")
small=(--layers 1 --heads 2 --channels 16 --context 16 --batch-size 4 --device cpu --threads 1 --eval-every 0)
works "byte pairs" "280 tokens" -- \
    "$puck" tokenize --input text.txt --tokenizer bpe --vocab-size 280 --output tokens
works "a model with a vocabulary rounded up" "vocabulary 320" -- "$puck" train --data text.txt \
    --tokenizer tokens --vocab-size 320 --run base --steps 20 "${small[@]}"

# The folder as older versions of transformers save it.
mkdir hf
cp base/ckpt/latest/{config.json,model.safetensors} hf
python3 - <<'PYTHON'
import json
model = json.load(open("tokens/tokenizer.json"))["model"]
json.dump(model["vocab"], open("hf/vocab.json", "w"))
with open("hf/merges.txt", "w") as out:
    out.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in model["merges"]))
PYTHON
loss_of() { "$puck" eval --from "$1" --data text.txt --device cpu 2>/dev/null | grep ^loss; }
same_loss() { [ -n "$(loss_of base)" ] && [ "$(loss_of hf)" = "$(loss_of base)" ]; }
check "it is scored as before" same_loss
says() { "$puck" generate --from "$1" --prompt "the cat" --tokens 20 --seed 3 --device cpu 2>/dev/null; }
same_text() { [ "$(says hf)" = "$(says base)" ] && [[ $(says hf) == "the cat"?* ]]; }
check "it says the same" same_text
works "info counts its tokens" 280 320 -- "$puck" info --from hf

echo "a dog sat on the mat. a dog and a cat sat on the hat; the dog had the mat, and the cat the hat" >new.txt
tune=("$puck" train --init-from hf --batch-size 2 --steps 4 --device cpu --threads 1 --eval-every 0)
works "it is finetuned with its own tokenizer" "vocabulary 280" -- "${tune[@]}" --data new.txt --run tuned
works "and so is what came of it" "vocabulary 280" -- \
    "$puck" train --init-from tuned --data new.txt --run again --batch-size 2 --steps 1 --device cpu \
    --eval-every 0
check "the tokenizer stays" cmp tuned/ckpt/latest/tokenizer.json base/ckpt/latest/tokenizer.json
check "and the vocabulary" grep -q '"vocab_size": 320' tuned/ckpt/latest/config.json
check "the new one speaks" test -n "$(says tuned)"
works "its tokenizer may be named" "vocabulary 280" -- "${tune[@]}" --data new.txt --run named --tokenizer hf
works "and tokens made by it" "step 4/4" -- bash -c '"$1" tokenize --input new.txt --tokenizer hf \
    --output own && shift && "$@"' - "$puck" "${tune[@]}" --data own --run own-run

refuses 2 "a tokenizer of other tokens" hf -- "${tune[@]}" --data new.txt --run no --tokenizer char
tr abcdeht efghico <text.txt >other.txt
works "other byte pairs" -- "$puck" tokenize --input other.txt --tokenizer bpe --vocab-size 280 --output other
refuses 2 "a tokenizer of as many tokens" "otherwise than hf/merges.txt says" -- \
    "${tune[@]}" --data new.txt --run no --tokenizer other
mkdir bare
cp hf/{config.json,model.safetensors} bare
refuses 2 "a folder without a tokenizer" "does not fit the 320 tokens of bare" "--tokenizer gpt2" -- \
    "$puck" train --init-from bare --data new.txt --run no --batch-size 2 --steps 1 --device cpu
refuses 1 "which cannot speak" "no tokenizer.json" -- "$puck" generate --from bare --device cpu
# A model that has met several texts ends its own where they did.
for ((i = 0; i < 80; i++)); do printf 'the cat<|endoftext|>'; done >several.txt
works "several texts" -- "$puck" train --data several.txt --tokenizer tokens --run several --steps 150 --lr 0.003 \
    --val-fraction 0 "${small[@]}" --channels 32
ends() {
    [ "$("$puck" generate --from several --prompt the --tokens 30 --greedy --device cpu 2>/dev/null)" = "the cat" ]
}
check "a text ends where one did" ends
check "no model was made" test ! -e no/ckpt
finish
