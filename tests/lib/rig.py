# SPDX-License-Identifier: Apache-2.0
"""Real servers and real services for the tests, on free ports, with data in a temporary folder.

Servers  Postgres, Kafka and versitygw, once a session; dies with the test process.
Fleet    one database, one bucket and the service processes on them; starts, kills and restarts
         single processes, keeps a log file of each, and speaks HTTP, SQL, S3 and Kafka.

Two fleets never run at once: they would share Kafka's topics and take each other's work orders.
Waiting is always `wait_until(condition)`, which polls; nothing sleeps and hopes.
"""
import base64
import contextlib
import ctypes
import fcntl
import http.client
import json
import os
import random
import re
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import boto3
import botocore.config
import confluent_kafka
import confluent_kafka.admin
import psycopg
import psycopg.rows
import requests

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PG_BIN = "/usr/lib/postgresql/15/bin"
SERVICES = ("ingest-gateway", "dispatcher", "text-extractor", "ocr-fallback", "ai-extractor",
            "preview-worker", "thumbnail-worker", "cleaner")
DATABASE_ROLES = ("docfleet_owner", "docfleet_gateway", "docfleet_fleet", "docfleet_importer")
SHARED = os.environ.get("DOCFLEET_SHARED", os.path.join(os.path.dirname(ROOT), "shared"))
FIXTURES = os.path.join(ROOT, "build", "fixtures")
FULL = os.environ.get("FULL", "") not in ("", "0")  # also what a usual run leaves out
LONG = os.environ.get("FULL", "") == "2"  # and what takes more than ten minutes alone
_libc = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1


class Timeout(AssertionError):
    pass


def patience():
    """How much longer to wait on a machine that does much else: 1 to 4. No bound is checked by waiting."""
    return min(4.0, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1) / 2))


def bound(seconds):
    """The most that something may take. What was asked for holds where it is measured, in the benchmarks
    and the whole matrix (FULL=1). A usual run shares two cores among several fleets, and there a bound
    only tells the ways things go from each other: found by a poll each 200 ms, or by a reconcile each 5 s."""
    return seconds if FULL else 4 * seconds


def wait_until(condition, timeout=10.0, interval=0.02, what=None):
    """Returns the condition's first true value; the last exception or value is in the complaint."""
    end = time.monotonic() + timeout * patience()
    last = None
    while True:
        try:
            last = condition()
            if last:
                return last
        except (OSError, requests.RequestException, psycopg.OperationalError) as e:
            last = e
        if time.monotonic() >= end:
            name = what or getattr(condition, "__name__", "the condition")
            raise Timeout(f"{name} did not hold within {timeout} s; last: {last!r}")
        time.sleep(interval)
        interval = min(interval * 1.3, 0.25)


def always(condition, seconds, what=None):
    """The condition holds for this long: for `does not happen`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert condition(), f"{what or condition} stopped holding"
        time.sleep(0.05)


_given_ports = set()
_PORTS, _PORT_SHARES = range(20000, 32000), 4
_port_share = []


def _own_ports():
    """The ports this process draws from. Others that test at the same time, as CI's lanes do, have other ones:
    a port is drawn long before somebody listens there."""
    if not _port_share:
        each = len(_PORTS) // _PORT_SHARES
        for n in range(_PORT_SHARES):
            lock = open(f"/tmp/docfleet-test-ports-{os.geteuid()}-{n}", "ab")  # open, and so locked, to the end
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.close()
                continue
            _port_share[:] = [_PORTS[n * each:(n + 1) * each], lock]
            break
        else:
            _port_share[:] = [_PORTS, None]
    return _port_share[0]


def free_port():
    """Below the ephemeral range, so that no outgoing connection takes it meanwhile."""
    for attempt in range(1000):
        if attempt == 500:
            _given_ports.clear()  # the servers of tests long over
        port = random.choice(_own_ports())
        if port in _given_ports:
            continue
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given_ports.add(port)
        return port
    raise RuntimeError("no free port")


def _die_with_parent(sig=signal.SIGKILL):
    def setup():
        _libc.prctl(PR_SET_PDEATHSIG, sig)
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    return setup


def _base_env():
    """The caller's DOCFLEET_* never reach a program: it would refuse names it does not know."""
    return {k: v for k, v in os.environ.items() if not k.startswith("DOCFLEET_")}


