# shellcheck shell=sh
# The options that s3fs is started with. Sourced by mount.sh, whose variables it reads.
# shellcheck disable=SC2034,SC2154

# Print the s3fs version as a number: 1.90 is 1090.
s3fs_version() {
    s3fs --version 2>/dev/null | sed -n 's/.*V\([0-9]*\)\.\([0-9]*\).*/\1 \2/p' | {
        read -r _major _minor || echo 0
        echo $((${_major:-1} * 1000 + ${_minor:-0}))
    }
}

# True when VERSION satisfies CONDITION: `>=1.92`, `<1.96` or both with a comma.
version_allows() {
    for _condition in $(printf '%s' "$2" | tr ',' ' '); do
        _bound=${_condition#[<>]}
        _bound=${_bound#=}
        _bound=$((${_bound%%.*} * 1000 + ${_bound#*.}))
        case $_condition in
            '<'*) [ "$1" -lt "$_bound" ] || return 1 ;;
            '>='*) [ "$1" -ge "$_bound" ] || return 1 ;;
        esac
    done
}

# Print the options of the profile for this version, joined with commas.
profile_options() {
    while read -r _first _rest; do
        case $_first in
            '' | '#'*) ;;
            '<'* | '>='*) version_allows "$version" "$_first" && printf '%s,' "$_rest" ;;
            # The user chose the old signature.
            sigv4) case ,$options, in *,sigv2,*) ;; *) printf 'sigv4,' ;; esac ;;
            *) printf '%s,' "$_first" ;;
        esac
    done <"$here/profiles/$profile.conf"
}

is_aws() {
    case $url in
        '') return 0 ;;
        *://*.amazonaws.com | *://*.amazonaws.com.cn) return 0 ;;
        *) return 1 ;;
    esac
}

# Set url, region, path_style and version.
choose_place() {
    version=$(s3fs_version)
    if ! is_aws; then
        path_style=1
        region=${region:-us-east-1}
        return
    fi
    # s3fs finds the region by itself when none is given; a URL names it.
    if [ -z "$region" ]; then
        region=$(printf '%s' "$url" | sed -n 's,.*//s3[.-]\([a-z0-9-]*\)\.amazonaws.*,\1,p')
    elif [ -z "$url" ]; then
        case $region in
            cn-*) url=https://s3.$region.amazonaws.com.cn ;;
            *) url=https://s3.$region.amazonaws.com ;;
        esac
    fi
    # A certificate for *.s3.amazonaws.com does not cover a bucket with dots.
    case $bucket in *.*) path_style=1 ;; *) path_style=0 ;; esac
}

place_options() {
    # Since 1.92 a prefix whose folder is no object of its own is only mounted with compat_dir.
    [ -z "$prefix" ] || [ "$version" -lt 1092 ] || printf 'compat_dir,'
    [ -z "$url" ] || printf 'url=%s,' "$url"
    [ "$path_style" -eq 0 ] || printf 'use_path_request_style,'
    [ -n "$region" ] || return 0
    if [ "$version" -ge 1096 ]; then
        printf 'region=%s,' "$region"
    else
        printf 'endpoint=%s,' "$region"
    fi
}

# Who may look: everybody when root mounts, as far as the modes of files allow.
sharing_options() {
    [ -z "$uid" ] || printf 'uid=%s,' "$uid"
    [ -z "$gid" ] || printf 'gid=%s,' "$gid"
    if [ "$(id -u)" -eq 0 ] || grep -qs '^[[:space:]]*user_allow_other' /etc/fuse.conf; then
        printf 'allow_other,'
    else
        note "only $(id -un) can see $1; for others (containers too) add the line user_allow_other to /etc/fuse.conf"
    fi
}

cache_options() {
    [ -n "$use_cache" ] || return 0
    # Two processes on one cache directory damage each other's files.
    _cache=$use_cache
    [ "$1" = "$directory" ] || _cache=$use_cache/stripe-${1##*/}
    printf 'use_cache=%s,' "$_cache"
}

# How much of the disk stays free; s3fs takes either option once.
disk_options() {
    case ,$options in *,ensure_diskfree=* | *,free_space_ratio=*) return 0 ;; esac
    if [ -n "$use_cache" ]; then
        printf 'ensure_diskfree=1024,'
    elif [ "$version" -ge 1094 ]; then
        # By default it would not mount where less than a tenth of the disk is free. 1 MB: a part.
        printf 'ensure_diskfree=1,'
    fi
}

credential_options() {
    if [ -n "$iam_role" ]; then
        printf 'iam_role=%s,' "$iam_role"
    elif [ -f "$state/token" ]; then
        printf 'use_session_token,'
    else
        printf 'passwd_file=%s,' "$state/passwd"
    fi
}

# Print every option for the process of directory $1.
s3fs_options() {
    profile_options
    place_options
    sharing_options "$1"
    cache_options "$1"
    disk_options
    credential_options
    printf 'logfile=%s,' "$state/log"
    # Visible in the mount table wherever the mount is, in containers too: what is mounted here.
    case $prefix in
        *[,\\]*) ;;
        *) printf 'fsname=s3://%s/%s,' "$bucket" "${prefix:+$prefix/}" ;;
    esac
    printf 'subtype=s3fs%s' "${options:+,$options}"
}

prepare_cache() {
    [ -n "$use_cache" ] || return 0
    case $use_cache in /*) ;; *) use_cache=$PWD/$use_cache ;; esac
    for _record in "$(state_root)"/*/record; do
        if grep -qsxF "use_cache=$use_cache" "$_record"; then
            fail 73 cache "another mount uses the cache \`$use_cache\`" 'give every mount its own cache directory'
        fi
    done
    if ! (umask 077 && mkdir -p -- "$use_cache") 2>/dev/null || [ ! -w "$use_cache" ]; then
        fail 73 cache "the cache directory \`$use_cache\` cannot be written by $(id -un)" \
            "mkdir -p $use_cache && chmod 700 $use_cache"
    fi
}
