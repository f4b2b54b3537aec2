# shellcheck shell=sh
# The command line of mount.sh. Sourced by it; sets the variables that it and its other parts read.
# shellcheck disable=SC2034

usage() {
    cat <<'EOF'
usage: mount.sh BUCKET[:/PREFIX] DIRECTORY [options]
       mount.sh --remount DIRECTORY

  --profile NAME      images (default), videos (both read-only) or output
  --url URL           endpoint; none is AWS. Also AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL
  --region NAME       region to sign for. Also AWS_REGION, AWS_DEFAULT_REGION
  --aws-profile NAME  profile of ~/.aws/credentials
  --passwd-file FILE  s3fs password file, mode 0600
  --iam-role NAME     role of this instance, or `auto`
  --use-cache DIR     keep what was read on local disk
  --stripes K         K further mounts at DIRECTORY.stripes/1 ... K, to read in parallel
  --uid N, --gid N    owner of everything below DIRECTORY
  --pid-file FILE     write the process id of s3fs there (for systemd)
  --timeout SECONDS   give up after this long (default 10)
  -o OPTION[,OPTION]  passed on to s3fs, after our own
  --remount           bring back a dead or hung mount, or stripe, of ours
EOF
}

wrong_usage() {
    usage >&2
    fail 64 usage "$1"
}

parse() {
    bucket='' prefix='' directory='' profile=images
    url=${AWS_ENDPOINT_URL_S3:-${AWS_ENDPOINT_URL:-}}
    region=${AWS_REGION:-${AWS_DEFAULT_REGION:-}}
    aws_profile='' passwd_file='' iam_role='' use_cache='' stripes=1 uid='' gid='' options='' timeout=10
    pid_file='' remount='' given=0
    while [ $# -gt 0 ]; do
        case $1 in
            -h | --help) usage && exit 0 ;;
            --remount) remount=1 && shift && continue ;;
            --*=*) _value=${1#*=} _option=${1%%=*} && shift && set -- "$_option" "$_value" "$@" ;;
            -o?*) _value=${1#-o} && shift && set -- -o "$_value" "$@" ;;
        esac
        case $1 in
            -?*) [ $# -ge 2 ] || wrong_usage "$1 needs a value" ;;
        esac
        case $1 in
            --profile) profile=$2 ;;
            --url) url=$2 ;;
            --region) region=$2 ;;
            --aws-profile) aws_profile=$2 ;;
            --passwd-file) passwd_file=$2 ;;
            --iam-role) iam_role=$2 ;;
            --use-cache) use_cache=$2 ;;
            --stripes) stripes=$2 ;;
            --uid) uid=$2 ;;
            --gid) gid=$2 ;;
            --timeout) timeout=$2 ;;
            --pid-file) pid_file=$2 ;;
            -o) options=${options:+$options,}$2 ;;
            -?*) wrong_usage "unknown option \`$1\`" ;;
            *)
                given=$((given + 1))
                case $given in
                    1) bucket=$1 ;;
                    2) directory=$1 ;;
                    *) wrong_usage "one bucket and one directory are expected, not \`$1\` too" ;;
                esac
                shift && continue
                ;;
        esac
        shift 2
    done
    if [ -n "$remount" ]; then
        directory=$bucket
        [ "$given" -eq 1 ] || wrong_usage '--remount takes one directory'
    else
        [ "$given" -eq 2 ] || wrong_usage 'a bucket and a directory are expected'
        bucket=${bucket#s3://}
        case $bucket in
            *://*) wrong_usage "\`$bucket\` is no bucket: BUCKET, BUCKET:/PREFIX or s3://BUCKET/PREFIX" ;;
            *:/*) prefix=${bucket#*:/} bucket=${bucket%%:/*} ;;
            */*) prefix=${bucket#*/} bucket=${bucket%%/*} ;;
        esac
        prefix=${prefix%/}
    fi
}

check_arguments() {
    case $bucket in
        '' | *[!A-Za-z0-9._-]*) wrong_usage "\`$bucket\` is no bucket name" ;;
    esac
    for _number in "$stripes" "$timeout" "${uid:-0}" "${gid:-0}"; do
        case $_number in
            '' | *[!0-9]*) wrong_usage "\`$_number\` is no number" ;;
        esac
    done
    [ "$stripes" -ge 1 ] && [ "$stripes" -le 64 ] || wrong_usage "--stripes is 1 to 64, not $stripes"
    case $profile in
        images | videos | output) ;;
        *) wrong_usage "\`$profile\` is no profile: images, videos or output" ;;
    esac
    case $url in
        '' | http://* | https://*) url=${url%/} ;;
        *) wrong_usage "--url \`$url\` must start with https:// or http://" ;;
    esac
    case $directory$use_cache$prefix in
        *'
'*) wrong_usage 'a directory or prefix with a line break cannot be mounted' ;;
    esac
    # Everything after the comma would be another option of s3fs.
    case $url$region$use_cache$iam_role in
        *,*) wrong_usage 'a comma is not possible in --url, --region, --use-cache or --iam-role' ;;
    esac
    case ,$options, in
        *,nonempty,*) wrong_usage 'nonempty would hide files below the mount, and that nothing is mounted' ;;
        *,auto_unmount,*)
            [ "$profile" != output ] || wrong_usage 'auto_unmount would turn a crash into writes to the local disk'
            ;;
        *,accessKeyId=* | *,secretAccessKey=*)
            options=''
            wrong_usage 'a key in an option can be read by everybody with ps: use --passwd-file'
            ;;
    esac
    [ "$profile" != output ] || [ -z "$use_cache" ] || wrong_usage \
        '--use-cache is for reading: with --profile output, results could stay behind in the cache'
}
