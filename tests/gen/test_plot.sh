#!/usr/bin/env bash
# Pictures: the losses of runs as SVG, and attention as a page of HTML.
. tests/cli/lib.sh

# run_folder NAME LINE...: a run with these lines of metrics.
run_folder() {
    mkdir -p "$work/$1"
    printf '%s\n' "${@:2}" >"$work/$1/metrics.jsonl"
}
line() { printf '{"step": %s, "train_loss": %s, "lr": %s, "elapsed_sec": %s}' "$@"; }
plot=("$puck" plot)

# 101 steps in a straight line from 4 to 3, 0.5 seconds a step: every place in the picture is known.
straight=()
for ((i = 0; i <= 100; i++)); do
    straight+=("$(line $i $((400 - i))e-2 0.001 $((i * 5))e-1)")
    [ $((i % 50)) != 0 ] || straight+=("{\"step\": $i, \"val_loss\": $((410 - i))e-2, \"elapsed_sec\": $((i * 5))e-1}")
done
run_folder "a<b>" "${straight[@]}"
run_folder other "$(line 10 5 0.1 1)" "$(line 20 null 0.1 2)" "$(line 30 3 0.1 3)"
works "losses of two runs" "a<b>: 100 steps, training loss 3.0000, lowest validation loss 3.1000 at step 100" \
    "other: 30 steps, training loss 3.0000" "$work/two.svg written" -- \
    "${plot[@]}" "$work/a<b>" "$work/other" --output "$work/two.svg"
check "no-one's name breaks the XML" grep -qF '>a&lt;b&gt;</text>' "$work/two.svg"
if command -v python3 >/dev/null; then
    check "it is XML" python3 -c "import sys, xml.dom.minidom as m; m.parse(sys.argv[1])" "$work/two.svg"
fi
check "it has both themes" grep -q 'prefers-color-scheme:dark' "$work/two.svg"
check "a value that is not finite breaks the line" grep -qE '<path class="thin s1" d="M[0-9. ]+M[0-9. ]+"/>' \
    "$work/two.svg"

works "one run" -- "${plot[@]}" "$work/a<b>" --output "$work/one.svg"
# The frame of this picture, and where the line begins and ends: over steps 0 to 100 from edge to edge;
# the values that it spans, 3 to 4.1, are the frame's height but for a twentieth of them above and below.
number='"([0-9.]+)"'
read -r left top width height < <(
    sed -nE "s/^<svg x=$number y=$number width=$number height=$number.*/\\1 \\2 \\3 \\4/p" "$work/one.svg" | head -1)
at() { awk "BEGIN { printf \"%.1f %.1f\", $left + $1 / 100 * $width, $top + (4.155 - $2) / 1.21 * $height }"; }
check "the line begins where it should" grep -qF "class=\"thin s0\" d=\"M$(at 0 4)L" "$work/one.svg"
check "and ends there" grep -qF "L$(at 100 3)\"/>" "$work/one.svg"
check "validation is joined" grep -qF "d=\"M$(at 0 4.1)L$(at 50 3.6)L$(at 100 3.1)\"" "$work/one.svg"
check "the axes say their units" grep -q '>loss, nats per token<' "$work/one.svg"
echo 'model = "ngram"' >"$work/other/config.toml"
works "one of n-grams" -- "${plot[@]}" "$work/other" --output "$work/grams.svg"
check "its axis says so" grep -q '>loss, nats per n-gram<' "$work/grams.svg"
works "with another" -- "${plot[@]}" "$work/a<b>" "$work/other" --output "$work/mixed.svg"
check "whose losses are of something else" grep -q '>loss, nats<' "$work/mixed.svg"
works "over seconds" -- "${plot[@]}" "$work/a<b>" --output "$work/seconds.svg" --over seconds
check "the axis says so" grep -q '>seconds of training<' "$work/seconds.svg"
check "it ends at 50" bash -c "grep -q '>50<' '$work/seconds.svg' && ! grep -q '>100<' '$work/seconds.svg'"
cp "$work/one.svg" "$work/before.svg"
refuses 1 "a picture that is there already" "$work/one.svg" --replace -- \
    "${plot[@]}" "$work/other" --output "$work/one.svg"
check "it is as it was" cmp "$work/one.svg" "$work/before.svg"
works "replaced when told to" -- "${plot[@]}" "$work/other" --output "$work/one.svg" --replace
check "it is another one" bash -c "! cmp -s '$work/one.svg' '$work/before.svg'"

# A long run stays a small picture.
for ((i = 1; i <= 5000; i++)); do line $i 2.5 0.1 $i && echo; done >"$work/other/metrics.jsonl"
works "a long run" -- "${plot[@]}" "$work/other" --output "$work/long.svg"
check "its picture is small" test "$(wc -c <"$work/long.svg")" -lt 40000
for ((i = 1; i <= 1000; i++)); do line $i $([ $((i % 2)) = 0 ] && echo null || echo 2.5) 0.1 $i && echo; done \
    >"$work/a<b>/metrics.jsonl"
works "every other loss of a long run is not finite" "1000 steps, training loss 2.5000" -- \
    "${plot[@]}" "$work/a<b>" --output "$work/gaps.svg"
printf '{"step": 5001, "train_l' >>"$work/other/metrics.jsonl"
works "a last line that a crash cut short" "5000 steps" -- "${plot[@]}" "$work/other" --output "$work/cut.svg"

