# SPDX-License-Identifier: Apache-2.0
"""What can be said of images and deploy/compose.yaml without building or starting any. Building is
`make images`, running them is `make images-test`: both take minutes."""
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from lib import rig

IMAGES = os.path.join(rig.ROOT, "deploy", "images")
sys.path.insert(0, IMAGES)
import assemble  # noqa: E402
import images  # noqa: E402
import sbom  # noqa: E402


@pytest.fixture(scope="module")
def model():
    """deploy/compose.yaml as compose's own loader understands it: anchors, variables, defaults."""
    loader = rig.fetched("compose-go") + "/compose-go"
    run = subprocess.run([loader, "-format", "json", "deploy/compose.yaml"], cwd=rig.ROOT,
                         capture_output=True, text=True,
                         env={"PATH": os.environ["PATH"], "COMPOSE_PROFILES": "scan,tools"})
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def ours(model):
    return {n: s for n, s in model["services"].items() if "/docfleet-" in s["image"]}


def test_container_files_are_those_of_the_table():
    assert images.old_files(assemble.table()) == [], "make images-files"


def test_every_service_has_an_image():
    built = {d for d in os.listdir(f"{rig.ROOT}/services")
             if os.path.exists(f"{rig.ROOT}/services/{d}/build.mk")}
    assert built == set(assemble.table())


