#!/bin/sh
# Install what a checkout needs: system packages (apt, when root) and a virtual environment in .venv.
#
#   scripts/setup.sh [EXTRA ...]        e.g. scripts/setup.sh openvino demo
#
# Nothing is done twice: a stamp in .venv remembers the constraints and extras it was made for.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"
venv=${LIGHTLY_FS_VENV:-$root/.venv}
say() { printf 'setup: %s\n' "$*" >&2; }

pairs='s3fs:s3fs fusermount:fuse'
case " $* " in *" test "*) pairs="$pairs pdftotext:poppler-utils" ;; esac
missing=
for pair in $pairs; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "apt-get install$missing"
        apt-get update -qq
        # shellcheck disable=SC2086 # a list of package names
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            ca-certificates $missing >/dev/null
    else
        say "not installed:$missing (as root: apt-get install$missing)"
    fi
fi

python=
for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "apt-get install python3 python3-venv"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3 python3-venv >/dev/null
    python=python3
fi
[ -n "$python" ] || { say "Python 3.11 or newer with venv is needed"; exit 69; }

extras=$(printf '%s\n' "$@" | sort -u | paste -sd, -)
stamp=$({ "$python" --version; printf '%s\n' "$extras"; cat constraints.txt pyproject.toml; } | cksum)
if [ -x "$venv/bin/lightly-fs" ] && [ "$(cat "$venv/.stamp" 2>/dev/null)" = "$stamp" ]; then
    exit 0
fi
say "creating $venv (a few GB with torch; minutes, depending on the network)"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install -q --disable-pip-version-check uv -c constraints.txt
"$venv/bin/uv" pip install -q --python "$venv/bin/python" -c constraints.txt -e ".[$extras]"
printf '%s' "$stamp" >"$venv/.stamp"
