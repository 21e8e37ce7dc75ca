#!/usr/bin/env bash
# Texts, prompts and token folders that cannot be used.
. tests/cli/lib.sh
make_text >"$work/text.txt"
run=$work/run
train=("$puck" train --run "$run" "${tiny[@]}" --steps 2)

refuses 1 "text that is not there" "$work/none.txt" -- "${train[@]}" --data "$work/none.txt"
refuses 2 "no text given" --data -- "${train[@]}"
refuses 2 "no run folder given" --run -- "$puck" train "${tiny[@]}" --data "$work/text.txt"
: >"$work/empty.txt"
refuses '[12]' "empty text" "$work/empty.txt" empty -- "${train[@]}" --data "$work/empty.txt"
check "a run that did not begin leaves no folder" test ! -e "$run"
printf 'to be' >"$work/short.txt"
refuses '[12]' "text shorter than the context" 8 -- "${train[@]}" --data "$work/short.txt"
refuses '[12]' "context larger than the data" 100000 -- \
    "${train[@]}" --data "$work/text.txt" --context 100000
refuses '[12]' "batch larger than the data" 100000 -- \
    "${train[@]}" --data "$work/text.txt" --batch-size 100000
printf 'good text\nbad \xff\xfe bytes\n' >"$work/latin.txt"
refuses '[12]' "text that is not UTF-8" "$work/latin.txt" UTF-8 14 -- \
    "${train[@]}" --data "$work/latin.txt"
mkdir "$work/folder"
refuses '[12]' "folder without tokens" "$work/folder" "puck tokenize" -- "${train[@]}" --data "$work/folder"
check "no checkpoint was made" test ! -e "$run/ckpt"

# Without the rights of root, which may read everything.
as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
if [ "$(id -u)" = 0 ] && cp "$puck" "$work/puck" && chmod 755 "$work" &&
    as_nobody "$work/puck" -V >/dev/null 2>&1; then
    mkdir -m 777 "$work/open"
    install -m 000 "$work/text.txt" "$work/secret.txt"
    refuses 1 "text that may not be read" "$work/secret.txt" "Permission denied" -- \
        setpriv --reuid=65534 --regid=65534 --clear-groups \
        "$work/puck" train --run "$work/open/run" "${tiny[@]}" --steps 2 --data "$work/secret.txt"
else
    skip "text that may not be read" "needs root and setpriv"
fi

works "a run to use" -- "${train[@]}" --data "$work/text.txt"
checkpoints "$run" >"$work/before"
refuses '[12]' "prompt with a character that the model has not" U+00E4 -- \
    "$puck" generate --from "$run" --prompt "the äther" --tokens 5 --device cpu
refuses '[12]' "prompt that is not UTF-8" UTF-8 -- \
    "$puck" generate --from "$run" --prompt $'the \xff' --tokens 5 --device cpu
refuses 1 "prompt file that is not there" "$work/none.txt" -- \
    "$puck" generate --from "$run" --prompt-file "$work/none.txt" --tokens 5 --device cpu
printf 'the line 1 says 2\nthe qine 3 says 4\n%.0s' {1..20} >"$work/other.txt"
refuses '[12]' "evaluation text with a character that the model has not" "$work/other.txt" U+0071 -- \
    "$puck" eval --from "$run" --data "$work/other.txt" --device cpu
refuses 1 "evaluation text that is not there" "$work/none.txt" -- \
    "$puck" eval --from "$run" --data "$work/none.txt" --device cpu
refuses '[12]' "model that is not there" "$work/none" -- \
    "$puck" generate --from "$work/none" --device cpu
refuses 1 "a model that is a file" "$work/text.txt" "a model is a folder" -- \
    "$puck" generate --from "$work/text.txt" --device cpu
refuses 2 "no model given" --from -- "$puck" generate --device cpu
untouched "the checkpoints are as they were" "$run"

refuses 2 "tokenize without input" --input -- "$puck" tokenize --output "$work/tokens"
refuses 2 "tokenize without output" --output -- "$puck" tokenize --input "$work/text.txt"
refuses 1 "tokenize what is not there" "$work/none.txt" -- \
    "$puck" tokenize --input "$work/none.txt" --output "$work/tokens"
