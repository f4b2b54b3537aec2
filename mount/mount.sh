#!/bin/sh
# mount.sh BUCKET[:/PREFIX] DIRECTORY [options]: mount a bucket with s3fs, and prove it.
# The contract (options, environment, exit codes, files) is in README.md beside this script.
set -u
unset CDPATH
here=$(cd -P -- "$(dirname -- "$0")" && pwd -P)
. "$here/table.sh"
. "$here/arguments.sh"
. "$here/credentials.sh"
. "$here/options.sh"
. "$here/explain.sh"

fail() { # EXIT_CODE REASON MESSAGE [HINT]
    _code=$1
    printf 'mount.sh: %s: %s\n' "$2" "$3" >&2
    [ -z "${4:-}" ] || printf 'hint: %s\n' "$4" >&2
    exit "$_code"
}

note() { printf 'note: %s\n' "$1" >&2; }

check_host() {
    command -v s3fs >/dev/null || fail 69 s3fs 's3fs is not installed' \
        'sudo apt-get install s3fs   (or dnf install s3fs-fuse)'
    if [ ! -c /dev/fuse ]; then
        fail 69 fuse 'there is no /dev/fuse' \
            'on a host: sudo modprobe fuse; in a container: --device /dev/fuse --cap-add SYS_ADMIN'
    fi
    if ! (: <>/dev/fuse) 2>/dev/null; then
        fail 69 fuse "/dev/fuse cannot be opened by $(id -un)" \
            'in a container: --device /dev/fuse --cap-add SYS_ADMIN'
    fi
}

# Remove what lies dead on DIRECTORY, refuse what is alive or not ours, make the directory.
prepare_directory() {
    _there=$(mounted_on "$directory")
    if [ -n "$_there" ]; then
        probe "$directory" 2
        _health=$?
        case $_health:$_there in
            0:* | 3:*) fail 73 occupied "\`$directory\` is already mounted (${_there#* })" \
                "unmount it first: lightly-fs unmount $directory" ;;
            1:*' fuse.s3fs '*)
                note "clearing a dead s3fs mount at $directory"
                sh "$here/unmount.sh" "$directory" >/dev/null || exit $?
                ;;
            2:*) fail 73 stale "the mount at \`$directory\` (${_there#* }) hangs" \
                "lightly-fs unmount $directory" ;;
            *) fail 73 stale "\`$directory\` holds a mount (${_there#* }) that is not s3fs" \
                "umount $directory" ;;
        esac
    fi
    if [ -e "$directory" ] && [ ! -d "$directory" ]; then
        fail 73 directory "\`$directory\` is no directory"
    elif [ -d "$directory" ]; then
        [ -z "$(ls -A -- "$directory" 2>/dev/null)" ] || fail 73 occupied \
            "\`$directory\` is not empty: a mount would hide its files" 'mount on a new directory'
    else
        make_directory "$directory"
    fi
}

# mkdir -p, remembering what was made.
make_directory() {
    _above=$1 _new=''
    while [ ! -e "$_above" ]; do
        _new="$_new$_above
" _above=$(dirname -- "$_above")
    done
    mkdir -p -- "$1" 2>/dev/null || fail 73 directory "\`$1\` cannot be created by $(id -un)" \
        "sudo mkdir -p $1 && sudo chown $(id -un) $1"
    made="$made$_new"
}

# Claim the state folder of DIRECTORY: one mount.sh at a time.
claim_state() {
    _root=$(state_root)
    (umask 077 && mkdir -p -- "$_root") 2>/dev/null
    # Below /tmp anybody could have made it first.
    if [ ! -w "$_root" ] || [ "$(stat -c %u -- "$_root" 2>/dev/null)" != "$(id -u)" ]; then
        fail 73 state "the state directory \`$_root\` is not $(id -un)'s to write" \
            'set LIGHTLY_FS_STATE_DIR to a private directory'
    fi
    state=$(state_of "$directory")
    if ! mkdir -m 0700 -- "$state" 2>/dev/null; then
        _owner=$(cat "$state/owner" 2>/dev/null)
        if [ -n "$_owner" ] && alive "$_owner"; then
            state=''
            fail 75 busy "process $_owner is mounting \`$directory\` at this moment"
        fi
        # Left over by a mount that nobody unmounted (a reboot, a killed shell): its stripes may live.
        sh "$here/unmount.sh" "$directory" >/dev/null 2>&1
        rm -rf -- "$state"
        mkdir -m 0700 -- "$state" || fail 73 state "the state directory \`$state\` cannot be made"
    fi
    echo $$ >"$state/owner"
}

