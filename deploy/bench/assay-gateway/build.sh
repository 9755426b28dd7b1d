#!/usr/bin/env bash
# Installs the gateway into a virtual environment next to this file, once, before the first launch.
# ASSAY_GATEWAY: what pip installs; a release, or the path of a working tree.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ -x "$here/venv/bin/python" ] || python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet "${ASSAY_GATEWAY:-assay-gateway==0.1.0}"
"$here/venv/bin/gateway" --version
