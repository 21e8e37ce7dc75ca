#!/usr/bin/env bash
# Two hosts with one rank each: the losses of one process, and faults that one host cannot have.
. tests/cluster/lib.sh

hosts_start || fail "two hosts are set up"
cd "$work" || exit 1

mkdir one two
make_text | tee one/text.txt >two/text.txt
rank_train 1 one 20 2>/dev/null || fail "one rank trains"
(cd two && "${launch[@]}" "$puck" train --data text.txt --run run --steps 20 --threads 1 "${model[@]}" \
    "${recipe[@]}") >two/out 2>&1 </dev/null
check "two hosts train" test $? = 0
close_series "losses are those of one rank" train_loss 1e-6 one two

# The README's line, where the environment says what is of this stage.
readme_stage
readme_lines 'mpirun --tune' >"$work/readme/line"
check "the README's line for two hosts" "$work/agent" hostA env -C "$work/readme" PATH="$work/readme/bin:$PATH" \
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_plm=rsh \
    OMPI_MCA_plm_rsh_agent="$work/agent" OMPI_MCA_btl=tcp,self OMPI_MCA_btl_tcp_if_include=$net \
    OMPI_MCA_oob_tcp_if_include=$net bash line
check "it has saved" test -e "$work/readme/runs/hosts/ckpt/latest"

# What the second host lacks: one line from rank 0, and all end.
mkdir lacking
(cd lacking && mkdir run && make_text >text.txt && "$puck" tokenize --input text.txt --output tokens >/dev/null)
lacking() {
    echo "$work/lacking/$1" >"$work/hostB-lacks"
    (cd lacking && exec timeout 60 "${launch[@]}" "$puck" train --data tokens --run run --steps 6 --threads 1 \
        "${model[@]}" "${recipe[@]}") >"$work/stdout" 2>"$work/stderr" </dev/null
    last=$?
    rm "$work/hostB-lacks"
}
lacking tokens
refused "a host without the data" 1 "rank 1 on hostB" "the folder holds no tokens"
lacking run
refused "a host with another run folder" 1 "rank 1 on hostB" "not the one that rank 0 sees"

cut="ip -n $space-hostB link set cable down"
disturbed cut "$cut" "rank 1 on hostB" "out of reach" "rank 0 on hostA"
ip -n "$space-hostB" link set cable up
resumes cut
# OpenMPI may end rank 0 without a word, when that sends to the dead rank before it has noticed.
instead='mpirun noticed that process rank 1 with PID [0-9]* on node hostB exited on signal 9'
disturbed killed 'kill -KILL ${pids[1]}' "rank 1 on hostB" "rank 0 on hostA"
instead=
disturbed stopped 'kill -STOP ${pids[1]}' "rank 1 on hostB" "out of reach" "rank 0 on hostA"
disturbed first 'kill -STOP ${pids[0]}' "rank 0 on hostA" "out of reach" "rank 1 on hostB"
disturbed head 'kill -KILL ${pids[0]}' "rank 0 on hostA"
# Its process goes on, and its beats: only the others' waiting shows it.
export PUCK_TEST_STUCK=1,6
disturbed stuck : "rank 1 on hostB" "is stuck" "rank 0 on hostA waits in reduce_scatter"
unset PUCK_TEST_STUCK
resumes stuck
finish
