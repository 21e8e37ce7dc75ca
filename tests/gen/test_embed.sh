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
# a - a + e is e: of the rest the nearest to e.
"${ask[@]}" nearest e "${from[@]}" --count 20 2>/dev/null | grep -v ' a$' >"$work/near"
"${ask[@]}" analogy a a e "${from[@]}" --count 19 2>/dev/null >"$work/analogy"
check "an analogy of nothing new" cmp "$work/near" "$work/analogy"

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
