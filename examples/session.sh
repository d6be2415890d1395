#!/usr/bin/env bash
# A shell session on synthetic data: a labelled set, a network, its dissection, numbers for a script.
set -euo pipefail
out=$(mktemp -d)
export CNNLENS_WORKSPACE="$out/workspace"

cnnlens data make shapes --out "$out/shapes" --images 90 --quiet
cnnlens data check "$out/shapes"
cnnlens layers zoo:demo_net | head -n 5

cnnlens dissect zoo:demo_net -d "$out/shapes" -l conv2 -l conv3 # names model and data
cnnlens dissect --json --quiet -l conv3 >"$out/conv3.json"      # the same again: nothing is recomputed
python -c "import json, sys; print(json.load(open(sys.argv[1]))['detectors'], 'detectors')" "$out/conv3.json"
echo "page: $CNNLENS_WORKSPACE/report.html"
