#!/usr/bin/env bash
# What the pages name is there: paths of the tree, targets of make, commands and their options.
. tests/tap.sh
pages=(README.md data/README.md kernels/README.md bench/results/README.md docs/learn.md docs/systems.md)

# each WHAT COMMAND: the command looks at each line of its input, says what is missing, and there are some.
each() {
    local n
    tee "$work/looked" | while read -r line; do $2 "$line"; done >"$work/missing"
    n=$(wc -l <"$work/looked")
    if [ "$n" -gt 0 ] && [ ! -s "$work/missing" ]; then pass "$n $1"; else fail "$n $1" "$work/missing"; fi
}

path() { [ -e "$1" ] || echo "no such path: $1"; }
each "paths are there" path < <(grep -ohE '`[^` ]+`' "${pages[@]}" | tr -d '`' |
    grep -E '^(bench|data|docs|host|include|kernels|tests)/[a-z]' | grep -vE '[*{]|^data/text' | sort -u)

target() { grep -q "^$1:" Makefile || echo "no such target: make $1"; }
each "targets of make are there" target < <(grep -ohE '(^|`)make [a-z-]+' "${pages[@]}" | sed 's/.*make //' | sort -u)

# Commands of the blocks, a line each, from `puck` to what comes behind its options.
option() { # "COMMAND --FLAG"
    local command=${1% *} flag=${1#*--}
    grep -qE -- "--(\[no-\])?$flag( |$)" "$work/help-$command" || echo "puck $command has no --$flag"
}
cat "${pages[@]}" | awk '/^```/ { inside = !inside } inside' | sed -e :a -e '/\\$/N; s/\\\n *//; ta' |
    grep -oE '\bpuck (train|generate|eval|tokenize|info|bench|plot|embed|classify)\b[^|#<]*' >"$work/commands"
for command in $(cut -d ' ' -f 2 "$work/commands" | sort -u); do
    "$puck" help "$command" >"$work/help-$command"
done
each "options of commands are there" option < <(while read -r _ command rest; do
    grep -oE -- '--[a-z-]+' <<<"$rest" | sed "s/^/$command /"
done <"$work/commands" | sort -u)
finish
