#!/usr/bin/env bash
# Runs benchmarks/gpu.py in a bare checkout, without a network: bash benchmarks/gpu.sh [options of gpu.py]
#
# PYTHON  The Python that has torch; default: python3.
# WHEELS  Folder with wheels of what this Python lacks, such as msgspec; default: nothing is lacking.
# OUT     Folder of the results; default: the current one.
# LIMIT   Seconds after which everything is stopped; default: 355.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT

# The folders at the top of the checkout are sub-packages of tier4k.
ln -s "$root" "$packages/tier4k"
if [ -n "${WHEELS:-}" ]; then
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
    --target "$packages" "$WHEELS"/*.whl
fi

export PYTHONPATH="$packages${PYTHONPATH:+:$PYTHONPATH}"
export HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
timeout --signal=INT --kill-after=10 "${LIMIT:-355}" "$python" "$root/benchmarks/gpu.py" "$@"
