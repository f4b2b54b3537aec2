#!/bin/sh
# healthcheck.sh DIRECTORY [SECONDS]: does the mount answer? Never waits longer than SECONDS (5).
# Exit 0 answers, 66 not mounted, 69 dead, 74 answers with errors, 75 hung; one word on stdout.
set -u
unset CDPATH
here=$(cd -P -- "$(dirname -- "$0")" && pwd -P)
. "$here/table.sh"

report() { # EXIT_CODE WORD
    echo "$2"
    exit "$1"
}

case ${2:-5} in
    *[!0-9]*) set -- ;;
esac
[ -n "${1:-}" ] || { echo 'usage: healthcheck.sh DIRECTORY [SECONDS]' >&2 && exit 64; }
directory=$(absolute "$1") || report 66 not-mounted
is_s3fs "$directory" || report 66 not-mounted
# The log of s3fs has no end of its own.
log=$(state_of "$directory")/log
if [ -w "$log" ] && [ "$(wc -c <"$log")" -gt 1048576 ]; then
    : >"$log"
fi
probe "$directory" "${2:-5}"
case $? in
    0) report 0 ok ;;
    1) report 69 dead ;;
    2) report 75 hung ;;
    *) report 74 failing ;;
esac
