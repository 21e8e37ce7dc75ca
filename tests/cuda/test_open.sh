#!/bin/bash
# The CUDA back end on a machine without a card: one sentence that says what is missing; memory plans work.
. tests/cli/lib.sh

library=$(realpath "${BUILD:-build}")/cuda-90a/libpuck_cuda.so
if [ ! -e "$library" ]; then
    skip "the CUDA back end is opened" "it was not built: no nvcc"
    finish
fi
info=("$puck" info --preset gpt2 --device "$library")

if [ -e /proc/driver/nvidia ]; then
    skip "no driver" "there is one"
else
    refuses 1 "no driver" "there is no NVIDIA driver" "--device cpu" -- "${info[@]}"
fi

"${CC:-gcc}" -shared -fPIC -o "$work/libcuda.so.1" tests/cuda/driver_fake.c
refuses 1 "a driver too old" "supports CUDA 12.4" "needs CUDA 13" "Update the driver" -- \
    env LD_LIBRARY_PATH="$work" FAKE_DRIVER=12040 "${info[@]}"
refuses 1 "a driver without a card" "the driver finds no NVIDIA card" "--device cpu" -- \
    env LD_LIBRARY_PATH="$work" FAKE_DRIVER=13000 "${info[@]}"

works "a plan for a card that is not there" "device's own                 814.00 MB" "of 80000 MB: fits" -- \
    "${info[@]}" --device-memory 80G
works "a plan that does not fit says so" "of 8000 MB" -- "${info[@]}" --device-memory 8G
works "what CUDA takes itself is in the JSON too" '"device": 814000000' -- "${info[@]}" --device-memory 80G --json
finish
