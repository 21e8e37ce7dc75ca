#!/usr/bin/env bash
# puck bench comm: a line for each collective and size, with figures that fit each other.
. tests/dist/lib.sh

check "two ranks exchange data" ranks 2 "$puck" bench comm --device cpu --repeats 2 --json
for op in all_reduce reduce_scatter all_gather broadcast; do
    check "$op of 7 sizes" test "$(grep -c "\"op\": \"$op\"" "$work/stdout")" = 7
done
check "bytes over seconds are the bandwidth" awk '{
        match($0, /"bytes": [^,]*/); bytes = substr($0, RSTART + 9, RLENGTH - 9) + 0
        match($0, /"median_sec": [^,]*/); sec = substr($0, RSTART + 14, RLENGTH - 14) + 0
        match($0, /"gbps": [^,]*/); rate = substr($0, RSTART + 8, RLENGTH - 8) + 0
        match($0, /"bus_gbps": [^,]*/); bus = substr($0, RSTART + 12, RLENGTH - 12) + 0
        # Of two ranks: 2 * 1/2, 1/2, 1/2 and 1.
        factor = /"op": "(reduce_scatter|all_gather)"/ ? 0.5 : 1
        if (!(sec > 0) || rate * sec * 1e9 / bytes < 0.9999 || rate * sec * 1e9 / bytes > 1.0001 ||
            bus < factor * rate * 0.9999 || bus > factor * rate * 1.0001) { print; bad = 1 }
    } END { exit bad || NR != 28 }' "$work/stdout"
check "a table without --json" ranks 3 "$puck" bench comm --device cpu --repeats 1
check "it says how many ranks" grep -q "^3 ranks, device" "$work/stdout"
attempt 1 "$puck" bench comm --device cpu
refused "one process alone" 2 "bench comm" "mpirun -np 2"
finish
