#!/bin/sh
# Makes or updates the virtual environment: requirements/venv.sh FOLDER LOCKFILE. Does nothing when it is current.
# Needs Python 3.11 to 3.13 with its venv module; PYTHON names another one than python3.
set -eu
venv=$1
lock=$2

fits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if fits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "No Python 3.11 to 3.13 found (tried: ${PYTHON:-python3 python3.13 python3.12 python3.11})." >&2
    echo "Install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2
    exit 1
}

python=$(find_python)
# A virtual environment cannot move and belongs to one Python: both are part of its stamp.
stamp=$("$python" -c '
import hashlib, os, sys
data = open(sys.argv[1], "rb").read() + f"{sys.version}{os.path.abspath(sys.argv[2])}".encode()
print(hashlib.sha256(data).hexdigest())' "$lock" "$venv")
if [ "$(cat "$venv/.stamp" 2>/dev/null)" = "$stamp" ]; then
    exit 0
fi

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "$python has no venv module. On Debian or Ubuntu: apt install python3-venv (or python3.X-venv)." >&2
    exit 1
fi
echo "Setting up $venv from $lock ..."
rm -f "$venv/.stamp"
"$python" -m venv --clear "$venv"
# Every file that is fetched has to have a hash of the lock file, uv's own too.
sed -n '/^uv==/,/[^\\]$/p' "$lock" > "$venv/uv.txt"
if ! { "$venv/bin/python" -m pip install --quiet --no-deps --require-hashes -r "$venv/uv.txt" &&
       VIRTUAL_ENV=$venv "$venv/bin/uv" pip sync --quiet --require-hashes "$lock"; }; then
    # uv reads no pip configuration; behind a private index pip may still get through.
    echo "uv could not install them; trying pip, which takes longer."
    "$venv/bin/python" -m ensurepip --upgrade >/dev/null
    "$venv/bin/python" -m pip install --quiet --no-deps --require-hashes -r "$lock"
fi
# Compiled once here, in parallel, rather than at the first start of every program.
"$venv/bin/python" -m compileall -q -j 0 "$venv/lib" >/dev/null 2>&1 || true
echo "$stamp" > "$venv/.stamp"
