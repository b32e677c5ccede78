#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the container images with buildah, as root; no engine, no daemon.

usage: images.py build [IMAGE...]   builds what is missing or old (all without names)
       images.py files [--check]    writes the container files from images.toml
       images.py check              the same id twice, licences, SBOMs, sizes, hadolint; then report
       images.py report             writes what was measured into docs/images.md
       images.py push REGISTRY      copies all images there, as REGISTRY/docfleet-NAME:VERSION
       images.py clean              drops images and stages from local storage

Each stage is tagged with a hash of all that goes into it, so what did not change is not built
again: a Debian root (mmdebstrap) < toolchain (packages) < build (the web page and all programs) <
one image each. REFRESH=1 begins with a new Debian root, for security updates; BASE=IMAGE with one
from a registry.
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
TWICE = ("ingest-gateway", "text-extractor")  # built twice by `check`: a web page, a zygote
NOT_COPIED = re.compile(r"(^|/)(node_modules|dist|__pycache__)/|[.]md$")

CONTAINERFILE = """\
# SPDX-License-Identifier: Apache-2.0
# Written by `make images-files` from images.toml; change it there.
ARG BUILD={prefix}build
# hadolint ignore=DL3006
FROM ${{BUILD}} AS assembled
ARG SOURCE_DATE_EPOCH=0
WORKDIR /src
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


def stamp(paths=(*BUILD_INPUTS, *IMAGE_INPUTS, "deploy/local/packages.txt")):
    """(revision, seconds) of the last commit that touched what images are made from."""
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
        how += ["--build-arg", f"COMMIT={stamp(BUILD_INPUTS)[0][:12]}"]  # what docfleet_build_info says
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


# --- check ----------------------------------------------------------------------------------------
def inspect(tag):
    return json.loads(out("buildah", "inspect", "--type", "image", tag))["OCIv1"]


def problems_of(name, image, tag, root):
    """What is wrong with one image; [] if nothing."""
    found = []
    size = sbom.size(root) / 1e6
    if size > image["limit"]:
        found.append(f"{size:.1f} MB, {image['limit']} are allowed")
    config = inspect(tag)["config"]
    if config.get("User") != f"{assemble.USER}:{assemble.USER}":
        found.append(f"user {config.get('User')}")
    if not config["Labels"].get("org.opencontainers.image.revision"):
        found.append("no label for the revision")
    if os.listdir(f"{root}/usr/bin") or os.listdir(f"{root}/usr/sbin"):
        found.append("programs of packages are in it")
    with open(f"{root}/{sbom.FILE}", encoding="utf-8") as f:
        listed = {p["name"] for p in json.load(f)["packages"]}
    packages = sorted(os.listdir(f"{root}/var/lib/dpkg/status.d"))
    found += [f"{p} is not in the SBOM" for p in packages if p not in listed]
    found += [f"no licence of {p}" for p in packages
              if not os.path.exists(os.path.join(root, "usr/share/doc", p, "copyright"))]
    return found


def reproducible(names):
    """Compiles everything again without any cache and makes the images again; the same ids?"""
    before = {n: image_id(build_image(n, build_stage())) for n in names}
    stage = build_stage("-again")
    again = {n: image_id(build_image(n, stage, "-again")) for n in names}
    for tag in [f"{PREFIX}{n}:" for n in names]:
        listed = out("buildah", "images", "--format", "{{.Name}}:{{.Tag}}", "--filter",
                     f"reference={tag}*-again").split()
        subprocess.run(["buildah", "rmi", *listed], stdout=subprocess.DEVNULL, check=False)
    subprocess.run(["buildah", "rmi", stage], stdout=subprocess.DEVNULL, check=False)
    return before, again


def check(images):
    failed = []
    tags, sizes = build(images, []), {}
    for name, tag in tags.items():
        with Mounted(tag) as root:
            found = problems_of(name, images[name], tag, root)
            packages = len(os.listdir(f"{root}/var/lib/dpkg/status.d"))
            sizes[name] = {"megabytes": round(sbom.size(root) / 1e6, 1), "packages": packages,
                           "limit": images[name]["limit"], "parts": largest(root)}
        failed += [f"{name}: {x}" for x in found]
        say(f"check {name:18} {'FAIL' if found else 'ok'}")
    files = sorted(f"{HERE}/{f}" for f in os.listdir(HERE) if f.endswith(".Containerfile"))
    told = subprocess.run(["hadolint", *files], capture_output=True, text=True)
    failed += [told.stdout + told.stderr] if told.returncode else []
    say(f"check {'hadolint':18} {'FAIL' if told.returncode else 'ok'}")
    before, again = reproducible(TWICE)
    failed += [f"{n}: built again {again[n][:12]}, before {before[n][:12]}"
               for n in TWICE if before[n] != again[n]]
    say(f"check {'built twice':18} {'ok' if before == again else 'FAIL'}")
    result = {"sizes": sizes, "twice": {n: before[n] for n in TWICE}, "same": before == again,
              "failed": failed, **when()}
    with open(f"{OUT}/check.json", "w", encoding="utf-8") as f:
        json.dump(result, f, indent=1)
    report(images)
    if failed:
        sys.exit("\n".join(failed))


def largest(root):
    """The packages and folders that make most of an image: [(name, megabytes)]."""
    totals = {}
    for folder, _, names in os.walk(root):
        words = os.path.relpath(folder, root).split("/")
        share = "/".join(words[:3 if words[:2] != ["usr", "lib"] else 4])
        totals[share] = totals.get(share, 0) + sum(
            os.lstat(f"{folder}/{n}").st_size for n in names if not os.path.islink(f"{folder}/{n}"))
    top = sorted(totals.items(), key=lambda x: -x[1])[:6]
    return [(name, round(size / 1e6, 1)) for name, size in top if size > 3e6]


def when():
    return {"date": time.strftime("%Y-%m-%d", time.gmtime()),
            "commit": out("git", "log", "-1", "--format=%h")}


# --- docs/images.md: two blocks of the page are ours ----------------------------------------------
def block(page, name, text):
    pattern = rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- /{name} -->)"
    if not re.search(pattern, page, re.S):
        sys.exit(f"docs/images.md has no block {name}")
    return re.sub(pattern, lambda m: m[1] + text + m[2], page, flags=re.S)


def sizes_text(images, told):
    rows = ["| image | MB unpacked | limit | packages | largest parts (MB) |", "|---|---|---|---|---|"]
    for name, s in told["sizes"].items():
        parts = ", ".join(f"{p} {mb}" for p, mb in s["parts"])
        rows.append(f"| `docfleet-{name}` | {s['megabytes']} | {s['limit']} | {s['packages']} | {parts} |")
    if "twice" not in told:
        return "\n".join(rows) + f"\n\nMeasured {told['date']} at {told['commit']}.\n"
    same = "the same id both times: " + ", ".join(f"{n} `{i[:12]}`" for n, i in told["twice"].items()) \
        if told["same"] else "**not the same id**"
    return "\n".join(rows) + f"\n\nMeasured {told['date']} at {told['commit']}. Compiled and built " \
        f"twice, the second time without any cache: {same}.\n"


def run_text(told):
    return (f"{told['files']} documents of {told['kinds']} kinds: {told['done']} done, {told['failed']} "
            f"failed, as they should; {told['promised'] - told['missed']} of {told['promised']} promised "
            f"phrases were found in their texts. State, codes, text, record, cells, size of every "
            f"preview page and the thumbnail were compared with the fleet of host programs: "
            f"{told['differ']} differences. {told['seconds']} s in containers, {told['hostSeconds']} s on "
            f"the host, on two cores that others used too. Run {told['date']} at {told['commit']}.\n")


def report(images):
    path = f"{ROOT}/docs/images.md"
    with open(path, encoding="utf-8") as f:
        page = f.read()
    for source, name, text in (("check", "sizes", lambda t: sizes_text(images, t)),
                               ("run", "run", run_text)):
        if os.path.exists(f"{OUT}/{source}.json"):
            with open(f"{OUT}/{source}.json", encoding="utf-8") as f:
                page = block(page, name, text(json.load(f)))
    with open(path, "w", encoding="utf-8") as f:
        f.write(page)


def push(images, registry):
    """To a registry, to `docker-daemon`, or as archives into a folder (a path)."""
    for name in images:
        local, called = f"{PREFIX}{name}:{version()}", f"docfleet-{name}:{version()}"
        if registry == "docker-daemon":
            target = f"docker-daemon:{PREFIX}{name}:{version()}"
        elif registry.startswith(("/", ".")):
            os.makedirs(registry, exist_ok=True)
            target = f"oci-archive:{os.path.join(registry, f'docfleet-{name}-{version()}.tar')}:{called}"
        else:
            target = f"docker://{registry}/{called}"
        run("buildah", "push", "--quiet", local, target)
        say(f"  {target}")


def clean(images):
    listed = out("buildah", "images", "--format", "{{.Name}}:{{.Tag}}").split()
    ours = {f"{PREFIX}{n}" for n in (*images, "debian", "toolchain", "build")}
    mine = [t for t in listed if t.rsplit(":", 1)[0] in ours]
    if mine:
        run("buildah", "rmi", "--force", *mine, stdout=subprocess.DEVNULL)


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
        os.makedirs(OUT, exist_ok=True)
        for name, tag in build(images, names).items():
            with Mounted(tag) as root:
                shutil.copyfile(f"{root}/{sbom.FILE}", f"{OUT}/{name}.spdx.json")
                say(f"  {tag:55} {sbom.size(root) / 1e6:7.1f} MB")
    elif what == "check":
        tools()
        check(images)
    elif what == "report":
        report(images)
    elif what == "push" and len(names) == 1:
        push(images, names[0])
    elif what == "clean":
        clean(images)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
