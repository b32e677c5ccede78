# SPDX-License-Identifier: Apache-2.0
"""Pages and tables that are generated, or that must agree, do."""
import os
import re
import subprocess

import pytest

from lib import rig


def read(path):
    with open(os.path.join(rig.ROOT, path), encoding="utf-8") as f:
        return f.read()


def test_configuration_page_is_current():
    made = subprocess.run([f"{rig.ROOT}/tools/gen_docs.sh", f"{rig.ROOT}/build/release/bin"],
                          capture_output=True, text=True, check=True).stdout
    assert read("docs/configuration.md") == made, "docs/configuration.md is old: make docs"


def test_every_program_knows_every_option():
    """Settings are given to the whole fleet: a name that another program knows is ignored, not refused."""
    known = set(re.findall(r'^    "([A-Z0-9_]+)",$', read("libcommon/config.c"), re.M))
    found = set()
    for folder in ("libcommon", *(f"services/{s}" for s in os.listdir(f"{rig.ROOT}/services"))):
        for name in os.listdir(os.path.join(rig.ROOT, folder)):
            if name.endswith(".c"):
                found |= set(re.findall(r'\{"([A-Z0-9_]+)", OPTION_', read(f"{folder}/{name}")))
    assert len(found) > 60 and not found - known


def test_schema_page_is_current():
    made = subprocess.run([f"{rig.ROOT}/tools/schema_docs.py"], capture_output=True, text=True,
                          check=True).stdout
    assert read("docs/schema.md") == made, "docs/schema.md is old: make docs"
    tables = re.findall(r"^CREATE TABLE (\w+) \($", read("proto-schemas/postgres/0001_core.sql"), re.M)
    assert tables and not [t for t in tables if f"### {t}\n" not in made]


@pytest.mark.parametrize("page", ["services/docfleetctl/README.md", "docs/troubleshooting.md"])
def test_what_docfleetctl_says_is_current(page):
    made = subprocess.run([f"{rig.ROOT}/tools/ctl_docs.py", f"{rig.ROOT}/build/release/bin", page],
                          capture_output=True, text=True, check=True).stdout
    assert read(page) == made, f"{page} is old: make docs"


def test_capacity_page_is_current():
    made = subprocess.run([f"{rig.ROOT}/tools/capacity.py"], capture_output=True, text=True,
                          check=True).stdout
    assert read("docs/capacity.md") == made, "docs/capacity.md is old: make docs"


def markdown_files():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=rig.ROOT,
                            capture_output=True, text=True, check=True).stdout
    return [path for path in listed.split("\n") if path]


def test_links_lead_somewhere():
    """Relative links of every page: the file is there, and so is the heading."""
    def anchors(path):
        heads = re.findall(r"^#+ +(.*)$", read(path), re.M)
        return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in heads}

    dead = []
    for page in markdown_files():
        for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"(?s)```.*?```", "", read(page))):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
            if not os.path.exists(os.path.join(rig.ROOT, target)) or (
                    anchor and anchor not in anchors(target)):
                dead.append(f"{page}: {link}")
    assert not dead, dead


def test_architecture_names_every_service():
    page = read("docs/ARCHITECTURE.md")
    services = os.listdir(os.path.join(rig.ROOT, "services"))
    assert not [s for s in services if f"**{s}**" not in page]
    assert not [s for s in services
                if not os.path.exists(os.path.join(rig.ROOT, "services", s, "README.md"))]


def test_every_package_is_explained():
    named = re.findall(r"^[a-z0-9][a-z0-9.+-]*$", read("deploy/local/packages.txt"), re.M)
    page = read("docs/dependencies.md").replace("libreoffice-writer, -calc, -impress",
                                                "libreoffice-writer libreoffice-calc libreoffice-impress")
    page = page.replace("fonts-crosextra-carlito, -caladea",
                        "fonts-crosextra-carlito fonts-crosextra-caladea")
    words = set(re.findall(r"[a-z0-9][a-z0-9.+-]*", page))
    assert named and not [n for n in named if n not in words]


def test_every_pinned_tool_is_explained():
    wanted = re.findall(r"^([a-z0-9-]+)", read("tests/requirements.in"), re.M)
    assert not [w for w in wanted if f"| {w} " not in read("docs/dependencies.md")]


def test_names_in_pages_exist():
    """Metrics, options, error codes and make targets that a page names are those of the code."""
    known_metrics = set(re.findall(r'"(docfleet_[a-z_]+)"', read("libcommon/metrics.c")))
    known_options = set(re.findall(r"DOCFLEET_[A-Z0-9_]+", read("docs/configuration.md")))
    secret = re.findall(r"(DOCFLEET_[A-Z0-9_]+)`, `…_FILE`", read("docs/configuration.md"))
    known_options |= {name + "_FILE" for name in secret}
    sources = subprocess.run(["git", "grep", "-hoE", r"""["'][a-z]+(_[a-z]+)*["']|^PROGRAMS.*""", "--",
                              "libcommon", "services", "tests/*/build.mk"],
                             cwd=rig.ROOT, capture_output=True, text=True, check=True).stdout
    known_codes = {word.strip("\"'") for word in sources.split()}
    targets = known_codes | set(re.findall(r"^([a-z0-9-]+):", read("Makefile"), re.M))
    # names of the tests, of the scripts of deploy/local, of Postgres objects
    other = {"DOCFLEET_SHARED", "DOCFLEET_CACHE_DIR", "DOCFLEET_CRASH_AT", "DOCFLEET_STOP_AT",
             "DOCFLEET_FAULTS", "DOCFLEET_NAME_FILE", "DOCFLEET_S3_", "DOCFLEET_", "DOCFLEET_CONFIG", "docfleet_task",
             "docfleet_gateway", "docfleet_fleet", "docfleet_importer"}
    wrong = []
    for page in markdown_files():
        text = read(page)
        named = {re.sub(r"_(bucket|sum|count)$", "", n) for n in re.findall(r"\bdocfleet_[a-z_]+", text)}
        wrong += [f"{page}: {n}" for n in named - known_metrics - other]
        wrong += [f"{page}: {n}" for n in set(re.findall(r"\bDOCFLEET_[A-Z0-9_]*", text)) - known_options - other]
        wrong += [f"{page}: make {n}" for n in set(re.findall(r"`make ([a-z0-9-]+)", text)) - targets]
    tables = read("docs/ARCHITECTURE.md").partition("## Error class decides")[2].partition("\n## ")[0]
    for row in re.findall(r"^\| (`.*?) \|", tables, re.M):
        wrong += [f"code {c}" for c in re.findall(r"`([a-z_]+)`", row) if c not in known_codes]
    assert not wrong, sorted(wrong)
