#!/bin/bash
# SIGTERM, SIGUSR1, SIGHUP and Ctrl-C save within a step and exit 75, and the command in the last
# words goes on to the same bytes as if nothing had happened. A second Ctrl-C ends at once.
# ROUNDS=17 is the whole test; 2 of each signal are the everyday sample of it.
set -u
. tests/tap.sh
. tests/train/small.sh
RANDOM=$$
often=(--eval-every 500 --save-every 400 --sample-every 1000 --log-every 20)
steps=4000
rounds=${ROUNDS:-2}

begin() { # FOLDER: fresh, with the text
    rm -rf "${work:?}/$1"
    mkdir -p "$work/$1"
    make_text >"$work/$1/text.txt"
    cd "$work/$1" || exit 1
}

wait_for_steps() { # PID: until it has written a line, or is gone
    until [ -s run/metrics.jsonl ] || ! kill -0 "$1" 2>/dev/null; do sleep 0.01; done
}

# Trains in folder $1 until signal $2 some time after the first lines; leaves the exit code in $code.
# A run that was done before the signal came is begun again, and given less time.
stop_by() {
    local most
    for most in 300 100 30 10 3 1; do
        begin "$1"
        small_exec "$steps" "${often[@]}" >log 2>&1 &
        wait_for_steps $!
        sleep "0.$(printf %03d $((RANDOM % most)))"
        kill -s "$2" $!
        wait $!
        code=$?
        if [ $code != 0 ]; then return; fi
    done
}

begin whole
small_train "$steps" "${often[@]}" >"$work/log" 2>&1 || fail "a plain run" "$work/log"

# Under nohup a run ignores SIGHUP too.
hangup=HUP
if ((0x$(sed -n 's/^SigIgn:[[:space:]]*//p' /proc/$$/status) & 1)); then hangup=; fi
for signal in TERM USR1 INT $hangup; do
    for ((round = 1; round <= rounds; round++)); do
        name="SIG$signal, round $round"
        stop_by "$signal-$round" $signal
        tail -n 20 log >end
        if [ $code != 75 ]; then
            fail "$name: exit code $code" end
        elif ! grep -q 'puck train --run run$' end; then
            fail "$name: no word on how to go on" end
        elif ! "$puck" train --run run >log 2>&1; then
            fail "$name: resuming" log
        else
            same_run "$name" "$PWD"
        fi
    done
done

# Stopped in the middle, the metrics are read at rest: they are one step late, and the step that is in
# work is finished before the save.
begin within
small_exec 1000000 --eval-every 0 --save-every 0 --log-every 1 >log 2>&1 &
wait_for_steps $!
sleep 0.1
kill -s STOP $!
shown=$(sed -nE '$s/^\{"step": *([0-9]+).*/\1/p' run/metrics.jsonl)
kill -s TERM $!
kill -s CONT $!
wait $!
saved=$(readlink run/ckpt/latest | tr -dc 0-9 | sed 's/^0*//')
check "a signal is obeyed within a step" awk -v shown="$shown" -v saved="$saved" 'BEGIN {
    print "step " shown " was shown, " saved " saved"; exit !(saved > shown && saved <= shown + 2) }'

# Every fsync takes half a second here, so the second signal finds the save unfinished.
name="a second Ctrl-C ends at once"
slow=(strace -D -f -qq -o /dev/null -e trace=fsync -e inject=fsync:delay_enter=500000)
if strace -o /dev/null true 2>/dev/null; then
    begin twice
    "${slow[@]}" "$puck" train --data text.txt --run run --steps 1000000 --threads 1 \
        "${model[@]}" "${recipe[@]}" --eval-every 0 --save-every 0 >log 2>&1 &
    wait_for_steps $!
    kill -s INT $!
    until compgen -G 'run/ckpt/*.tmp' >/dev/null || ! kill -0 $! 2>/dev/null; do sleep 0.01; done
    kill -s INT $!
    wait $!
    check "$name" test $? = 130
    check "and leaves no half of a checkpoint" test ! -e run/ckpt/latest
    "${slow[@]}" "$puck" tokenize --input text.txt --output tokens >log 2>&1 &
    until [ -e tokens.tmp/train_000000.bin ] || ! kill -0 $! 2>/dev/null; do sleep 0.01; done
    kill -s TERM $!
    wait $!
    check "tokenizing that is ended leaves no half of a data folder" \
        test $? = 143 -a ! -e tokens -a ! -e tokens.tmp
else
    skip "$name" "strace is missing or may not trace"
fi
cd / && finish
