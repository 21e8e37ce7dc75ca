#!/usr/bin/env bash
# puck generate and puck eval on a run, from its text to their output.
. tests/cli/lib.sh
export TMPDIR=$work
make_text >"$work/text.txt"
run=$work/run
cpu=(--device cpu --threads 1)
works "a run" -- "$puck" train --run "$run" "${tiny[@]}" --steps 3 --data "$work/text.txt" \
    --val-fraction 0.3
write=("$puck" generate --from "$run" "${cpu[@]}")
score=("$puck" eval --from "$run" "${cpu[@]}")

# same NAME A B: the two files are equal.
same() { check "$1" cmp "$work/$2" "$work/$3"; }

"${write[@]}" --prompt "the line " -n 30 --seed 5 >"$work/a" 2>/dev/null
printf 'the line ' | "${write[@]}" --prompt-file - -n 30 --seed 5 >"$work/b" 2>/dev/null
same "a prompt from standard input, and the same text again" a b
check "the prompt comes first" grep -q '^the line ' "$work/a"
"${write[@]}" --prompt "the line " -n 30 --seed 5 --samples 2 >"$work/two" 2>/dev/null
{ cat "$work/a" && echo ---; } >"$work/begin"
head -c "$(stat -c %s "$work/begin")" "$work/two" >"$work/b"
same "samples are parted by a line of ---" begin b
"${write[@]}" -n 40 --greedy >"$work/a" 2>/dev/null
"${write[@]}" -n 40 --top-k 1 --temperature 3 >"$work/b" 2>/dev/null
same "the likeliest of one is greedy" a b
works "JSON" '{"sample": 1, "seed": 1, "text": "the' -- "${write[@]}" -p the -n 5 --samples 2 --json
works "candidates of each step" " 3  '" -- "${write[@]}" -p the -n 3 --probs 2
works "the blank" "'line'" probability -- "${write[@]}" --fill "the ___" --candidates line,says
works "the blank as JSON" '"candidate": "line"' -- \
    "${write[@]}" --fill "th ___" --candidates "line,says" --json
refuses 2 "a sentence longer than the context" 8 -- "${write[@]}" --fill "the line ___ says"
refuses 2 "two prompts" --prompt-file -- "${write[@]}" --prompt a --prompt-file b

works "evaluation" "loss " "perplexity " "bits per byte " "tokens scored " -- \
    "${score[@]}" --data "$work/text.txt"
"${score[@]}" --data "$work/text.txt" --json >"$work/a" 2>/dev/null
"${score[@]}" --data "$work/text.txt" --val-fraction 0.3 --json --threads 3 >"$work/b" 2>/dev/null
same "a text is split where the run split it" a b
"${score[@]}" --data "$work/text.txt" --val-fraction 0.2 --json >"$work/other" 2>/dev/null
check "or where the call says" test "$(cat "$work/a")" != "$(cat "$work/other")"
works "tokens" -- "$puck" tokenize --input "$work/text.txt" --output "$work/tokens" \
    --tokenizer "$run/ckpt/latest/tokenizer.json" --val-fraction 0.3
"${score[@]}" --data "$work/tokens" --json >"$work/b" 2>/dev/null
same "tokens score as their text does" a b
works "other tokens" -- "$puck" tokenize --input "$work/text.txt" --output "$work/bytes" --tokenizer byte
refuses 1 "tokens of another tokenizer" "$work/bytes" -- "${score[@]}" --data "$work/bytes"
refuses 1 "a split without tokens" val -- "${score[@]}" --data "$work/text.txt" --val-fraction 0
refuses 2 "splitting tokens again" --val-fraction "$work/tokens" -- \
    "${score[@]}" --data "$work/tokens" --val-fraction 0.5
works "tokens for training alone" -- "$puck" tokenize --input "$work/text.txt" --val-fraction 0 \
    --tokenizer "$run/ckpt/latest/tokenizer.json" --output "$work/alone"
refuses 1 "they have no validation part" val --split -- "${score[@]}" --data "$work/alone"
works "nor need one" "loss " -- "${score[@]}" --data "$work/alone" --split train
refuses 1 "a model without a tokenizer" tokenizer.json -- \
    "${write[@]}" --from data/golden/gpt2-tiny
"${write[@]}" --prompt "no Ä" >"$work/a" 2>/dev/null
check "an error leaves standard output empty" test ! -s "$work/a"
works "what is read and where it runs" "reading " "1 threads" -- \
    "${score[@]}" --data "$work/text.txt" --verbose
break_weights "$run/ckpt/latest" "$work/broken"
refuses 1 "the score of weights that are no numbers" "older checkpoint" -- \
    "$puck" eval --from "$work/broken" "${cpu[@]}" --data "$work/text.txt" --json
check "no folder is left" test -z "$(compgen -G "$work/puck-*")"
# A pipe into which nobody writes holds the call while its folder is there.
mkfifo "$work/nothing"
for signal in INT TERM HUP; do
    env --default-signal "${score[@]}" --data "$work/nothing" >/dev/null 2>&1 &
    until compgen -G "$work/puck-*" >/dev/null || ! kill -0 $!; do sleep 0.01; done
    kill -s $signal $!
    wait $!
    code=$?
    check "nor when SIG$signal ends it" test $code = $((128 + $(kill -l $signal))) \
        -a -z "$(compgen -G "$work/puck-*")"
    rm -rf "$work"/puck-*
done
finish
