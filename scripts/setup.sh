#!/usr/bin/env bash
# Installs what the given purposes need with apt, where it may; says what to install where it may not.
#   scripts/setup.sh [build] [test] [bench]        (default: all)
set -euo pipefail
cd "$(dirname "$0")/.."

purposes=("$@")
[ "${#purposes[@]}" -gt 0 ] || purposes=(build test bench)

minimum=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
if ! command -v cargo >/dev/null; then
  echo "evserve needs Rust $minimum or newer: install it with rustup (https://rustup.rs), then run this again." >&2
  exit 1
fi
found=$(rustc --version | awk '{ print $2 }')
if [ "$(printf '%s\n' "$minimum" "$found" | sort -V | head -n 1)" != "$minimum" ]; then
  echo "evserve needs Rust $minimum or newer, found $found: rustup update stable" >&2
  exit 1
fi

# Package and how to see that it is there.
missing=()
need() { eval "$2" >/dev/null 2>&1 || missing+=("$1"); }
# Version 14: the bindgen that xgboost-rs-sys brings finds nothing with much newer ones.
libclang() { compgen -G '/usr/lib/llvm-14/lib/libclang*.so*' && compgen -G '/usr/lib/llvm-14/lib/clang/*/include/stddef.h'; }
for purpose in "${purposes[@]}"; do
  case $purpose in
    build)
      need gcc 'command -v cc'
      need libc6-dev 'test -e /usr/include/stdio.h'
      ;;
    test)
      # The XGBoost library behind the `xgboost` backend is C++ and found by bindgen.
      need g++ 'command -v c++'
      need cmake 'command -v cmake'
      need libclang-14-dev libclang
      need python3 'command -v python3'
      need python3-venv 'python3 -c "import venv, ensurepip"'
      need valgrind 'command -v valgrind'
      # Tests of the shared feature store and of telemetry start servers of their own.
      need redis-server 'command -v redis-server'
      need postgresql 'compgen -G "/usr/lib/postgresql/*/bin/initdb"'
      ;;
    bench)
      need python3 'command -v python3'
      need nghttp2-client 'command -v h2load'
      ;;
    *)
      echo "setup.sh: unknown purpose $purpose" >&2
      exit 2
      ;;
  esac
done

# The library behind the `ort` backend. evserve builds and serves without it, so that only the tests insist.
onnxruntime() {
  case " ${purposes[*]} " in
    *' test '* | *' bench '*) scripts/onnxruntime.sh ;;
    *)
      scripts/onnxruntime.sh ||
        echo 'ONNX Runtime was not fetched: models with backend "ort" will not load until scripts/onnxruntime.sh has run' >&2
      ;;
  esac
}
if [ "${#missing[@]}" -eq 0 ]; then
  onnxruntime
  exit 0
fi

command=(apt-get install --yes --no-install-recommends "${missing[@]}")
if ! command -v apt-get >/dev/null; then
  echo "evserve needs these packages, by whatever name this system has for them: ${missing[*]}" >&2
  exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
  if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    command=(sudo "${command[@]}")
  else
    echo "Please install first:  sudo ${command[*]}" >&2
    exit 1
  fi
fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
if [ "${command[0]}" = sudo ]; then sudo apt-get update --quiet; else apt-get update --quiet; fi >/dev/null
"${command[@]}" >/dev/null
onnxruntime
