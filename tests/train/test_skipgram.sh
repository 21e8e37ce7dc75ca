#!/usr/bin/env bash
# Skip-gram on a planted corpus, of which every neighbour and analogy is known; the same bits for any
# number of threads and after a resume; what it refuses.
. tests/cli/lib.sh

# A word is a character. Each of 8 roles and 2 genders has 2 words, which mean the same: word number
# 4 role + 2 gender + twin of the alphabet. Each role and each gender has 4 words that stand beside its words;
# 10 more stand anywhere. Random numbers are x = 48271 x mod 2^31-1, from 7 on.
alphabet=$(printf '%b' "$(printf '\\x%x' {33..126})")
awk -v "alphabet=${alphabet//\\/\\\\}" '
    function draw(n) { x = x * 48271 % 2147483647; return x % n }
    function word(i) { printf "%s", substr(alphabet, i + 1, 1) }
    BEGIN { x = 7
        for (i = 0; i < 5000; i++) { role = draw(8); gender = draw(2)
            word(32 + 4 * role + draw(4)); word(4 * role + 2 * gender + draw(2))
            word(64 + 4 * gender + draw(4)); word(32 + 4 * role + draw(4)); word(64 + 4 * gender + draw(4))
            word(72 + draw(10)); word(72 + draw(10)) } }' \
    >"$work/text.txt"
word() { printf '%s' "${alphabet:$1:1}"; }
train=("$puck" train --model skipgram --data "$work/text.txt" --device cpu --log-every 1)
works "training" -- "${train[@]}" --run "$work/run" --batch-size 1024 --steps 500 --window 2 --channels 32
check "the loss falls from that of vectors of zero, 6 log 2" awk -F'[:,]' '
    NR == 1 { first = $4 } /train_loss/ { last = $4 } END { exit !(first > 4.1 && first < 4.2 && last < 2.2) }' \
    "$work/run/metrics.jsonl"

ask=("$puck" embed)
from=(--from "$work/run" --quiet --count 1)
right=0 all=0
for ((i = 0; i < 32; i++)); do
    got=$("${ask[@]}" nearest "${from[@]}" -- "$(word $i)")
    [ "${got: -1}" = "$(word $((i ^ 1)))" ] && right=$((right + 1))
    all=$((all + 1))
done
echo "$right of $all neighbours are right" >"$work/why"
check "at least 95 in 100 neighbours are right: $right of $all" test $((right * 100)) -ge $((all * 95))
right=0 all=0
for ((a = 0; a < 8; a++)); do
    for ((b = 0; b < 8; b++)); do
        [ $a != $b ] || continue
        got=$("${ask[@]}" analogy "${from[@]}" -- "$(word $((4 * a)))" "$(word $((4 * a + 2)))" "$(word $((4 * b)))")
        [[ ${got: -1} == "$(word $((4 * b + 2)))" || ${got: -1} == "$(word $((4 * b + 3)))" ]] && right=$((right + 1))
        all=$((all + 1))
    done
done
check "at least 95 in 100 analogies are right: $right of $all" test $((right * 100)) -ge $((all * 95))
got=$("${ask[@]}" odd "${from[@]}" -- "$(word 4)" "$(word 5)" "$(word 12)" "$(word 7)" | grep '^\*')
check "the word of another role is the odd one" test "${got: -1}" = "$(word 12)"

small=("${train[@]}" --steps 12 --batch-size 64 --channels 8 --eval-every 6)
works "one thread" -- "${small[@]}" --run "$work/one" --threads 1
works "two threads" -- "${small[@]}" --run "$work/two" --threads 2
check "the same bits" cmp "$work/one/ckpt/latest/model.safetensors" "$work/two/ckpt/latest/model.safetensors"
works "a part of it" -- "${small[@]}" --run "$work/part" --stop-after 7
works "resumed" -- "${small[@]}" --run "$work/part"
check "the same weights" cmp "$work/one/ckpt/latest/model.safetensors" "$work/part/ckpt/latest/model.safetensors"
check "the same moments" cmp "$work/one/ckpt/latest/optim.safetensors" "$work/part/ckpt/latest/optim.safetensors"
for dtype in f32 bf16; do
    works "on the emulator in $dtype" -- "${small[@]}" --run "$work/$dtype" --device emu --dtype $dtype --steps 2
done
check "it has a type of its own" grep -q '"model_type": "puck-skipgram"' "$work/one/ckpt/latest/config.json"

refuses 2 "a context" context --window -- "${small[@]}" --run "$work/x" --context 8
refuses 2 "heads" --heads skipgram -- "${small[@]}" --run "$work/x" --heads 2
refuses 2 "Muon, for it has no hidden matrix" --optimizer skipgram -- \
    "${small[@]}" --run "$work/x" --optimizer muon
head -c 300 "$work/text.txt" >"$work/short.txt"
works "a text shorter than the batch" "vectors of 8 numbers" -- \
    "${train[@]}" --data "$work/short.txt" --channels 8 --batch-size 512 --steps 1 --run "$work/short"
refuses 2 "samples" --sample-every -- "${small[@]}" --run "$work/x" --sample-every 2
refuses 1 "text from it" "puck embed" -- "$puck" generate --from "$work/one"
refuses 1 "its loss on a text" "puck embed" -- "$puck" eval --from "$work/one" --data "$work/text.txt"
head -c 400 /dev/zero | tr '\0' a >"$work/flat.txt"
refuses 1 "a text of one word" "different words" -- "$puck" train --model skipgram --data "$work/flat.txt" \
    --device cpu --run "$work/x" --batch-size 4
finish
