#!/usr/bin/env bash
# Every command of docs/learn.md, in order, in a folder of its own: blocks marked ```sh, one test each. A
# program called puck stands before the real one, and shortens what takes long.
. tests/cli/lib.sh
page=$PWD/docs/learn.md
mkdir -p "$work/bin" "$work/walk/data/text"
cat >"$work/bin/puck" <<WRAPPER
#!/usr/bin/env bash
echo "\$1" >>"$work/calls"
case \$1 in
train)
    short=(--steps 3 --eval-every 2 --eval-batches 2 --save-every 0 --quiet --threads 1 --device cpu)
    [[ \$* != *--min-count* ]] || short+=(--min-count 2)
    ;;
generate)
    short=(--threads 1 --device cpu)
    [[ \$* == *--fill* || \$* == *--pairs* ]] || short+=(--tokens 6)
    ;;
eval) short=(--threads 1 --device cpu) ;;
esac
exec "$puck" "\$@" "\${short[@]}"
WRAPPER
cat >"$work/bin/python3" <<WRAPPER
#!/usr/bin/env bash
[[ \$1 != *numbers.py ]] || set -- "\$@" 200 20
if [[ \$1 = *speeches.py ]]; then # fetches the plays: lines of two plays do
    mkdir -p "\$2"
    for ((i = 0; i < 400; i++)); do
        printf 'the %s of day %d\\t%s\\n' \$( ((i % 2)) && echo "woe \$i tragedy/x" || echo "joy \$i comedy/y")
    done >"\$2/speeches.tsv"
    cut -f 1 "\$2/speeches.tsv" >"\$2/others.txt"
    exit
fi
exec $(command -v python3) "\$@"
WRAPPER
chmod +x "$work/bin/puck" "$work/bin/python3"
export PATH=$work/bin:$PATH

# The text to learn from is the page itself, some times over: it has the words of the commands. The page is
# read in puck's folder, from which it takes three files.
for ((i = 0; i < 6; i++)); do
    LC_ALL=C sed 's/[^ -~]/?/g' "$page"
    echo {A..Z} {a..z}
done >"$work/walk/data/text/tinyshakespeare.txt"
ln -s "$PWD/README.md" "$PWD/docs" "$work/walk/"
ln -s "$PWD/data/numbers.py" "$work/walk/data/"

awk -v into="$work/block" '/^```sh$/ { n++; file = sprintf("%s-%02d", into, n); next }
    /^```/ { file = "" } file != "" { print >file }' "$page"
for block in "$work"/block-*; do
    name=$(grep -m 1 -E '^(puck|make|python3)' "$block")
    check "${block##*-}: ${name%\\}" bash -c "cd '$work/walk' && bash -euo pipefail '$block' && test -s '$work/calls'"
done

# What the page promises to be there.
for file in $(grep -oE -- '--output [^ ]+' "$page" | cut -d ' ' -f 2 | sort -u); do
    check "$file was made" test -e "$work/walk/$file"
done
check "no command was left out" test "$(wc -l <"$work/calls")" = "$(cat "$work"/block-* | grep -cE '^ *puck ')"
check "every puck of the page stands in a block" \
    test "$(grep -cE '^ *puck [a-z]' "$page")" = "$(cat "$work"/block-* | grep -cE '^ *puck ')"
finish
