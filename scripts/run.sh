#!/bin/sh
# Mount a bucket, run, unmount: also when the run fails or is interrupted.
#
#   scripts/run.sh BUCKET[:/PREFIX] OUTPUT [key=value ...]
#
# OUTPUT is a directory, or a bucket given as s3://BUCKET[/PREFIX], which the run mounts by itself.
# Environment: URL (endpoint that is not AWS), REGION, AWS_PROFILE, for both buckets; MOUNT_OPTIONS
# (further words for `lightly-fs mount`) for BUCKET, like s3.passwd_file=FILE for OUTPUT's;
# LIGHTLY_FS (the program, default: .venv's, else the one on the PATH).
set -eu

[ $# -ge 2 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 64; }
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
# shellcheck disable=SC2317,SC2329 # called by the traps
cleanup() {
    status=$?
    trap - EXIT INT TERM HUP
    if [ -n "$child" ] && kill -TERM "$child" 2>/dev/null; then
        wait "$child" || :
    fi
    [ ! -d "$input" ] || "$LIGHTLY_FS" unmount "$input" >/dev/null 2>&1 || :
    rmdir "$input" "$work" 2>/dev/null || :
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# shellcheck disable=SC2086 # MOUNT_OPTIONS is a list of words
"$LIGHTLY_FS" mount "$bucket" "$input" ${URL:+--url "$URL"} ${REGION:+--region "$REGION"} \
    ${AWS_PROFILE:+--aws-profile "$AWS_PROFILE"} ${MOUNT_OPTIONS:-}

# The words come last: what they say of s3.… holds.
"$LIGHTLY_FS" run "input_dir=$input" "output_dir=$output" ${URL:+"s3.url=$URL"} \
    ${REGION:+"s3.region=$REGION"} ${AWS_PROFILE:+"s3.aws_profile=$AWS_PROFILE"} "$@" &
child=$!
wait "$child" && status=0 || status=$?
child=
exit "$status"
