#!/usr/bin/env bash
# Puts what gpu-check needs into one folder, for a machine that has a driver, CUDA's libraries and
# Python, but none of Debian's packages: bash bench/gpu_bundle.sh FOLDER BUILD. Called by make gpu-bundle.
# For one process: without MPI.
set -euo pipefail
bundle=$1 build=$2
most=$((60 << 20)) # bytes that a bundle may have

rm -rf "$bundle"
mkdir -p "$bundle"/{lib,data/text,bench,build/tests/{ops,model,cuda}}
cp puck libpuck_{cuda,emu}.so "$bundle"
cp "$build"/tests/ops/test_ops_device "$bundle/build/tests/ops"
cp "$build"/tests/model/test_device "$bundle/build/tests/model"
cp "$build"/tests/cuda/test_comm "$bundle/build/tests/cuda"
cp -r bench/peers "$bundle/bench"
rm -rf "$bundle"/bench/peers/__pycache__
cp bench/gpu_check.py "$bundle/gpu-check"
cp data/text/tinyshakespeare.txt "$bundle/data/text"
git describe --always --dirty >"$bundle/COMMIT"

# Every library that the programs load, the C library's own aside: those must fit the kernel there.
programs=("$bundle"/puck "$bundle"/libpuck_*.so "$bundle"/build/tests/*/*)
ldd "${programs[@]}" | sed -nE 's/^\t[^ ]+ => (\/[^ ]+) .*/\1/p' | sort -u |
    grep -vE '/(libc|libm|libdl|librt|libpthread|ld-linux[^/]*)\.so' | xargs -I{} cp -L {} "$bundle/lib"
strip --strip-debug "${programs[@]}" "$bundle"/lib/*

bytes=$(du -sb "$bundle" | cut -f 1)
echo "$bundle: $((bytes >> 20)) MiB; on the other machine: python3 gpu-check"
if [ "$bytes" -gt $most ]; then
    echo "the bundle has $bytes bytes, more than $most" >&2
    exit 1
fi
