#!/usr/bin/env bash
# Puts the demo mixture of experts (assets/README.md) into models/ unless it is there, and prints its folder as the only line on
# standard output. Builds `moxel`, which makes it from SmolLM2-135M-Instruct.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
model=$root/models/demo-moe

fail() {
  printf 'get-demo-moe.sh: %s\n' "$*" >&2
  exit 1
}

cd "$root"
moxel() { cargo run --quiet --release --locked --package moxel-cli -- "$@"; }

parent=$(native-demo/get-model.sh)
[ -x target/release/moxel ] || echo "Building moxel, which takes some minutes the first time ..." >&2
cargo build --quiet --release --locked --package moxel-cli || fail "moxel could not be built; cargo says why above"

# An older version's, or one that was damaged, is made again.
if ! moxel inspect "$model" >/dev/null 2>&1; then
  echo "Making the demo mixture of experts ..." >&2
  rm -rf "$model"
  moxel demo-model --gguf "$parent" --out "$model" >&2 || fail "the demo mixture could not be made"
fi
echo "$model"
