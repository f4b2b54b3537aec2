# shellcheck shell=sh
# Where the keys of an S3 account are found. Sourced by mount.sh; sets key, secret, token, found_in.
# Secrets are only ever handed on by shell variables, builtins and files of mode 0600: an argument
# of a program can be read by everybody with `ps`.
# shellcheck disable=SC2034,SC2154

# Read lines `KEY:SECRET` and `BUCKET:KEY:SECRET` of an s3fs password file, as s3fs does.
read_passwd_file() { # FILE BUCKET
    [ -f "$1" ] || fail 78 passwd_file "the password file \`$1\` does not exist" \
        "printf '%s' KEY:SECRET >$1; chmod 600 $1"
    [ -r "$1" ] || fail 78 passwd_file "the password file \`$1\` cannot be read by $(id -un)"
    _mode=$(stat -L -c %a -- "$1")
    case $1:$_mode in
        /etc/passwd-s3fs:[46][04]0 | *:[46]00) ;;
        *) fail 78 passwd_file "the password file \`$1\` has mode $_mode: others can read it" \
            "chmod 600 $1" ;;
    esac
    _pair=$(BUCKET=$2 awk -F: '
        { gsub(/^[ \t\r]+|[ \t\r]+$/, "") }
        /^#/ || /^$/ { next }
        NF == 2 && !any { any = $1 "\n" $2 }
        NF > 2 && $1 == ENVIRON["BUCKET"] { own = $2 "\n" $3 }
        END { print own ? own : any }' "$1")
    set_pair "$_pair" "$1"
    [ -n "$key" ] && [ -n "$secret" ] || fail 78 passwd_file \
        "the password file \`$1\` has no line KEY:SECRET or $2:KEY:SECRET"
}

# Read a profile of an AWS credentials file; fails when it is not there.
read_aws_profile() { # FILE PROFILE
    [ -r "$1" ] || return 1
    _found=$(PROFILE=$2 awk '
        function trim(text) { gsub(/^[ \t\r]+|[ \t\r]+$/, "", text); return text }
        { line = trim($0) }
        line ~ /^[#;]/ { next }
        line ~ /^\[.*\]$/ { inside = (trim(substr(line, 2, length(line) - 2)) == ENVIRON["PROFILE"]); next }
        inside && (at = index(line, "=")) {
            value[trim(substr(line, 1, at - 1))] = trim(substr(line, at + 1))
        }
        END {
            print value["aws_access_key_id"]
            print value["aws_secret_access_key"]
            print value["aws_session_token"]
        }' "$1")
    set_pair "$_found" "$1 [$2]"
    [ -n "$key" ] && [ -n "$secret" ]
}

set_pair() { # LINES FOUND_IN
    {
        IFS= read -r key
        IFS= read -r secret
        IFS= read -r token
    } <<EOF
$1


EOF
    found_in=$2
}

# Set key, secret and token from the first place that names them.
find_credentials() { # BUCKET; reads passwd_file, aws_profile, iam_role
    key='' secret='' token='' found_in=''
    _file=${AWS_SHARED_CREDENTIALS_FILE:-${HOME:-}/.aws/credentials}
    if [ -n "$passwd_file" ]; then
        read_passwd_file "$passwd_file" "$1"
    elif [ -n "$aws_profile" ]; then
        read_aws_profile "$_file" "$aws_profile" || fail 77 credentials \
            "\`$_file\` has no profile \`$aws_profile\` with aws_access_key_id and aws_secret_access_key" \
            "aws configure --profile $aws_profile"
    elif [ -n "$iam_role" ]; then
        found_in="IAM role $iam_role"
    elif [ -n "${AWS_ACCESS_KEY_ID:-${AWSACCESSKEYID:-}}" ]; then
        key=${AWS_ACCESS_KEY_ID:-${AWSACCESSKEYID:-}}
        secret=${AWS_SECRET_ACCESS_KEY:-${AWSSECRETACCESSKEY:-}}
        token=${AWS_SESSION_TOKEN:-${AWSSESSIONTOKEN:-}}
        found_in='the environment'
        [ -n "$secret" ] || fail 77 credentials \
            'AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not'
    elif read_aws_profile "$_file" "${AWS_PROFILE:-default}"; then
        :
    elif [ -r "${HOME:-}/.passwd-s3fs" ]; then
        read_passwd_file "$HOME/.passwd-s3fs" "$1"
    elif [ -r /etc/passwd-s3fs ]; then
        read_passwd_file /etc/passwd-s3fs "$1"
    else
        fail 77 credentials "no credentials for bucket \`$1\`" \
            'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give --aws-profile, --passwd-file or --iam-role auto'
    fi
}
