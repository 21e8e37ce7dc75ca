#!/usr/bin/env bash
# Disks that are full or read-only, and two processes in one run folder.
. tests/cli/lib.sh
make_text >"$work/text.txt"
works "tokens for all runs" -- "$puck" tokenize --input "$work/text.txt" --output "$work/tokens"
train=("$puck" train --data "$work/tokens" "${tiny[@]}" --save-every 2)

# again.sh HARM COMMAND...: in a small file system of its own, at $disk, two steps, the harm, the rest. What
# the checkpoints were before and after is in $work.
cat >"$work/again.sh" <<'END'
harm=$1
shift
mount -t tmpfs -o size=4m tmpfs "$disk" || exit 99
"$@" --run "$disk/run" --steps 4 --stop-after 2 >"$work/first" 2>&1 || exit 98
checkpoints "$disk/run" >"$work/before"
eval "$harm" 2>/dev/null
"$@" --run "$disk/run" --steps 4
code=$?
checkpoints "$disk/run" >"$work/after"
exit $code
END
disk=$work/disk
mkdir "$disk"
export disk work
export -f checkpoints
if unshare -m mount -t tmpfs tmpfs "$disk" 2>/dev/null; then
    # Full: nothing more can be written. Nearly full: the log and a part of the checkpoint can.
    fill='dd if=/dev/zero of="$disk/filler" bs=4096'
    for name in full "nearly full"; do
        [ "$name" = full ] || fill+='; truncate -s -12288 "$disk/filler"'
        refuses 1 "a $name disk" "No space left" "$disk/run" -- \
            unshare -m bash "$work/again.sh" "$fill" "${train[@]}"
        check "the checkpoint is as it was, and nothing half-written is beside it" \
            diff "$work/before" "$work/after"
    done
    refuses 1 "a read-only run folder" "$disk/run" "Read-only" -- \
        unshare -m bash "$work/again.sh" 'mount -o remount,ro "$disk"' "${train[@]}"
    check "the checkpoint there is as it was" diff "$work/before" "$work/after"
    refuses 1 "tokens for a full disk" "No space left" -- \
        unshare -m bash -c 'mount -t tmpfs -o size=4k tmpfs "$disk" && "$@"' bash \
        "$puck" tokenize --input "$work/text.txt" --output "$disk/tokens"
else
    for name in "a full disk" "a nearly full disk" "a read-only run folder" "tokens for a full disk"; do
        skip "$name" "mounting is not permitted here"
    done
fi

if strace -o /dev/null true 2>/dev/null; then
    refuses 1 "a metrics line of which a part was written" "metrics.jsonl" "No space left" -- \
        strace -D -f -qq -o /dev/null -P "$work/cut/metrics.jsonl" -e trace=write \
        -e inject=write:retval=5:when=2 "${train[@]}" --run "$work/cut" --steps 4
else
    skip "a metrics line of which a part was written" "strace is missing or may not trace"
fi

# A file system that syncs no folders. A sanitizer cannot look for leaks of what is traced.
if strace -o /dev/null true 2>/dev/null; then
    works "folders that cannot be synced" finished -- strace -f -qq -o "$work/calls" -E ASAN_OPTIONS=detect_leaks=0 \
        -P "$work/network/ckpt" -P "$work/network/ckpt/step-00000002.tmp" \
        -e trace=fsync -e inject=fsync:error=EINVAL "${train[@]}" --run "$work/network" --steps 2
    check "which they were asked to be" grep -q INJECTED "$work/calls"
else
    skip "folders that cannot be synced" "strace is missing or may not trace"
fi

# NFS moves files but exchanges none: a run's text is tokenized anew when the same command goes on.
if strace -o /dev/null true 2>/dev/null; then
    text=("$puck" train --data "$work/text.txt" "${tiny[@]}" --run "$work/nfs" --steps 4)
    works "half a run" -- "${text[@]}" --stop-after 2
    works "which goes on where folders cannot be exchanged" finished -- strace -f -qq -o "$work/calls" \
        -E ASAN_OPTIONS=detect_leaks=0 -e trace=renameat2 -e inject=renameat2:error=EINVAL "${text[@]}"
    check "which was tried" grep -q 'RENAME_EXCHANGE.*INJECTED' "$work/calls"
    check "and leaves nothing beside the data" test "$(cd "$work/nfs" && echo data*)" = data
else
    skip "half a run" "strace is missing or may not trace"
fi

# A shard that is cut off under a run that reads it.
cp -r "$work/tokens" "$work/shrinks"
"$puck" train --data "$work/shrinks" "${tiny[@]}" --run "$work/bus" --steps 1000000 --quiet \
    >"$work/stdout" 2>"$work/stderr" &
run=$!
until [ -s "$work/bus/metrics.jsonl" ] || ! kill -0 "$run" 2>/dev/null; do sleep 0.05; done
truncate -s 0 "$work/shrinks/train_000000.bin"
wait "$run"
check "a shard that is cut off in use ends the run with 1" test $? = 1
check "and with a sentence" diff "$work/stderr" - <<END
puck: the file was cut off while it was in use, or its disk has failed ($work/shrinks/train_000000.bin). \
Restore it, and start again.
END

: >"$work/file"
refuses 1 "a run folder that is a file" "$work/file" -- "${train[@]}" --run "$work/file" --steps 2

# The second process must not disturb the first, which goes on until it is told to stop.
"${train[@]}" --run "$work/run" --steps 1000000 >"$work/first" 2>&1 &
first=$!
until [ -e "$work/run/ckpt/latest" ] || ! kill -0 "$first" 2>/dev/null; do sleep 0.05; done
refuses '[12]' "two processes in one run" "$work/run" "$first" -- "${train[@]}" --run "$work/run" --steps 4
check "the first one is still running" kill -0 "$first"
kill -TERM "$first"
wait "$first"
check "it saves and ends with 75" test $? = 75
works "its checkpoint loads" -- \
    "$puck" generate --from "$work/run" --prompt the --tokens 3 --device cpu
finish
