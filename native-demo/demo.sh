#!/usr/bin/env bash
# A mixture of experts answers a question on this machine's GPU, or on its CPU through a software Vulkan driver, with half of
# its experts in the GPU's memory.
#
#   native-demo/demo.sh ["question"] [--dense | --model PATH_OR_DIR]
#
# Without a question it is a chat. The first run fetches SmolLM2-135M-Instruct (98 MB) into models/, builds `moxel`, makes the
# demo mixture (assets/README.md) from it beside it and, where no GPU adapter is found, installs Mesa's software driver (Debian,
# as root). --dense asks SmolLM2-135M-Instruct itself.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
model=
dense=
question=()

say() { printf '==> %s\n' "$*" >&2; }

fail() {
  printf 'demo.sh: %s\n' "$*" >&2
  exit 1
}

usage() {
  printf 'usage: %s ["question"] [--dense | --model PATH_OR_DIR]\n' "${BASH_SOURCE[0]}" >&2
  exit 2
}

while [ $# -gt 0 ]; do
  case $1 in
    --model)
      [ $# -ge 2 ] || usage
      # The build below runs elsewhere.
      [ -e "$2" ] || fail "there is no $2"
      model=$(cd "$(dirname -- "$2")" && pwd)/$(basename -- "$2")
      shift
      ;;
    --dense) dense=yes ;;
    -*) usage ;;
    *)
      [ ${#question[@]} -eq 0 ] || usage
      question=("$1")
      ;;
  esac
  shift
done

[ -z "$dense" ] || [ -z "$model" ] || usage

moxel() { cargo run --quiet --release --locked --package moxel-cli -- "$@"; }

install_software_driver() {
  say "No GPU adapter was found: installing Mesa's software Vulkan driver"
  if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    fail "install a Vulkan driver (Debian: mesa-vulkan-drivers and libvulkan1) and run this again"
  fi
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends mesa-vulkan-drivers libvulkan1; } >/dev/null ||
    fail "apt-get could not install mesa-vulkan-drivers and libvulkan1; is this machine online?"
}

# Mesa looks for a display of Wayland even when only computing, and complains where there is no place for one.
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp}

cd "$root"
if ! command -v cargo >/dev/null && [ -f "$HOME/.cargo/env" ]; then
  # shellcheck source=/dev/null
  . "$HOME/.cargo/env"
fi
command -v cargo >/dev/null || fail "cargo is missing; install Rust 1.95 or newer from https://rustup.rs"

parent=
[ -n "$model" ] || parent=$(native-demo/get-model.sh)

say "Building moxel (the first time takes some minutes)"
cargo build --release --locked --package moxel-cli || fail "moxel could not be built; cargo says why above"

# Below as ${options[@]+...}: to Bash 3, an empty list alone is an unset one.
options=()
brief=()
if [ -n "$dense" ]; then
  model=$parent
elif [ -z "$model" ]; then
  model=$root/models/demo-moe
  options=(--expert-budget 50%)
  # It is a little worse than its parent, and wanders less when it is told to be brief.
  brief=(--system "Answer in one sentence.")
  native-demo/get-demo-moe.sh >/dev/null || fail "the demo mixture could not be made; --dense runs without it"
fi

moxel adapters >/dev/null 2>&1 || install_software_driver

if [ ${#question[@]} -eq 0 ]; then
  say "Chatting with $(basename "$model")"
  moxel chat "$model" ${options[@]+"${options[@]}"}
else
  say "Asking $(basename "$model"): ${question[0]}"
  # Greedy and exact, so that every machine gives the same answer: the model is small, and its first two choices are
  # often nearly equal.
  moxel chat "$model" ${options[@]+"${options[@]}"} --message "${question[0]}" ${brief[@]+"${brief[@]}"} \
    --temperature 0 --precision exact
fi
