#!/bin/bash
# kill.sh [KILLS]: SIGKILL at random moments of a run that saves every third step. Each time the run is
# resumed, and now and then killed again, until it is done: every byte of its last checkpoint, of the best
# one and of metrics.jsonl, time fields aside, must equal the undisturbed run's. 200 kills are the whole
# test. SEED repeats a series of moments, as far as a clock can.
set -u
. tests/tap.sh
. tests/train/small.sh
kills=${1:-${KILLS:-200}}
seed=${SEED:-$$}
RANDOM=$seed
steps=60
often=(--eval-every 7 --save-every 3 --sample-every 11 --log-every 2)

begin() { # FOLDER: fresh, with the text
    rm -rf "${work:?}/$1"
    mkdir -p "$work/$1"
    make_text >"$work/$1/text.txt"
}

begin whole
cd "$work/whole" || exit 1
start=${EPOCHREALTIME/./}
small_train "$steps" "${often[@]}" >"$work/log" 2>&1 || fail "an undisturbed run" "$work/log"
duration=$((${EPOCHREALTIME/./} - start)) # microseconds

# Kills the job $1 at a moment of the undisturbed run's time. True if it was still at work.
kill_at_random() {
    sleep "$(printf '%d.%06d' $(((moment = duration * RANDOM / 32768) / 1000000)) $((moment % 1000000)))"
    kill -KILL "$1" 2>/dev/null
    wait "$1" 2>/dev/null
    [ $? = 137 ]
}

killed=0 round=0 equal=0
while [ $killed -lt "$kills" ] && [ $round -lt $((5 * kills + 20)) ]; do
    round=$((round + 1))
    begin run
    cd "$work/run" || exit 1
    here=0
    while
        small_exec "$steps" "${often[@]}" >>log 2>&1 &
        kill_at_random $!
    do
        here=$((here + 1))
        if [ $((RANDOM % 3)) != 0 ]; then break; fi
    done
    if [ $here = 0 ]; then # it was done before the signal came: the machine is quicker than it was
        duration=$((duration * 9 / 10))
        continue
    fi
    killed=$((killed + here))
    traces "$work/whole" >"$work/expected"
    if ! small_train "$steps" "${often[@]}" >>log 2>&1; then
        fail "kill $killed, seed $seed: resuming" log
    elif ! traces "$PWD" >"$work/traces" 2>&1 ||
        ! diff "$work/expected" "$work/traces" >"$work/diff"; then
        fail "kill $killed, seed $seed: another result" "$work/diff"
    elif compgen -G 'run/ckpt/*.tmp' >"$work/leftovers"; then
        fail "kill $killed, seed $seed: leftovers" "$work/leftovers"
    else
        equal=$((equal + here))
    fi
done
if [ $killed -ge "$kills" ] && [ $equal = $killed ]; then
    pass "killed $killed times, $equal equal to the undisturbed run"
else
    fail "killed $killed times of $kills, $equal equal to the undisturbed run (seed $seed)"
fi
finish
