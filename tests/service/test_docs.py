# SPDX-License-Identifier: Apache-2.0
"""Pages and tables that are generated, or that must agree, do."""
import os
import re
import subprocess

from lib import rig


def read(path):
    with open(os.path.join(rig.ROOT, path), encoding="utf-8") as f:
        return f.read()


def test_configuration_page_is_current():
    made = subprocess.run([f"{rig.ROOT}/tools/gen_docs.sh", f"{rig.ROOT}/build/release/bin"],
                          capture_output=True, text=True, check=True).stdout
    assert read("docs/configuration.md") == made, "docs/configuration.md is old: make docs"


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