class Process:
    """A program with its log file; knows how to end and how to tell what it said."""

    def __init__(self, name, args, log, env=None, cwd="/", death=signal.SIGKILL):
        self.name, self.log_path = name, log
        self._log = open(log, "ab")
        self.log_start = self._log.tell()
        self.popen = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=self._log,
                                      stderr=subprocess.STDOUT, env=env, cwd=cwd,
                                      preexec_fn=_die_with_parent(death), start_new_session=True)

    @property
    def pid(self):
        return self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def send(self, sig):
        if self.alive():
            os.kill(self.pid, sig)

    def kill9(self):
        """As `kill -9` on the process alone; what it leaves behind is its own affair."""
        self.send(signal.SIGKILL)
        self.popen.wait(10)

    def stop(self, sig=signal.SIGTERM, timeout=30):
        self.send(sig)
        try:
            self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait(10)
            raise Timeout(f"{self.name} did not end within {timeout} s of {sig!r}")
        finally:
            self._log.close()
        return self.popen.returncode

    def log(self, since=None):
        with open(self.log_path, "rb") as f:
            f.seek(self.log_start if since is None else since)
            return f.read().decode(errors="replace")

    def log_lines(self, since=None):
        """The JSON lines of the log, parsed."""
        lines = []
        for line in self.log(since).splitlines():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(line))
        return lines

    def rss(self):
        with open(f"/proc/{self.pid}/status", encoding="utf-8") as f:
            return int(re.search(r"VmRSS:\s+(\d+) kB", f.read()).group(1)) * 1024

    def children(self):
        """Pids of every descendant."""
        found, queue = [], [self.pid]
        while queue:
            pid = queue.pop()
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{task}/children", encoding="utf-8") as f:
                        kids = [int(x) for x in f.read().split()]
                    found += kids
                    queue += kids
        return found


def fetched(name):
    return subprocess.run([f"{ROOT}/deploy/local/fetch", name], capture_output=True, text=True,
                          check=True).stdout.strip().splitlines()[-1]


def broker_properties(node, ports, log_dir, **more):
    """Settings of broker number `node` (from 1) of as many as there are (client, controller) ports."""
    plain, control = ports[node - 1]
    copies, synced = len(ports), 1 if len(ports) == 1 else 2
    return {
        "process.roles": "broker,controller", "node.id": node,
        "controller.quorum.voters": ",".join(f"{n}@127.0.0.1:{c}"
                                             for n, (_, c) in enumerate(ports, 1)),
        "listeners": f"PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{control}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{plain}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": log_dir, "auto.create.topics.enable": "false",
        "default.replication.factor": copies, "min.insync.replicas": synced,
        "offsets.topic.replication.factor": copies, "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": synced,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": synced,
        "group.initial.rebalance.delay.ms": 0, "group.min.session.timeout.ms": 1000,
        "log.segment.bytes": 16777216, **more,
    }


