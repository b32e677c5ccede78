# SPDX-License-Identifier: Apache-2.0
"""The object store's contract (tests/unit/test_store_contract.c) with each driver on a real server.

Every run gets a server of its own, because the program stops and kills it at its end."""
import os
import re
import signal
import subprocess

import pytest
import requests

from lib import rig

CONTRACT = "tests/test_store_contract"
# What a driver does not declare is not asked of it.
SKIPPED = {"s3": set(), "libs3": {"test_upload_of_the_dead", "test_presign"}}


def built(variant):
    """The program, up to date; a variant that was built before costs a look at the files."""
    path = f"build/{variant}/{CONTRACT}"
    made = subprocess.run(["make", "-s", f"VARIANT={variant}", path], cwd=rig.ROOT,
                          capture_output=True, text=True)
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-4000:]
    return os.path.join(rig.ROOT, path)


def fetched(name):
    """A server that cannot be had (no network, nothing in the cache) skips, and is counted."""
    try:
        return rig.fetched(name)
    except subprocess.CalledProcessError as e:
        pytest.skip(f"{name} could not be fetched: {(e.stderr or '').strip()[-200:]}")


@pytest.fixture
def versitygw(tmp_path):
    """versitygw with the standard key, and nothing else in it."""
    port, data = rig.free_port(), tmp_path / "s3"
    data.mkdir()
    backend = ["posix"]
    try:
        os.setxattr(data, "user.docfleet", b"1")
    except OSError:
        (tmp_path / "sidecar").mkdir()
        backend += ["--sidecar", str(tmp_path / "sidecar")]
    env = dict(os.environ, ROOT_ACCESS_KEY="contract", ROOT_SECRET_KEY="contract/secret+1")
    process = rig.Process("versitygw", [
        fetched("versitygw") + "/versitygw", "--port", f"127.0.0.1:{port}", "--health",
        "/health", "--quiet", *backend, str(data)], str(tmp_path / "s3.log"), env=env)
    endpoint = f"http://127.0.0.1:{port}"
    rig.wait_until(lambda: requests.get(endpoint + "/health", timeout=2).ok, 20, what="versitygw")
    yield process, endpoint, "contract", "contract/secret+1", data
    process.stop(signal.SIGKILL)


@pytest.fixture
def s3proxy_own(tmp_path):
    fetched("s3proxy")
    made = rig.S3Proxy(str(tmp_path))
    yield made.process, made.endpoint, made.key, made.secret, tmp_path / "s3proxy-data"
    made.process.stop(signal.SIGKILL)


def run_contract(driver, variant, server, only=None):
    process, endpoint, key, secret, _ = server
    env = {k: v for k, v in os.environ.items() if not k.startswith("DOCFLEET_")}
    env.update(DOCFLEET_TEST_S3_DRIVER=driver, DOCFLEET_TEST_S3_ENDPOINT=endpoint,
               DOCFLEET_TEST_S3_ACCESS_KEY=key, DOCFLEET_TEST_S3_SECRET_KEY=secret,
               DOCFLEET_TEST_S3_PID=str(process.pid), DOCFLEET_TEST_ONLY=only or "*")
    run = subprocess.run([built(variant)], cwd=rig.ROOT, env=env, capture_output=True, text=True,
                         timeout=240, errors="replace")
    text = run.stdout + run.stderr
    passed = set(re.findall(r"^\[       OK \] (\w+)", run.stdout, re.M))
    skipped = set(re.findall(r"^\[  SKIPPED \] (\w+)", run.stdout, re.M))
    assert run.returncode == 0, text[-6000:] + process.log()[-2000:]
    return passed, skipped


def check(driver, server):
    passed, skipped = run_contract(driver, "asan", server)
    assert skipped == SKIPPED[driver]
    assert len(passed) >= 20
    assert "test_killed_server" in passed


def test_s3_driver_on_versitygw(versitygw):
    check("s3", versitygw)


def test_libs3_driver_on_s3proxy(s3proxy_own):
    check("libs3", s3proxy_own)


def test_s3_driver_memory(versitygw):
    """A stream of 100 MB is stored in less than 40 MB of memory (measured without sanitizers)."""
    passed, _ = run_contract("s3", "release", versitygw, only="test_upload_memory")
    assert passed == {"test_upload_memory"}


def test_libs3_driver_memory(s3proxy_own):
    passed, _ = run_contract("libs3", "release", s3proxy_own, only="test_upload_memory")
    assert passed == {"test_upload_memory"}
