# SPDX-License-Identifier: Apache-2.0
"""The second wall: what the database lets its roles see and do, whatever the programs ask. The rig
runs every service with its own role, so all other tests prove that these rights suffice."""
import uuid

import psycopg
import pytest

# Tables whose rows belong to no account; every other table must have row security.
NOBODYS = {"migration", "worker", "backlog", "stage_control", "dispatcher_state", "queue_state", "stage_shard",
           "effect", "login_throttle", "rate_bucket", "backup"}  # digests for keys; ids and addresses, for an hour
# What the gateway may never do, and the fleet neither: (role, right, table).
NEVER = [("docfleet_gateway", "DELETE", t) for t in ("account", "dataset", "file", "audit", "event",
                                                     "dead_letter")] + \
        [("docfleet_gateway", "UPDATE", t) for t in ("audit", "event", "count_base", "artifact")] + \
        [("docfleet_gateway", "SELECT", "effect")] + \
        [("docfleet_fleet", "SELECT", t) for t in ("api_key", "audit", "session", "identity")] + \
        [("docfleet_fleet", "INSERT", t) for t in ("account", "file", "dataset", "audit")]


@pytest.fixture(scope="module")
def rows():
    return {}


@pytest.fixture
def two(fleet, rows):
    """Accounts A and B, each with a dataset, a file, and results as the stages write them."""
    if rows:
        return rows
    for name in ("wall-a", "wall-b"):
        client = fleet.client(name)
        dataset = client.dataset(f"dataset of {name}")
        done = client.upload(dataset, {f"{name}.txt": b"Invoice number: 4711\nTotal amount: 3 EUR\n",
                                       f"{name}-broken.pdf": b"%PDF-1.4 broken"},
                             headers={"Idempotency-Key": "once"})
        client.wait_all(dataset)
        rows[name] = {"user": client.json("/auth/me")["id"], "dataset": dataset,
                      "file": done["files"][0]["id"]}
    return rows


def as_gateway(fleet, **settings):
    conn = psycopg.connect(fleet.database_url_of("ingest-gateway"),
                           options="-c search_path=docfleet,public")
    for name, value in settings.items():
        conn.execute("select set_config(%s, %s, true)", (f"docfleet.{name}", value))
    return conn


def tables(fleet):
    return [r["relname"] for r in fleet.sql(
        "select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace where"
        " n.nspname = 'docfleet' and c.relkind in ('r', 'p') and not c.relispartition order by 1")]


def walled(fleet):
    return [t for t in tables(fleet) if t not in NOBODYS]


def owners(fleet, table):
    """SQL that gives the account of a row of the table, aliased t."""
    columns = {r["attname"] for r in fleet.sql(
        "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0",
        f"docfleet.{table}")}
    if "user_id" in columns:
        return "t.user_id"
    if table in ("import_run", "import_item"):
        run = "t.import_id" if table == "import_run" else \
            "(select r.import_id from docfleet.import_run r where r.run_id = t.run_id)"
        return f"(select s.user_id from docfleet.import_source s where s.import_id = {run})"
    for parent in ("file", "dataset", "record"):
        if f"{parent}_id" in columns:
            return (f"(select p.user_id from docfleet.{parent} p"
                    f" where p.{parent}_id = t.{parent}_id)")
    raise AssertionError(f"{table} names no account; is it one for NOBODYS?")


def test_every_table_has_its_wall(fleet):
    secured = {r["relname"] for r in fleet.sql(
        "select relname from pg_class where relrowsecurity and relnamespace = 'docfleet'::regnamespace")}
    missing = set(walled(fleet)) - secured
    assert not missing, f"no row security on {missing}: call row_wall() in the table's migration"
    policies = fleet.sql("select tablename, roles from pg_policies where schemaname = 'docfleet'")
    for table in walled(fleet):
        roles = {role for p in policies if p["tablename"] == table for role in p["roles"]}
        assert roles == {"docfleet_gateway", "docfleet_fleet", "docfleet_importer"}, table


def test_rights_are_narrow(fleet):
    for role, right, table in NEVER:
        assert not fleet.one("select has_table_privilege(%s, %s, %s)", role, f"docfleet.{table}", right), \
            f"{role} may {right} {table}"
    for role in ("docfleet_gateway", "docfleet_fleet", "docfleet_importer"):
        found = fleet.one("select row(rolsuper, rolbypassrls, rolcreaterole, rolcreatedb)::text from"
                          " pg_roles where rolname = %s", role)
        assert found == "(f,f,f,f)"
        assert not fleet.one("select has_schema_privilege(%s, 'docfleet', 'CREATE')", role)
        assert not fleet.sql("select 1 from pg_class where relnamespace = 'docfleet'::regnamespace and"
                             " relowner = %s::regrole", role)
    # not even the place where passwords' relatives lie: the fleet reads two columns of an account
    assert not fleet.one("select has_column_privilege('docfleet_fleet', 'docfleet.account', 'name',"
                         " 'SELECT')")
    # partitions are reached through their table alone
    assert not fleet.one("select has_table_privilege('docfleet_gateway', 'docfleet.event_default',"
                         " 'SELECT')")


