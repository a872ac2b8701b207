#!/usr/bin/env bash
# Tests and measures this machine's GPU, and leaves the result in benches/results/<adapter>/: rows.json (for --compare),
# report.html, adapter.txt and tests.txt.
#
#   benches/gpu.sh                          everything, for the fastest adapter
#   benches/gpu.sh --layers 1 -p 16 -n 4    the same with these options of `moxel bench` instead of -p 128,512 -n 64 -r 3
#
# Set before: ADAPTER=NAME_OR_INDEX for another adapter, TESTS=0 to leave the tests out, SHAPES=a,b for other shapes or SHAPES=none,
# MODELS="FILE FILE" for other models than SmolLM2.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Mesa looks for a display of Wayland even when only computing, and complains where there is no place for one.
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp}

say() { printf '==> %s\n' "$*" >&2; }
die() {
  printf 'benches/gpu.sh: %s\n' "$*" >&2
  exit 1
}

# Tests of everything that an adapter computes, not of files and texts.
readonly ADAPTER_TESTS=(golden dispatches chunks sampling streaming end_to_end)

command -v cargo >/dev/null || die "cargo is missing: https://rustup.rs"
command -v python3 >/dev/null || die "python3 is missing"

say "Building the command line"
cargo build --release -p moxel-cli
moxel=${CARGO_TARGET_DIR:-target}/release/moxel

# Where anything fails, nothing half-finished is left among the results.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$moxel" adapters | tee "$work/adapter.txt" >&2

options=("$@")
[ $# -gt 0 ] || options=(-p "128,512" -n 64 -r 3)
choose=()
[ -z "${ADAPTER:-}" ] || choose=(--adapter "$ADAPTER")

read -ra models <<<"${MODELS-}"
if [ -z "${MODELS+set}" ]; then
  if model=$(native-demo/get-model.sh); then models=("${model#"$PWD/"}"); else say "without SmolLM2, which cannot be fetched"; fi
fi
shapes=${SHAPES:-granite-1b,olmoe,llama-8b,qwen3-30b-a3b,llama4-scout,llama4-maverick}
subjects=(${models[@]+"${models[@]}"})
[ "$shapes" = none ] || subjects+=(--shape "$shapes")
[ ${#subjects[@]} -gt 0 ] || die "there is no model and no shape to measure"

if [ "${TESTS:-1}" = 1 ]; then
  # The tests take the fastest adapter: another one is chosen by its driver, see tests/README.md.
  say "Running the tests that need an adapter"
  tests=()
  for name in "${ADAPTER_TESTS[@]}"; do tests+=(--test "$name"); done
  [ ${#models[@]} -eq 0 ] || tests+=(--test smollm2)
  # Failures are a result too: they are written down, and the measurements follow.
  {
    passed=1
    cargo test -p moxel --lib -- kernels roofline tuning || passed=0
    cargo test -p moxel --no-fail-fast "${tests[@]}" || passed=0
    [ "$passed" = 1 ]
  } 2>&1 | tee "$work/tests.txt" >&2 || say "tests failed, see tests.txt"
fi

say "Measuring"
# Without what was chosen and kept when something else may have run.
"$moxel" bench --no-cache ${subjects[@]+"${subjects[@]}"} ${choose[@]+"${choose[@]}"} "${options[@]}" --profile -o html --save "$work/rows.json" >"$work/report.html"

# A folder named after the adapter, in letters that every file system takes.
name=$(python3 - "$work/rows.json" <<'PYTHON'
import json, re, sys
rows = json.load(open(sys.argv[1]))
print(re.sub(r"[^a-z0-9]+", "-", f"{rows[0]['adapter']} {rows[0]['backend']}".lower()).strip("-"))
PYTHON
)
results=benches/results/$name
mkdir -p "$results"
rm -f "$results/tests.txt"
mv "$work"/* "$results/"
say "Done: $results"
