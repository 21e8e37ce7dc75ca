#!/usr/bin/env bash
# Standard input, pipes and devices in the place of a file.
. tests/cli/lib.sh
make_text >"$work/text.txt"
cd "$work" || exit 1
train=("$puck" train "${tiny[@]}" --steps 4)
# These and a file stand before a command that has the file as its standard input, or as a pipe there.
from=(bash -c 'exec "$@" <"$0"')
piped=(bash -c 'cat "$0" | "$@"')

works "a run from a file" -- "${train[@]}" --data text.txt --run file
works "a run from standard input" -- "${piped[@]}" text.txt "${train[@]}" --data - --run stdin
check "to the same bytes" cmp {file,stdin}/ckpt/latest/model.safetensors
works "--fresh, from standard input" stdin.old-1 -- "${from[@]}" text.txt "${train[@]}" --data - --run stdin --fresh
works "an evaluation of a file" "tokens scored" -- "$puck" eval --from file --data text.txt --device cpu --quiet
mv stdout scored
works "and of standard input" -- \
    "${piped[@]}" text.txt "$puck" eval --from file --data - --device cpu --quiet
check "to the same figures" cmp scored stdout
works "a dry run of standard input says what its vocabulary is" "vocabulary 21" -- \
    "${piped[@]}" text.txt "${train[@]}" --data - --dry-run

printf '%s\n' {ab,bc,cd,de}$'\t'{ba,cb} >pairs.tsv
train+=(--task pairs --val-fraction 0)
works "pairs from a file" -- "${train[@]}" --data pairs.tsv --run pairs
for data in - /dev/stdin; do
    rm -rf pairs-stdin
    works "pairs from a pipe, $data" -- \
        "${piped[@]}" pairs.tsv "${train[@]}" --data $data --run pairs-stdin
    check "to the same bytes again" cmp {pairs,pairs-stdin}/ckpt/latest/model.safetensors
done

endless='the input has no end within 1 GiB'
refuses 1 "a text without an end" "$endless" "(/dev/zero)" -- \
    "$puck" train "${tiny[@]}" --data /dev/zero --run zero
check "of which no folder is left" test ! -e zero
refuses 1 "a prompt without an end" "$endless" "(standard input)" -- \
    "${from[@]}" /dev/zero "$puck" generate --from file --prompt-file - --device cpu --quiet
limited=(bash -c 'ulimit -v 2000000; exec "$@" </dev/zero' bash)
if "${limited[@]}" "$puck" -V >/dev/null 2>&1; then
    refuses 1 "a line for which there is no memory" "(standard input)" memory -- \
        "${limited[@]}" "$puck" generate --pairs --from pairs --device cpu --threads 1 --quiet
else
    skip "a line for which there is no memory" "a sanitizer needs more than it would have"
fi
cd / && finish
