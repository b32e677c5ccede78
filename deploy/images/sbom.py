# SPDX-License-Identifier: Apache-2.0
"""The bill of materials of an image, SPDX 2.3 in JSON, made from what is in its root: the entries
of var/lib/dpkg/status.d, the programs with their checksums, and for the web page the packages of
its lock file. The same root gives the same text."""
import hashlib
import json
import os
import re
import time

FILE = "usr/share/doc/docfleet/sbom.spdx.json"
NOASSERTION = "NOASSERTION"


def size(root):
    """Bytes of all regular files."""
    return sum(os.lstat(f"{folder}/{name}").st_size for folder, _, names in os.walk(root)
               for name in names if not os.path.islink(f"{folder}/{name}"))


def stanza(text):
    """{field: value} of one Debian entry; continuation lines are dropped."""
    return dict(re.findall(r"^([A-Za-z-]+): (.*)$", text, re.M))


def debian(root):
    folder = f"{root}/var/lib/dpkg/status.d"
    found = []
    for name in sorted(os.listdir(folder)):
        with open(f"{folder}/{name}", encoding="utf-8") as f:
            found.append(stanza(f.read()))
    return found


def licences(root, package):
    """Names in the package's copyright file where that is machine-readable."""
    path = f"{root}/usr/share/doc/{package}/copyright"
    if not os.path.isfile(path):
        return None
    with open(path, encoding="utf-8", errors="replace") as f:
        text = f.read()
    if not re.match(r"Format(-Specification)?:", text):
        return None
    return sorted({x.strip() for x in re.findall(r"^License: *(\S.*)$", text, re.M)})


def spdx_id(*words):
    return "SPDXRef-" + "-".join(re.sub(r"[^A-Za-z0-9.-]", "-", w) for w in words)


def of_debian(root, entry):
    name, version, arch = entry["Package"], entry["Version"], entry["Architecture"]
    source = re.match(r"(\S+)(?: \((\S+)\))?", entry.get("Source", name))
    made = {
        "SPDXID": spdx_id("deb", name), "name": name, "versionInfo": version,
        "supplier": "Organization: Debian", "downloadLocation": NOASSERTION, "filesAnalyzed": False,
        "sourceInfo": f"built from Debian source package {source[1]} {source[2] or version}",
        "licenseConcluded": NOASSERTION, "licenseDeclared": NOASSERTION,
        "copyrightText": NOASSERTION,
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
            "referenceLocator": f"pkg:deb/debian/{name}@{version.replace('+', '%2B').replace(':', '%3A')}"
                                f"?arch={arch}&distro=debian-12"}],
    }
    named = licences(root, name)
    if named:
        made["licenseComments"] = "the copyright file names: " + ", ".join(named)
    return made


def of_npm(lock):
    """What the web page is bundled from: the lock file's entries that are not for building only."""
    with open(lock, encoding="utf-8") as f:
        entries = json.load(f)["packages"]
    return [{
        "SPDXID": spdx_id("npm", name), "name": name, "versionInfo": entry["version"],
        "downloadLocation": NOASSERTION, "filesAnalyzed": False,
        "licenseConcluded": NOASSERTION, "licenseDeclared": entry.get("license", NOASSERTION),
        "copyrightText": NOASSERTION,
        "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
                          "referenceLocator": f"pkg:npm/{name.replace('@', '%40')}@{entry['version']}"}],
    } for path, entry in sorted(entries.items())
        if "node_modules/" in path and not entry.get("dev") and not entry.get("optional")
        for name in [path.rsplit("node_modules/", 1)[1]]]


def of_programs(root):
    folder = f"{root}/opt/docfleet/bin"
    made = []
    for name in sorted(os.listdir(folder)):
        with open(f"{folder}/{name}", "rb") as f:
            digest = hashlib.sha256(f.read()).hexdigest()
        made.append({"SPDXID": spdx_id("file", name), "fileName": f"./opt/docfleet/bin/{name}",
                     "checksums": [{"algorithm": "SHA256", "checksumValue": digest}],
                     "licenseConcluded": NOASSERTION, "copyrightText": NOASSERTION})
    return made


def document(image, title, root, lock=None):
    packages = [of_debian(root, e) for e in debian(root)]
    if lock:
        packages += of_npm(lock)
    files = of_programs(root)
    text = json.dumps([packages, files], sort_keys=True)
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    own = {"SPDXID": spdx_id("image", image), "name": f"docfleet-{image}", "summary": title,
           "downloadLocation": NOASSERTION, "filesAnalyzed": False, "copyrightText": NOASSERTION,
           "primaryPackagePurpose": "CONTAINER", "licenseConcluded": NOASSERTION,
           "licenseDeclared": NOASSERTION}
    return {
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"docfleet-{image}",
        "documentNamespace": f"urn:docfleet:sbom:{image}:{hashlib.sha256(text.encode()).hexdigest()}",
        "creationInfo": {"creators": ["Tool: docfleet deploy/images/sbom.py"],
                         "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))},
        "packages": [own, *packages], "files": files,
        "relationships": [
            {"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES",
             "relatedSpdxElement": own["SPDXID"]},
            *({"spdxElementId": own["SPDXID"], "relationshipType": "CONTAINS",
               "relatedSpdxElement": p["SPDXID"]} for p in [*packages, *files])],
    }


def write(image, title, root, src):
    lock = f"{src}/services/ingest-gateway/console/package-lock.json"
    page = os.path.isdir(f"{root}/opt/docfleet/share/console")
    with open(f"{root}/{FILE}", "w", encoding="utf-8") as f:
        json.dump(document(image, title, root, lock if page else None), f, indent=1)
        f.write("\n")
