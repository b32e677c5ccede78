#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the container images with buildah, as root; no engine, no daemon.

usage: images.py build [IMAGE...]   builds what is missing or old (all without names)
       images.py files [--check]    writes the container files from images.toml
       images.py check              the same id twice, licences, SBOMs, sizes; writes docs/images.md
       images.py push REGISTRY      copies all images there, as REGISTRY/docfleet-NAME:VERSION
       images.py clean              drops images and stages from local storage

Each stage is tagged with a hash of all that goes into it, so what did not change is not built
again: a Debian root (mmdebstrap) < toolchain (packages) < build (the web page and all programs) <
one image each. `rm`-ing nothing, REFRESH=1 begins with a new Debian root, for security updates.
"""
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
OUT = f"{ROOT}/build/images"
sys.path.insert(0, HERE)
import assemble  # noqa: E402
import sbom  # noqa: E402

PREFIX = "localhost/docfleet-"
SUITE = "bookworm"
APT_CONF, APT_SOURCES = "/etc/apt/apt.conf.d", "/etc/apt/sources.list.d/debian.sources"
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
# what the stages copy; a change of anything else builds nothing again
BUILD_INPUTS = ("Makefile", "LICENSE", "NOTICE", "tools", "proto-schemas", "libcommon", "services",
                "deploy/local/console", "deploy/local/lib.sh", "deploy/images/build.Containerfile")
IMAGE_INPUTS = ("deploy/images/images.toml", "deploy/images/assemble.py", "deploy/images/sbom.py")
NOT_COPIED = re.compile(r"(^|/)(node_modules|dist|__pycache__)/|[.]md$")

CONTAINERFILE = """\
# SPDX-License-Identifier: Apache-2.0
# Written by `make images-files` from images.toml; change it there.
ARG BUILD={prefix}build
# hadolint ignore=DL3006
FROM ${{BUILD}} AS assembled
ARG SOURCE_DATE_EPOCH=0
COPY deploy/images/assemble.py deploy/images/sbom.py deploy/images/images.toml deploy/images/
RUN deploy/images/assemble.py {name} /image

FROM scratch
ARG VERSION=dev
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="docfleet {name}" \\
      org.opencontainers.image.description="{title}" \\
      org.opencontainers.image.vendor="the docfleet authors" \\
      org.opencontainers.image.licenses="GPL-3.0-only" \\
      org.opencontainers.image.version="${{VERSION}}" \\
      org.opencontainers.image.revision="${{REVISION}}" \\
      org.opencontainers.image.created="${{CREATED}}"
