#!/bin/sh
# Start a deployment, watch it, and end as it ends. For any CI system: wants `cai`, `prefect` and `python` on the PATH,
# and PREFECT_API_URL (with PREFECT_API_AUTH_STRING where the server asks for it).
#
#     deployments/ci/run.sh FLOW/DEPLOYMENT SECONDS [more arguments of `prefect deployment run`]
#     deployments/ci/run.sh constitutional-ai/weekly 36000 --param limit=200
#
# CAI_LINT names the constitutions to lint first, such as "constitution/*.yaml"; none: nothing is linted.
# Exit code: 0 completed; 1 failed, with the run's reason; 2 the command line, or a constitution, is wrong; 124 the time
# was up, and the run is cancelled; 130 or 143 this script was interrupted, and the run is cancelled.
set -u

if [ $# -lt 2 ]; then
    sed -n 's/^#     //p' "$0" >&2
    exit 2
fi
deployment=$1
seconds=$2
shift 2
deadline=$(($(date +%s) + seconds))
folder=$(mktemp -d)
run=
watcher=

say() { printf '%s\n' "$*" >&2; }

state() { # of the run: its type, and on the next lines its message
    prefect flow-run inspect "$run" --output json |
        python -c 'import json, sys; s = json.load(sys.stdin)["state"]; print(s["type"], s["message"] or "", sep="\n")'
}

cancel() {
    prefect flow-run cancel "$run" >&2 && say "cancelled $run"
}

interrupted() { # the CI system has given the job up
    trap '' INT TERM
    say "interrupted by SIG$1"
    [ -n "$watcher" ] && kill "$watcher" 2>/dev/null
    [ -z "$run" ] && run=$(id_of_run)
    [ -n "$run" ] && cancel
    exit "$2"
}

id_of_run() { sed -n 's/.*UUID: *\([0-9a-f-]*\).*/\1/p' "$folder/log" 2>/dev/null | head -n 1; }

watch() { # in the background, so that a signal is heard at once
    "$@" >"$folder/pipe" 2>&1 &
    watcher=$!
    wait "$watcher"
    code=$?
    watcher=
    wait "$copier" # what it said is on the screen before what we say
    return "$code"
}

trap 'rm -rf "$folder"' EXIT
trap 'interrupted INT 130' INT
trap 'interrupted TERM 143' TERM

if [ -n "${CAI_LINT:-}" ]; then
    # shellcheck disable=SC2086  # patterns are meant to expand
    cai constitution lint $CAI_LINT || exit 2
fi

mkfifo "$folder/pipe"
tee "$folder/log" <"$folder/pipe" &
copier=$!
watch prefect deployment run "$deployment" --watch --watch-timeout "$seconds" --tag ci "$@"
code=$?
run=$(id_of_run)
[ "$code" -eq 0 ] && exit 0
if [ -z "$run" ]; then
    say "no run was started"
    exit 2
fi

while :; do
    answer=$(state)
    kind=$(printf '%s\n' "$answer" | head -n 1)
    left=$((deadline - $(date +%s)))
    case $kind in
    COMPLETED) exit 0 ;;
    FAILED | CRASHED | CANCELLED)
        say "$deployment is $kind: $(printf '%s\n' "$answer" | tail -n +2)"
        exit 1
        ;;
    esac
    [ "$left" -le 0 ] && break
    sleep 1
    tee -a "$folder/log" <"$folder/pipe" & # the connection was lost, or the server was away for a moment
    copier=$!
    watch prefect flow-run watch "$run" --timeout "$left"
done
say "$deployment was still $kind after $seconds s"
cancel
exit 124
