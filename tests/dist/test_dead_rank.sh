#!/usr/bin/env bash
# A rank that is killed or stopped ends the job within 30 s: the other one names it, its host and the
# collective it waits in, no process is left, and the run goes on from its last save to the same bits as
# one that was not disturbed. What needs a second host: tests/cluster; a device: test_emu.sh.
. tests/dist/lib.sh
. tests/dist/dead.sh

cd "$work" || exit 1
# Ten seconds pass until a rank that is stopped counts as dead.
disturb stopped 'kill -STOP ${pids[1]}'
disturbed killed 'kill -KILL ${pids[1]}' "rank 1 on $host" "has ended" "rank 0 on $host"
resumes killed
ended stopped "rank 1 on $host" "stopped" "rank 0 on $host"
finish
