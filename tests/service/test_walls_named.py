# SPDX-License-Identifier: Apache-2.0
"""docs/security.md names the tests that show its claims; each of them exists."""
import glob
import re

from lib import rig


def test_every_test_that_the_page_names_exists():
    with open(f"{rig.ROOT}/docs/security.md", encoding="utf-8") as f:
        named = set(re.findall(r"`(test_\w+)`", f.read()))
    found = set()
    for path in glob.glob(f"{rig.ROOT}/tests/**/*", recursive=True):
        if path.endswith((".py", ".c")):
            with open(path, encoding="utf-8") as f:
                found |= set(re.findall(r"^(?:def|static void) (test_\w+)\(", f.read(), re.M))
    assert len(named) > 15 and not named - found
