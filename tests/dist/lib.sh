# Sourced by the tests of this folder: runs on several ranks.
. tests/tap.sh
. tests/train/small.sh

# Without OpenMPI there are no ranks to test.
if ! command -v mpirun >/dev/null || ! [ -e "${puck%/*}/libpuck_mpi.so" ]; then
    skip "training on ranks" "no mpirun, or puck was built without MPI"
    finish
fi

# Shared memory or sockets; OpenMPI's look for other hardware takes a fifth of a second.
export OMPI_MCA_pml=ob1

# ranks N COMMAND...: mpirun's own words are left out of what the command said. As root it wants to be
# told so; a core may have several ranks. One is a process without MPI.
ranks() {
    local n=$1 code launcher=()
    shift
    [ "$n" = 1 ] ||
        launcher=(mpirun --allow-run-as-root --oversubscribe --mca odls_base_sigkill_timeout 0 -np "$n")
    "${launcher[@]}" "$@" >"$work/stdout" 2>"$work/stderr" </dev/null
    code=$?
    cat "$work/stdout"
    cat "$work/stderr" >&2
    return $code
}

# rank_train N FOLDER STEPS ARGUMENTS...: the run of small.sh on N ranks in a folder, which is made.
rank_train() {
    local n=$1 folder=$2 steps=$3
    shift 3
    mkdir -p "$folder"
    [ -e "$folder/text.txt" ] || make_text >"$folder/text.txt"
    (cd "$folder" && ranks "$n" "$puck" train --data text.txt --run run --steps "$steps" --threads 1 \
        "${model[@]}" "${recipe[@]}" "$@")
}

# beside COMMAND...: in the background, with a $work of its own for what it writes there; all_done: waits
# for those.
jobs_beside=()
beside() {
    (work=$(mktemp -d "$work/beside-XXXXXX") && "$@") >/dev/null 2>&1 &
    jobs_beside+=($!)
}
all_done() {
    wait "${jobs_beside[@]}"
    jobs_beside=()
}

# refused NAME CODE WORD...: the last call of `ranks` ended with CODE, and of its error lines there is
# one, in which every WORD stands.
refused() {
    local name=$1 code=$2 got=$last word
    shift 2
    grep '^puck: ' "$work/stderr" >"$work/error"
    {
        [ "$got" = "$code" ] || echo "exit code $got, not $code"
        [ "$(wc -l <"$work/error")" = 1 ] || echo "$(wc -l <"$work/error") error lines"
        for word in "$@"; do
            grep -qF -e "$word" "$work/error" || echo "the error does not say: $word"
        done
    } >"$work/why"
    if [ -s "$work/why" ]; then
        { cat "$work/why" && cat "$work/stderr"; } >"$work/detail"
        fail "$name" "$work/detail"
    else
        pass "$name"
    fi
}
# attempt N COMMAND...: `ranks` with its exit code in $last, for `refused`.
attempt() {
    ranks "$@" >"$work/said" 2>&1
    last=$?
}
# attempt_train N FOLDER STEPS ARGUMENTS...
attempt_train() {
    rank_train "$@" >"$work/said" 2>&1
    last=$?
}

# series FOLDER FIELD: its values in metrics.jsonl, a line each.
series() {
    sed -nE "s/.*\"$2\": *([^,}]*).*/\\1/p" "$1/run/metrics.jsonl"
}
# close_series NAME FIELD LIMIT FOLDER_A FOLDER_B: as many values, none further apart than LIMIT, relative.
close_series() {
    series "$4" "$2" >"$work/a"
    series "$5" "$2" >"$work/b"
    if [ -s "$work/a" ] && [ "$(wc -l <"$work/a")" = "$(wc -l <"$work/b")" ] &&
        paste "$work/a" "$work/b" | awk -v limit="$3" \
            '{ d = $1 - $2; if (d < 0) d = -d; if (!(d <= limit * $1)) { print NR ": " $0; bad = 1 } }
             END { exit bad }' >"$work/why"; then
        pass "$1"
    else
        paste "$work/a" "$work/b" | head -5 >>"$work/why"
        fail "$1" "$work/why"
    fi
}

# The README's section on several GPUs, on a stage: a folder with what its commands name, and a puck before
# the real one that shortens them.
root=$PWD
readme_stage() {
    mkdir -p "$work/readme/bin"
    make_text >"$work/readme/TEXT.txt"
    ln -s "$root/bench" "$work/readme/bench"
    cat >"$work/readme/bin/puck" <<WRAPPER
#!/usr/bin/env bash
[ \$1 != train ] || short=(--steps 3 --eval-every 0 --save-every 0 --threads 1 --device cpu)
[ "\$1 \$2" != "bench comm" ] || short=(--repeats 1 --device cpu)
exec "$puck" "\$@" "\${short[@]}"
WRAPPER
    chmod +x "$work/readme/bin/puck"
}
# readme_lines BEGINNING: commands of the section.
readme_lines() {
    sed -n '/^## On several GPUs/,/^## Map/p' "$root/README.md" | sed -n '/^```$/,/^```$/p' | grep -E "^$1 "
}
