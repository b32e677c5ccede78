#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs check.py with the interpreter of the tests, which has Helm's library and the schemas.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
python=$("$root/tests/run.py" --python)
exec "$python" "$root/tools/k8s/check.py" "$@"
