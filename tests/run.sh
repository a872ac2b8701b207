#!/usr/bin/env bash
# Runs every check of the repository and ends with a table of what passed and how long it took.
#
#   tests/run.sh         everything; installs what is missing (Debian, as root)
#   tests/run.sh quick   format, lints, and the tests on the default adapter
#
# tests/README.md says what each step proves.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

# Mesa looks for a display of Wayland even when only computing, and complains where there is no place for one.
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp}

readonly SWIFTSHADER=/usr/lib/chromium/vk_swiftshader_icd.json
# The library in a browser, and the command line where this machine cannot run it.
readonly WASM=wasm32-unknown-unknown
readonly FOREIGN_TARGETS=(x86_64-pc-windows-gnu aarch64-apple-darwin)

mode=${1:-all}
case $mode in
  all | quick) ;;
  *)
    echo "usage: tests/run.sh [quick]" >&2
    exit 2
    ;;
esac

heading() { printf '\n=== %s\n' "$*"; }

die() {
  printf '\ntests/run.sh: %s\n' "$*" >&2
  exit 1
}

# --- what the checks need ---------------------------------------------------------------------------------------------

has() { command -v "$1" >/dev/null 2>&1; }

has_vulkan() {
  { ldconfig -p 2>/dev/null || true; } | grep -q 'libvulkan\.so\.1' &&
    compgen -G '/usr/share/vulkan/icd.d/*.json' >/dev/null
}

install_packages() {
  local packages=()
  if [ "$(uname)" = Linux ]; then
    has_vulkan || packages+=(mesa-vulkan-drivers libvulkan1)
    [ "$mode" = quick ] || [ -f "$SWIFTSHADER" ] || packages+=(chromium)
  fi
  has cc || packages+=(gcc libc6-dev)
  # Debian's own Node.js is too old for the browser's tests.
  [ "$mode" = quick ] || { has npm && [ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ]; } ||
    die "Node.js 20 or newer with npm is missing: https://nodejs.org"
  has python3 || packages+=(python3)
  python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip)
  [ ${#packages[@]} -gt 0 ] || return 0
  if ! has apt-get || [ "$(id -u)" != 0 ]; then
    die "these are missing: ${packages[*]} (Debian's names). Install them and run this again."
  fi
  echo "installing ${packages[*]}"
  export DEBIAN_FRONTEND=noninteractive
  if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null; }; then
    die "apt-get could not install ${packages[*]}"
  fi
}

prepare() {
  heading "Preparing"
  has cargo || die "cargo is missing. Install Rust 1.95 or newer: https://rustup.rs"
  install_packages
  for tool in fmt clippy; do
    cargo "$tool" --version >/dev/null 2>&1 && continue
    rustup component add "${tool/fmt/rustfmt}" || die "cargo $tool is missing"
  done
  MOXEL_DEMO_MODEL=$(./native-demo/get-model.sh) || die "the demo model is missing"
  export MOXEL_DEMO_MODEL
  # A check that cannot run is a failure here; a plain `cargo test` may skip what needs the model.
  export MOXEL_REQUIRE_MODEL=1
  rustc --version
  echo "demo model: $MOXEL_DEMO_MODEL"
}

# --- steps ------------------------------------------------------------------------------------------------------------

results=()
failed=0

# step NAME COMMAND...: runs it, keeps the result and the time, and goes on either way.
step() {
  local name=$1 start=$SECONDS verdict=passed
  shift
  heading "$name"
  "$@" || {
    verdict=FAILED
    failed=$((failed + 1))
  }
  results+=("$(printf '%-6s %5d s  %s' "$verdict" $((SECONDS - start)) "$name")")
}

skip() {
  heading "$1: SKIPPED, $2"
  results+=("$(printf '%-6s %7s  %s (%s)' skip - "$1" "$2")")
}

format() { cargo fmt --all --check; }

lints() {
  cargo clippy --locked --workspace --all-targets -- --deny warnings &&
    RUSTDOCFLAGS='--deny warnings' cargo doc --locked -p moxel --no-deps
}

# Always --workspace: with fewer packages some dependencies have fewer features, and cargo would build them once more.
all_tests() { cargo test --locked --workspace --no-fail-fast; }

# Everything that computes on an adapter, once more on a driver without f16 and with subgroups of four.
swiftshader_tests() (
  export VK_DRIVER_FILES=$SWIFTSHADER
  cargo test --locked --workspace --no-fail-fast --lib -- kernels tuning &&
    cargo test --locked --workspace --no-fail-fast --test golden --test sampling --test streaming --test streaming_faults --test hostile_models --test end_to_end --test examples &&
    cargo test --locked --workspace --no-fail-fast --test made_models streams
)

# Ignored by a plain `cargo test`: it needs a browser.
chromium_shaders() { cargo test --locked --workspace --lib -- --ignored chromium; }

check_target() {
  local target=$1
  shift
  cargo check --locked --target "$target" "$@"
}

has_target() { rustc --print target-libdir --target "$1" 2>/dev/null | xargs -r test -d; }

demo() {
  local answer
  answer=$(./native-demo/demo.sh "What is the capital of France?" </dev/null) || return 1
  printf '%s\n' "$answer"
  # The answer's own words, not the question's.
  grep -q Paris <<<"$answer"
}

# After the demo, which leaves the mixture of experts and the command line that browsers are compared with.
browser_tests() { node --test --test-concurrency=1 web/tests/*.test.mjs; }

summary() {
  heading "Summary"
  printf '%s\n' "${results[@]}"
  printf '\n%d passed, %d failed, %d min %02d s\n' \
    "$(printf '%s\n' "${results[@]}" | grep -c '^passed')" "$failed" $((SECONDS / 60)) $((SECONDS % 60))
}

prepare
step "Format" format
step "Lints and documentation" lints
step "Tests on the default adapter" all_tests
if [ "$mode" = all ]; then
  if [ -f "$SWIFTSHADER" ]; then
    step "Tests on SwiftShader's Vulkan driver" swiftshader_tests
  else
    skip "Tests on SwiftShader's Vulkan driver" "it comes with Debian's chromium"
  fi
  if has chromium || has google-chrome || [ -n "${CHROMIUM:-}" ]; then
    step "Shaders in Chromium" chromium_shaders
  else
    skip "Shaders in Chromium" "no browser found; CHROMIUM names one"
  fi
  step "The demo answers" demo
  step "Build for the browser" ./web/build.sh
  if has chromium || has google-chrome || [ -n "${CHROMIUM:-}" ]; then
    step "Tests in Chromium" browser_tests
  else
    skip "Tests in Chromium" "no browser found; CHROMIUM names one"
  fi
  for target in "$WASM" "${FOREIGN_TARGETS[@]}"; do
    has_target "$target" || rustup target add "$target" >/dev/null 2>&1
    if ! has_target "$target"; then
      skip "Check for $target" "its standard library cannot be installed here: rustup target add $target"
    elif [ "$target" = "$WASM" ]; then
      step "Check for $target" check_target "$target" --lib
    else
      step "Check for $target" check_target "$target" --workspace
    fi
  done
fi
summary
[ "$failed" -eq 0 ]
