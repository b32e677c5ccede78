# SPDX-License-Identifier: Apache-2.0
"""Certificates of our own, and the rig's servers speaking TLS with them.

Authority     a CA that signs certificates for names, good or expired ones, into a folder.
TlsServers    Kafka with listeners for every way in (and with bad certificates), Postgres, versitygw.
"""
import datetime
import glob
import ipaddress
import os
import shutil
import subprocess

import confluent_kafka.admin as admin
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lib import rig

KAFKA_USER, KAFKA_PASSWORD = "docfleet", "kafka-secret-7c1f"
LISTENERS = {  # name -> protocol, certificate, settings
    "GOOD": ("SSL", "server", {}),
    "MUTUAL": ("SSL", "server", {"ssl.client.auth": "required"}),
    "LOGIN": ("SASL_SSL", "server", {"sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"}),
    "EXPIRED": ("SSL", "expired", {}),
    "ELSEWHERE": ("SSL", "elsewhere", {}),
}


def newer_librdkafka():
    """The one that the Python client brings along: Debian's cannot use SCRAM with Kafka 4."""
    import confluent_kafka
    folder = os.path.dirname(os.path.dirname(confluent_kafka.__file__)) + "/confluent_kafka.libs"
    return glob.glob(folder + "/librdkafka*")[0]


def system_librdkafka():
    """The version our programs are linked with, as (2, 0, 2)."""
    version = subprocess.run(["pkg-config", "--modversion", "rdkafka"], capture_output=True,
                             text=True, check=True).stdout
    return tuple(int(n) for n in version.strip().split("."))


class Authority:
    def __init__(self, folder, name="ca"):
        self.folder, self.key = folder, ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"test {name}")])
        self.cert = self._sign(self.name, self.key.public_key(), days=2, ca=True)
        self.ca_file = os.path.join(folder, name + ".pem")
        with open(self.ca_file, "wb") as f:
            f.write(self.cert.public_bytes(serialization.Encoding.PEM))

    def _sign(self, subject, public_key, days, names=(), ca=False):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(self.name)
                   .public_key(public_key).serial_number(x509.random_serial_number())
                   .not_valid_before(now - datetime.timedelta(days=3))
                   .not_valid_after(now + datetime.timedelta(days=days))
                   .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
                   .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), False)
                   .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(
                       self.key.public_key()), False))
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if ca:
            builder = builder.add_extension(x509.KeyUsage(
                False, False, False, False, False, True, True, False, False), critical=True)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, stem, host="127.0.0.1", days=1):
        """Writes STEM.crt and STEM.key; gives their paths. days -1: it has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            alt = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            alt = x509.DNSName(host)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, stem)])
        cert = self._sign(subject, key.public_key(), days, [alt])
        paths = [os.path.join(self.folder, f"{stem}.{end}") for end in ("crt", "key")]
        secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                   serialization.NoEncryption())
        for path, data in zip(paths, (cert.public_bytes(serialization.Encoding.PEM), secret)):
            with open(path + ".new", "wb") as f:
                f.write(data)
            os.replace(path + ".new", path)
        return paths


class TlsServers(rig.Servers):
    def __init__(self):
        super().__init__()
        self.authority = Authority(self.dir)
        self.stranger = Authority(self.dir, "stranger")
        self.ca_file = self.authority.ca_file
        self.pairs = {"server": self.authority.issue("server"),
                      "expired": self.authority.issue("expired", days=-1),
                      "elsewhere": self.authority.issue("elsewhere", host="elsewhere.example")}
        self.kafka_ports = {name: rig.free_port() for name in LISTENERS}
        self.s3_endpoint, self.s3_verify = f"https://127.0.0.1:{self.s3_port}", self.ca_file
        self.s3_args = self.s3_pair("server")

    def brokers(self, listener):
        return f"127.0.0.1:{self.kafka_ports[listener]}"

    def s3_pair(self, name):
        cert, key = self.pairs[name]
        return ["--cert", cert, "--key", key]

    def start_kafka(self):
        """The plain listener stays, for the rig's own clients."""
        control = f"127.0.0.1:{self.kafka_controller_port}"
        more = [f"{name}://{self.brokers(name)}" for name in LISTENERS]
        plain = f"PLAINTEXT://127.0.0.1:{self.kafka_port}"
        lines = {
            "listeners": ",".join([plain, f"CONTROLLER://{control}", *more]),
            "advertised.listeners": ",".join([plain, *more]),
            "listener.security.protocol.map": ",".join(
                ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT"] +
                [f"{name}:{protocol}" for name, (protocol, _, _) in LISTENERS.items()]),
            "inter.broker.listener.name": "PLAINTEXT",
        }
        module = "org.apache.kafka.common.security"
        for name, (_, pair, settings) in LISTENERS.items():
            cert, key = self.pairs[pair]
            store = os.path.join(self.dir, f"{pair}-store.pem")
            with open(store, "wb") as out:
                for path in (key, cert):
                    with open(path, "rb") as f:
                        shutil.copyfileobj(f, out)
            at = f"listener.name.{name.lower()}."
            lines |= {at + "ssl.keystore.type": "PEM", at + "ssl.keystore.location": store,
                      at + "ssl.truststore.type": "PEM",
                      at + "ssl.truststore.location": self.ca_file}
            lines |= {at + k: v for k, v in settings.items()}
        at = "listener.name.login."
        lines[at + "plain.sasl.jaas.config"] = \
            f'{module}.plain.PlainLoginModule required user_{KAFKA_USER}="{KAFKA_PASSWORD}";'
        for scram in ("scram-sha-256", "scram-sha-512"):
            lines[at + scram + ".sasl.jaas.config"] = f"{module}.scram.ScramLoginModule required;"
        self.kafka_settings = lines
        super().start_kafka()

    def make_kafka_users(self):
        client = admin.AdminClient({"bootstrap.servers": self.kafka_brokers})
        for kind in (admin.ScramMechanism.SCRAM_SHA_256, admin.ScramMechanism.SCRAM_SHA_512):
            user = admin.UserScramCredentialUpsertion(
                KAFKA_USER, admin.ScramCredentialInfo(kind, 4096), KAFKA_PASSWORD.encode())
            for done in client.alter_user_scram_credentials([user]).values():
                done.result(30)

    def use_postgres_pair(self, name):
        """Postgres shows this certificate from the next connection on."""
        data = os.path.join(self.dir, "pg")
        for path, end in zip(self.pairs[name], ("crt", "key")):
            target = os.path.join(data, "shown." + end)
            shutil.copy(path, target)
            os.chmod(target, 0o600)
            if not os.geteuid():
                shutil.chown(target, "postgres", "postgres")
        with open(os.path.join(data, "postgresql.auto.conf"), "w", encoding="utf-8") as f:
            f.write("ssl = on\nssl_cert_file = 'shown.crt'\nssl_key_file = 'shown.key'\n")
        subprocess.run([*self._as_postgres(), f"{rig.PG_BIN}/pg_ctl", "reload", "-D", data],
                       check=True, capture_output=True, cwd="/")
