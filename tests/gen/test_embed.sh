#!/usr/bin/env bash
# Questions to an embedding table, whose vectors are known: nearest, similar, analogy, odd, export.
. tests/cli/lib.sh
ask=("$puck" embed)

make_text >"$work/text.txt"
works "a model" -- "$puck" train --data "$work/text.txt" --run "$work/run" "${tiny[@]}" --steps 3
from=(--from "$work/run")
works "nearest" -- "${ask[@]}" nearest e "${from[@]}" --count 4
check "four lines" test "$(wc -l <"$work/stdout")" = 4
check "from near to far" sort -c -k1,1rn "$work/stdout"
check "without the word itself" bash -c "! grep -q ' e$' '$work/stdout'"
first=$(awk 'NR == 1 { print $1 " " $2 }' "$work/stdout")
works "the nearest one's cosine" "${first% *}" -- "${ask[@]}" similar e "${first#* }" "${from[@]}"
works "a word is like itself" 1.000 -- "${ask[@]}" similar e e "${from[@]}"
works "as JSON" '"cosine":' '"word":' -- "${ask[@]}" nearest e "${from[@]}" --json
works "odd one out" "* " -- "${ask[@]}" odd a e i 9 "${from[@]}"
works "export" vectors.tsv -- "${ask[@]}" export "${from[@]}" --output "$work/tsv"
check "a row of 8 numbers a token" test "$(awk -F'\t' '{ print NF }' "$work/tsv/vectors.tsv" | sort -u)" = 8
check "a name a row" test "$(wc -l <"$work/tsv/vectors.tsv")" = "$(wc -l <"$work/tsv/metadata.tsv")"
check "a line end is escaped" grep -qxF '\n' "$work/tsv/metadata.tsv"
works "a model of bytes" -- "$puck" train --data "$work/text.txt" --tokenizer byte --run "$work/bytes" "${tiny[@]}" \
    --steps 1
refuses 1 "an export that is there already" "$work/tsv/vectors.tsv" --replace -- \
    "${ask[@]}" export --from "$work/bytes" --output "$work/tsv"
works "its names" -- "${ask[@]}" export --from "$work/bytes" --output "$work/tsv" --replace
for byte in '\x00' '\x1b' '\xff'; do
    check "a byte that is no text is escaped: $byte" grep -qxF "$byte" "$work/tsv/metadata.tsv"
done
mkdir -p "$work/half/metadata.tsv.tmp"
refuses 1 "an export of which one file cannot be written" "$work/half/metadata.tsv" -- \
    "${ask[@]}" export "${from[@]}" --output "$work/half"
check "leaves neither" test "$(ls "$work/half")" = metadata.tsv.tmp
mkdir -p "$work/folders/metadata.tsv"
refuses 1 "a folder in the place of a file" "$work/folders/metadata.tsv" folder -- \
    "${ask[@]}" export "${from[@]}" --output "$work/folders" --replace
check "nothing is beside it" test "$(ls "$work/folders")" = metadata.tsv
# a - a + e is e: of the rest the nearest to e.
"${ask[@]}" nearest e "${from[@]}" --count 20 2>/dev/null | grep -v ' a$' >"$work/near"
"${ask[@]}" analogy a a e "${from[@]}" --count 19 2>/dev/null >"$work/analogy"
check "an analogy of nothing new" cmp "$work/near" "$work/analogy"

map=("${ask[@]}" map "${from[@]}" --output)
works "a map" "6 words" -- "${map[@]}" "$work/map.svg" a e i h n t
check "it is the same again" bash -c \
    "'$puck' embed map a e i h n t --from '$work/run' --output '$work/two.svg' && cmp '$work/map.svg' '$work/two.svg'"
works "by t-SNE" "12 words" -- "${map[@]}" "$work/tsne.svg" --method tsne --count 12
check "both have labels and themes" grep -c 'prefers-color-scheme:dark' "$work/map.svg" "$work/tsne.svg"
check "a dot a word" test "$(grep -c '<circle' "$work/tsne.svg")" = 12
if command -v python3 >/dev/null; then
    check "they are XML" python3 -c "import sys, xml.dom.minidom as m; [m.parse(f) for f in sys.argv[1:]]" \
        "$work/map.svg" "$work/tsne.svg"
