#!/usr/bin/env bash
# The chat page on this machine: builds it, gets the demo models, serves both on the loopback interface and prints the address.
#
#   web/demo.sh [--port N] [MODEL ...]
#
# MODEL is a GGUF file or a model's folder that the page shall offer too. Needed before: Rust 1.95 or newer, Node.js 20 or
# newer with npm, python3 with pip, and a browser with WebGPU.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
port=8080
mounts=()

fail() {
  printf 'demo.sh: %s\n' "$*" >&2
  exit 1
}

while [ $# -gt 0 ]; do
  case $1 in
    --port)
      [ $# -ge 2 ] || fail "--port needs a number"
      port=$2
      shift
      ;;
    -*) fail "usage: web/demo.sh [--port N] [MODEL ...]" ;;
    *)
      [ -e "$1" ] || fail "there is no $1"
      mounts+=("$1")
      ;;
  esac
  shift
done

"$root/web/build.sh"
dense=$("$root/native-demo/get-model.sh")
moe=$("$root/native-demo/get-demo-moe.sh")
exec node "$root/web/serve.mjs" --port "$port" --model "$moe" --model "$dense" ${mounts[@]+"${mounts[@]/#/--model=}"}
