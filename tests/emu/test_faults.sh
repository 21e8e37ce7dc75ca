#!/usr/bin/env bash
# What the emulator must find: each wrong kernel of faults.cu is reported with kernel, block, thread
# and the marked line; each correct twin runs in three schedules to the same result. $1: a build.
. tests/tap.sh
source=tests/emu/faults.cu
build=${BUILD:-build}
# Meetings and barriers are watched in every build, single accesses in the checker's.
everywhere="divergent_shuffle wrong_mask early_return two_barriers"

names=$(sed -n 's:.*/\* FAULT \([a-z_]*\) \*/.*:\1:p' $source)
for name in $names; do
    line=$(grep -n "FAULT $name " $source | cut -d: -f1)
    for kind in faults faults_check; do
        program=$build/tests/emu/$kind
        [[ $kind = faults_check || " $everywhere " == *" $name "* ]] || continue
        { "$program" "$name" wrong >"$work/out" 2>&1 && echo "ended well" >>"$work/out"; } 2>"$work/shell"
        if grep -qE "^emu: kernel .*block \(.*\) thread \(.*\) at .*$source:$line\b" "$work/out" ||
            grep -qE "^emu: kernel .*block \(.*\) thread \(.*\) at .*faults.cu:.*$source:$line\b" "$work/out"; then
            pass "$kind: $name is reported at line $line"
        else
            fail "$kind: $name is reported at line $line" "$work/out"
        fi
    done
    : >"$work/sums"
    for kind in faults faults_check; do
        for schedule in forward reverse shuffle:1; do
            PUCK_EMU_SCHEDULE=$schedule "$build/tests/emu/$kind" "$name" right >>"$work/sums" 2>&1
        done
    done
    if [ "$(wc -l <"$work/sums")" = 6 ] && [ "$(sort -u "$work/sums" | grep -cE '^[0-9.e+-]+$')" = 1 ] &&
        [ "$(sort -u "$work/sums" | wc -l)" = 1 ]; then
        pass "$name, correct twin: six runs agree"
    else
        fail "$name, correct twin: six runs agree" "$work/sums"
    fi
done

# Calls: the wrong twin ends with the words behind its mark, and at its line unless a kernel or a signal
# tells, the right one well.
calls=$build/tests/emu/calls source=tests/emu/calls.cu
names=$(sed -n 's:.*/\* REFUSED \([a-z_]*\)\: .*:\1:p' $source)
for name in $names; do
    place=$source:$(grep -n "REFUSED $name:" $source | cut -d: -f1):
    words=$(sed -n "s:.*REFUSED $name\: \(.*\) \*/.*:\1:p" $source)
    [[ $words = *" "* ]] && place=emu:
    { "$calls" "$name" wrong >"$work/out" 2>&1 && echo "ended well" >>"$work/out"; } 2>"$work/shell"
    if grep -F "$place" "$work/out" | grep -qF "$words" && ! grep -q "ended well" "$work/out" &&
        "$calls" "$name" right >>"$work/out" 2>&1; then
        pass "$name is refused, and its twin is not"
    else
        fail "$name is refused, and its twin is not" "$work/out"
    fi
done
finish