refuses '[12]' "tokenize with an unknown tokenizer" '"chra"' -- \
    "$puck" tokenize --input "$work/text.txt" --tokenizer chra --output "$work/tokens"
refuses 2 "counts of words where none are counted" --min-count "--tokenizer word" -- \
    "$puck" tokenize --input "$work/text.txt" --min-count 3 --output "$work/tokens"
printf 'ab\xff\n' >"$work/x:7"
refuses 1 "the place in a file that is named like a line of one" "(x:7:1:3)" -- \
    env -C "$work" "$puck" tokenize --input x:7 --output "$work/tokens"
show=("$puck" tokenize --input "$work/text.txt" --show)
refuses 2 "a page of tokens with another name" .html -- "${show[@]}" --output "$work/page.svg"
refuses 2 "a page of tokens as JSON" --json -- "${show[@]}" --json --output "$work/page.html"
refuses 2 "figures with a folder" --output -- \
    "$puck" tokenize --input "$work/text.txt" --stats --output "$work/tokens"
works "a page of tokens" page.html -- "${show[@]}" --output "$work/page.html"
refuses 1 "a page of tokens that is there" page.html --replace -- \
    "${show[@]}" --output "$work/page.html"
works "tokens and their ids, and figures" "[t][h][e]" "bytes per token  1.000" -- \
    "${show[@]}" --stats
works "tokenize" -- "$puck" tokenize --input "$work/text.txt" --output "$work/tokens"
works "tokenize words" -- "$puck" tokenize --input "$work/text.txt" --tokenizer word \
    --output "$work/words"
refuses 2 "counts of words where tokens are made already" --min-count "$work/words" -- \
    "$puck" train --data "$work/words" --tokenizer word --min-count 3 --run "$work/new" "${tiny[@]}"
printf '  ' >"$work/blank.txt"
refuses 1 "show no token" "no token" -- "$puck" tokenize --input "$work/blank.txt" \
    --tokenizer "$work/words/tokenizer.json" --show
refuses '[12]' "tokenize with another text's characters" "$work/other.txt" U+0071 -- \
    "$puck" tokenize --input "$work/other.txt" --tokenizer "$work/tokens/tokenizer.json" \
    --output "$work/other"
works "tokenize by byte pairs" -- "$puck" tokenize --input "$work/text.txt" --tokenizer bpe \
    --vocab-size 300 --output "$work/pairs"
refuses 2 "byte pairs without a vocabulary's size" --vocab-size -- \
    "$puck" tokenize --input "$work/text.txt" --tokenizer bpe --output "$work/other"
refuses 2 "more byte pairs than the text supports" --vocab-size "the text supports" 90000 -- \
    "${train[@]}" --run "$work/pairs-run" --data "$work/text.txt" --tokenizer bpe --vocab-size 90000
works "train on byte pairs" -- "${train[@]}" --run "$work/pairs-run" --data "$work/text.txt" \
    --tokenizer bpe --vocab-size 300
works "generate by them" -- "$puck" generate --from "$work/pairs-run" --tokens 5 --device cpu
cp -r "$work/tokens" "$work/mixed"
"$puck" tokenize --input "$work/text.txt" --tokenizer byte --output "$work/bytes" --quiet
cp "$work/bytes/tokenizer.json" "$work/mixed"
refuses 1 "tokens beside another tokenizer" mixed/tokenizer.json -- \
    "$puck" train --run "$work/mixed-run" "${tiny[@]}" --steps 2 --data "$work/mixed"
cp -r "$work/tokens" "$work/pipe"
rm "$work/pipe/train_000000.bin" && mkfifo "$work/pipe/train_000000.bin"
refuses 1 "a shard that is a pipe" train_000000.bin -- \
    "$puck" train --run "$work/pipe-run" "${tiny[@]}" --steps 2 --data "$work/pipe"
head -c 1100 "$work/tokens/train_000000.bin" >"$work/cut"
cp "$work/cut" "$work/tokens/train_000000.bin"
refuses '[12]' "a shard that is cut short" train_000000.bin -- \
    "$puck" train --run "$work/cut-run" "${tiny[@]}" --steps 2 --data "$work/tokens"
finish
