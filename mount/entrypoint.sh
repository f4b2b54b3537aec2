#!/bin/sh
# Entrypoint of the container: mount what LIGHTLY_FS_INPUT_URI and LIGHTLY_FS_OUTPUT_URI name (when
# /dev/fuse is there), run `lightly-fs` on it, unmount, and end with the exit code of the run.
#
#   entrypoint.sh [key=value ...]        lightly-fs run key=value ...
#   entrypoint.sh COMMAND [words ...]    lightly-fs COMMAND words ...
#
# Works as process 1 and below an init. The contract is in README.md beside this script.
set -u
unset CDPATH
here=$(cd -P -- "$(dirname -- "$0")" && pwd -P)
. "$here/table.sh"

: "${LIGHTLY_FS:=lightly-fs}" "${LIGHTLY_FS_INPUT_MOUNT:=/s3-mount}" "${LIGHTLY_FS_OUTPUT_MOUNT:=/s3-out}"

fuse_usable() { command -v s3fs >/dev/null && [ -c /dev/fuse ] && (: <>/dev/fuse) 2>/dev/null; }

# Where key $1 shall point to when the words do not say it: what is bind-mounted stays, a URI is
# mounted, or left to the program where nothing can be mounted. Sets place.
locate() { # KEY URI MOUNT PROFILE
    place=''
    case $2 in s3://*) ;; *) return 0 ;; esac
    [ -z "$(mounted_on "/home/$1")" ] || return 0
    place=$2
    fuse_usable || return 0
    # As which user the results are written does not matter to the bucket.
    sh "$here/mount.sh" "$2" "$3" --profile "$4" >&2 || exit 3
    mounts="$3
$mounts"
    place=$3
}

# shellcheck disable=SC2329 # called by a trap
finish() {
    _code=$?
    trap '' INT TERM HUP
    printf '%s' "$mounts" | while IFS= read -r _mount; do
        sh "$here/unmount.sh" "$_mount" >/dev/null || sh "$here/unmount.sh" "$_mount" --force >/dev/null
    done
    exit "$_code"
}

# The program's own signal handling leaves a run that can be resumed; wait for it to end.
# shellcheck disable=SC2329 # called by a trap
stop() {
    stopped=$1
    [ -z "$child" ] || kill -TERM "$child" 2>/dev/null
    [ -n "$child" ] || exit "$stopped"
}

# In a session of its own: an init that signals the whole group would signal it twice.
run_child() {
    if command -v setsid >/dev/null; then
        setsid "$@" &
    else
        "$@" &
    fi
    child=$!
    wait "$child"
    result=$?
    while alive "$child"; do
        wait "$child"
        result=$?
    done
    [ -z "$stopped" ] || result=$stopped
    return "$result"
}

has_key() { # KEY WORDS...
    _key=$1
    shift
    for _word in "$@"; do
        case $_word in "$_key="*) return 0 ;; esac
    done
    return 1
}

command=run
case ${1:-} in
    lightly-fs) shift ;;
    sh | bash | /*) exec "$@" ;;
esac
case ${1:-} in
    -h | --help | --version | -v | --verbose | --debug) exec "$LIGHTLY_FS" "$@" ;;
    '' | *=* | -*) ;;
    *) command=$1 && shift ;;
esac

mounts='' child='' stopped=''
trap finish EXIT
trap 'stop 130' INT
trap 'stop 143' TERM HUP
if [ "$command" = run ]; then
    if ! has_key input_dir "$@"; then
        locate input_dir "${LIGHTLY_FS_INPUT_URI:-}" "$LIGHTLY_FS_INPUT_MOUNT" images
        [ -z "$place" ] || set -- "$@" "input_dir=$place"
    fi
    if ! has_key output_dir "$@"; then
        locate output_dir "${LIGHTLY_FS_OUTPUT_URI:-}" "$LIGHTLY_FS_OUTPUT_MOUNT" output
        [ -z "$place" ] || set -- "$@" "output_dir=$place"
    fi
fi
run_child "$LIGHTLY_FS" "$command" "$@"
exit $?
