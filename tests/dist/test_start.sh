#!/usr/bin/env bash
# What ranks must have in common, and how they stop together. The odd one is made by giving mpirun two
# programs: rank 0 as it should be, and rank 1 with another option, build, data or folder.
. tests/dist/lib.sh

recipe=(--batch-size 4 --lr 0.01 --device cpu --log-every 1 --eval-every 0 --save-every 0)
cd "$work" || exit 1
make_text >text.txt
train=(train --data text.txt --run run --steps 6 --threads 1 "${model[@]}" "${recipe[@]}")

# odd COMMAND... -- WORDS: rank 0 trains, rank 1 is COMMAND.
odd() {
    mpirun --allow-run-as-root --oversubscribe --mca odls_base_sigkill_timeout 0 \
        -np 1 "$puck" "${train[@]}" : -np 1 "$@" >"$work/stdout" 2>"$work/stderr" </dev/null
    last=$?
    echo "$last" >"$work/code"
}
fresh() { rm -rf run && mkdir run; }

fresh
odd "$puck" "${train[@]}" --lr 0.02
refused "another option" 2 "rank 1 on" "--lr" "0.02" "0.01"

fresh
mkdir other && cp "$puck" other/puck && cp "${puck%/*}/libpuck_mpi.so" other && echo >>other/puck
odd other/puck "${train[@]}"
refused "another build" 2 "rank 1 on" "the builds of puck"

# srun starts programs that know nothing of each other, unless it is told of MPI.
SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=2 "$puck" "${train[@]}" >/dev/null 2>"$work/stderr"
last=$?
refused "srun without MPI" 2 "srun" "Add --mpi=pmix"

# A second host: rank 1 sees other folders.
if unshare -m true 2>/dev/null; then
    fresh
    odd unshare -m sh -c 'mount -t tmpfs none run && exec "$@"' sh "$puck" "${train[@]}"
    refused "a run folder of its own" 1 "rank 1 on" "not the one that rank 0 sees"
    fresh
    odd unshare -m sh -c 'mount --bind run run && mount -o remount,ro,bind run && exec "$@"' sh "$puck" "${train[@]}"
    refused "a run folder that cannot be written" 1 "rank 1 on" "cannot write to the run folder"
    fresh
    "$puck" tokenize --input text.txt --output tokens >/dev/null
    train[2]=tokens
    odd unshare -m sh -c 'mount -t tmpfs none tokens && exec "$@"' sh "$puck" "${train[@]}"
    refused "no data" 1 "rank 1 on" "the folder holds no tokens"
    cp -r tokens elsewhere
    sed -i 's/"data_hash": "[0-9a-f]*"/"data_hash": "0123456789abcdef"/' elsewhere/meta.json
    fresh
    odd unshare -m sh -c 'mount --bind elsewhere tokens && exec "$@"' sh "$puck" "${train[@]}"
    refused "other data" 2 "rank 1 on" "the tokens differ"
    train[2]=text.txt
else
    skip "ranks that see other folders" "no mount namespaces here"
fi

# A disk that is full for one rank: its part of the checkpoint does not fit. Nothing stays of the save.
fresh
odd bash -c 'trap "" XFSZ; ulimit -f 8; exec "$@"' sh "$puck" "${train[@]}"
refused "no room for one rank's part" 1 "rank 1 on" "optim-00002-of-00002.safetensors"
check "nothing is left of that save" test -z "$(ls run/ckpt)"

# A signal to one rank stops all after the same step, saved, with 75.
for signal in USR1 TERM; do
    fresh
    train[6]=1000000
    odd bash -c 'echo $$ >pid; exec "$@"' sh "$puck" "${train[@]}" &
    job=$!
    for ((i = 0; i < 600; i++)); do
        [ -s run/metrics.jsonl ] && break
        sleep 0.1
    done
    kill -$signal "$(cat pid)"
    wait $job
    grep -oE 'saved step [0-9]+' "$work/stderr" >"$work/saved"
    check "SIG$signal to one rank: all save the same step" grep -q "\"step\": $(cut -d ' ' -f 3 "$work/saved")," \
        run/ckpt/latest/state.json
    check "SIG$signal: with exit code 75" test "$(cat "$work/code")" = 75
    check "SIG$signal: and say so once" test "$(wc -l <"$work/saved")" = 1
    train[6]=6
done

# Weights that drift apart are found at the next comparison; without ZeRO nothing mends them.
fresh
PUCK_TEST_DRIFT=1,3 attempt 2 "$puck" "${train[@]}" --compare-every 2 --no-zero
refused "weights that drift" 2 "rank 1 on" "the weights differ"
finish
