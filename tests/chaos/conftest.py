# SPDX-License-Identifier: Apache-2.0
"""tests/chaos/*.py as modules for its tests; the fixtures are those of tests/conftest.py."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
