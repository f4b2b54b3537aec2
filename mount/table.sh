# shellcheck shell=sh
# The mount table, the private state of our mounts, and a probe that never blocks.
# Sourced by the scripts beside it; POSIX sh with the tools of coreutils or busybox.

# Print the directory that holds one folder per mount of this user.
state_root() {
    if [ -n "${LIGHTLY_FS_STATE_DIR:-}" ]; then
        printf '%s\n' "$LIGHTLY_FS_STATE_DIR"
    elif [ "$(id -u)" -eq 0 ]; then
        echo /run/lightly-fs
    elif [ -n "${XDG_RUNTIME_DIR:-}" ]; then
        printf '%s\n' "$XDG_RUNTIME_DIR/lightly-fs"
    else
        echo "${TMPDIR:-/tmp}/lightly-fs-$(id -u)"
    fi
}

# Print the state folder of DIRECTORY: readable, unique, and of letters that s3fs's option parser
# leaves alone (it takes commas, colons and backslashes of a path for its own).
state_of() {
    _name=$(printf '%s' "${1#/}" | tr -c 'A-Za-z0-9_.' '_' | tail -c 60)
    _sum=$(printf '%s' "$1" | cksum | cut -d ' ' -f 1)
    printf '%s/%s-%s\n' "$(state_root)" "$_name" "$_sum"
}

# Print DIRECTORY as an absolute physical path without touching a mount on it (it may hang).
absolute() {
    _parent=$(dirname -- "$1")
    while [ ! -d "$_parent" ] && [ "$_parent" != / ] && [ "$_parent" != . ]; do
        _parent=$(dirname -- "$_parent")
    done
    if [ "$_parent" = "$(dirname -- "$1")" ]; then
        _base=$(cd -P -- "$_parent" && pwd -P) || return 1
        case $(basename -- "$1") in
            . | .. | /) (cd -P -- "$1" && pwd -P) && return ;;
            *) _path=${_base%/}/$(basename -- "$1") ;;
        esac
        if [ -z "$(mounted_on "$_path")" ] && [ -L "$_path" ] && [ -d "$_path" ]; then
            _path=$(cd -P -- "$_path" && pwd -P)
        fi
        printf '%s\n' "$_path"
    else
        _base=$(cd -P -- "$_parent" && pwd -P) || return 1
        case $1 in
            /*) printf '%s\n' "${1%/}" ;;
            *) printf '%s\n' "${_base%/}/${1%/}" ;;
        esac
    fi
}

# Print "MAJOR:MINOR FSTYPE SOURCE" of the uppermost mount on DIRECTORY; nothing when there is none.
mounted_on() {
    _escaped=$(printf '%s' "$1" | sed 's/\\/\\134/g; s/ /\\040/g; s/	/\\011/g')
    LIGHTLY_FS_DIRECTORY=$_escaped awk '
        $5 == ENVIRON["LIGHTLY_FS_DIRECTORY"] {
            for (i = 7; $i != "-"; i++);
            found = $3 " " $(i + 1) " " $(i + 2)
        }
        END { if (found) print found }' /proc/self/mountinfo
}

is_s3fs() {
    case "$(mounted_on "$1") " in
        *" fuse.s3fs "*) return 0 ;;
        *) return 1 ;;
    esac
}

# Print the pids of the s3fs processes that serve DIRECTORY.
s3fs_pids() {
    grep -lF -- "$1" /proc/[0-9]*/cmdline 2>/dev/null | while read -r _file; do
        _words=$(tr '\0' '\n' 2>/dev/null <"$_file") || continue
        case $(printf '%s\n' "$_words" | head -n 1) in
            s3fs | */s3fs) ;;
            *) continue ;;
        esac
        if printf '%s\n' "$_words" | grep -qxF -- "$1"; then
            _pid=${_file#/proc/}
            echo "${_pid%/cmdline}"
        fi
    done
}

# Wait at most SECONDS until process PID is gone.
wait_gone() {
    _end=$(($(date +%s) + $2))
    while alive "$1"; do
        [ "$(date +%s)" -lt "$_end" ] || return 1
        sleep 0.05
    done
}

# A zombie has ended: nobody is served by it.
alive() {
    _state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null)
    [ -n "$_state" ] && [ "$_state" != Z ]
}

# True when who waits for a probe knows already that no answer will come; mount.sh redefines it.
hopeless() { false; }

# Ask the mount on DIRECTORY for a name that cannot exist: s3fs asks S3 for it, with a listing.
# "No such file" is the one good answer (with refused credentials, s3fs says that every name
# exists). Returns 0 answers, 1 dead, 2 no answer within SECONDS, 3 answers with an error.
probe() {
    (
        if [ "$(stat -c %d -- "$1" 2>/dev/null)" = "$(stat -c %d -- "$(dirname -- "$1")")" ]; then
            exit 1
        fi
        _answer=$(LC_ALL=C ls -d -- "$1/.lightly-fs-probe-$$-$2" 2>&1)
        case $_answer in
            *"No such file or directory"*) exit 0 ;;
            *"not connected"*) exit 1 ;;
            *) exit 3 ;;
        esac
    ) </dev/null >/dev/null 2>&1 &
    _probe=$!
    # Not `wait`: a process that waits for a hung file system cannot be killed either.
    _end=$(($(date +%s) + $2))
    while alive "$_probe"; do
        if [ "$(date +%s)" -gt "$_end" ] || hopeless; then
            return 2
        fi
        sleep 0.05
    done
    wait "$_probe"
}

# Take DIRECTORY out of the mount table at once, whether or not it is busy.
detach() {
    if [ "$(id -u)" -eq 0 ]; then
        umount -l -- "$1" 2>/dev/null
    elif command -v fusermount3 >/dev/null; then
        fusermount3 -u -z -- "$1" 2>/dev/null
    else
        fusermount -u -z -- "$1" 2>/dev/null
    fi
}

# Kill what serves DIRECTORY, abort its FUSE connection, take it out of the mount table.
clear_mount() {
    for _killed in $(s3fs_pids "$1"); do
        kill -9 "$_killed" 2>/dev/null
        wait_gone "$_killed" 2
    done
    while is_s3fs "$1"; do
        _minor=$(mounted_on "$1")
        _minor=${_minor%% *}
        # Only there when fusectl is mounted; the way out when the process is not ours to see.
        if [ -w "/sys/fs/fuse/connections/${_minor#*:}/abort" ]; then
            echo 1 >"/sys/fs/fuse/connections/${_minor#*:}/abort"
        fi
        detach "$1" || return 1
    done
}