def test_a_query_without_its_owner_sees_only_the_account(fleet, two):
    """The planted bug: `SELECT ... FROM table` as the gateway's role, in every table."""
    a, b = two["wall-a"]["user"], two["wall-b"]["user"]
    seen = set()
    with as_gateway(fleet, user_id=b) as conn:
        for table in [*walled(fleet), "file_visible"]:
            if not fleet.one("select has_table_privilege('docfleet_gateway', %s, 'SELECT')",
                             f"docfleet.{table}"):
                continue
            owner = owners(fleet, "file" if table == "file_visible" else table)
            real = {str(r["owner"]) for r in fleet.sql(f"select distinct {owner} as owner from"
                                                       f" docfleet.{table.replace('_visible', '')} t")}
            got = {str(r[0]) for r in conn.execute(
                f"select distinct {owner} from docfleet.{table} t")}
            assert got <= {b}, f"{table}: rows of {got - {b}}"
            if a in real:
                seen.add(table)
            if b in real:
                assert got == {b}, f"{table}: the account does not see its own rows"
    # the test is worth something only where A had rows to hide
    assert seen >= {"account", "api_key", "dataset", "schema_version", "batch", "file", "file_version",
                    "task", "event", "record", "dead_letter", "idempotency", "artifact", "file_page",
                    "file_visible"}


@pytest.mark.parametrize("statement", [
    "update docfleet.file set name = 'x' where file_id = %(file)s",
    "update docfleet.dataset set name = 'x' where dataset_id = %(dataset)s",
    "update docfleet.task set state = 6 where file_id = %(file)s",
    "update docfleet.account set role = 'admin' where user_id = %(user)s",
    "update docfleet.api_key set revoked_at = now() where user_id = %(user)s",
    "delete from docfleet.record where file_id = %(file)s",
    "update docfleet.file_version set object_key = 'x' where file_id = %(file)s",
    "select 1 from docfleet.task where file_id = %(file)s for update"])
def test_a_change_without_its_owner_meets_nothing(fleet, two, statement):
    with as_gateway(fleet, user_id=two["wall-b"]["user"]) as conn:
        assert conn.execute(statement, two["wall-a"]).rowcount == 0


@pytest.mark.parametrize("statement", [
    "insert into docfleet.dataset (dataset_id, user_id, name) values (%(new)s, %(user)s, 'x')",
    "insert into docfleet.batch (batch_id, user_id, dataset_id) values (%(new)s, %(user)s, %(dataset)s)",
    "insert into docfleet.task (user_id, file_id, unit, generation, stage)"
    " values (%(user)s, %(file)s, 9, 9, 1)",
    "insert into docfleet.event (user_id, kind) values (%(user)s, 'file_created')",
    "insert into docfleet.api_key (key_id, user_id, secret_sha256) values ('x', %(user)s, '')",
    "update docfleet.dataset set user_id = %(user)s where user_id = %(other)s"])
def test_nothing_is_planted_in_another_account(fleet, two, statement):
    other = two["wall-b"]["user"]
    with as_gateway(fleet, user_id=other) as conn, \
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        conn.execute(statement, {**two["wall-a"], "other": other, "new": str(uuid.uuid4())})


def test_without_a_setting_every_statement_fails(fleet, two):
    with as_gateway(fleet) as conn, pytest.raises(psycopg.errors.UndefinedObject):
        conn.execute("select * from docfleet.file")
    # and it does not outlive its transaction: a pooler may lend the connection to somebody else
    with as_gateway(fleet, user_id=two["wall-a"]["user"]) as conn:
        assert conn.execute("select 1 from docfleet.file").fetchall()
        conn.commit()
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            conn.execute("select * from docfleet.file")


def test_the_view_of_a_login_shows_credentials_alone(fleet, two):
    nobody = "00000000-0000-0000-0000-000000000000"
    with as_gateway(fleet, user_id=nobody, role="login") as conn:
        assert conn.execute("select count(*) from docfleet.api_key").fetchone()[0] > 1
        for table in ("dataset", "file", "record", "event", "batch", "dead_letter", "idempotency"):
            assert conn.execute(f"select count(*) from docfleet.{table}").fetchone()[0] == 0, table


def test_an_operator_sees_all(fleet, two):
    with as_gateway(fleet, user_id=two["wall-b"]["user"], role="operator") as conn:
        found = {str(r[0]) for r in conn.execute("select user_id from docfleet.file")}
    assert {two["wall-a"]["user"], two["wall-b"]["user"]} <= found


def test_the_gateway_says_whether_the_wall_stands(fleet):
    assert fleet.metrics("ingest-gateway")["docfleet_row_security"] == 1
    fleet.start("ingest-gateway#open", env={"DOCFLEET_DATABASE_URL": fleet.database_url})
    try:
        assert fleet.metrics("ingest-gateway#open")["docfleet_row_security"] == 0
        assert "row security does not hold" in fleet.process("ingest-gateway#open").log()
    finally:
        fleet.stop("ingest-gateway#open")


def test_migrate_makes_the_logins(fleet):
    """From the addresses that the services get themselves; another password replaces the first."""
    plain = fleet.database_url.split("@", 1)[1]

    def migrate(user, word, check=True):
        return fleet.ctl("migrate", env={"DOCFLEET_DATABASE_URL": fleet.database_url,
                                         "DOCFLEET_GATEWAY_DATABASE_URL": f"postgresql://{user}:{word}@{plain}"},
                         check=check)
    try:
        for word, other in (("first%20word", "second"), ("second", "first%20word")):
            migrate("wall_login", word)
            with psycopg.connect(f"postgresql://wall_login:{word}@{plain}") as conn:
                assert conn.execute("select row_security_active('docfleet.file')").fetchone()[0]
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    conn.execute("delete from docfleet.audit")
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(f"postgresql://wall_login:{other}@{plain}")
        assert "first" not in fleet.one("SELECT rolpassword FROM pg_authid WHERE rolname = 'wall_login'")
        for user in ("docfleet_owner", "docfleet"):  # of the tables; who migrates
            run = migrate(user, "x", check=False)
            assert run.returncode == 1 and "names the owner" in run.stderr, run.stderr
        run = migrate("", "x", check=False)
        assert run.returncode == 1 and "names no user" in run.stderr, run.stderr
    finally:
        fleet.sql("DROP OWNED BY wall_login")
        fleet.sql("DROP ROLE wall_login")
