#!/usr/bin/env bash
# A Slurm of one machine with two nodes, started here: bench/cluster/train.sbatch trains on two ranks, and
# is preempted by another job; it saves, is queued again, and ends with the bits of a run that was not.
. tests/dist/lib.sh
. tests/dist/dead.sh

if [ "$(id -u)" != 0 ] || ! command -v slurmctld >/dev/null || ! command -v munged >/dev/null; then
    skip "a run under Slurm" "needs root, slurm-wlm and munge"
    finish
fi

cluster=$PWD/bench/cluster
daemons=()
slurm_stop() {
    [ -z "${SLURM_CONF:-}" ] || scancel --user=root --signal=KILL --full 2>/dev/null
    sleep 1
    kill "${daemons[@]}" 2>/dev/null
    wait 2>/dev/null
    # What has left its parent knows the configuration all the same.
    local pid
    for pid in /proc/[0-9]*; do
        [ "$pid" = /proc/$$ ] || ! grep -qzx "SLURM_CONF=$SLURM_CONF" "$pid/environ" 2>/dev/null ||
            kill -KILL "${pid#/proc/}" 2>/dev/null
    done
    rm -rf "$work"
}

# Daemons stay children of this script, so that none is left.
slurm_start() {
    local d=$work/slurm name n
    name=$(hostname -s)
    trap slurm_stop EXIT
    mkdir -p "$d/state" "$d/tmp-n1" "$d/tmp-n2"
    chmod 755 "$work" "$d"
    dd if=/dev/urandom of="$d/munge.key" bs=1024 count=1 2>/dev/null
    chmod 400 "$d/munge.key"
    munged --foreground --force --key-file="$d/munge.key" -S "$d/munge.sock" --pid-file="$d/munge.pid" \
        --log-file="$d/munge.log" --seed-file="$d/munge.seed" >"$d/munge.out" 2>&1 &
    daemons+=($!)
    touch "$d/cgroup.conf" "$d/plugstack.conf"
    cat >"$d/slurm.conf" <<END
ClusterName=puck
SlurmctldHost=$name(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthInfo=socket=$d/munge.sock,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
StateSaveLocation=$d/state
SlurmdSpoolDir=$d/spool-%n
SlurmctldPidFile=$d/slurmctld.pid
SlurmdPidFile=$d/slurmd-%n.pid
SlurmctldLogFile=$d/slurmctld.log
SlurmdLogFile=$d/slurmd-%n.log
TmpFS=$d/tmp-%n
NodeName=n[1-2] NodeHostname=$name NodeAddr=127.0.0.1 Port=[16821-16822] CPUs=2
PartitionName=low Nodes=n[1-2] Default=YES PriorityTier=1 GraceTime=60
PartitionName=high Nodes=n[1-2] PriorityTier=2
END
    export SLURM_CONF=$d/slurm.conf
    wait_for 10 test -S "$d/munge.sock" || return 1
    slurmctld -D >"$d/slurmctld.out" 2>&1 &
    daemons+=($!)
    for n in n1 n2; do
        slurmd -D -N $n >"$d/$n.out" 2>&1 &
        daemons+=($!)
    done
    wait_for 30 nodes_idle
}
nodes_idle() { [ "$(sinfo -h -o '%D %t' 2>/dev/null)" = "2 idle" ]; }
state_of() { scontrol show job "$1" 2>/dev/null | sed -nE 's/.*JobState=([A-Z]+).*/\1/p'; }
is_state() { [[ $(state_of "$1") =~ ^($2)$ ]]; }

slurm_start
check "Slurm has two idle nodes" nodes_idle
cd "$work" || exit 1
mkdir whole preempted
make_text | tee whole/text.txt >preempted/text.txt
recipe=(--batch-size 4 --lr 0.001 --device cpu --eval-every 0 --save-every 0)

# batch FOLDER ARGUMENTS...: the job's number.
batch() {
    local folder=$1
    shift
    (cd "$folder" && PUCK=$puck sbatch --parsable "$cluster/train.sbatch" --data text.txt --run run \
        --threads 1 "${model[@]}" "${recipe[@]}" "$@")
}
job=$(batch whole --steps 20)
wait_for 60 is_state "$job" 'COMPLETED|FAILED'
check "a job trains on two nodes" is_state "$job" COMPLETED
cat whole/puck-*.log >"$work/log"
check "and says so" grep -q "^step 20/20" "$work/log"

# The README's line.
readme_stage
job=$(cd "$work/readme" && PATH=$work/readme/bin:$PATH eval "$(readme_lines sbatch)" | tr -dc 0-9)
wait_for 60 is_state "$job" 'COMPLETED|FAILED'
check "the README's line for Slurm" is_state "$job" COMPLETED
check "it has saved" test -e "$work/readme/runs/job/ckpt/latest"

# A job of higher priority takes the nodes: the run saves, ends, waits, and goes on.
job=$(batch preempted --steps 100000000)
wait_for 60 is_state "$job" RUNNING
wait_for 60 grep -qs '^step 50' preempted/puck-"$job".log
high=$(cd "$work" && sbatch --parsable --partition=high --nodes=2 --exclusive --output=high.log --wrap "sleep 3")
wait_for 60 is_state "$high" COMPLETED
check "a job of higher priority runs" is_state "$high" COMPLETED
restarted() { [ "$(grep -c '^model ' preempted/puck-"$job".log)" -ge 2 ]; }
wait_for 90 restarted
check "the preempted job saved" grep -q '^saved step' preempted/puck-"$job".log
check "and was started again" restarted
scancel "$job"
wait_for 90 is_state "$job" CANCELLED
check "no step was trained twice" test -z "$(sed -nE 's/.*"step": *([0-9]+).*/\1/p' \
    preempted/run/metrics.jsonl | sort -n | uniq -d)"
end=$(basename "$(readlink preempted/run/ckpt/latest)" | tr -dc 0-9)
rank_train 2 same 100000000 --stop-after $((10#$end)) >same.out 2>&1
check "the bits are those of a run that was left alone" cmp \
    preempted/run/ckpt/latest/model.safetensors same/run/ckpt/latest/model.safetensors
finish
