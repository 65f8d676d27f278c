#!/usr/bin/env bash
# Fetches the ONNX Runtime library that the `ort` backend loads at run time, pinned by hash, into .onnxruntime/.
#   scripts/onnxruntime.sh [FOLDER]
# Does nothing when it is already there. Needs python3 with pip, and PyPI or a mirror of it.
set -euo pipefail
cd "$(dirname "$0")/.."

version=1.31.1
folder=${1:-.onnxruntime}
case "$(uname -s)-$(uname -m)" in
  Linux-x86_64)
    platform=manylinux_2_28_x86_64
    hash=1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536
    ;;
  Linux-aarch64)
    platform=manylinux_2_28_aarch64
    hash=0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc
    ;;
  Darwin-arm64)
    platform=macosx_14_0_arm64
    hash=96dd2564b10ea7153ad9c207e7cd8e5917cb3ba521e0e0a62ac03486fdc8d56c
    ;;
  *)
    echo "onnxruntime.sh: there is no ONNX Runtime $version for $(uname -s) on $(uname -m)" >&2
    exit 1
    ;;
esac
library=libonnxruntime.so
[ "$(uname -s)" = Linux ] || library=libonnxruntime.dylib

# What is there is of this version: the stamp is written last.
[ ! -e "$folder/$library" ] || [ "$(cat "$folder/version" 2>/dev/null)" != "$version $hash" ] || exit 0

# The platform's own Python may have no pip outside a virtual environment.
python=python3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! "$python" -m pip --version >/dev/null 2>&1; then
  "$python" -m venv "$work/venv"
  python=$work/venv/bin/python
fi
echo "onnxruntime==$version --hash=sha256:$hash" >"$work/requirements.txt"
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
  --python-version 3.12 --platform "$platform" --dest "$work" --requirement "$work/requirements.txt"
mkdir -p "$folder"
"$python" - "$work" "$folder" "$library" <<'PY'
import glob, os, shutil, sys, zipfile

work, folder, library = sys.argv[1:]
[wheel] = glob.glob(os.path.join(work, "*.whl"))
with zipfile.ZipFile(wheel) as archive:
    for member in archive.namelist():
        name = os.path.basename(member)
        is_library = member.startswith("onnxruntime/capi/libonnxruntime.")
        if is_library or name in ("LICENSE", "ThirdPartyNotices.txt"):
            # Beside its place first: whoever has the old one open keeps it.
            path = os.path.join(folder, library if is_library else name)
            with archive.open(member) as source, open(path + ".new", "wb") as target:
                shutil.copyfileobj(source, target)
            os.replace(path + ".new", path)
PY
echo "$version $hash" >"$folder/version"
echo "fetched ONNX Runtime $version into $folder"
