#!/bin/bash
# What gpu-check makes of a memory plan and of what a card says is used; the card is made of numbers.
. tests/tap.sh

cat >"$work/plan.py" <<'EOF'
import json
import sys
import threading

sys.path.insert(0, "bench")
import gpu_check

MB = 10**6
OTHERS, OPENED, OWN, ARENAS = 100 * MB, 500 * MB, 800 * MB, 30000 * MB


class Card:
    emulated = False

    def __init__(self, peak):
        self.used, self.peak, self.seen = peak and OTHERS, peak, threading.Event()

    def puck(self, what, *options, **_):
        free = 85000 * MB - OTHERS - OPENED
        if what == "bench" and self.peak and not self.emulated:
            self.used = self.peak
            assert self.seen.wait(100)
        if options == ("--json",):
            return 0, json.dumps({"memory_bytes": 85000 * MB, "memory_free": free}), 1
        return 0, json.dumps({"memory_bytes": {"device": OWN, "total": ARENAS + OWN}}), 1

    def row(self, stage, name, good, figure, **parts):
        print(good, figure, sep=": ")
        print(*(f"{name} {value // MB}" for name, value in parts.items() if value), sep=", ")


def used_bytes(card):
    used = card.used
    if used == card.peak:
        card.seen.set()
    return used


gpu_check.used_bytes = used_bytes
card = Card(int(sys.argv[1]) * MB if sys.argv[1] else None)
card.emulated = sys.argv[2:] == ["emulated"]
gpu_check.check_plan(card, ["--preset", "gpt2"])
EOF

# says NAME PEAK [emulated] -- ROW PARTS: what is written down where at most PEAK MB are in use.
says() {
    local name=$1 arguments=()
    shift
    while [ "$1" != -- ]; do arguments+=("$1") && shift; done
    shift
    printf '%s\n' "$@" >"$work/expected"
    PYTHONDONTWRITEBYTECODE=1 python3 "$work/plan.py" "${arguments[@]}" >"$work/row"
    check "$name" diff "$work/expected" "$work/row"
}

plan="planned_bytes 30800, arena_bytes 30000, own_planned_bytes 800"
own="the device's own: 800 MB planned, 500 before the first arena"
says "a plan and its parts" 31000 -- \
    "True: planned 30800 MB, used 30900 MB, +0.3 %; $own, 900 by the last step" \
    "$plan, own_opened_bytes 500, used_before_bytes 100, used_bytes 30900, own_used_bytes 900"
says "a plan that is too small" 31600 -- \
    "False: planned 30800 MB, used 31500 MB, +2.3 %; $own, 1500 by the last step" \
    "$plan, own_opened_bytes 500, used_before_bytes 100, used_bytes 31500, own_used_bytes 1500"
none="None: planned 30800 MB, 800 of them the device's own; no card says what is used"
says "a card that does not say" "" -- "$none" "$plan, own_opened_bytes 600"
says "the emulator is no card" 31000 emulated -- "$none" "$plan, own_opened_bytes 600"
finish
