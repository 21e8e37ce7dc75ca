#!/bin/bash
# Long runs hold no more memory or files than short ones: from step 100 on, with evaluations, samples and
# checkpoints on the way, resident memory grows by less than 1 MB and descriptors not at all.
# STEPS=10000 is the whole test; 3000 are the everyday sample of it.
set -u
. tests/tap.sh
. tests/train/small.sh
steps=${STEPS:-3000}

# The run writes its lines into a pipe and waits while that is full, so it is never more than 64 kB, about
# 650 steps, ahead of this test, however slow the machine is.
make_text >"$work/text.txt"
cd "$work" || exit 1
mkfifo pipe
small_exec "$steps" --eval-every 50 --save-every 100 --sample-every 100 --log-every 1 >pipe 2>&1 &
pid=$!

# Step, resident kB and descriptors of one moment: the run stands still while they are read.
take_sample() {
    local state step resident files
    kill -s STOP $pid 2>/dev/null
    while state=$(<"/proc/$pid/stat") && state=${state##*) } && [[ $state != [TZX]* ]]; do :; done
    step=$(sed -nE '$s/^\{"step": *([0-9]+).*/\1/p' run/metrics.jsonl)
    resident=$(sed -nE 's/^VmRSS:\s*([0-9]+).*/\1/p' /proc/$pid/status)
    files=(/proc/$pid/fd/*)
    kill -s CONT $pid 2>/dev/null
    if [ -n "$step" ] && [ -n "$resident" ]; then echo "$step $resident ${#files[@]}" >>samples; fi
}
lines=0
while read -r line; do
    echo "$line" >>log
    if [[ $line == step* ]] && (((lines += 1) % 30 == 0)); then take_sample; fi
done <pipe 2>errors
wait $pid || fail "the run" log

# A save holds a file and a buffer for a moment, so the least of each part counts. The last samples are
# left out: a run that has done its steps closes its files.
check "memory and descriptors stay" awk -v steps="$steps" '
    $1 > 100 && $1 < 0.5 * steps {
        if (!n1++ || $2 < memory1) memory1 = $2
        if (n1 == 1 || $3 < files1) files1 = $3
    }
    $1 > 0.6 * steps && $1 < 0.95 * steps {
        if (!n2++ || $2 < memory2) memory2 = $2
        if (n2 == 1 || $3 < files2) files2 = $3
    }
    END {
        print n1 " and " n2 " samples, " memory1 " and " memory2 " kB, " files1 " and " files2 " files"
        exit !(n1 > 2 && n2 > 2 && memory2 - memory1 < 1000 && files2 == files1)
    }' samples
sed 's/^/# /' check.out
cd / && finish