def test_hadolint():
    """No warning that is not explained where it is switched off."""
    files = [f"{IMAGES}/{f}" for f in sorted(os.listdir(IMAGES)) if f.endswith(".Containerfile")]
    tool = os.path.join(os.path.dirname(sys.executable), "hadolint")
    run = subprocess.run([tool, "--failure-threshold", "style", *files], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_hadolint_would_complain(tmp_path):
    bad = tmp_path / "Containerfile"
    bad.write_text("FROM debian\nRUN apt-get install curl\n")
    tool = os.path.join(os.path.dirname(sys.executable), "hadolint")
    run = subprocess.run([tool, str(bad)], capture_output=True, text=True)
    assert run.returncode == 1 and "DL3006" in run.stdout


def test_table_refuses_unknown_settings(tmp_path):
    table = tmp_path / "images.toml"
    table.write_text('[all]\npackages=[]\nexclude=[]\ncopy={}\nenv={}\nports=[]\n'
                     '[image.x]\ntitle="t"\nlimit=1\nlimits=2\n')
    with pytest.raises(SystemExit, match="limits"):
        assemble.table(table)


@pytest.mark.parametrize("path,kept", [
    ("/usr/share/doc/libc6/copyright", True), ("/usr/share/doc/libc6/changelog.gz", False),
    ("/usr/bin/gconv", False), ("/usr/lib/x86_64-linux-gnu/libc.so.6", True),
    ("/usr/lib/x86_64-linux-gnu/vips-modules-8.14/vips-heif.so", True),
    ("/usr/lib/x86_64-linux-gnu/vips-modules-8.14/vips-magick.so", False),
    ("/usr/share/man/man1/x.1.gz", False), ("/usr/share/poppler/cMap/Adobe-GB1/x", True),
    ("/etc/fonts/fonts.conf", True), ("/usr/share/zoneinfo/Europe/Berlin", True),
])
def test_what_is_left_out(path, kept):
    assert (assemble.table()["thumbnail-worker"]["exclude"].fullmatch(path) is None) == kept


def test_copying_keeps_links_and_drops_dead_ones(tmp_path):
    source, root = tmp_path / "source", tmp_path / "root"
    (source / "d").mkdir(parents=True)
    (source / "d" / "file").write_text("x")
    (source / "d" / "file").chmod(0o4777)
    (source / "good").symlink_to("d/file")
    (source / "bad").symlink_to("d/gone")
    (source / "absolute").symlink_to("/usr/d/file")
    assemble.put_tree(str(source), str(root / "usr"))
    assert os.stat(root / "usr/d/file").st_mode & 0o7777 == 0o755
    assemble.drop_dead_links(str(root))
    assert sorted(os.listdir(root / "usr")) == ["absolute", "d", "good"]


STATUS = """Package: libx1
Status: install ok installed
Architecture: amd64
Source: x (1.0+b-1)
Version: 1:1.0+b-1+b2
Description: a library
 of more than one line
"""


def test_bill_of_materials(tmp_path):
    for folder in ("var/lib/dpkg/status.d", "usr/share/doc/libx1", "usr/share/doc/docfleet",
                   "opt/docfleet/bin", "opt/docfleet/share/console"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status.d/libx1").write_text(STATUS)
    (tmp_path / "usr/share/doc/libx1/copyright").write_text(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\n"
        "License: MIT\n")
    (tmp_path / "opt/docfleet/bin/ingest-gateway").write_bytes(b"\x7fELF")
    sbom.write("ingest-gateway", "title", str(tmp_path), rig.ROOT)
    text = (tmp_path / sbom.FILE).read_text()
    made = json.loads(text)
    by_name = {p["name"]: p for p in made["packages"]}
    deb = by_name["libx1"]
    assert deb["versionInfo"] == "1:1.0+b-1+b2" and "MIT" in deb["licenseComments"]
    assert deb["sourceInfo"].endswith("x 1.0+b-1")
    assert deb["externalRefs"][0]["referenceLocator"] == \
        "pkg:deb/debian/libx1@1%3A1.0%2Bb-1%2Bb2?arch=amd64&distro=debian-12"
    assert "preact" in by_name and "vite" not in by_name, "what the page is bundled from, no tools"
    assert made["files"][0]["checksums"][0]["checksumValue"] == hashlib.sha256(b"\x7fELF").hexdigest()
    ids = [x["SPDXID"] for x in [*made["packages"], *made["files"]]]
    assert len(ids) == len(set(ids)) and all(re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", i) for i in ids)
    related = {r["relatedSpdxElement"] for r in made["relationships"]}
    assert related == set(ids)
    sbom.write("ingest-gateway", "title", str(tmp_path), rig.ROOT)
    assert (tmp_path / sbom.FILE).read_text() == text


def test_seccomp_profile_is_the_default_of_container_runtimes():
    """What the images are run with in `make images-test`: no new namespaces, but the jail's calls."""
    with open(f"{IMAGES}/seccomp.json", encoding="utf-8") as f:
        profile = json.load(f)
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    allowed = {n for rule in profile["syscalls"] for n in rule["names"]
               if rule["action"] == "SCMP_ACT_ALLOW" and "args" not in rule}
    assert {"seccomp", "prctl", "landlock_create_ruleset", "landlock_add_rule", "pidfd_open",
            "landlock_restrict_self", "memfd_create", "close_range", "pidfd_send_signal"} <= allowed
    assert not {"unshare", "setns", "mount", "clone", "clone3", "bpf", "keyctl",
                "pidfd_getfd", "perf_event_open", "io_uring_setup"} & allowed


# --- compose.yaml -----------------------------------------------------------------------------------
def test_compose_runs_every_service_once(model):
    table = assemble.table()
    named = [s["image"] for n, s in ours(model).items() if n in table]
    assert named == [f"localhost/docfleet-{n}:{images.version()}" for n in ours(model) if n in table]
    assert set(table) - {"docfleetctl"} <= set(model["services"])


def test_compose_holds_containers_as_the_chart_does(model):
    for name, service in model["services"].items():
        assert "no-new-privileges:true" in service["security_opt"], name
        limits = service["deploy"]["resources"]["limits"]
        assert limits["cpus"] and limits["memory"] and limits["pids"], name
        assert not service.get("privileged") and not service.get("cap_add"), name
    for name, service in ours(model).items():
        assert service["user"] == f"{assemble.USER}:{assemble.USER}" and service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        writable = [v["target"] for v in service["volumes"] if not v.get("read_only")]
        assert writable == ["/scratch"], name


def test_compose_starts_in_order_and_watches(model):
    programs = assemble.table()
    for name, service in ours(model).items():
        if name in programs:
            assert service["healthcheck"]["test"] == ["CMD", f"/opt/docfleet/bin/{name}", "--health"]
            assert {k: v["condition"] for k, v in service["depends_on"].items()} == {
                "migrate": "service_completed_successfully", "bucket": "service_completed_successfully"}


def test_compose_publishes_the_gateway_on_this_machine_alone(model):
    published = {n: s["ports"] for n, s in model["services"].items() if s.get("ports")}
    assert list(published) == ["ingest-gateway"]
    assert [p["host_ip"] for p in published["ingest-gateway"]] == ["127.0.0.1"]


def test_compose_has_no_secret_and_no_unknown_setting(model, tmp_path):
    """Each program accepts its environment: image's and compose's together; passwords are files."""
    for name in ("database_url", "gateway_database_url", "fleet_database_url", "importer_database_url",
                 "s3_access_key", "s3_secret_key"):
        (tmp_path / name).write_text("secret-" + name)
    table = assemble.table()
    for name, service in ours(model).items():
        program = service["image"].split("/docfleet-")[1].split(":")[0]
        environ = {**table[program]["env"], **{k: str(v) for k, v in service["environment"].items()}}
        assert "secret" not in json.dumps(environ).replace("/run/secrets/", "").lower() \
            .replace("secret_key_file", "").replace("s3_secret_key", ""), name
        environ = {k: v.replace("/run/secrets", str(tmp_path)) for k, v in environ.items()}
        binary = os.path.join(rig.ROOT, "build", "release", "bin", program)
        run = subprocess.run([binary, "--print-config"], env=environ, capture_output=True, text=True)
        assert run.returncode == 0, (name, run.stderr)
        shown = dict(line.split("=", 1) for line in run.stdout.splitlines() if "=" in line)
        assert shown["DOCFLEET_S3_ENDPOINT"] == "http://store:7070", name
        assert shown["DOCFLEET_KAFKA_BROKERS"] == "kafka:9092", name
        assert shown["DOCFLEET_SCRATCH_DIR"] == "/scratch" and "secret-" not in run.stdout, name


def test_compose_makes_its_secrets(model, tmp_path):
    """The script of the service `secrets` is run: files appear, a second run changes none."""
    command = model["services"]["secrets"]["command"][0].replace("$$", "$")
    script = command.replace("cd /secrets", f"cd {tmp_path}")
    assert script != command and shutil.which("bash")
    before = None
    for _ in range(2):
        subprocess.run(["bash", "-euc", script], check=True)
        now = {p.name: p.read_text() for p in tmp_path.iterdir()}
        assert sorted(now) == ["database_url", "fleet_database_url", "gateway_database_url",
                               "importer_database_url", "postgres_password", "s3_access_key", "s3_secret_key"]
        assert all(re.fullmatch("[0-9a-f]{48}", v) for k, v in now.items() if not k.endswith("database_url"))
        for role in ("gateway", "fleet", "importer"):
            assert re.fullmatch(f"postgresql://docfleet_{role}:[0-9a-f]{{48}}@postgres:5432/docfleet",
                                now[f"{role}_database_url"])
        assert now["database_url"] == \
            f"postgresql://docfleet:{now['postgres_password']}@postgres:5432/docfleet"
        assert len(set(now.values())) == 7
        before = before or now
        assert now == before


def test_compose_and_chart_name_images_alike():
    with open(f"{rig.ROOT}/helm/docfleet/values.yaml", encoding="utf-8") as f:
        values = yaml.safe_load(f)
    assert values["image"]["repository"] == "docfleet"  # docfleet-<service>, as images.PREFIX has it
    assert images.PREFIX == "localhost/docfleet-"
