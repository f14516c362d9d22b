#!/usr/bin/env bash
# Builds both wheels into dist/ and tries the client's in a clean environment of each Python named (3.11 3.12 3.13):
#
#     PATH=.venv/bin:$PATH deployments/wheels.sh [PYTHON ...]
#
# Needs uv, and Pythons that it finds. The client's wheel must stay small, and answer without torch and Prefect.
set -euo pipefail
cd "$(dirname "$0")/.."
pythons=("$@")
[ $# -gt 0 ] || pythons=(3.11 3.12 3.13)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

rm -f dist/pseudoword-*.whl dist/pseudoword_miniature-*.whl
uv build --quiet --wheel --out-dir dist .
uv build --quiet --wheel --out-dir dist miniature/package
ls -l dist/*.whl
client=$(echo dist/pseudoword-*.whl)
size=$(stat -c %s "$client")
[ "$size" -lt 1000000 ] || { echo "$client has $size bytes: it carries what a client does not need"; exit 1; }
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' ti_core/__init__.py)

# A command's exit code and words, told and compared.
expect() {
  local code=$1 words=$2 got=0 said
  shift 2
  said=$("$@" 2>&1) || got=$?
  echo "  ti ${*:2} -> $got: $(tail -n 1 <<<"$said")"
  [ "$got" = "$code" ] && [[ $said == *"$words"* ]] && [[ $said != *Traceback* ]] \
    || { echo "expected exit code $code and \"$words\", not:"; echo "$said"; exit 1; }
}

for python in "${pythons[@]}"; do
  home=$work/$python
  uv venv --quiet --no-config --no-python-downloads --python "$python" "$home/venv"
  uv pip install --quiet --python "$home/venv/bin/python" "$client"
  ti=$home/venv/bin/ti
  mkdir "$home/empty" && pushd "$home/empty" >/dev/null
  echo "$("$home/venv/bin/python" --version), $(du -sm "$home/venv" | cut -f1) MB:"
  expect 0 "Usage" "$ti" --help
  for command in train batch judge generate fetch show; do expect 0 "Usage" "$ti" "$command" --help; done
  expect 0 "$version" "$ti" --version
  expect 0 "" "$ti" show
  expect 1 "No word cat" "$ti" fetch cat
  expect 1 "pip install 'pseudoword[train]'" "$ti" train . --name cat --class-word animal
  expect 1 "pip install 'pseudoword[train]'" "$ti" generate "a cat" --out cat.png
  popd >/dev/null
done
echo "The client's wheel works on ${pythons[*]}."
