#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Puts together the root folder of one image, inside the build stage.

usage: assemble.py IMAGE ROOT

Nothing is chosen by hand that the linker knows: the programs' libraries are asked for with ldd,
dpkg tells whose they are, and of these packages the files come over, less what images.toml leaves
out. The versions are those the programs were linked with, since the files are the very ones.
No maintainer script runs and no shell gets in. For scanners, /var/lib/dpkg/status.d holds the
packages' entries; /usr/share/doc/docfleet/sbom.spdx.json lists them with the programs.
"""
import glob
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib

HERE = os.path.dirname(os.path.abspath(__file__))
SRC = os.path.dirname(os.path.dirname(HERE))
BIN = f"{SRC}/build/release/bin"
HOME = "/opt/docfleet"
USER = 65532
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


def table(path=f"{HERE}/images.toml"):
    """{image: its settings with those of all}; programs are found where they were built."""
    with open(path, "rb") as f:
        read = tomllib.load(f)
    common, images = read["all"], {}
    for name, own in read["image"].items():
        unknown = set(own) - {"title", "limit", "programs", "load", "packages", "exclude", "copy",
                              "env", "ports"}
        if unknown or not {"title", "limit"} <= set(own):
            raise SystemExit(f"images.toml: {name}: title and limit are needed, unknown: {unknown}")
        images[name] = {
            "title": own["title"], "limit": own["limit"], "ports": own.get("ports", common["ports"]),
            "programs": [name, *own.get("programs", ())], "load": own.get("load", []),
            "packages": [*common["packages"], *own.get("packages", ())],
            "exclude": re.compile("|".join(f"(?:{p})" for p in
                                           [*common["exclude"], *own.get("exclude", ())])),
            "copy": {**common["copy"], **own.get("copy", {})},
            "env": {**common["env"], **own.get("env", {})},
        }
    return images


def run(*args):
    return subprocess.run(args, check=True, capture_output=True, text=True).stdout


def merged(path):
    """/lib/x is /usr/lib/x, whatever dpkg calls it."""
    return "/usr" + path if path.split("/")[1] in MERGED else path


def is_elf(path):
    if os.path.islink(path) or not os.path.isfile(path):
        return False
    with open(path, "rb") as f:
        return f.read(4) == b"\x7fELF"


def linked(files):
    """Every library the files need, as the loader finds them."""
    told = subprocess.run(["ldd", *files], capture_output=True, text=True).stdout
    missing = re.findall(r"^\s*(\S+) => not found", told, re.M)
    if missing:
        raise SystemExit(f"missing in the build stage: {sorted(set(missing))}")
    return set(re.findall(r"(?:=> |^\s+)(/\S+) \(0x", told, re.M))


class Dpkg:
    """Who owns a file, by every name it may have; what a package holds."""

    def __init__(self, info="/var/lib/dpkg/info"):
        self.owner, self.files = {}, {}
        for entry in sorted(os.listdir(info)):
            if not entry.endswith(".list"):
                continue
            package = entry[:-5].split(":")[0]
            with open(f"{info}/{entry}", encoding="utf-8") as f:
                paths = [merged(p) for p in f.read().split("\n") if len(p) > 1 and p != "/."]
            self.files[package] = paths
            self.owner.update((p, package) for p in paths if not os.path.isdir(p))

    def owner_of(self, path):
        for name in (path, os.path.realpath(path)):
            if merged(name) in self.owner:
                return self.owner[merged(name)]
        raise SystemExit(f"no package owns {path}")


def put(source, target):
    """One file or link, with its mode; folders on the way are made as they are in the source."""
    os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
    if os.path.islink(source):
        if not os.path.lexists(target):
            os.symlink(os.readlink(source), target)
    elif stat.S_ISREG(os.lstat(source).st_mode):
        shutil.copyfile(source, target)
        os.chmod(target, stat.S_IMODE(os.stat(source).st_mode) & 0o755 | 0o444)


def put_tree(source, target):
    if not os.path.isdir(source):
        put(source, target)
        return
    for folder, folders, names in os.walk(source):
        links = [n for n in folders if os.path.islink(f"{folder}/{n}")]
        for name in [*names, *links]:
            put(f"{folder}/{name}", os.path.normpath(
                f"{target}/{os.path.relpath(folder, source)}/{name}"))


def base(root):
    """What a package would make by its scripts: merged folders, the user, name lookups, CA links."""
    for name in ("etc", "usr", "var", "proc", "sys", "dev", "run", "tmp", "scratch"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    os.chmod(f"{root}/tmp", 0o1777)
    for name in ("bin", "sbin", "lib", "lib64"):
        os.makedirs(f"{root}/usr/{name}", exist_ok=True)
        os.symlink(f"usr/{name}", f"{root}/{name}")
    os.makedirs(f"{root}/usr/lib/ssl")
    os.symlink("/etc/ssl/certs", f"{root}/usr/lib/ssl/certs")
    os.symlink("/etc/ssl/certs/ca-certificates.crt", f"{root}/usr/lib/ssl/cert.pem")
    for path, text in (
            ("passwd", f"root:x:0:0:root:/:/nologin\ndocfleet:x:{USER}:{USER}:docfleet:/:/nologin\n"),
            ("group", f"root:x:0:\ndocfleet:x:{USER}:\n"),
            ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")):
        with open(f"{root}/etc/{path}", "w", encoding="utf-8") as f:
            f.write(text)
    os.chown(f"{root}/scratch", USER, USER)
    os.chmod(f"{root}/scratch", 0o700)


def check_links(root, programs, wanted):
    """The root's own loader starts the programs, and whatever a file names as needed is in the root.
    A library that came with another one, is not wanted itself and lacks something goes."""
    loader, = glob.glob(f"{root}/usr/lib*/ld-linux-*.so.?")
    for path in programs:
        told = subprocess.run(["chroot", root, loader[len(root):], "--list", path],
                              capture_output=True, text=True)
        if told.returncode or "not found" in told.stdout:
            raise SystemExit(f"{path} does not load in the image: {told.stdout}{told.stderr}")
    names, elves = set(), []
    for folder, _, files in os.walk(root):
        names.update(files)
        elves += [f"{folder}/{f}" for f in files if is_elf(f"{folder}/{f}")]
    told = run("readelf", "--dynamic", "--wide", *elves)
    lost, where = set(), ""
    for line in told.split("\n"):
        where = line[6:] if line.startswith("File: ") else where
        needed = re.search(r"\(NEEDED\).*\[(.+)\]", line)
        if needed and needed[1] not in names:
            lost.add((where[len(root):], needed[1]))
    for path, name in sorted(lost):
        if path in wanted:
            raise SystemExit(f"{path} needs {name}, which is not in the image")
        if os.path.exists(root + path):
            print(f"left out: {path}, as {name} is not in the image")
            os.unlink(root + path)


def cache_fonts(root):
    """A read-only root cannot cache what its fonts are, so that is done here. A cache is right for
    folders of its time alone, and the image's folders all get SOURCE_DATE_EPOCH."""
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    if os.path.isdir(f"{root}/etc/fonts"):
        os.makedirs(f"{root}/var/cache/fontconfig", exist_ok=True)
        for folder, _, _ in os.walk(f"{root}/usr/share/fonts"):
            os.utime(folder, (seconds, seconds))
        run("fc-cache", "--sysroot", root, "--system-only", "--force")


