#!/usr/bin/env bash
# Leaves out one barrier, commit or wait of the kernels at a time; the case table on the checker must
# fail then. $1: takes every $1-th place only (a sample). Prints TAP; a survivor is a failure.
. tests/tap.sh
every=${1:-1}
program=${BUILD:-build}/tests/ops/test_ops_device
checker=${BUILD:-build}/libpuck_emu_check.so
export PUCK_EMU_SCHEDULE=forward

# FILE:LINE:MACRO of every place, comments and definitions left out.
places=$(grep -nE '\b((WARP_)?BARRIER\(\)|CP_ASYNC_(COMMIT|WAIT)\()' kernels/cuda/*.cu kernels/cuda/*.cuh |
    grep -vE '^[^:]*:[0-9]+:( \*|/\*|#define)' |
    sed -E 's/^([^:]*:[0-9]+):.*\b(BARRIER|WARP_BARRIER|CP_ASYNC_COMMIT|CP_ASYNC_WAIT)\(.*/\1:\2/')

# survives PLACE: the tests pass without it.
survives() {
    PUCK_EMU_SKIP=$1 "$program" "$checker" bf16 >"$work/out" 2>&1 &&
        PUCK_EMU_SKIP=$1 "$program" "$checker" f32 >"$work/out" 2>&1
}

check "without mutation the tests pass" survives none:0:none
n=0 caught=0 number=0
for place in $places; do
    [ $((number++ % every)) = 0 ] || continue
    n=$((n + 1))
    if survives "$place" 2>/dev/null; then
        fail "$place is missed when it is left out"
    else
        caught=$((caught + 1))
        pass "$place"
    fi
done
echo "# $caught of $n mutants caught, of $(wc -w <<<"$places") places"
[ $n -gt 0 ] || fail "there are places to mutate"
finish
