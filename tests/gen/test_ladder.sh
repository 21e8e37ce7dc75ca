#!/usr/bin/env bash
# The ladder: n-grams against counts by hand and the known figures of tinyshakespeare, and a step or two
# of each network.
. tests/cli/lib.sh
if ! command -v python3 >/dev/null; then
    skip "the ladder" "there is no python3"
    finish
fi
ladder=(python3 bench/ladder.py --puck "$puck" --threads 1 --record "$work/ladder.jsonl"
    --picture "$work/ladder.svg")
losses() { sed -nE 's:.*"ladder/([^"]*)".*"loss"\: ([0-9.e-]+).*:\1 \2:p' "$work/ladder.jsonl"; }
# near FILE FILE BOUND: the same names, and numbers that differ by less.
near() {
    paste -d ' ' "$1" "$2" | awk -v bound="$3" 'NF != 4 || $1 != $3 || ($2 - $4)^2 >= bound^2 { bad = 1 }
        END { exit bad || NR != 4 }'
}

# 100 characters, abab...: 90 to count, in which ab is there 45 times, ba 44, aba and bab 44 and so on.
for ((i = 0; i < 50; i++)); do printf ab; done >"$work/ab.txt"
awk -v OFMT=%.12f 'BEGIN {
    print "unigram", log(2)
    print "bigram", -(5 * log(45.1 / 45.2) + 4 * log(44.1 / 44.2)) / 9
    print "trigram", -log(44.1 / 44.2)
    b = (45 + 0.5) / 46; b = (44 + b) / 45; b = (44 + b) / 45; b = (43 + b) / 44
    a = (44 + 0.5) / 45; a = (44 + a) / 45; a = (43 + a) / 44; a = (43 + a) / 44
    print "5-gram", -(log(a) + log(b)) / 2
}' >"$work/expected"
works "n-grams" "| bigram | 2 |" "ladder.svg written" -- \
    "${ladder[@]}" --only unigram,bigram,trigram,5-gram --data "$work/ab.txt"
losses >"$work/got"
check "their losses are those of a count by hand" near "$work/got" "$work/expected" 1e-8

for text in "${PUCK_TEXT:-}" data/text/tinyshakespeare.txt ../shared/data/tinyshakespeare.txt; do
    [ ! -f "$text" ] || break
done
if [ -f "$text" ]; then
    rm "$work/ladder.jsonl"
    works "n-grams of tinyshakespeare" -- "${ladder[@]}" --only unigram,bigram,trigram,5-gram --data "$text"
    printf '%s\n' "unigram 3.3473" "bigram 2.4838" "trigram 2.0458" "5-gram 1.6688" >"$work/expected"
    losses >"$work/got"
    check "their losses are the known ones" near "$work/got" "$work/expected" 1e-4
else
    skip "n-grams of tinyshakespeare" "the text is not there: data/fetch.sh fetches it"
fi

{ for ((i = 0; i < 60; i++)); do echo "ROMEO:" && echo "the line $i says $((i * i % 101))"; done; } >"$work/text.txt"
printf 'before\n<!-- ladder -->\nold\n<!-- /ladder -->\nafter\n' >"$work/README.md"
for network in $(python3 bench/ladder.py --list-networks); do
    works "a step of $network" "| parameters |" -- \
        "${ladder[@]}" --only "$network" --steps 2 --data "$work/text.txt" --write --readme "$work/README.md"
    check "it has at most 1.2 million parameters" python3 -c "
import json, sys
r = json.loads(open(sys.argv[1]).read().splitlines()[-1])
assert r['bench'] == 'ladder/$network' and 1e5 < r['parameters'] <= 1.2e6 and 0 < r['loss'] < 5, r" \
        "$work/ladder.jsonl"
done
check "the README has the table in place of the old one" bash -c \
    "grep -q '^before' '$work/README.md' && grep -q '^after' '$work/README.md' &&
     grep -q '^| unigram |' '$work/README.md' && ! grep -q old '$work/README.md'"

# This script's own errors: one line each, without a trace.
fails() {
    local name=$1 word=$2
    shift 2
    "${ladder[@]}" "$@" >"$work/stdout" 2>"$work/stderr"
    { [ $? = 1 ] || echo "exit code"; } >"$work/why"
    { grep '^ladder: ' "$work/stderr" | grep -qF "$word" && ! grep -q Traceback "$work/stderr"; } ||
        echo "it does not say: $word" >>"$work/why"
    report "$name"
}
fails "a rung that is none" '"6-gram"' --only 6-gram
fails "a text that is not there" "$work/none.txt" --only unigram --data "$work/none.txt"
echo none >"$work/README.md"
fails "a README without marks" "$work/README.md" --only unigram --data "$work/ab.txt" --write --readme "$work/README.md"
finish
