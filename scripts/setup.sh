#!/bin/sh
# setup.sh run|dev: bring .venv to the lock file, when it is not there yet. PYTHON names another interpreter.
# The environment of a developer stays one: `make run` in it installs what developing needs.
set -eu
cd "$(dirname "$0")/.."
venv=.venv
kind=$1

usable() {
    command -v "$1" >/dev/null 2>&1 && "$1" -c "import sys; sys.exit(not ($2 <= sys.version_info[:2] < $3))" 2>/dev/null
}

# 3.11 and 3.12 first: for them there is a wheel of Redis; newer ones need the system's Redis.
choose_python() {
    if [ -n "${PYTHON:-}" ]; then
        usable "$PYTHON" '(3, 11)' '(4, 0)' && { echo "$PYTHON"; return; }
        echo "PYTHON=$PYTHON is not a Python 3.11 or later." >&2
        exit 1
    fi
    for candidate in python3 python3.12 python3.11; do
        usable "$candidate" '(3, 11)' '(3, 13)' && { echo "$candidate"; return; }
    done
    for candidate in python3 python3.14 python3.13; do
        usable "$candidate" '(3, 13)' '(4, 0)' && { echo "$candidate"; return; }
    done
    echo "Python 3.11 or later is needed; found: $(python3 --version 2>&1 || echo none). Install one, or name it: make PYTHON=/path/to/python3.11" >&2
    exit 1
}

digest() {
    cat "$1" requirements-uv.txt scripts/setup.sh | cksum | tr ' ' '-'
}

if [ "$kind" = dev ] || [ -e $venv/.dev ]; then
    kind=dev lock=requirements-dev.txt
else
    kind=run lock=requirements.txt
fi
stamp=$venv/.$kind
wanted=$(digest $lock)
if [ -x $venv/bin/python ] && [ "$(cat $stamp 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

python=$(choose_python)
uv=$venv/bootstrap/bin/uv
if [ ! -x $uv ] || [ "$(cat $venv/.uv 2>/dev/null)" != "$(digest requirements-uv.txt)" ]; then
    echo "Preparing uv in $venv/bootstrap"
    if ! "$python" -m venv --clear $venv/bootstrap; then
        echo "$python cannot make virtual environments (on Debian and Ubuntu: apt install python3-venv)." >&2
        exit 1
    fi
    $venv/bootstrap/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.txt
    digest requirements-uv.txt > $venv/.uv
fi
if [ ! -x $venv/bin/python ]; then
    $uv venv --quiet --allow-existing --python "$(command -v "$python")" $venv
fi
echo "Installing $lock into $venv"
$uv pip sync --quiet --require-hashes --compile-bytecode --python $venv/bin/python $lock
echo "$wanted" > $stamp
