# SPDX-License-Identifier: Apache-2.0
"""A share link in a real browser, its owner's page and its guest's: tests/e2e/browser/share.mjs."""
import os
import subprocess

from lib import rig
from test_console import BROWSER, install


def test_a_link_from_page_to_guest(servers, tmp_path):
    install()
    fleet = rig.Fleet(servers)
    fleet.start("ingest-gateway")
    try:
        owner = fleet.client("olga")
        owner.upload(owner.dataset("Plans"), {"plan für Märkte.txt": b"the shared plan\n"})
        env = dict(os.environ, DOCFLEET_URL=fleet.url, DOCFLEET_API_KEY=owner.key, FILE="plan für Märkte.txt",
                   TEXT="the shared plan\n", OUT=os.environ.get("DOCFLEET_BROWSER_OUT", str(tmp_path)))
        run = subprocess.run(["node", "share.mjs"], cwd=BROWSER, env=env, timeout=240, check=False,
                             stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr
    finally:
        fleet.stop()
