# shellcheck shell=sh
# Why s3fs did not mount. Sourced by mount.sh, whose variables it reads.
# shellcheck disable=SC2154

# s3fs logged the answer of S3: turn it into a message.
explain() {
    _log=$(cat "$state/log" 2>/dev/null)
    _s3=$(printf '%s\n' "$_log" | sed -n 's,.*<Code>\([A-Za-z]*\)</Code>.*,\1,p' | tail -n 1)
    _right=$(printf '%s\n' "$_log" | sed -n \
        -e "s/.*it is correctly '\([a-z0-9-]*\)'.*/\1/p" \
        -e 's,.*<Region>\([a-z0-9-]*\)</Region>.*,\1,p' \
        -e 's,.*<Endpoint>.*s3[.-]\([a-z0-9-]*\)\.amazonaws.*</Endpoint>.*,\1,p' | tail -n 1)
    _where=${url:-AWS}
    case $_s3:$_log in
        NoSuchBucket:*) fail 66 bucket "there is no bucket \`$bucket\` at $_where" \
            'check its spelling, and --url' ;;
        PermanentRedirect:* | AuthorizationHeaderMalformed:* | IllegalLocationConstraintException:*)
            fail 78 region "bucket \`$bucket\` is in region \`${_right:-another}\`, not where $_where${region:+ in $region} is" \
                "--region ${_right:-REGION} --url https://s3.${_right:-REGION}.amazonaws.com   (url=https://s3.${_right:-REGION}.amazonaws.com)"
            ;;
        InvalidAccessKeyId:* | SignatureDoesNotMatch:* | ExpiredToken:* | InvalidToken:* | AccessDenied:* | \
            RequestTimeTooSkewed:* | *'invalid credentials'* | *'establish security credentials'*)
            fail 77 credentials "$_where refuses the credentials from $found_in for bucket \`$bucket\` (${_s3:-403})" \
                'check the key, its policy (s3:ListBucket, s3:GetObject), and the clock'
            ;;
        NoSuchKey:* | *'emote mountpath'*) fail 66 prefix "there is nothing below \`$prefix/\` in bucket \`$bucket\`" \
            'check the prefix; names of objects are case-sensitive' ;;
        *COULDNT_RESOLVE*)
            fail 68 dns "the host name of $_where has no address" 'check the spelling of --url and --region, and the name server' ;;
        *COULDNT_CONNECT* | *'unable to connect'* | *'giving up'*)
            fail 68 endpoint "$_where cannot be reached" 'check --url, the network and the proxy' ;;
        *'enough disk space'*) fail 73 cache "$(last_line)" \
            "free some in ${use_cache:-/tmp}, or keep temporary files elsewhere: -o tmpdir=DIR" ;;
        *'mount failed'* | *fusermount* | *'fuse: '*)
            fail 69 fuse "s3fs may not mount: $(printf '%s\n' "$_log" | grep -m 1 'fuse: \|mount failed\|fusermount')" \
                'in a container: --device /dev/fuse --cap-add SYS_ADMIN' ;;
    esac
    if [ "$(date +%s)" -ge "$deadline" ]; then
        fail 75 timeout "$_where gave no usable answer for bucket \`$bucket\` within $timeout s" \
            'check --url and the network, or raise --timeout'
    fi
    fail 70 s3fs "s3fs ended without mounting \`$1\`: $(last_line)"
}

last_line() { printf '%s\n' "$_log" | grep -v '^$\|\[INF\]\|change debug level' | tail -n 1; }