fi
works "with arrows" "6 words" -- "${map[@]}" "$work/arrows.svg" --arrows a e i h n t
check "three of them" test "$(grep -c 'class="thin s1"' "$work/arrows.svg")" = 3
refuses 2 "an arrow to nowhere" --arrows 5 -- "${map[@]}" "$work/x.svg" --arrows a e i h n
refuses 2 "arrows between no words" --arrows -- "${map[@]}" "$work/x.svg" --arrows --count 6
refuses 2 "a map of two words" three -- "${map[@]}" "$work/x.svg" a e
refuses 2 "a map of the first two" three -- "${map[@]}" "$work/x.svg" --count 2
refuses 2 "a map as PNG" --output .svg -- "${map[@]}" "$work/x.png" a e i
refuses 1 "a map for a limit on the size of files" "$work/x.svg" "File too large" -- \
    bash -c 'ulimit -f 1 && "$@"' bash "${map[@]}" "$work/x.svg" --count 20
refuses 1 "a map that is there" --replace -- "${map[@]}" "$work/map.svg" a e i
check "nothing was written" bash -c "! ls '$work' | grep '^x'"
printf 'the king sat\nthe queen sat\nthe king ran\nthe queen ran\n%.0s' {1..40} >"$work/words.txt"
works "words" -- "$puck" train --model skipgram --tokenizer word --data "$work/words.txt" --run "$work/words" \
    --steps 3 --batch-size 64 --channels 8 --device cpu --eval-every 0
words=(--from "$work/words")
works "a word" queen -- "${ask[@]}" nearest king "${words[@]}"
check "what is no word is no answer" bash -c "! grep -q '<' '$work/stdout'"
works "with a capital letter" 1.000 -- "${ask[@]}" similar King king "${words[@]}"
refuses 2 "a word that is not there, and its nearest spelling" kign king vocabulary -- \
    "${ask[@]}" nearest kign "${words[@]}"
works "a language model of words" -- "$puck" train --tokenizer word --data "$work/words.txt" --run "$work/gpt" \
    --steps 1 --layers 1 --heads 1 --channels 8 --context 8 --batch-size 2 --device cpu --eval-every 0
speak=("$puck" generate --from "$work/gpt" --device cpu)
refuses 2 "a candidate that is not there" kign king vocabulary -- \
    "${speak[@]}" --fill "the ___ sat" --candidates queen,kign
works "a prompt with such a word" '"kign" is read as <UNK>' "Did you mean king" -- \
    "${speak[@]}" --prompt "the kign" --tokens 1
works "a prompt without a word" -- "${speak[@]}" --prompt "  " --tokens 1
refuses 2 "an empty word" empty -- "${ask[@]}" nearest "" "${from[@]}"
refuses 2 "a word like no other" zzzzzz vocabulary -- "${ask[@]}" nearest zzzzzz "${words[@]}"
refuses 2 "no question" nearest analogy -- "${ask[@]}" "${from[@]}"
refuses 2 "an unknown question" export -- "${ask[@]}" furthest e "${from[@]}"
refuses 2 "too few words" "too few" MAN -- "${ask[@]}" analogy a e "${from[@]}"
refuses 2 "too many words" "too many" -- "${ask[@]}" nearest a e "${from[@]}"
refuses 2 "odd of two" "too few" -- "${ask[@]}" odd a e "${from[@]}"
refuses 2 "words asked of characters" king characters "--tokenizer word" -- \
    "${ask[@]}" nearest king "${from[@]}"
refuses 2 "no model" --from -- "${ask[@]}" nearest e
refuses 2 "no folder" --output -- "${ask[@]}" export "${from[@]}"
refuses 1 "a model that is not there" "$work/none" -- "${ask[@]}" nearest e --from "$work/none"
finish
