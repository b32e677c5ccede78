# SPDX-License-Identifier: Apache-2.0
"""The servers the tests stand on: they answer, and an outage can be made and ended."""
import psycopg
import pytest


def test_servers_answer(servers):
    assert servers.postgres_answers() and servers.s3_answers() and servers.kafka_answers()


def test_store_refuses_a_wrong_secret(servers):
    with pytest.raises(Exception, match="SignatureDoesNotMatch|403|does not match"):
        servers.s3_client(secret="wrong").list_buckets()


def test_postgres_outage(servers):
    servers.stop_server("postgres")
    with pytest.raises(psycopg.OperationalError):
        servers.postgres_answers()
    servers.start_server("postgres")
    assert servers.postgres_answers()
