# SPDX-License-Identifier: Apache-2.0
"""The simulator (tests/sim, docs/adr/0012-simulation.md): its schedules pass, a failing one would be
the same again, and its model of the tables is what the production statements do."""
import os
import subprocess
import uuid

import pytest

from lib import rig

BIN = f"{rig.ROOT}/build/release/bin"


def sim(*args, timeout=170):
    return subprocess.run([f"{BIN}/sim", *map(str, args)], capture_output=True, text=True,
                          timeout=timeout)


def test_schedules():
    """As many as go into 20 seconds; DOCFLEET_SIM_SEED for others."""
    seed = int(os.environ.get("DOCFLEET_SIM_SEED", 1))
    run = sim("--schedules", 1000000, "--seed", seed, "--seconds", 20)
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_schedule_is_its_seed():
    first, again = sim("--seed", 4, "--trace"), sim("--seed", 4, "--trace")
    assert first.returncode == 0 and len(first.stdout.splitlines()) > 50
    assert first.stdout == again.stdout


@pytest.mark.parametrize("seed", range(1, 16))
def test_model_is_the_sql(servers, seed):
    """Random operations on the database and on the model leave the same rows and answers."""
    url = servers.create_database("model_" + uuid.uuid4().hex[:8])
    env = dict(os.environ, DOCFLEET_DATABASE_URL=url, DOCFLEET_S3_ACCESS_KEY="x",
               DOCFLEET_S3_SECRET_KEY="x")
    subprocess.run([f"{BIN}/docfleetctl", "migrate"], env=env, check=True, capture_output=True,
                   timeout=60)
    run = subprocess.run([f"{BIN}/modelcheck", "--seed", str(seed), "--steps", "700"], env=env,
                         capture_output=True, text=True, timeout=120)
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
