#!/bin/bash
# The everyday sample of `make test-kill`.
exec bash tests/kill/kill.sh "${KILLS:-5}"
