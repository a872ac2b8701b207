#!/usr/bin/env bash
# Builds the npm package (web/pkg) and the page (web/dist); installs what is missing for it.
#
#   web/build.sh          small and fast: what is published
#   web/build.sh --dev    quickly: without link-time optimisation and wasm-opt
set -euo pipefail
cd "$(dirname "$0")"

most_gzipped=2000000
profile=wasm
case "${1:-}" in
  "") ;;
  --dev) profile=dev ;;
  *) echo "usage: web/build.sh [--dev]" >&2; exit 2 ;;
esac

# What npm installs here.
PATH="$PWD/node_modules/.bin:$PATH"
say() { printf '==> %s\n' "$*"; }

# The tool and the library that it makes bindings for must have the same version.
version=$(sed -n '/^name = "wasm-bindgen"$/{n;s/^version = "\(.*\)"$/\1/p;}' ../Cargo.lock)
bindgen=.tools/bin/wasm-bindgen
if [ "$("$bindgen" --version 2>/dev/null || true)" != "wasm-bindgen $version" ]; then
  say "Installing wasm-bindgen-cli $version"
  cargo install wasm-bindgen-cli --version "=$version" --root .tools --force
fi
# Whoever has Rust without rustup has to have the target already; cargo says so if not.
if command -v rustup >/dev/null && ! rustup target list --installed | grep -qx wasm32-unknown-unknown; then
  say "Installing the wasm32-unknown-unknown target"
  rustup target add wasm32-unknown-unknown
fi
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  say "Installing the build's npm packages"
  npm ci --no-audit --no-fund
fi

say "Compiling the engine"
cargo build --profile "$profile" --target wasm32-unknown-unknown -p moxel-web
target=$(cargo metadata --format-version 1 --no-deps | node -p 'JSON.parse(fs.readFileSync(0, "utf8")).target_directory')
folder=$profile
[ "$profile" != dev ] || folder=debug
rm -rf pkg-raw
"$bindgen" --target web --omit-default-module-path --out-dir pkg-raw "$target/wasm32-unknown-unknown/$folder/moxel_web.wasm"

# The package is put together beside the old one: a build that fails leaves that as it was.
say "Putting the package together"
rm -rf pkg.new
mkdir pkg.new
if [ "$profile" = dev ]; then
  cp pkg-raw/moxel_web_bg.wasm pkg.new/moxel_bg.wasm
else
  # What rustc uses, and every browser with WebGPU has: with all features wasm-opt writes what none of them reads.
  wasm-opt -Oz --enable-bulk-memory --enable-nontrapping-float-to-int --enable-sign-ext --enable-mutable-globals \
    --enable-reference-types --enable-multivalue pkg-raw/moxel_web_bg.wasm -o pkg.new/moxel_bg.wasm
fi
tsc -p .
bundle() { esbuild "$1" --bundle --format=esm --target=es2022 --minify --sourcemap --log-level=warning --outfile="pkg.new/$2"; }
bundle lib/index.ts moxel.js
bundle lib/worker.ts moxel-worker.js
tsc -p lib --outDir pkg.new/types
cp lib/package.json README.md ../LICENSE-MIT ../LICENSE-APACHE pkg.new/
rm -rf pkg
mv pkg.new pkg

gzipped=$(gzip -9 -c pkg/moxel_bg.wasm | wc -c)
for file in moxel.js moxel-worker.js moxel_bg.wasm; do
  printf '%10d bytes  %9d gzipped  %s\n' "$(wc -c <"pkg/$file")" "$(gzip -9 -c "pkg/$file" | wc -c)" "$file"
done
if [ "$profile" = wasm ] && [ "$gzipped" -gt "$most_gzipped" ]; then
  echo "web/build.sh: moxel_bg.wasm has $gzipped bytes gzipped, more than the $most_gzipped that it may have" >&2
  exit 1
fi

say "Building the page"
node app/build.mjs
