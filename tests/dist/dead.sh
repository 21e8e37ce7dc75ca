# Sourced after lib.sh: a run of two ranks that is disturbed, and what must follow.

recipe=(--batch-size 4 --lr 0.001 --clip 1 --device cpu --log-every 1 --eval-every 0 --save-every 1)
host=$(hostname)

launch=(mpirun --allow-run-as-root --oversubscribe)
# ranks_of JOB: their process numbers, in their order; the job has a child, timeout, whose child is mpirun.
ranks_of() { pgrep -P "$(pgrep -P "$(pgrep -P "$1")")" -x puck | sort -n; }
# gone PID...: none of them is there any more; what has ended and nobody has asked for counts as gone.
gone() {
    local pid
    for pid in "$@"; do
        [ ! -e "/proc/$pid" ] || grep -q '^State:.*Z' "/proc/$pid/status" || return 1
    done
}
# wait_for SECONDS COMMAND...: until it succeeds.
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.05
    done
}
saved() { [[ $(readlink "$1/run/ckpt/latest") > step-00000002 ]]; }

instead= # what of mpirun's words may stand in for puck's
# disturb NAME BLOW: a run of 100 million steps gets the command BLOW, which knows the ranks' process
# numbers as ${pids[0]} and ${pids[1]}; it goes on in the background.
disturb() {
    local name=$1 pids
    mkdir -p "$name"
    make_text >"$name/text.txt"
    (
        cd "$name" || exit
        timeout -k 1 100 "${launch[@]}" -np 2 "$puck" train --data text.txt --run run --steps 100000000 \
            --threads 1 "${model[@]}" "${recipe[@]}" >out 2>&1 </dev/null
        echo "$? $EPOCHSECONDS" >end
    ) &
    echo $! >"$name/job"
    wait_for 60 saved "$name" || fail "$name: the run saves" "$name/out"
    ranks_of $! >"$name/pids"
    mapfile -t pids <"$name/pids"
    check "$name: two ranks run" test ${#pids[@]} = 2
    echo $EPOCHSECONDS >"$name/blow"
    eval "$2"
}
# ended NAME WORD...: the run that was disturbed ends, and says every WORD.
ended() {
    local name=$1 pids code end word
    shift
    wait "$(cat "$name/job")"
    mapfile -t pids <"$name/pids"
    {
        read -r code end <"$name/end" || echo "it has not ended"
        [ "$code" != 0 ] && [ "$code" != 124 ] || echo "exit code $code"
        [ $((end - $(cat "$name/blow"))) -le 30 ] || echo "it took $((end - $(cat "$name/blow"))) s"
        if [ -z "$instead" ] || ! grep -q "$instead" "$name/out"; then
            [ "$(grep -c '^puck: ' "$name/out")" = 1 ] || echo "not one error line"
            for word in "$@"; do
                grep '^puck: ' "$name/out" | grep -qF -e "$word" || echo "the error does not say: $word"
            done
        fi
        wait_for 5 gone "${pids[@]}" || echo "a process is left"
    } >"$work/why"
    if [ -s "$work/why" ]; then
        grep -vE '^(  |step|memory|model|work)' "$name/out" >>"$work/why"
        fail "$name: ends the job, named" "$work/why"
    else
        pass "$name: ends the job, named"
    fi
    kill -KILL "${pids[@]}" 2>/dev/null
}
# disturbed NAME BLOW WORD...
disturbed() {
    disturb "$1" "$2"
    ended "$1" "${@:3}"
}

# resumes NAME: some steps more are those of a run that was never disturbed.
resumes() {
    local last=$1/run/ckpt/latest step
    step=$((10#$(basename "$(readlink "$last")" | tr -dc 0-9) + 5))
    rank_train 2 "$1" 100000000 --stop-after 5 >"$1/out" 2>&1
    rank_train 2 "$1-whole" 100000000 --stop-after $step --save-every 0 >"$1-whole.out" 2>&1
    check "$1: resumed to the same bits" cmp \
        "$1/run/ckpt/latest/model.safetensors" "$1-whole/run/ckpt/latest/model.safetensors"
    check "$1: and the same optimiser" cmp <(cat "$1"/run/ckpt/latest/optim*) \
        <(cat "$1-whole"/run/ckpt/latest/optim*)
}