def assemble(name, image, root):
    dpkg = Dpkg()
    kept = [p for package in image["packages"] for p in dpkg.files[package]
            if not image["exclude"].fullmatch(p)]
    programs = [p for n in image["programs"] for p in (n, n + "-zygote") if os.path.exists(f"{BIN}/{p}")]
    modules = [p for owned in dpkg.files.values() for p in owned for n in image["load"]
               if p.endswith(f"/{n}.so")]
    if len(modules) != len(image["load"]) or programs[:1] != [name]:
        raise SystemExit(f"{name}: not found: programs {programs}, modules {modules}")
    needed = linked([f"{BIN}/{p}" for p in programs] + modules + [p for p in kept if is_elf(p)])
    packages = sorted({*image["packages"], *(dpkg.owner_of(p) for p in [*needed, *modules])})

    base(root)
    for package in packages:
        for path in dpkg.files[package]:
            if not image["exclude"].fullmatch(path):
                put(path, root + path)
    for path in sorted(needed):  # a name that a maintainer script made, as alternatives are
        if not os.path.exists(root + merged(path)):
            put(os.path.realpath(path), root + merged(path))
    for source, target in image["copy"].items():
        put_tree(source, root + target)
    for program in programs:
        os.makedirs(f"{root}{HOME}/bin", exist_ok=True)
        run("strip", "--strip-unneeded", "-o", f"{root}{HOME}/bin/{program}", f"{BIN}/{program}")
        os.chmod(f"{root}{HOME}/bin/{program}", 0o755)
    for text in ("LICENSE", "NOTICE"):
        put(f"{SRC}/{text}", f"{root}/usr/share/doc/docfleet/{text}")
    os.makedirs(f"{root}/var/lib/dpkg/status.d")
    for entry in run("dpkg-query", "-s", *packages).split("\n\n"):
        package = re.match(r"Package: (\S+)", entry)[1]
        with open(f"{root}/var/lib/dpkg/status.d/{package}", "w", encoding="utf-8") as f:
            f.write(entry.rstrip("\n") + "\n")
    check_links(root, [f"{HOME}/bin/{p}" for p in programs],
                {merged(os.path.realpath(p)) for p in [*needed, *modules, *kept]})
    drop_dead_links(root)
    for package in packages:  # some say it by a link to another package's folder
        terms = f"/usr/share/doc/{package}/copyright"
        if not os.path.exists(root + terms):
            put(os.path.realpath(terms), root + terms)
    cache_fonts(root)
    return packages


def drop_dead_links(root):
    """Links to what was left out; a link of the root leads inside the root."""
    for folder, folders, names in os.walk(root):
        for path in (f"{folder}/{n}" for n in [*folders, *names]):
            if not os.path.islink(path) or folder == root:
                continue
            target = os.readlink(path)
            there = root + target if target.startswith("/") else os.path.join(folder, target)
            if not os.path.lexists(there):
                os.unlink(path)


def main():
    name, root = sys.argv[1:]
    images = table()
    if name not in images:
        raise SystemExit(f"images.toml knows {' '.join(images)}, not '{name}'")
    os.umask(0o022)
    os.makedirs(root)
    packages = assemble(name, images[name], root)
    sys.path.insert(0, HERE)
    import sbom
    sbom.write(name, images[name]["title"], root, SRC)
    print(f"{name}: {len(packages)} packages, {sbom.size(root) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
