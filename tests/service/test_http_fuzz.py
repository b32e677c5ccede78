# SPDX-License-Identifier: Apache-2.0
"""A short run of the HTTP fuzzer at the release build; `make http-fuzz` is the whole one, under ASan."""
import os
import sys

import pytest

from lib import rig

sys.path.append(os.path.join(rig.ROOT, "tests", "scan"))

import ground  # noqa: E402
import http_fuzz  # noqa: E402
import malformed  # noqa: E402
from test_oidc import Liar  # noqa: E402


@pytest.fixture
def target(servers, activate):
    fleet = activate(rig.Fleet(servers))
    liar = Liar(fleet.dir)
    fleet.env = http_fuzz.settings(liar, fleet)
    fleet.start("ingest-gateway")
    yield http_fuzz.make_target(fleet, *ground.bare(fleet), liar, streams=False)
    liar.server.shutdown()


def test_malformed_requests_kill_nothing(target):
    result = http_fuzz.fuzz(target, seed=20261123, first=0, count=360, warm=180)
    assert not result["findings"], "\n".join(result["findings"])
    assert set(result["statuses"]) == {"request line", "headers", "lengths", "chunks", "addresses", "JSON",
                                       "multipart", "foreign protocols", "credentials", "pipelines", "manners", "mutations"}
    assert result["answers"]["200"] and result["answers"]["400"] and result["answers"]["202"]


def test_a_seed_gives_the_same_requests(target):
    made = [[malformed.make(5, n, target.ground) for n in range(60)] for _ in range(2)]
    for one, two in zip(*made):
        assert one.family == two.family
        if "Bearer ey" not in repr(one.pieces):  # a token is signed anew, and tells the time
            assert one.pieces == two.pieces