def start_broker(name, conf, lines, log, jvm=(), cluster=None):
    """Writes the settings, formats the log folder the first time, and starts the broker. Brokers that
    belong together are told the same cluster id."""
    java = ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{fetched('kafka')}/lib/*"]
    first = not os.path.exists(conf)
    with open(conf, "w", encoding="utf-8") as f:
        f.writelines(f"{k}={v}\n" for k, v in lines.items())
    if first:
        cluster = cluster or base64.urlsafe_b64encode(
            b"\x01" + secrets.token_bytes(15)).decode()[:22]
        subprocess.run([*java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", conf],
                       check=True, capture_output=True)
    return Process(name, [java[0], "-Xms128m", "-Xmx512m", *jvm,
                          "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", *java[1:], "kafka.Kafka",
                          conf], log)


class Servers:
    """durable=True: fsync and synchronous_commit as in production, for what is measured."""

    def __init__(self, durable=False, postgres_settings=None, kafka_jvm=()):
        self.durable, self.postgres_settings = durable, dict(postgres_settings or {})
        self.kafka_jvm, self.kafka_settings = list(kafka_jvm), {}
        self.dir = tempfile.mkdtemp(prefix="docfleet-test-")
        os.chmod(self.dir, 0o755)
        self.processes = {}
        self.pg_port, self.kafka_port, self.s3_port = free_port(), free_port(), free_port()
        self.kafka_controller_port = free_port()
        self.pg_password, self.s3_key, self.s3_secret = "test", "testkey", "testsecret" + "0" * 20
        self.kafka_brokers = f"127.0.0.1:{self.kafka_port}"
        self.s3_endpoint = f"http://127.0.0.1:{self.s3_port}"
        self.s3_args, self.s3_verify = [], None

    # --- each server can be stopped and started again, for tests of an outage ---
    def start(self):
        self._init_postgres()
        self.start_kafka()
        self.start_postgres()
        self.start_s3()
        self.wait_ready()

    def wait_ready(self):
        wait_until(self.postgres_answers, 30, what="Postgres")
        wait_until(self.s3_answers, 30, what="versitygw")
        wait_until(self.kafka_answers, 60, what="Kafka")

    def stop(self):
        for name, sig in (("kafka", signal.SIGKILL), ("s3", signal.SIGTERM),
                          ("postgres", signal.SIGQUIT)):
            process = self.processes.pop(name, None)
            if process:
                with contextlib.suppress(Timeout):
                    process.stop(sig, 10)
        if not os.environ.get("KEEP"):
            shutil.rmtree(self.dir, ignore_errors=True)

    def _log(self, name):
        return os.path.join(self.dir, name + ".log")

    def _as_postgres(self):
        if os.geteuid():
            return []
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups",
                "--pdeathsig", "QUIT"]

    def _init_postgres(self):
        data = os.path.join(self.dir, "pg")
        os.mkdir(data, 0o700)
        pwfile = os.path.join(self.dir, "pw")
        with open(pwfile, "w", encoding="utf-8") as f:
            f.write(self.pg_password)
        if not os.geteuid():
            shutil.chown(data, "postgres", "postgres")
            shutil.chown(pwfile, "postgres", "postgres")
        subprocess.run([*self._as_postgres(), f"{PG_BIN}/initdb", "-D", data, "-A",
                        "scram-sha-256", "-U", "docfleet", f"--pwfile={pwfile}", "-E", "UTF8",
                        "--locale=C.UTF-8", "--no-sync", "--no-instructions"],
                       check=True, capture_output=True, cwd="/")

    def start_postgres(self):
        sync = "on" if self.durable else "off"
        settings = {"fsync": sync, "synchronous_commit": sync, "full_page_writes": sync,
                    "log_line_prefix": "%m [%p] %a ",
                    **self.postgres_settings}
        self.processes["postgres"] = Process("postgres", [
            *self._as_postgres(), f"{PG_BIN}/postgres", "-D", f"{self.dir}/pg",
            "-p", str(self.pg_port), "-c", "listen_addresses=127.0.0.1",
            "-c", "unix_socket_directories=", "-c", "max_connections=300",
            "-c", "log_min_messages=warning", "-c", "log_min_error_statement=error",
            *(x for k, v in settings.items() for x in ("-c", f"{k}={v}")),
        ], self._log("postgres"), death=signal.SIGQUIT)

    def start_kafka(self):
        ports = (self.kafka_port, self.kafka_controller_port)
        lines = broker_properties(1, [ports], f"{self.dir}/kafka", **self.kafka_settings)
        self.processes["kafka"] = start_broker("kafka", os.path.join(self.dir, "kafka.properties"),
                                               lines, self._log("kafka"), self.kafka_jvm)

    def start_s3(self):
        os.makedirs(f"{self.dir}/s3", exist_ok=True)
        env = dict(_base_env(), ROOT_ACCESS_KEY=self.s3_key, ROOT_SECRET_KEY=self.s3_secret)
        store = ["posix"]
        try:
            os.setxattr(f"{self.dir}/s3", "user.docfleet", b"1")
        except OSError:
            os.makedirs(f"{self.dir}/s3-sidecar", exist_ok=True)
            store += ["--sidecar", f"{self.dir}/s3-sidecar"]
        self.processes["s3"] = Process("s3", [
            fetched("versitygw") + "/versitygw", "--port", f"127.0.0.1:{self.s3_port}", "--health",
            "/health", "--quiet", *self.s3_args, *store, f"{self.dir}/s3"], self._log("s3"), env=env)

    def deadlocks(self):
        """What Postgres has told of each, with the statements of both sides. One is never normal: it
        costs somebody a 503 or a unit an attempt, however well that is retried."""
        with open(self._log("postgres"), encoding="utf-8", errors="replace") as f:
            lines = f.read().splitlines()
        return ["\n".join(line[:2000] for line in lines[i:i + 12])
                for i, line in enumerate(lines) if "deadlock detected" in line]

    def stop_server(self, name):
        sig = {"postgres": signal.SIGINT}.get(name, signal.SIGTERM)
        self.processes.pop(name).stop(sig, 30)

    def start_server(self, name):
        getattr(self, "start_" + name)()
        self.wait_ready()

    def postgres_answers(self):
        with psycopg.connect(self.database_url("postgres"), connect_timeout=2):
            return True

    def s3_answers(self):
        return requests.get(self.s3_endpoint + "/health", timeout=2, verify=self.s3_verify).ok

    def kafka_answers(self):
        if not self.processes["kafka"].alive():
            raise AssertionError("Kafka ended:\n" + self.processes["kafka"].log()[-3000:])
        with socket.create_connection(("127.0.0.1", self.kafka_port), 2):
            pass
        admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": self.kafka_brokers,
                                                   "log_level": 0})
        try:
            return bool(admin.list_topics(timeout=2).brokers)
        except confluent_kafka.KafkaException:
            return False

    def database_url(self, name):
        return f"postgresql://docfleet:{self.pg_password}@127.0.0.1:{self.pg_port}/{name}"

    def create_database(self, name):
        """Owned by the role that migrates; the services have roles of their own (role_url). The
        address given back is the superuser's: what a test looks at is held by no row security."""
        with psycopg.connect(self.database_url("postgres"), autocommit=True) as conn:
            for role in DATABASE_ROLES:
                conn.execute(f"""do $$ begin
                    if not exists (select from pg_roles where rolname = '{role}') then
                        create role {role} login password '{self.pg_password}';
                    end if; end $$""")
            conn.execute(f'create database "{name}" owner docfleet_owner')
        return self.database_url(name)

    def role_url(self, url, role):
        """The same address for another role."""
        return url.replace("//docfleet:", f"//{role}:", 1)

    def s3_client(self, secret=None):
        return boto3.client("s3", endpoint_url=self.s3_endpoint, region_name="us-east-1",
                            aws_access_key_id=self.s3_key,
                            aws_secret_access_key=secret or self.s3_secret, verify=self.s3_verify,
                            config=botocore.config.Config(
                                retries={"max_attempts": 1},
                                request_checksum_calculation="when_required"))


class S3Proxy:
    """Accepts Signature V2, for the contract test of the libs3 driver."""

    def __init__(self, directory):
        self.port = free_port()
        self.key, self.secret = "v2key", "v2secret"
        self.endpoint = f"http://127.0.0.1:{self.port}"
        os.makedirs(f"{directory}/s3proxy-data", exist_ok=True)
        conf, logback = f"{directory}/s3proxy.conf", f"{directory}/logback.xml"
        with open(conf, "w", encoding="utf-8") as f:
            f.write(f"s3proxy.endpoint={self.endpoint}\ns3proxy.authorization=aws-v2-or-v4\n"
                    f"s3proxy.identity={self.key}\ns3proxy.credential={self.secret}\n"
                    "s3proxy.ignore-unknown-headers=true\njclouds.provider=filesystem-nio2\n"
                    f"jclouds.filesystem.basedir={directory}/s3proxy-data\n")
        with open(logback, "w", encoding="utf-8") as f:
            f.write('<configuration><appender name="o" class="ch.qos.logback.core.ConsoleAppender">'
                    "<encoder><pattern>%level %logger %msg%n</pattern></encoder></appender>"
                    '<root level="WARN"><appender-ref ref="o"/></root></configuration>')
        self.process = Process("s3proxy", [
            "java", "-Xmx128m", "-XX:TieredStopAtLevel=1", f"-Dlogback.configurationFile={logback}",
            "-cp", fetched("s3proxy") + "/lib/*", "org.gaul.s3proxy.Main", "--properties", conf],
            f"{directory}/s3proxy.log")
        wait_until(self._answers, 30, what="S3Proxy")

    def _answers(self):
        return requests.get(self.endpoint, timeout=2).status_code in (200, 400, 403)

    def stop(self):
        self.process.stop(signal.SIGKILL)


class Moto:
    """moto's server; after verify_signatures() a wrong secret is refused as AWS would."""

    def __init__(self, directory):
        import sys
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        env = dict(_base_env(), INITIAL_NO_AUTH_ACTION_COUNT="1000000")
        self.process = Process("moto", [sys.executable, "-m", "moto.server", "-p", str(self.port)],
                               f"{directory}/moto.log", env=env)
        wait_until(lambda: requests.get(self.endpoint + "/moto-api/", timeout=2).ok, 30,
                   what="moto")

    def client(self, service, key="any", secret="any"):
        return boto3.client(service, endpoint_url=self.endpoint, region_name="us-east-1",
                            aws_access_key_id=key, aws_secret_access_key=secret)

    def verify_signatures(self, actions=("textract:*", "s3:*")):
        """Makes a user, gives its (key, secret), and lets only signed calls through from now on."""
        iam = self.client("iam")
        name = "docfleet-" + secrets.token_hex(4)
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps({
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]}))
        made = iam.create_access_key(UserName=name)["AccessKey"]
        requests.post(self.endpoint + "/moto-api/reset-auth", data="0", timeout=5)
        return made["AccessKeyId"], made["SecretAccessKey"]

    def stop(self):
        self.process.stop(signal.SIGKILL)


class Fleet:
    """A database, a bucket and the services on them. `env` holds DOCFLEET_* settings for all."""

    def __init__(self, servers, env=None, build="release", partitions=None):
        self.servers, self.build, self.partitions = servers, build, partitions
        self.name = "t" + secrets.token_hex(4)
        self.dir = os.path.join(servers.dir, self.name)
        os.makedirs(self.dir)
        self.bucket = "docfleet-" + self.name
        self.database_url = servers.create_database(self.name)
        self.gateway_port = free_port()
        self.url = f"http://127.0.0.1:{self.gateway_port}"
        self.api = self.url + "/api/v1"
        self.env = dict(env or {})
        self.processes, self.probe_ports, self.ended = {}, {}, []
        self._keys, self._admin, self._more_gateways, self._how = {}, None, {}, {}
        self.prepare()

    # --- programs -------------------------------------------------------------------------------
    def bin(self, name, build=None):
        return os.path.join(ROOT, "build", build or self.build, "bin", name)

    def database_url_of(self, service):
        """With the role that this program has in production."""
        role = {"ingest-gateway": "docfleet_gateway", "docfleetctl": "docfleet_owner",
                "importer": "docfleet_importer"}
        return self.servers.role_url(self.database_url, role.get(service, "docfleet_fleet"))

    def settings(self):
        return {
            "DOCFLEET_DATABASE_URL": self.database_url,
            "DOCFLEET_KAFKA_BROKERS": self.servers.kafka_brokers,
            "DOCFLEET_S3_ENDPOINT": self.servers.s3_endpoint,
            "DOCFLEET_S3_REGION": "us-east-1",
            "DOCFLEET_S3_BUCKET": self.bucket,
            "DOCFLEET_S3_ACCESS_KEY": self.servers.s3_key,
            "DOCFLEET_S3_SECRET_KEY": self.servers.s3_secret,
        }

    def ctl(self, *args, check=True, timeout=60, env=None, build=None):
        """Runs docfleetctl; gives its standard output."""
        environ = dict(_base_env(), **self.settings(), DOCFLEET_URL=self.url,
                       XDG_CONFIG_HOME=f"{self.dir}/config", XDG_STATE_HOME=f"{self.dir}/state")
        environ["DOCFLEET_DATABASE_URL"] = self.database_url_of("docfleetctl")
        environ.update(env or {})
        run = subprocess.run([self.bin("docfleetctl", build), *args], env=environ, timeout=timeout,
                             capture_output=True, text=True)
        if check:
            assert run.returncode == 0, \
                f"docfleetctl {' '.join(args)}: exit {run.returncode}\n{run.stdout}{run.stderr}"
            return run.stdout
        return run

    def prepare(self):
        self.ctl("migrate", "--topics",
                 *(["--partitions", str(self.partitions)] if self.partitions else []))
        self.ctl("bucket", "create")

    def has(self, name, build=None):
        return os.access(self.bin(name, build), os.X_OK)

    def start(self, *names, env=None, build=None, wait=True, binary=None, args=()):
        """Starts services (all that are built, without names), each with env overrides.

        A name is `service` or `service#replica` ("text-extractor#2"): replicas have a probe port,
        a scratch folder and a log of their own and are told by the whole name everywhere.
        `binary` takes another program for it ("sleepworker"), `args` are its arguments; a further
        gateway listens on a port of its own, see gateway_url(name)."""
        names = names or [s for s in SERVICES if self.has(s, build)]
        for name in names:
            assert not self.running(name), f"{name} runs already"
            service = name.split("#")[0]
            port = self.probe_ports.setdefault(name, free_port())
            scratch = os.path.join(self.dir, "scratch-" + name)
            os.makedirs(scratch, exist_ok=True)
            environ = dict(_base_env(), **self.settings(), DOCFLEET_PROBE_PORT=str(port),
                           DOCFLEET_SCRATCH_DIR=scratch)
            environ["DOCFLEET_DATABASE_URL"] = self.database_url_of(service)
            if service == "ingest-gateway":
                environ["DOCFLEET_LISTEN"] = f"127.0.0.1:{self.gateway_ports(name)}"
                environ["DOCFLEET_CONSOLE_DIR"] = f"{ROOT}/services/ingest-gateway/console/dist"
            environ.update(self.env)
            environ.update(env or {})
            self.processes[name] = self.spawn(name, service, binary or service, args, environ, build)
            self._how[name] = {"env": env, "build": build, "binary": binary, "args": args}
        if wait:
            for name in names:
                self.wait_ready(name)
        return self

    def spawn(self, name, service, program, args, environ, build):
        """The process itself; tests/lib/containers.py makes it a container."""
        return Process(name, [self.bin(program, build), *args], self.log_path(name), env=environ,
                       cwd=self.dir, death=signal.SIGTERM)

    def start_again(self, name, wait=True, **changes):
        """As it was started last (after a kill or a stop), with changes."""
        return self.start(name, wait=wait, **{**self._how[name], **changes})

    def start_sleepers(self, stage, processes=1, slots=4, env=None, build=None, wait=True):
        """Sleepworkers of a stage, named "text#1" ...; gives their names."""
        names = [f"{stage}#{n}" for n in range(1, processes + 1)]
        self.start(*names, binary="sleepworker", args=[stage], build=build, wait=wait,
                   env={"DOCFLEET_SLOTS": str(slots), **(env or {})})
        return names

    def gateway_ports(self, name):
        if name == "ingest-gateway":
            return self.gateway_port
        return self._more_gateways.setdefault(name, free_port())

    def gateway_url(self, name):
        return f"http://127.0.0.1:{self.gateway_ports(name)}"

    def wait_ready(self, name, timeout=30):
        def ready():
            process = self.processes[name]
            assert process.alive(), \
                f"{name} ended with {process.popen.returncode}:\n{process.log()[-3000:]}"
            return requests.get(f"{self.probe(name)}/readyz", timeout=2).status_code == 200
        wait_until(ready, timeout, what=f"/readyz of {name}")

    def running(self, name):
        return name in self.processes and self.processes[name].alive()

    def process(self, name):
        return self.processes[name]

    def probe(self, name):
        return f"http://127.0.0.1:{self.probe_ports[name]}"

    def metrics(self, name):
        """{'docfleet_x{a="b"}': 1.0}"""
        text = requests.get(self.probe(name) + "/metrics", timeout=5).text
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#")
        return {k: float(v) for k, v in pairs}

    def log_path(self, name):
        return os.path.join(self.dir, name + ".log")

    def kill9(self, name):
        self.processes[name].kill9()

    def stop(self, *names, timeout=30):
        """SIGTERM; gives the exit codes by name."""
        names = [n for n in (names or list(self.processes)) if n in self.processes]
        for name in names:
            self.processes[name].send(signal.SIGTERM)
        return {name: self.processes.pop(name).stop(timeout=timeout) for name in names}

    def restart(self, name, env=None, build=None):
        """The same program with this env instead of the one it had."""
        self.stop(name)
        self.start_again(name, env=env, build=build)

    def wait_end(self, name, timeout=15):
        """Waits until a service ends by itself (a crash point); gives its exit status."""
        code = self.processes[name].popen.wait(timeout)
        self.processes.pop(name)
        return code

    # --- database, store, topics ------------------------------------------------------------------
    def db(self):
        return psycopg.connect(self.database_url, autocommit=True,
                               row_factory=psycopg.rows.dict_row,
                               options="-c search_path=docfleet,public")

    def sql(self, query, *params):
        """Rows as dicts; an empty list for a statement without a result."""
        with self.db() as conn:
            cursor = conn.execute(query, params or None)
            return cursor.fetchall() if cursor.description else []

    def one(self, query, *params):
        rows = self.sql(query, *params)
        assert len(rows) == 1, f"{len(rows)} rows: {query}"
        return next(iter(rows[0].values())) if len(rows[0]) == 1 else rows[0]

    def s3(self):
        return self.servers.s3_client()

    def objects(self, prefix=""):
        """{key: size} of the bucket."""
        pages = self.s3().get_paginator("list_objects_v2").paginate(Bucket=self.bucket,
                                                                   Prefix=prefix)
        return {o["Key"]: o["Size"] for page in pages for o in page.get("Contents", ())}

    def object(self, key):
        return self.s3().get_object(Bucket=self.bucket, Key=key)["Body"].read()

    @contextlib.contextmanager
    def topic(self, name):
        """Messages of a topic from now on: with fleet.topic(n) as read: ... read(timeout) -> list."""
        consumer = confluent_kafka.Consumer({
            "bootstrap.servers": self.servers.kafka_brokers, "group.id": "t-" + secrets.token_hex(4),
            "enable.auto.commit": False, "auto.offset.reset": "latest", "log_level": 0})
        parts = consumer.list_topics(name, 10).topics[name].partitions
        ends = [confluent_kafka.TopicPartition(
            name, p, consumer.get_watermark_offsets(confluent_kafka.TopicPartition(name, p), 10)[1])
            for p in parts]
        consumer.assign(ends)

        def read(timeout=5.0, count=None):
            got, end = [], time.monotonic() + timeout
            while time.monotonic() < end and (count is None or len(got) < count):
                message = consumer.poll(0.1)
                if message is not None and not message.error():
                    got.append(message)
            return got
        try:
            yield read
        finally:
            consumer.close()

    # --- the HTTP API ---------------------------------------------------------------------------
    def user_key(self, name="alice", admin=False):
        if name not in self._keys:
            out = self.ctl("user", "create", name, *(["--admin"] if admin else []))
            key = out.strip().splitlines()[-1].strip()
            assert key.startswith("dfk_"), f"no key in: {out!r}"
            self._keys[name] = key
        return self._keys[name]

    def client(self, user="alice", admin=False):
        return Client(self.api, self.user_key(user, admin))

    def _names(self):
        return [*SERVICES, *(n for n in self.processes if n not in SERVICES)]

    # --- for a failing test ---------------------------------------------------------------------
    def log_marks(self):
        marks = {}
        for name in self._names():
            with contextlib.suppress(OSError):
                marks[name] = os.path.getsize(self.log_path(name))
        return marks

    def log_since(self, marks, lines=25):
        """Per service: warnings and errors since the mark, and the last lines before now."""
        report = []
        for name in self._names():
            try:
                with open(self.log_path(name), "rb") as f:
                    f.seek(marks.get(name, 0))
                    text = f.read().decode(errors="replace").splitlines()
            except OSError:
                continue
            process = self.processes.get(name)
            state = "runs" if process and process.alive() else \
                f"ended with {process.popen.returncode}" if process else "not started"
            loud = [t for t in text[:-lines] if re.search(
                r'"level":\s*"(warn|warning|error|fatal)"|ERROR: |SUMMARY: |runtime error', t)]
            if text or state != "runs":
                report.append((name, state, loud[-30:] + text[-lines:]))
        return report


class Client:
    """The HTTP API for one key; answers are requests' responses, or JSON from the short forms."""

    def __init__(self, api, key):
        self.api, self.key = api, key
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {key}"

    def request(self, method, path, expect=None, timeout=60, **kw):
        url = path if path.startswith("http") else \
            self.api[:-len("/api/v1")] + path if path.startswith(("/api/", "/s/")) else self.api + path
        response = self.session.request(method, url, timeout=timeout, **kw)
        if expect is not None:
            expected = (expect,) if isinstance(expect, int) else expect
            assert response.status_code in expected, \
                f"{method} {path}: {response.status_code}, not {expect}: {response.text[:1000]}"
        return response

    def get(self, path, expect=200, **kw):
        return self.request("GET", path, expect, **kw)

    def post(self, path, expect=(200, 201, 202), **kw):
        return self.request("POST", path, expect, **kw)

    def delete(self, path, expect=(200, 202, 204), **kw):
        return self.request("DELETE", path, expect, **kw)

    def json(self, path, **kw):
        return self.get(path, **kw).json()

    def dataset(self, name=None, columns=None):
        """Makes a dataset, gives its id."""
        columns = columns or [
            {"name": "Invoice number", "type": "string", "description": "number of the invoice",
             "required": False},
            {"name": "Invoice date", "type": "date", "description": "date of the invoice",
             "required": False},
            {"name": "Total amount", "type": "money", "description": "total to pay",
             "required": False}]
        body = {"name": name or "d-" + secrets.token_hex(4), "columns": columns}
        return self.post("/datasets", 201, json=body).json()["id"]

    def upload(self, dataset, files, expect=202, headers=None, **kw):
        """files: {name: bytes} or [(name, bytes)] or paths; gives the answer's JSON."""
        parts = []
        for item in (files.items() if isinstance(files, dict) else files):
            if isinstance(item, str):
                with open(item, "rb") as f:
                    item = (os.path.basename(item), f.read())
            parts.append(("file", item))
        return self.post(f"/datasets/{dataset}/files", expect, files=parts, headers=headers,
                         **kw).json()

    def file(self, file_id):
        return self.json(f"/files/{file_id}")

    def files(self, dataset, **params):
        """Every file of the dataset, over all pages."""
        items, cursor = [], None
        while True:
            page = self.json(f"/datasets/{dataset}/files",
                             params=dict(params, limit=200, **({"cursor": cursor} if cursor else {})))
            items += page["items"]
            cursor = page.get("nextCursor")
            if not cursor:
                return items

    def wait_done(self, file_id, timeout=60, states=("done", "failed", "cancelled")):
        """The file, once it is terminal."""
        def terminal():
            got = self.file(file_id)
            return got if got["state"] in states else None
        try:
            return wait_until(terminal, timeout, what=f"file {file_id} in {states}")
        except Timeout as e:
            raise Timeout(f"{e}\n{json.dumps(self.file(file_id), indent=1)}") from None

    def wait_all(self, dataset, timeout=120):
        """Every file of the dataset, once all are terminal."""
        def terminal():
            items = self.files(dataset)
            return items if all(i["state"] in ("done", "failed", "cancelled") for i in items) else None
        return wait_until(terminal, timeout, interval=0.2, what="all files terminal")

    @contextlib.contextmanager
    def events(self, last_event_id=None, timeout=30, path="/events"):
        """Server-sent events, as an iterator of {'id','event','data'}; comments are left out.

        Each event has `timeout` seconds to come: comments alone keep a connection alive for ever.
        """
        host, port = re.match(r"http://([^:/]+):(\d+)", self.api).groups()
        connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
        headers = {"Authorization": f"Bearer {self.key}", "Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = str(last_event_id)
        connection.request("GET", "/api/v1" + path, headers=headers)
        response = connection.getresponse()
        assert response.status == 200, f"{path}: {response.status} {response.read(500)!r}"

        def stream():
            event = {}
            last = time.monotonic()
            while True:
                if time.monotonic() - last > timeout:
                    raise TimeoutError(f"{path}: no event within {timeout} s")
                line = response.readline()
                if not line:
                    return
                line = line.decode().rstrip("\r\n")
                if not line:
                    if "data" in event:
                        yield {"id": event.get("id"), "event": event.get("event", "message"),
                               "data": json.loads(event["data"])}
                        last = time.monotonic()
                    event = {}
                elif not line.startswith(":"):
                    field, _, value = line.partition(":")
                    value = value.removeprefix(" ")
                    event[field] = event["data"] + "\n" + value if field == "data" and \
                        "data" in event else value
        try:
            yield stream()
        finally:
            connection.close()