keep_credentials() {
    [ -n "$key" ] || return 0
    (umask 077 && printf '%s:%s\n' "$key" "$secret" >"$state/passwd")
    rm -f -- "$state/token"
    [ -z "$token" ] || (umask 077 && printf '%s\n' "$token" >"$state/token")
}

# Start the s3fs process of directory $1; sets pid.
start_s3fs() {
    set -- "$1" "$(s3fs_options "$1")"
    (
        # A session token reaches s3fs by the environment only, keys by a file; neither by arguments.
        unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWSACCESSKEYID \
            AWSSECRETACCESSKEY AWSSESSIONTOKEN AWS_CREDENTIAL_FILE
        if [ -f "$state/token" ]; then
            IFS=: read -r AWSACCESSKEYID AWSSECRETACCESSKEY <"$state/passwd"
            read -r AWSSESSIONTOKEN <"$state/token"
            export AWSACCESSKEYID AWSSECRETACCESSKEY AWSSESSIONTOKEN
        fi
        if [ -n "${AWS_CA_BUNDLE:-}" ] && [ -z "${CURL_CA_BUNDLE:-}" ]; then
            export CURL_CA_BUNDLE="$AWS_CA_BUNDLE"
        fi
        cd / || exit
        # In the foreground: its process id is known and it does not vanish silently.
        if command -v setsid >/dev/null; then
            exec setsid s3fs "$bucket${prefix:+:/$prefix}" "$1" -f -o "$2"
        fi
        exec nohup s3fs "$bucket${prefix:+:/$prefix}" "$1" -f -o "$2"
    ) </dev/null >>"$state/log" 2>&1 &
    pid=$!
    echo "$pid" >>"$state/pids"
}

# True when s3fs has logged that it cannot mount: 1.97 then asks again and again, or stays, deaf to
# signals; and a refused connection is not worth its retries here.
hopeless() {
    grep -Eqs 'Exiting FUSE event loop|CURLE_COULDNT_(CONNECT|RESOLVE)|<Code>(NoSuchBucket|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken)<' \
        "$state/log"
}

# Wait until DIRECTORY, served by PID, is proved; or explain why not.
prove() {
    while ! is_s3fs "$1"; do
        if ! alive "$2" || hopeless || [ "$(date +%s)" -ge "$deadline" ]; then
            explain "$1"
        fi
        sleep 0.05
    done
    _left=$((deadline - $(date +%s)))
    probe "$1" "$((_left > 0 ? _left : 0))"
    _health=$?
    # A process that gave up takes the mount with it: the probe then saw the directory below.
    sleep 0.05
    if [ "$_health" -ne 0 ] || ! alive "$2" || ! is_s3fs "$1"; then
        [ "$_health" -eq 2 ] || wait_gone "$2" 1
        explain "$1"
    fi
}

# The main directory first: when it is refused, nothing else is started.
start_all() {
    start_s3fs "$directory"
    if [ "$profile" = output ] && [ -n "$prefix" ] && ! (prove "$directory" "$pid") 2>/dev/null &&
        grep -q 'NoSuchKey\|emote mountpath' "$state/log"; then
        clear_mount "$directory"
        make_prefix
        start_s3fs "$directory"
    fi
    prove "$directory" "$pid"
    [ "$stripes" -gt 1 ] || return 0
    _started='' _number=1
    while [ "$_number" -le "$stripes" ]; do
        _stripe=$directory.stripes/$_number
        [ -d "$_stripe" ] || make_directory "$_stripe"
        start_s3fs "$_stripe"
        _started="$_started$pid " _number=$((_number + 1))
    done
    _number=1
    for _pid in $_started; do
        prove "$directory.stripes/$_number" "$_pid"
        _number=$((_number + 1))
    done
}

