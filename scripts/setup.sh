#!/bin/sh
# Install what a checkout needs: system packages (apt, when root) and a virtual environment in .venv.
#
#   scripts/setup.sh [EXTRA ...]        e.g. scripts/setup.sh openvino demo
#
# Extras add up: a stamp in .venv remembers those that are there and what they were made from (first
# line: checksum of constraints.txt and pyproject.toml, second line: the extras). What is there
# already is not asked of the network.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"
venv=${LIGHTLY_FS_VENV:-$root/.venv}
say() { printf 'setup: %s\n' "$*" >&2; }

# True when apt can be asked and has installed the packages.
apt_install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
    say "apt-get install $*"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends ca-certificates "$@" >/dev/null
}

pairs='s3fs:s3fs fusermount:fuse'
case " $* " in *" test "*) pairs="$pairs pdftotext:poppler-utils" ;; esac
missing=
for pair in $pairs; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
# Python works without them, and says what it misses when somebody mounts.
# shellcheck disable=SC2086 # a list of package names
[ -z "$missing" ] || apt_install $missing ||
    say "not installed:$missing (as root: apt-get install$missing)"

made_from=$(cat constraints.txt pyproject.toml | cksum)
found_from=$(sed -n 1p "$venv/.stamp" 2>/dev/null || :)
there=$(sed -n 2p "$venv/.stamp" 2>/dev/null || :)
new=
for extra in "$@"; do
    case ",$there,$new," in *",$extra,"*) ;; *) new=${new:+$new,}$extra ;; esac
done
if [ ! -x "$venv/bin/lightly-fs" ] || [ ! -x "$venv/bin/python" ]; then
    say "creating $venv (a few GB with torch; minutes, depending on the network)"
elif [ "$found_from" != "$made_from" ]; then
    say "bringing $venv up to date: constraints.txt or pyproject.toml has changed"
elif [ -n "$new" ]; then
    say "adding extras $new"
else
    exit 0
fi

if [ ! -x "$venv/bin/python" ]; then
    python=
    for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
    if [ -z "$python" ] && apt_install python3 python3-venv; then
        python=python3
    fi
    [ -n "$python" ] || { say "Python 3.11 or newer with venv is needed"; exit 69; }
    "$python" -m venv "$venv"
fi
extras=$(printf '%s\n' "$there" "$new" | tr , '\n' | sed '/^$/d' | sort -u | paste -sd, -)
"$venv/bin/python" -m pip install -q --disable-pip-version-check uv -c constraints.txt
"$venv/bin/uv" pip install -q --python "$venv/bin/python" -c constraints.txt -e ".[$extras]"
printf '%s\n%s\n' "$made_from" "$extras" >"$venv/.stamp"
