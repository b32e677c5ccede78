# SPDX-License-Identifier: Apache-2.0
"""The console in a real browser, from sign-in to a row and its removal: tests/e2e/browser."""
import hashlib
import os
import subprocess

from lib import importing, rig

BROWSER = os.path.join(rig.ROOT, "tests", "e2e", "browser")
DIST = os.path.join(rig.ROOT, "services", "ingest-gateway", "console", "dist", "index.html")


def install():
    """playwright-core, at the version of the lock file; it downloads no browser."""
    with open(f"{BROWSER}/package-lock.json", "rb") as f:
        lock = hashlib.sha256(f.read()).hexdigest()
    stamp = f"{BROWSER}/node_modules/.docfleet-lock"
    if os.path.exists(stamp):
        with open(stamp, encoding="utf-8") as f:
            if f.read() == lock:
                return
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=BROWSER,
                   check=True, timeout=300, stdin=subprocess.DEVNULL)
    with open(stamp, "w", encoding="utf-8") as f:
        f.write(lock)


def test_from_drop_to_row(fleet, fixture_path, tmp_path):
    assert os.path.exists(DIST), "the page is not built: deploy/local/console"
    install()
    out = os.environ.get("DOCFLEET_BROWSER_OUT", str(tmp_path))
    url = fleet.api[:-len("/api/v1")]
    env = dict(os.environ, DOCFLEET_URL=url, DOCFLEET_API_KEY=fleet.user_key("browser"),
               FIXTURE_PDF=fixture_path("invoice.pdf"), FIXTURE_TXT=fixture_path("note.txt"),
               TEXT_PDF="NP-2024-0187", TEXT_TXT="MN-5521", OUT=out)
    run = subprocess.run(["node", "console.mjs"], cwd=BROWSER, env=env, timeout=240, check=False,
                         stdin=subprocess.DEVNULL, capture_output=True, text=True)
    print(run.stdout)
    assert run.returncode == 0, run.stderr


def test_operations(fleet, tmp_path):
    """The operator's page: places in the queue, receipts, dead letters, pauses, imports, accounts."""
    assert os.path.exists(DIST), "the page is not built: deploy/local/console"
    install()
    root = fleet.client("root", admin=True)
    root.dataset("Invoices")
    source = importing.Source(fleet, "ops-in/", user="root",
                              schedule={"cron": "0 3 * * *", "timeZone": "Europe/Berlin"})
    for name in ("a.txt", "b.txt"):
        source.put(name)
        assert source.run()["state"] == "published"
    out = os.environ.get("DOCFLEET_BROWSER_OUT", str(tmp_path))
    env = dict(os.environ, DOCFLEET_URL=fleet.url, DOCFLEET_API_KEY=root.key, OUT=out)
    try:
        run = subprocess.run(["node", "operations.mjs"], cwd=BROWSER, env=env, timeout=240,
                             check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr
        anna = fleet.sql("SELECT user_id, role, weight, disabled_at IS NOT NULL AS locked FROM account"
                         " WHERE name = 'ops-anna'")[0]
        assert (anna["role"], anna["weight"], anna["locked"]) == ("operator", 2.0, True)
        limits = root.json(f"/admin/users/{anna['user_id']}/quota")["limits"]
        assert limits == {"files": None, "bytes": 3 << 29, "pages": "none", "money": None}
    finally:
        fleet.sql("UPDATE stage_control SET paused = false")  # or every later test waits


def test_console_logic():
    """The page's own unit tests: event stream, list merging, upload batches, formats."""
    console = os.path.dirname(os.path.dirname(DIST))
    run = subprocess.run(["node", "dev/run-tests.mjs"], cwd=console, timeout=120, check=False,
                         stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]


def test_console_types():
    console = os.path.dirname(os.path.dirname(DIST))
    run = subprocess.run(["npx", "--no-install", "tsc", "--noEmit", "-p", "."], cwd=console,
                         timeout=120, check=False, stdin=subprocess.DEVNULL, capture_output=True,
                         text=True)
    assert run.returncode == 0, run.stdout[-6000:]
