#!/usr/bin/env bash
# A gate for one's own checkpoint: fails when it got weaker, or suddenly stronger, under the same attacks.
#
#     bash examples/ci_gate.sh [BASELINE.csv]
#
# The first call measures the model and writes the baseline: look at it and commit it. Later calls, the ones in CI, run
# what it holds again and compare image by image. Exit 0: it holds; 1: it regressed; 2: it could not run.
set -euo pipefail

given=${1:-baseline.csv}
baseline=$(cd "$(dirname "$given")" && pwd)/$(basename "$given")
# The baseline holds the model's name: a relative path means the same on every machine.
cd "$(dirname "$0")"
model=own_model_and_attack.py:load

if [ ! -f "$baseline" ]; then
    reference=$(mktemp -d)
    bench run --model "$model" --data digits -n 100 --eps 0.1 \
        --attacks "noise,pgd(steps=10),margin(steps=10)" --out "$reference/run"
    bench check --baseline "$baseline" --add "$reference/run"
    rm -r "$reference"
    echo "wrote $baseline: commit it, and let CI run this script"
    exit 0
fi

bench check --baseline "$baseline" --model "$model" --junit "${baseline%.csv}.junit.xml"
