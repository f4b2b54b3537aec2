#!/bin/sh
# Mount a bucket, run, unmount: also when the run fails or is interrupted.
#
#   scripts/run.sh BUCKET[:/PREFIX] OUTPUT [key=value ...]
#
# OUTPUT is a directory, or a bucket given as s3://BUCKET[/PREFIX] that is mounted for the run too.
# Environment: URL (endpoint that is not AWS), REGION, AWS_PROFILE, MOUNT_OPTIONS (further words for
# `lightly-fs mount`), LIGHTLY_FS (the program, default: .venv's, else the one on the PATH).
set -eu

[ $# -ge 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 64; }
bucket=$1 output=$2
shift 2

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
if [ -z "${LIGHTLY_FS:-}" ]; then
    LIGHTLY_FS=lightly-fs
    [ ! -x "$root/.venv/bin/lightly-fs" ] || LIGHTLY_FS=$root/.venv/bin/lightly-fs
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/lightly-fs.XXXXXX")
input=$work/input
child=
# shellcheck disable=SC2329 # called by the traps
cleanup() {
    status=$?
    trap - EXIT INT TERM HUP
    if [ -n "$child" ] && kill -TERM "$child" 2>/dev/null; then
        wait "$child" || :
    fi
    for directory in "$work/output" "$input"; do
        [ ! -d "$directory" ] || "$LIGHTLY_FS" unmount "$directory" >/dev/null 2>&1 || :
    done
    rmdir "$work/output" "$input" "$work" 2>/dev/null || :
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

mount_bucket() {
    # shellcheck disable=SC2086 # MOUNT_OPTIONS is a list of words
    "$LIGHTLY_FS" mount "$@" ${URL:+--url "$URL"} ${REGION:+--region "$REGION"} \
        ${AWS_PROFILE:+--aws-profile "$AWS_PROFILE"} ${MOUNT_OPTIONS:-}
}

mount_bucket "$bucket" "$input"
case $output in
s3://*)
    name=${output#s3://}
    case $name in */*) name=${name%%/*}:/${name#*/} ;; esac
    mount_bucket "$name" "$work/output" --profile output
    output=$work/output
    ;;
esac

"$LIGHTLY_FS" run "input_dir=$input" "output_dir=$output" "$@" &
child=$!
wait "$child" && status=0 || status=$?
child=
exit "$status"
