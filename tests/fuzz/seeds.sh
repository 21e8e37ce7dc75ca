#!/usr/bin/env bash
# seeds.sh FOLDER: small whole files of each format, in a folder for each harness, from which fuzzers
# go on: from nothing they would not find what stands behind a file's header.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bytes() { printf "$(printf '\\x%02x' "$@")"; } # numbers to bytes
word() { bytes $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)); }
for harness in config lines safetensors tokenizer tokens; do mkdir -p "$1/fuzz_$harness"; done

tensors() { # JSON DATA-BYTES
    word ${#1} && word 0 && printf %s "$1" && head -c "$2" /dev/zero
}
f=$1/fuzz_safetensors
tensors '{"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}' 8 >"$f/one"
tensors '{"__metadata__":{"k":"v"},"b":{"dtype":"BF16","shape":[],"data_offsets":[0,2]},'\
'"c":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}}' 2 >"$f/two"
tensors '{"d":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},'\
'"e":{"dtype":"F64","shape":[1],"data_offsets":[2,10]}}' 10 >"$f/wide"

f=$1/fuzz_tokens
{ word 20240520 && word 1 && word 3 && head -c 1012 /dev/zero && head -c 6 /dev/zero; } >"$f/narrow"
{ word 20240801 && word 7 && word 2 && head -c 1012 /dev/zero && word 999 && word 1; } >"$f/wide"
cat >"$f/meta" <<'END'
{"n_vocab": 5, "n_train": 3, "n_val": 0, "train_bytes": 3, "val_bytes": 0,
"tokenizer_hash": "0123456789abcdef", "data_hash": "0123456789abcdef"}
END

f=$1/fuzz_tokenizer
level='{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":'
split='{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":" ?\\p{L}+| "},'
split+='"behavior":"Isolated","invert":false},'
python3 - >"$f/vocab" <<'END'
import json
codes, n = [], 256
for b in range(256):
    plain = 33 <= b <= 126 or (b >= 161 and b != 173)
    codes.append(chr(b if plain else n))
    n += not plain
print(json.dumps({c: i for i, c in enumerate(codes + ["th", "the"])}, ensure_ascii=False)[:-1], end="")
END
vocab=$(<"$f/vocab")
end=",\"decoder\":${level}true},\"added_tokens\":[{\"id\":258,\"content\":\"<x>\"}],"
end+="\"model\":{\"type\":\"BPE\",\"vocab\":$vocab},\"merges\":[\"t h\",[\"th\",\"e\"]]}}"
printf %s "{\"pre_tokenizer\":${level}true}$end" >"$f/pairs"
printf %s "{\"pre_tokenizer\":$split${level}false}]}$end" >"$f/split"
rm "$f/vocab"
printf '#version: 0.2\nt h\nth e\n' >"$f/merges"
python3 -c 'import base64
for i in range(256): print(base64.b64encode(bytes([i])).decode(), i)
print("dGg=", 256)' >"$f/ranks"
printf %s '{"decoder":{"type":"Fuse"},"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":[]}}' >"$f/characters"

f=$1/fuzz_config
for config in data/golden/*/config.json; do cp "$config" "$f/$(basename "$(dirname "$config")")"; done
cat >"$f/state" <<'END'
{"step": 2, "samples": 4, "tokens": 8, "bad_steps": 0, "skipped_steps": 0, "best_step": 2,
"evals_since_best": 0, "best_loss": 1.5, "eval_due": true, "finished": false,
"tokenizer_hash": "0123456789abcdef", "data_hash": "0123456789abcdef", "elapsed_sec": 0.5}
END
echo '{"files": {"config.json": {"bytes": 5, "xxh3": "0123456789abcdef"}}}' >"$f/manifest"

printf 'a good day\tyes\na bad day\tno\nanother one\tyes\nand one\tno\n' >"$1/fuzz_lines/tabs"
printf '{"text": "a", "label": %s, "source": "b", "target": "c"}\n' 1 2 1 2 >"$1/fuzz_lines/objects"
