#!/bin/sh
# How fast is the forest beside XGBoost? Makes the models and finds XGBoost's library in a virtual environment.
set -eu
cd "$(dirname "$0")"
venv=.venv-xgboost
if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import xgboost' 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet -r models/requirements.txt
fi
if [ ! -f models/rows.f32 ]; then
    "$venv/bin/python" models/make.py
fi
XGBOOST_LIB=${XGBOOST_LIB:-$("$venv/bin/python" -c 'import xgboost, pathlib; print(pathlib.Path(xgboost.__file__).parent / "lib/libxgboost.so")')}
export XGBOOST_LIB
exec cargo bench --package ev-benches --bench forest -- "$@"
