# Sourced by the shell tests, which run from the repository root and print TAP (testanything.org).
#   pass NAME | fail NAME [DETAIL FILE] | skip NAME WHY | check NAME COMMAND... | finish
# $work is a folder of the test's own, removed at the end; $puck is the program.
export LC_ALL=C.UTF-8 # a decimal point, whatever the user's language
puck=$(realpath "${PUCK:-./puck}")
work=$(mktemp -d "${TMPDIR:-/tmp}/puck-test-XXXXXX")
trap 'rm -rf "$work"' EXIT
tap_n=0
tap_failed=0

pass() {
    tap_n=$((tap_n + 1))
    echo "ok $tap_n - $1"
}

fail() {
    tap_n=$((tap_n + 1))
    tap_failed=$((tap_failed + 1))
    echo "not ok $tap_n - $1"
    if [ -n "${2:-}" ]; then sed 's/^/# /' "$2" | head -40; fi
}

skip() {
    tap_n=$((tap_n + 1))
    echo "ok $tap_n - $1 # SKIP $2"
}

check() {
    local name=$1
    shift
    if "$@" >"$work/check.out" 2>&1; then pass "$name"; else fail "$name" "$work/check.out"; fi
}

finish() {
    echo "1..$tap_n"
    exit $((tap_failed > 0))
}