# Not every s3fs mounts a prefix without objects: make an output prefix through the bucket itself.
make_prefix() {
    _prefix=$prefix prefix=''
    : >"$state/log"
    mkdir -- "$state/whole"
    start_s3fs "$state/whole"
    prove "$state/whole" "$pid"
    _made=0
    mkdir -p -- "$state/whole/$_prefix" 2>/dev/null || _made=1
    clear_mount "$state/whole"
    [ "$_made" -eq 0 ] || fail 77 credentials \
        "the credentials from $found_in may not write to \`$_prefix/\` in bucket \`$bucket\`" \
        'its policy must allow s3:PutObject'
    prefix=$_prefix
    rmdir -- "$state/whole"
    : >"$state/log"
}

# What unmount.sh, --remount and `lightly-fs mounts` know: one `name=value` a line, no secrets.
write_record() {
    for _name in directory bucket prefix profile url region path_style aws_profile passwd_file iam_role \
        use_cache stripes uid gid options found_in; do
        eval "printf '%s=%s\n' \"\$_name\" \"\$$_name\""
    done >"$state/record.part"
    mv -- "$state/record.part" "$state/record"
    rm -f -- "$state/owner"
}

# Leave nothing behind: no mount, no process, no file, no directory that was not there before.
clean_up() {
    _result=$?
    trap - EXIT INT TERM HUP
    [ "$_result" -eq 0 ] && exit 0
    if [ -n "$state" ]; then
        [ ! -e "$state/pids" ] || while read -r _pid; do
            kill -9 "$_pid" 2>/dev/null
        done <"$state/pids"
        for _mounted in "$directory" "$directory".stripes/* "$state/whole"; do
            [ ! -e "$state/pids" ] || clear_mount "$_mounted"
        done
        rm -rf -- "$state"
    fi
    printf '%s' "$made" | while IFS= read -r _directory; do
        rmdir -- "$_directory" 2>/dev/null
    done
    [ -z "$made" ] || rmdir -- "$directory.stripes" 2>/dev/null
    exit "$_result"
}

mount_new() {
    check_arguments
    check_host
    directory=$(absolute "$directory") || fail 73 directory 'the directory above cannot be entered'
    prepare_directory
    find_credentials "$bucket"
    prepare_cache
    claim_state
    keep_credentials
    choose_place
    deadline=$(($(date +%s) + (timeout > 4 ? timeout - 2 : timeout)))
    start_all
    [ -z "$pid_file" ] || head -n 1 "$state/pids" >"$pid_file"
    write_record
    [ -z "$use_cache" ] || note "$use_cache may serve an object as it was before it was replaced: s3fs compares times, not contents"
    printf '%s\n' "s3://$bucket/${prefix:+$prefix/} is mounted at $directory"
}

# Start again what is dead or hangs of a mount of ours; DIRECTORY is the mount or one of its stripes.
mount_again() {
    trap - EXIT
    check_host
    directory=$(absolute "$directory")
    _only=$directory
    state=$(state_of "$directory")
    if [ ! -f "$state/record" ]; then
        directory=${directory%.stripes/*}
        state=$(state_of "$directory")
    fi
    [ -f "$state/record" ] || {
        state=''
        fail 66 unknown "\`$_only\` is no mount of ours" "lightly-fs mount BUCKET $_only"
    }
    while IFS= read -r _line; do
        _name=${_line%%=*} _value=${_line#*=}
        eval "$_name=\$_value"
    done <"$state/record"
    # What was kept is used when the place that the keys came from has none any more.
    if (find_credentials "$bucket") >/dev/null 2>&1; then
        find_credentials "$bucket"
        keep_credentials
    fi
    deadline=$(($(date +%s) + (timeout > 4 ? timeout - 2 : timeout)))
    clear_mount "$_only" || fail 73 stale "the dead mount at \`$_only\` cannot be cleared"
    version=$(s3fs_version)
    : >"$state/log"
    start_s3fs "$_only"
    (prove "$_only" "$pid") || {
        _result=$?
        clear_mount "$_only"
        exit "$_result"
    }
    printf '%s\n' "s3://$bucket/${prefix:+$prefix/} is mounted again at $_only"
}

state='' made='' key='' secret='' token='' found_in=''
parse "$@"
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
if [ -n "$remount" ]; then mount_again; else mount_new; fi
