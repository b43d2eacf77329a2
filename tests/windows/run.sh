#!/bin/bash
# Runs on the Windows that setup.sh made: the commands, how they are stopped, the race of readers and writers, and the tests that need no Linux.
# usage: run.sh CHECKOUT [HOME=/tmp/windows]
C=$(cd "$1" && pwd); H=${2:-/tmp/windows}; failed=0
unset PYTHONDONTWRITEBYTECODE  # with which each process compiles all that it imports
W() { "$H/wpy" -W ignore "$@" || failed=1; }
Z() { tr / '\\' <<<"Z:$C/$1"; }
cd "$(mktemp -d)"
W "$(Z tests/windows/commands.py)" commands
W "$(Z tests/windows/stops.py)"
W "$(Z tests/windows/race.py)" "${SECONDS_OF_RACE:-60}" race
cd "$C" && PYTHONUTF8=1 W -m pytest -q -p no:cacheprovider -p no:randomly -m "not slow and not crash and not browser and not docs and not soak" \
  $(grep -v '^#' tests/windows/files.txt | cut -d' ' -f1)
exit $failed
