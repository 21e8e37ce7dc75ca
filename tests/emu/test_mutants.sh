#!/usr/bin/env bash
# The everyday sample of `make mutants`.
exec bash tests/emu/mutants.sh 8
