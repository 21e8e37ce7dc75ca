#!/bin/bash
# Long runs hold no more memory or files than short ones: from step 100 to the end, with evaluations,
# samples and checkpoints on the way, resident memory grows by less than 1 MB and descriptors not at all.
# STEPS=10000 is the whole test; 3000 are the everyday sample of it.
set -u
. tests/tap.sh
. tests/train/small.sh
steps=${STEPS:-3000}

make_text >"$work/text.txt"
cd "$work" || exit 1
small_exec "$steps" --eval-every 50 --save-every 100 --sample-every 100 --log-every 10 >log 2>&1 &
pid=$!

# Columns: step, resident kB, descriptors; as often as the loop can.
last_step() { tail -n 1 run/metrics.jsonl | sed -nE 's/^\{"step": *([0-9]+).*/\1/p'; }
while kill -0 $pid 2>/dev/null; do
    step=$(last_step 2>/dev/null)
    resident=$(sed -nE 's/^VmRSS:\s*([0-9]+).*/\1/p' /proc/$pid/status 2>/dev/null)
    files=(/proc/$pid/fd/*)
    if [ "${step:-0}" -gt 100 ] && [ -n "$resident" ] && [ ${#files[@]} -gt 1 ]; then
        echo "$step $resident ${#files[@]}"
    fi
    sleep 0.005
done >samples
wait $pid || fail "the run" log

# A save holds a file and a buffer for a moment, so the least of each part counts.
check "memory and descriptors stay" awk -v steps="$steps" '
    $1 < steps / 2 { if (!n1++ || $2 < memory1) memory1 = $2; if (n1 == 1 || $3 < files1) files1 = $3 }
    $1 > steps * 3 / 4 { if (!n2++ || $2 < memory2) memory2 = $2; if (n2 == 1 || $3 < files2) files2 = $3 }
    END {
        print n1 " and " n2 " samples, " memory1 " and " memory2 " kB, " files1 " and " files2 " files"
        exit !(n1 > 2 && n2 > 2 && memory2 - memory1 < 1000 && files2 == files1)
    }' samples
sed 's/^/# /' check.out
cd / && finish