COPY --from=assembled /image/ /
ENV {env}
{expose}WORKDIR /
USER {user}:{user}
ENTRYPOINT ["{home}/bin/{name}"]
"""


def say(text):
    print(text, flush=True)


def run(*args, **kw):
    return subprocess.run(args, check=True, text=True, cwd=ROOT, **kw)


def out(*args):
    return run(*args, stdout=subprocess.PIPE).stdout.strip()


def container_path(name):
    return f"{HERE}/{name}.Containerfile"


def container_text(name, image):
    return CONTAINERFILE.format(
        prefix=PREFIX, name=name, title=image["title"], user=assemble.USER, home=assemble.HOME,
        env=" \\\n    ".join(f"{k}={v}" for k, v in sorted(image["env"].items())),
        expose=f"EXPOSE {' '.join(map(str, image['ports']))}\n" if image["ports"] else "")


def old_files(images):
    """Names whose container file is not what the table says, and files of no image."""
    def read(path):
        if not os.path.exists(path):
            return None
        with open(path, encoding="utf-8") as f:
            return f.read()
    stale = [n for n, i in images.items() if read(container_path(n)) != container_text(n, i)]
    known = {*images, "build", "toolchain"}
    return stale + [f for f in sorted(os.listdir(HERE)) if f.endswith(".Containerfile") and
                    f[:-len(".Containerfile")] not in known]


def write_files(images):
    for name, image in images.items():
        with open(container_path(name), "w", encoding="utf-8") as f:
            f.write(container_text(name, image))
    return old_files(images)


# --- what a stage is made from --------------------------------------------------------------------
def tracked(paths):
    listed = out("git", "ls-files", "-co", "--exclude-standard", "--", *paths).split("\n")
    return sorted(p for p in set(listed) if p and os.path.isfile(f"{ROOT}/{p}") and
                  not NOT_COPIED.search(p))


def key(*parts):
    """A hash of texts and of the contents of files, given as lists of paths."""
    digest = hashlib.sha256()
    for part in parts:
        for item in [part] if isinstance(part, str) else part:
            digest.update(item.encode() + b"\0")
            if not isinstance(part, str):
                with open(f"{ROOT}/{item}", "rb") as f:
                    digest.update(f.read() + b"\0")
    return digest.hexdigest()[:16]


def version():
    with open(f"{ROOT}/libcommon/service.c", encoding="utf-8") as f:
        return re.search(r'define DOCFLEET_VERSION "(.+?)"', f.read())[1]


def stamp():
    """(revision, seconds) of the last commit that touched what images are made from."""
    paths = [*BUILD_INPUTS, *IMAGE_INPUTS, "deploy/local/packages.txt"]
    told = out("git", "log", "-1", "--format=%H %ct", "--", *paths).split()
    revision, seconds = told if told else ("unknown", "0")
    changed = out("git", "status", "--porcelain", "--", *paths)
    return revision + ("-changed" if changed else ""), \
        int(os.environ.get("SOURCE_DATE_EPOCH", seconds))


# --- buildah --------------------------------------------------------------------------------------
def exists(tag):
    return subprocess.run(["buildah", "inspect", "--type", "image", tag], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode == 0


def image_id(tag):
    return out("buildah", "images", "--no-trunc", "--quiet", tag).split("\n")[0].split(":")[-1]


def bud(log, *args):
    os.makedirs(OUT, exist_ok=True)
    path = f"{OUT}/{log}.log"
    began = time.monotonic()
    with open(path, "w", encoding="utf-8") as f:
        rc = subprocess.run(["buildah", "bud", "--isolation", "chroot", *args, ROOT], cwd=ROOT,
                            stdout=f, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL).returncode
    if rc:
        with open(path, encoding="utf-8", errors="replace") as f:
            print("".join(f.readlines()[-30:]))
        sys.exit(f"{log} failed; the whole output is in {path}")
    say(f"  {log:22} {time.monotonic() - began:6.1f} s")


def base():
    """A Debian root as an image; BASE names another one instead, for instance from a registry."""
    if os.environ.get("BASE"):
        return os.environ["BASE"]
    tag = f"{PREFIX}debian:{key(SUITE, os.uname().machine)}"
    if exists(tag) and not os.environ.get("REFRESH"):
        return tag
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        sources = [APT_SOURCES] if os.path.exists(APT_SOURCES) else []
        run("mmdebstrap", "--quiet", "--variant=minbase", SUITE, f"{folder}/base.tar", *sources)
        container = out("buildah", "from", "scratch")
        run("buildah", "add", "--quiet", container, f"{folder}/base.tar", "/", stdout=subprocess.DEVNULL)
        run("buildah", "commit", "--quiet", "--rm", "--timestamp", "0", container, tag,
            stdout=subprocess.DEVNULL)
    say(f"  {'debian':22} {time.monotonic() - began:6.1f} s")
    return tag


def site():
    """What this machine's network asks for: apt's settings and certificate authorities."""
    mounts = []
    if os.path.isdir(APT_CONF) and not os.environ.get("BASE"):
        mounts += ["-v", f"{APT_CONF}:{APT_CONF}:ro"]
    if os.path.exists(CA_BUNDLE):
        mounts += ["-v", f"{CA_BUNDLE}:/run/build-ca.crt:ro"]
    return mounts


def wanted_packages():
    script = '. deploy/local/lib.sh; eval "$(sed -n "/^wanted/,/^}/p" deploy/local/packages)"; ' \
             "wanted build toolchain"
    return out("bash", "-c", script)


def toolchain():
    tag_base = base()
    made_from = key(image_id(tag_base) if exists(tag_base) else tag_base, wanted_packages(),
                    ["deploy/images/toolchain.Containerfile", "deploy/local/packages"])
    tag = f"{PREFIX}toolchain:{made_from}"
    if not exists(tag):
        bud("toolchain", *site(), "--build-arg", f"BASE={tag_base}", "-t", tag,
            "-f", "deploy/images/toolchain.Containerfile")
    return tag_base, tag


def build_stage(again=""):
    """All programs and the web page. `again` makes it anew, under another tag."""
    tag_base, tag_toolchain = toolchain()
    tag = f"{PREFIX}build:{key(image_id(tag_toolchain), tracked(BUILD_INPUTS))}{again}"
    if again or not exists(tag):
        how = ["--no-cache"] if again else ["--layers"]
        bud("build" + again, *site(), *how, "--build-arg", f"BASE={tag_base}", "--build-arg",
            f"TOOLCHAIN={tag_toolchain}", "-t", tag, "-f", "deploy/images/build.Containerfile")
    return tag


def build_image(name, build, again=""):
    revision, seconds = stamp()
    made_from = key(image_id(build), revision, str(seconds), version(),
                    [*IMAGE_INPUTS, os.path.relpath(container_path(name), ROOT)])
    tag = f"{PREFIX}{name}:{made_from}{again}"
    if again or not exists(tag):
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
        bud(name + again, "--no-cache", "--timestamp", str(seconds), "--build-arg", f"BUILD={build}",
            "--build-arg", f"SOURCE_DATE_EPOCH={seconds}", "--build-arg", f"VERSION={version()}",
            "--build-arg", f"REVISION={revision}", "--build-arg", f"CREATED={created}",
            "-t", tag, "-f", os.path.relpath(container_path(name), ROOT))
    if not again:
        run("buildah", "tag", tag, f"{PREFIX}{name}:latest", f"{PREFIX}{name}:{version()}")
    return tag


class Mounted:
    """An image's root as a folder, to look into or to run; gone at the end."""

    def __init__(self, tag):
        self.tag = tag

    def __enter__(self):
        self.container = out("buildah", "from", "--pull-never", self.tag)
        return out("buildah", "mount", self.container)

    def __exit__(self, *_):
        subprocess.run(["buildah", "rm", self.container], stdout=subprocess.DEVNULL, check=False)


def build(images, names):
    stale = old_files(images)
    if stale:
        sys.exit(f"make images-files: {' '.join(stale)} differ from images.toml")
    stage = build_stage()
    return {name: build_image(name, stage) for name in names or images}


def tools():
    if os.geteuid():
        sys.exit("images are built as root (buildah mounts and changes roots)")
    run(f"{ROOT}/deploy/local/packages", "images")


def main():
    what, names = (sys.argv[1:] or ["build"])[0], sys.argv[2:]
    images = assemble.table()
    unknown = [n for n in names if n not in images] if what == "build" else []
    if unknown:
        sys.exit(f"images.toml knows {' '.join(images)}, not {' '.join(unknown)}")
    if what == "files":
        left = old_files(images) if "--check" in names else write_files(images)
        if left:
            sys.exit(f"differ from images.toml, or belong to no image: {' '.join(left)}")
    elif what == "build":
        tools()
        tags = build(images, names)
        os.makedirs(OUT, exist_ok=True)
        for name, tag in tags.items():
            with Mounted(tag) as root:
                shutil.copyfile(f"{root}/{sbom.FILE}", f"{OUT}/{name}.spdx.json")
                say(f"  {tag:55} {sbom.size(root) / 1e6:7.1f} MB")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
