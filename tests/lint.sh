#!/usr/bin/env bash
# What a compiler does not check: who includes whom, names, sizes, leftovers. Every check says how much it
# looked at. Run from the repository root.
set -u
export LC_ALL=C.UTF-8
work=$(mktemp -d "${TMPDIR:-/tmp}/puck-lint-XXXXXX")
trap 'rm -rf "$work"' EXIT
mapfile -t sources < <(find host kernels include tests bench -name '*.[ch]' -o -name '*.def' | sort)
mapfile -t code < <(find host kernels include -name '*.[ch]' -o -name '*.def' | sort)
mapfile -t texts < <(git ls-files 2>/dev/null | grep -vE '\.(safetensors|bin|png|jsonl)$')
[ ${#texts[@]} -gt 0 ] || texts=("${sources[@]}")
bad=0

# finding TEXT: one line of what is wrong.
finding() { echo "  $*" >>"$work/findings"; }

# done_check WHAT: says what was looked at, and what was found since the last call.
done_check() {
    local n=0
    [ -e "$work/findings" ] && n=$(wc -l <"$work/findings")
    printf '%-74s %s\n' "$1" "$([ "$n" = 0 ] && echo ok || echo "$n WRONG")"
    if [ "$n" != 0 ]; then
        cat "$work/findings"
        rm "$work/findings"
        bad=$((bad + n))
    fi
}

# ---- who may include what: include/ <- kernels, include/ <- host/core <- host/{text,io,feed,dist} <-
# host/model <- host/{train,gen} <- host/cmd. Headers of the same folder are always allowed. ----
bottom="base.h dtype.h tensor.h rng.h"
core="$bottom utf8.h arena.h log.h backend.h ops.h options.def config.h plugin.h"
# A checkpoint is made of a model's parameter table, so model.h, the contract, is known to host/io.
middle="$core tokenizer.h safetensors.h loader.h examples.h dist.h partition.h scaling.h"
declare -A allowed=(
    [kernels/cuda]="$bottom backend.h ops.h"
    [kernels/emu]="$bottom"
    [kernels/emu/include]="nothing"
    [include]="$middle model.h checkpoint.h schedule.h"
    [kernels/cpu]="$bottom backend.h ops.h"
    [host/core]="$core"
    [host/text]="$middle"
    [host/io]="$middle temporary.h tfevents.h model.h checkpoint.h"
    [host/feed]="$middle"
    [host/dist]="$middle"
    [host/model]="$bottom arena.h log.h backend.h ops.h partition.h model.h"
    [host/train]="$middle tfevents.h model.h checkpoint.h schedule.h train.h classify.h"
    [host/gen]="$middle model.h checkpoint.h generate.h plot.h embed.h token_view.h"
    [host/cmd]="any"
)
n=0
for file in "${code[@]}"; do
    folder=$(dirname "$file")
    rule=${allowed[$folder]-none}
    if [ "$rule" = none ]; then
        finding "$file: the folder has no rule in tests/lint.sh"
        continue
    fi
    while read -r header; do
        n=$((n + 1))
        if [ "$folder" != include ] && [ -e "$folder/$header" ]; then continue; fi
        if [ "$folder" = kernels/emu ] && [ -e "$folder/include/$header" ]; then continue; fi
        if [ ! -e "include/$header" ]; then
            finding "$file: $header is neither in include/ nor beside it"
        elif [ "$rule" != any ] && [[ " $rule " != *" $header "* ]]; then
            finding "$file: $folder may not include $header"
        fi
    done < <(sed -nE 's/^ *# *include "([^"]+)".*/\1/p' "$file")
done
done_check "$n includes of ${#code[@]} files point down"

# ---- libraries that only one place may know ----
only() { # NAME PATTERN PLACE
    local hit
    while read -r hit; do
        [[ $hit == $3* ]] || finding "${hit%%:*}: $1 belongs into $3"
    done < <(grep -nE "$2" "${code[@]}")
}
only "MPI" '# *include <mpi|\bMPI_[A-Z]' host/dist/
only "CUDA" '# *include <cu|\bcu(da|blas)[A-Z]|\bnccl[A-Z]' 'kernels/@(cuda|emu)/'
done_check "2 libraries stay in their places"

# ---- kernels say what the emulator must see through the macros of common.cuh and ptx.cuh ----
mapfile -t cuda < <(find kernels/cuda -name '*.cu' -o -name '*.cuh' | sort)
while read -r hit; do
    finding "$hit"
done < <(printf '%s\n' "${cuda[@]}" | grep -vE '/(common|ptx)\.cuh$' |
    xargs grep -nE '<<<|__shared__|__sync(threads|warp)|\basm\b' | cut -c 1-90)
done_check "${#cuda[@]} CUDA files launch, share, wait and use PTX through macros alone"

# ---- functions: names and lengths ----
# FILE NAME FIRST_LINE LENGTH STATIC of every function. The layout of the sources makes this easy: a
# definition begins in column 0, and its body ends with a } in column 0 or on the same line. A name made
# by a macro, OP(cpu_adamw)(...), is the macro's argument.
functions() {
    awk 'function end_at(last) {
            print FILENAME, name, first, last - first + 1, is_static
            name = ""
        }
        FNR == 1 { name = head = "" }
        name != "" { if (/^}/) end_at(FNR); next }
        head == "" && /^[A-Za-z_].*\(/ && !/^(typedef|enum|extern|struct [A-Za-z]+ *\{)/ {
            first = FNR
            head = $0
            $0 = ""
        }
        head == "" { next }
        {
            head = head " " $0
            if (head ~ /;[ \t]*$/ && head !~ /\{/) { head = ""; next }
            if (head !~ /\{/) next
            before = head
            sub(/\{.*/, "", before)
            is_static = before ~ /^static/
            gsub(/__attribute__\(\([^)]*\)*/, "", before)
            if (match(before, /\([a-z0-9_]+\)\(/))
                name = substr(before, RSTART + 1, RLENGTH - 3)
            else if (match(before, /[A-Za-z_][A-Za-z0-9_]*\(/))
                name = substr(before, RSTART, RLENGTH - 1)
            if (before ~ /=/) name = "" # a table, not a function
            if (name != "" && head ~ /\}[ \t]*$/) end_at(FNR)
            head = ""
        }' "$@"
}
mapfile -t c_files < <(printf '%s\n' "${sources[@]}" | grep '\.[ch]$')
functions "${c_files[@]}" >"$work/functions"

# A public function is named after its file or a header: <stem>_<verb>. The words on the right are the
# nouns of a header that holds more than one thing.
words=$(printf '%s\n' "${code[@]}" | sed -E 's:.*/::; s:\..*::' | sort -u)
words+=" i64 error check"          # base.h
words+=" run path fd"              # checkpoint.h and io.h: the lock, small files
words+=" evaluate time measure"    # train.h and trainer.h
words+=" preset"                   # config.h
words+=" timed"                    # bench.h: a back end that counts
words+=" cpu OPEN"                 # kernels/cpu: ops; OPEN is backend_open_cpu_base or a twin
n=0
while read -r file name _ _ is_static; do
    [[ $file == @(tests|bench|kernels/emu)/* || $is_static = 1 || $name = main ]] && continue
    n=$((n + 1))
    found=0
    for word in $words; do [[ ${name}_ == "$word"_* ]] && found=1 && break; done
    [ $found = 1 ] || finding "$file: $name begins with no file's or header's name"
done <"$work/functions"
done_check "$n public functions are named after a file or header"

# Longer ones, by name, each with its reason.
declare -A long_functions=(
    [errors]=80 # tests/text/test_tokenize.c: a table of cases
)
n=0
while read -r file name line length _; do
    n=$((n + 1))
    limit=60
    [[ $file == kernels/* ]] && limit=150
    [ "$length" -le "${long_functions[$name]-$limit}" ] ||
        finding "$file:$line: $name has $length lines, more than $limit"
done <"$work/functions"
[ "$n" -gt 0 ] || finding "no function was recognised"
done_check "$n functions have at most 60 lines (kernels 150)"

# ---- text ----
mapfile -t kernels < <(find kernels -name '*.cu' -o -name '*.cuh' -o -name '*.cc' | sort)
sources+=("${kernels[@]}")
for file in "${sources[@]}"; do
    lines=$(wc -l <"$file")
    [ "$lines" -le 600 ] || finding "$file has $lines lines, more than 600"
done
done_check "${#sources[@]} files have at most 600 lines"

each() { while read -r hit; do finding "$hit"; done; } # findings from grep
mapfile -t scripts < <(find tests data .ci -name '*.sh' 2>/dev/null)
grep -nE '^.{101,}' "${sources[@]}" | cut -d : -f 1,2 | each
grep -nE '^.{121,}' "${scripts[@]}" | cut -d : -f 1,2 | each
narrow=("${sources[@]}" "${scripts[@]}")
done_check "${#narrow[@]} files have at most 100 columns (scripts 120)"
grep -nP '\t' "${narrow[@]}" | cut -c 1-90 | each
grep -nE ' +$' "${narrow[@]}" | cut -c 1-90 | each
done_check "${#narrow[@]} files have no tabs and no spaces at a line's end"

marks='\b(TO''DO|FIX''ME|XX''X|HA''CK)\b'
grep -nIE "$marks" "${texts[@]}" | cut -c 1-90 | each
done_check "${#texts[@]} files have no marks of unfinished work"
{
    grep -nIE "(^|[^a-zA-Z0-9_.*])/(home|root|work|opt|Users)/" "${texts[@]}"
    # A checkout in the root has a name that any path may have.
    [[ $PWD != /*/* ]] || grep -nIF "$PWD/" "${texts[@]}"
} | grep -v '^tests/lint.sh:' | cut -c 1-90 | each
done_check "${#texts[@]} files have no paths of a build machine"

# ---- what a test or a build may have left where the tree begins ----
root=$(git ls-files 2>/dev/null | cut -d / -f 1 | sort -u)
grep -vxE '\.ci|\.clang-format|\.gitignore|Makefile|README\.md|bench|data|docs|host|include|kernels|tests' <<<"$root" |
    sed '/^$/d; s/$/: has no place in the root of the tree (tests\/lint.sh)/' | each
done_check "$(grep -c . <<<"$root") files and folders of the root belong there"

# ---- cppcheck, where it is installed ----
if command -v cppcheck >/dev/null; then
    mapfile -t checked < <(printf '%s\n' "${code[@]}" | grep '\.c$')
    # mask.h: an array that memcpy fills piece by piece is taken for uninitialised.
    cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr -j 2 \
        -Iinclude -D_GNU_SOURCE --suppress=missingIncludeSystem \
        --suppress=uninitvar:kernels/cpu/mask.h --template='{file}:{line}: {id}: {message}' \
        "${checked[@]}" 2>"$work/cppcheck"
    each <"$work/cppcheck"
    done_check "${#checked[@]} files pass cppcheck"
else
    echo "cppcheck is not installed: not run"
fi

if [ $bad != 0 ]; then
    echo "lint: $bad findings"
    exit 1
fi
echo "lint: nothing found"
