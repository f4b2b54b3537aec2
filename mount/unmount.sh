#!/bin/sh
# unmount.sh DIRECTORY [--timeout SECONDS] [--force]: unmount it and its stripes, dead or alive.
# The contract is in README.md beside this script.
set -u
unset CDPATH
here=$(cd -P -- "$(dirname -- "$0")" && pwd -P)
. "$here/table.sh"

fail() { # EXIT_CODE REASON MESSAGE [HINT]
    printf 'unmount.sh: %s: %s\n' "$2" "$3" >&2
    [ -z "${4:-}" ] || printf 'hint: %s\n' "$4" >&2
    exit "$1"
}

# Print the processes that have something open below DIRECTORY, as PID (NAME).
holders() {
    for _process in /proc/[0-9]*; do
        # shellcheck disable=SC2010,SC2012  # only the target of a link matters
        if ls -l "$_process/cwd" "$_process/fd" 2>/dev/null | grep -qF -- "-> $1"; then
            printf '%s (%s)\n' "${_process#/proc/}" "$(cat "$_process/comm" 2>/dev/null)"
        fi
    done
}

unmount_alive() {
    if [ "$(id -u)" -eq 0 ]; then
        umount -- "$1" 2>/dev/null
    elif command -v fusermount3 >/dev/null; then
        fusermount3 -u -- "$1" 2>/dev/null
    else
        fusermount -u -- "$1" 2>/dev/null
    fi
}

# A busy mount is waited for: pulling it away could lose what is being written.
unmount_one() {
    _pids=$(s3fs_pids "$1")
    probe "$1" 2
    case $? in
        0 | 3) ;;
        *)
            clear_mount "$1" || fail 75 stale "the dead mount at \`$1\` cannot be cleared"
            return 0
            ;;
    esac
    while ! unmount_alive "$1"; do
        is_s3fs "$1" || break
        if [ -n "$force" ]; then
            clear_mount "$1"
            break
        fi
        if [ "$(date +%s)" -ge "$deadline" ]; then
            _holders=$(holders "$1" | paste -s -d , - | sed 's/,/, /g')
            fail 75 busy "\`$1\` is in use by ${_holders:+process }${_holders:-something that $(id -un) cannot see}" \
                'end it (a shell that stands there: cd /), or unmount with --force (what it has not finished writing is lost)'
        fi
        sleep 0.1
    done
    # s3fs uploads what it still holds before it ends.
    for _pid in $_pids; do
        while ! wait_gone "$_pid" 1; do
            if [ "$(date +%s)" -ge "$deadline" ]; then
                kill -9 "$_pid" 2>/dev/null
                wait_gone "$_pid" 2
            fi
        done
    done
}

directory='' timeout=10 force=''
while [ $# -gt 0 ]; do
    case $1 in
        --timeout) timeout=${2:-10} && shift ;;
        --timeout=*) timeout=${1#*=} ;;
        --force) force=1 ;;
        -?*) fail 64 usage 'unmount.sh DIRECTORY [--timeout SECONDS] [--force]' ;;
        *) directory=$1 ;;
    esac
    shift
done
case $timeout in
    '' | *[!0-9]*) directory='' ;;
esac
[ -n "$directory" ] || fail 64 usage 'unmount.sh DIRECTORY [--timeout SECONDS] [--force]'
directory=$(absolute "$directory") || fail 66 not-mounted 'there is no such directory'
state=$(state_of "$directory")
cd / # started from inside, this process would hold the mount itself
deadline=$(($(date +%s) + timeout))

if ! is_s3fs "$directory" && [ ! -d "$state" ]; then
    fail 66 not-mounted "\`$directory\` is no s3fs mount" 'lightly-fs mounts'
fi
for stripe in "$directory".stripes/*; do
    # Not `[ -d ]`: that asks the mount, which may hang.
    if is_s3fs "$stripe"; then
        unmount_one "$stripe"
    fi
    rmdir -- "$stripe" 2>/dev/null
done
rmdir -- "$directory.stripes" 2>/dev/null
while is_s3fs "$directory"; do
    unmount_one "$directory"
done
# A process that is ours and serves nothing any more.
while read -r pid; do
    for served in $(s3fs_pids "$directory"); do
        [ "$served" != "$pid" ] || kill -9 "$pid" 2>/dev/null
    done
done 2>/dev/null <"$state/pids"
rm -rf -- "$state"
printf '%s\n' "$directory is unmounted"
