#!/usr/bin/env bash
# Gradients that are not numbers: single steps are skipped, three in a row end the run.
. tests/cli/lib.sh
make_text >"$work/text.txt"
train=("$puck" train --data "$work/text.txt" "${tiny[@]}" --save-every 2)

works "one bad step is skipped" "step 3" -- env PUCK_TEST_NAN=3 "${train[@]}" --run "$work/one" --steps 6
works "its weights are numbers" "the" -- \
    "$puck" generate --from "$work/one" --prompt the --tokens 3 --device cpu
works "two in a row are skipped, and two more later" -- \
    env PUCK_TEST_NAN=3,4,6,7 "${train[@]}" --run "$work/four" --steps 9
check "they are counted" grep -Eq '"skipped_steps": ?4' "$work/four/ckpt/latest/state.json"

run=$work/three
refuses 1 "three in a row end the run" .weight step-00000004 -- \
    env PUCK_TEST_NAN=5,6,7 "${train[@]}" --run "$run" --save-every 4 --steps 12
check "the last good checkpoint is there" \
    test "$(readlink "$run/ckpt/latest")" = step-00000004
works "the run can go on from it" -- "${train[@]}" --run "$run" --steps 12
refuses 1 "another limit" .weight -- \
    env PUCK_TEST_NAN=1 "${train[@]}" --run "$work/limit" --steps 6 --max-bad-steps 1
finish
