#!/usr/bin/env bash
# A rank that is killed, stopped or stuck ends the job within 30 s: the other one names it, its host and the
# collective it waits in, no process is left, and the run goes on from its last save to the same bits as
# one that was not disturbed. What needs a second host: tests/cluster.
. tests/dist/lib.sh
. tests/dist/dead.sh

cd "$work" || exit 1
# These take over ten seconds until they end. A rank that is stuck goes on beating, and on a card the other
# waits in its device: rank 1's has come less far.
cpu=("${recipe[@]}")
recipe+=(--device emu --dtype f32)
export PUCK_TEST_STUCK=1,6
disturb stuck :
unset PUCK_TEST_STUCK
recipe=("${cpu[@]}")
disturb stopped 'kill -STOP ${pids[1]}'
disturbed killed 'kill -KILL ${pids[1]}' "rank 1 on $host" "has ended" "rank 0 on $host"
resumes killed
ended stuck "rank 1 on $host is stuck: it has been in one step" "rank 0 on $host"
ended stopped "rank 1 on $host" "stopped" "rank 0 on $host"
finish
