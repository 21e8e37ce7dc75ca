#!/usr/bin/env bash
# Runs test programs and scripts, each of which prints TAP: bash tests/run.sh SUITE...
# One line a suite; what failed is shown in full; the last line counts. Fails on a failed test, on a
# suite that ends badly, and on one that ran no test.
set -u
export LC_ALL=C.UTF-8
limit=${TEST_TIMEOUT:-600} # seconds a suite may take before it counts as hanging
work=$(mktemp -d "${TMPDIR:-/tmp}/puck-run-XXXXXX")
trap 'rm -rf "$work"' EXIT
export CMOCKA_MESSAGE_OUTPUT=TAP

passed=0 failed=0 skipped=0
for suite in "$@"; do
    case $suite in
    *.sh) command=(bash "$suite") ;;
    *) command=("$suite") ;;
    esac
    start=${EPOCHREALTIME/./}
    timeout -k 10 "$limit" "${command[@]}" >"$work/out" 2>"$work/err" </dev/null
    code=$?
    seconds=$(((${EPOCHREALTIME/./} - start) / 10000)) # hundredths
    # A skipped test has run nothing: it counts neither way, and is shown.
    s=$(grep -cE '^(not )?ok\b.*# SKIP' "$work/out")
    p=$(grep -E '^ok\b' "$work/out" | grep -cv '# SKIP')
    f=$(grep -E '^not ok\b' "$work/out" | grep -cv '# SKIP')
    note=
    if [ $code = 124 ] || [ $code = 137 ]; then
        note="did not end within $limit s" f=$((f + 1))
    elif [ $code -gt 128 ]; then
        note="died of signal $((code - 128))" f=$((f + 1))
    elif [ $code != 0 ] && [ "$f" = 0 ]; then
        note="ended with $code though no test failed" f=$((f + 1))
    elif [ $((p + f + s)) = 0 ]; then
        note="ran no test" f=$((f + 1))
    elif planned=$(grep -m 1 -oE '^1\.\.[0-9]+' "$work/out") && [ "${planned#1..}" != $((p + f + s)) ]; then
        note="planned $planned, ran $((p + f + s))" f=$((f + 1))
    fi
    name=${suite#"${BUILD:-build}"/}
    printf '%-6s %-36s %4d passed %3d failed %3d skipped  %4d.%02d s  %s\n' \
        "$([ "$f" = 0 ] && echo ok || echo FAILED)" "$name" "$p" "$f" "$s" \
        $((seconds / 100)) $((seconds % 100)) "$note"
    grep -E '^(not )?ok\b.*# SKIP' "$work/out" | sed 's/^/       /'
    if [ "$f" != 0 ]; then
        # Everything but the tests that passed.
        grep -Ev '^ok\b' "$work/out" | sed 's/^/    /'
        sed 's/^/    stderr: /' "$work/err"
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done
[ "$skipped" = 0 ] || echo "$skipped skipped"
if [ $# = 0 ]; then echo "no suites were named" && failed=1; fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
