# Sourced by the tests of this folder: what puck says and leaves when it is used wrongly.
. tests/tap.sh

# Pieces of a tiny run, so that a test takes moments.
tiny=(--layers 1 --heads 2 --channels 8 --context 8 --batch-size 2 --lr 0.01 --device cpu --threads 1
    --eval-every 0 --log-every 1)

# A text of a few thousand characters with a fixed alphabet.
make_text() {
    local i
    for ((i = 0; i < 150; i++)); do echo "the line $i says $((i * i % 101))"; done
}

# refuses CODES NAME WORD... -- COMMAND...: the command ends with one of CODES (a pattern such as [12]),
# and stderr holds exactly one error line, in which every WORD stands.
refuses() {
    local codes=$1 name=$2 words=() code lines word
    shift 2
    while [ "$1" != -- ]; do words+=("$1") && shift; done
    shift
    timeout 120 "$@" >"$work/stdout" 2>"$work/stderr" </dev/null
    code=$?
    grep '^puck: ' "$work/stderr" >"$work/error"
    {
        # shellcheck disable=SC2053
        [[ $code == $codes ]] || echo "exit code $code, not $codes"
        lines=$(wc -l <"$work/error")
        [ "$lines" = 1 ] || echo "$lines error lines"
        for word in "${words[@]}"; do
            grep -qF -e "$word" "$work/error" || echo "the error does not say: $word"
        done
    } >"$work/why"
    report "$name"
}

# works NAME WORD... -- COMMAND...: it ends with 0, and every WORD stands in what it wrote.
works() {
    local name=$1 words=() code word
    shift
    while [ "$1" != -- ]; do words+=("$1") && shift; done
    shift
    timeout 120 "$@" >"$work/stdout" 2>"$work/stderr" </dev/null
    code=$?
    {
        [ $code = 0 ] || echo "exit code $code"
        for word in "${words[@]}"; do
            cat "$work/stdout" "$work/stderr" | grep -qF -e "$word" || echo "it does not say: $word"
        done
    } >"$work/why"
    report "$name"
}

# Passes if nothing stands in $work/why.
report() {
    if [ -s "$work/why" ]; then
        { cat "$work/why" && echo "stderr:" && cat "$work/stderr"; } >"$work/detail"
        fail "$1" "$work/detail"
    else
        pass "$1"
    fi
}

# break_weights FOLDER NEW: the checkpoint in FOLDER without its manifest, every weight not a number.
break_weights() {
    cp -rL "$1" "$2" && rm -f "$2/MANIFEST.json"
    python3 - "$2/model.safetensors" <<'PYTHON'
import struct, sys
data = open(sys.argv[1], "rb").read()
n = 8 + struct.unpack("<Q", data[:8])[0]
open(sys.argv[1], "wb").write(data[:n] + b"\xff" * (len(data) - n))
PYTHON
}

# Names and contents of a run's checkpoints, and where its links point.
checkpoints() {
    (cd "$1/ckpt" && find . -type f -exec sha256sum {} + | sort && find . -type l -printf '%p %l\n' | sort)
}

# untouched NAME FOLDER: its checkpoints are those that `checkpoints FOLDER >"$work/before"` saw.
untouched() {
    checkpoints "$2" >"$work/after"
    diff "$work/before" "$work/after" >"$work/why"
    report "$1"
}