rm "$work"/*.svg
refuses 2 "no run" RUN -- "${plot[@]}" --output "$work/x.svg"
refuses 2 "no output" --output .svg -- "${plot[@]}" "$work/other"
refuses 2 "another kind of picture" --output .svg x.png -- "${plot[@]}" "$work/other" --output "$work/x.png"
refuses 2 "more runs than colours" RUN 8 -- "${plot[@]}" "$work/"{1,2,3,4,5,6,7,8,9} --output "$work/x.svg"
refuses 2 "an axis that is none" "steps|seconds" -- \
    "${plot[@]}" "$work/other" --over hours --output "$work/x.svg"
mkdir "$work/empty"
refuses 1 "a run without metrics" "$work/empty/metrics.jsonl" "puck train" -- \
    "${plot[@]}" "$work/other" "$work/empty" --output "$work/x.svg"
: >"$work/empty/metrics.jsonl"
refuses 1 "a run without a loss" "$work/empty/metrics.jsonl" "no loss" -- \
    "${plot[@]}" "$work/empty" --output "$work/x.svg"
run_folder bad "$(line 1 2 3 4)" 'not json'
refuses 1 "a damaged line" "$work/bad/metrics.jsonl:2" JSON -- "${plot[@]}" "$work/bad" --output "$work/x.svg"
run_folder bad '{"train_loss": 2}'
refuses 1 "a line without its step" "$work/bad/metrics.jsonl:1" step -- \
    "${plot[@]}" "$work/bad" --output "$work/x.svg"
refuses 1 "an output that cannot be written" "$work/none/x.svg" -- \
    "${plot[@]}" "$work/other" --output "$work/none/x.svg"
check "nothing was written" bash -c "! ls '$work'/*.svg* 2>/dev/null"

# Attention of a model of 2 layers and 2 heads that sees 8 characters. One of them would end the script.
{ make_text && echo '</script><b>&'; } >"$work/text.txt"
works "a model" -- "$puck" train --data "$work/text.txt" --run "$work/run" "${tiny[@]}" --layers 2 --steps 1
attention=("${plot[@]}" --from "$work/run" --device cpu)
works "attention" "$work/a.html written" -- "${attention[@]}" --attention '</b>'$'\n''the' --output "$work/a.html"
check "its tokens" grep -qF "const tokens=['\x3c','/','b','\x3e','\x5cn','t','h','e'];" "$work/a.html"
check "its size" grep -qF 'const L=2,H=2,n=8;' "$work/a.html"
check "nothing is fetched" bash -c "! grep -qE 'https?:|src=|@import' '$work/a.html'"
check "one script, which the text does not end" test "$(grep -c '</script>' "$work/a.html")" = 1
# The 4 matrices, cut out of the page: 36 weights each, whose rows add up to 1000 but for rounding.
sed -n '/^const weights=/,/^\];/p' "$work/a.html" | tr -d '\n' | sed -E 's/.*=\[//; s/\];.*//; s/\],?/\n/g; s/\[//g' |
    awk -F, 'NF { n++; if (NF != 36) bad = 1
        for (i = k = 1; i <= 8; i++) { sum = 0; for (j = 0; j < i; j++) sum += $(k++)
            if (sum < 1000 - i / 2 || sum > 1000 + i / 2) bad = 1 } }
        END { print n, bad + 0 }' >"$work/rows"
check "4 matrices of rows that add up" test "$(cat "$work/rows")" = "4 0"
refuses 2 "a text longer than the context" --attention "9 tokens" "at most 8" -- \
    "${attention[@]}" --attention "the line " --output "$work/b.html"
refuses '[12]' "a text with a character that the model has not" --attention U+0071 -- \
    "${attention[@]}" --attention "quote" --output "$work/b.html"
works "a model of bytes" -- "$puck" train --data "$work/text.txt" --tokenizer byte --run "$work/bytes" "${tiny[@]}" \
    --steps 1
works "half a character" -- "${plot[@]}" --from "$work/bytes" --attention é --output "$work/h.html" --device cpu
check "is shown as its byte" grep -qF "const tokens=['\x5cxc3','\x5cxa9'];" "$work/h.html"
works "a model of words" -- "$puck" train --data "$work/text.txt" --tokenizer word --run "$work/words" "${tiny[@]}" \
    --steps 1
refuses 2 "a text without a word" --attention "no token" -- \
    "${plot[@]}" --from "$work/words" --attention "  " --output "$work/b.html" --device cpu
refuses 2 "an empty text" --attention empty -- "${attention[@]}" --attention "" --output "$work/b.html"
refuses 2 "a page that is named as a picture" --output .html -- \
    "${attention[@]}" --attention "the" --output "$work/b.svg"
refuses 1 "a page that is there already" "$work/a.html" --replace -- \
    "${attention[@]}" --attention "the" --output "$work/a.html"
refuses 2 "attention of no model" --from -- "${plot[@]}" --attention "the" --output "$work/b.html"
refuses '[12]' "attention of a model that is not there" "$work/none" -- \
    "${plot[@]}" --attention "the" --from "$work/none" --output "$work/b.html"
works "a model of another kind" -- "$puck" train --data "$work/text.txt" --run "$work/ffn" --steps 1 --model ffn \
    --layers 1 --channels 8 --hidden 8 --context 4 --device cpu --eval-every 0
refuses 2 "attention of a model that has none" --attention "--model gpt" -- \
    "${plot[@]}" --from "$work/ffn" --attention "the" --output "$work/b.html" --device cpu
refuses 2 "attention and losses" --attention -- \
    "${attention[@]}" "$work/run" --attention "the" --output "$work/b.html"
refuses 2 "losses of a model" --from -- "${attention[@]}" --output "$work/b.svg"
check "nothing more was written" bash -c "! ls '$work'/b.* 2>/dev/null"
finish
