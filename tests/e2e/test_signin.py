# SPDX-License-Identifier: Apache-2.0
"""Signing in and out in a real browser: tests/e2e/browser/signin.mjs."""
import os
import subprocess

from lib import rig
from test_console import BROWSER, install


def test_sign_in_with_a_browser(servers, tmp_path):
    install()
    fleet = rig.Fleet(servers)
    fleet.start("ingest-gateway")
    try:
        fleet.ctl("user", "create", "petra", "--no-key")
        password = tmp_path / "password"
        password.write_text("a first long password\n")
        fleet.ctl("user", "password", "petra", "--file", str(password))
        petra = fleet.one("select user_id from account where name = 'petra'")
        fleet.client("root", admin=True).request("PUT", f"/admin/users/{petra}/quota", 200, json={"files": 4})
        env = dict(os.environ, DOCFLEET_URL=fleet.url, NAME="petra", PASSWORD="a first long password",
                   NEW_PASSWORD="a second long password",
                   OUT=os.environ.get("DOCFLEET_BROWSER_OUT", str(tmp_path)))
        run = subprocess.run(["node", "signin.mjs"], cwd=BROWSER, env=env, timeout=240, check=False,
                             stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr
    finally:
        fleet.stop()
