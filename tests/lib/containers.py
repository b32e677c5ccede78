# SPDX-License-Identifier: Apache-2.0
"""The fleet as containers: the built images under runc, held as a cluster holds them that enforces
the Pod Security standard `restricted`.

Each container has a read-only root, uid 65532, no capability, no_new_privs, the seccomp profile that
Kubernetes calls RuntimeDefault (deploy/images/seccomp.json), namespaces of its own except the
network's, and one writable folder: /scratch. Roots are mounted by buildah, once per image.
"""
import contextlib
import json
import os
import re
import secrets
import signal
import subprocess

from lib import rig

UID = 65532
SECCOMP = f"{rig.ROOT}/deploy/images/seccomp.json"
MASKED = ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
          "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware")
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
NAMESPACES = ("pid", "mount", "ipc", "uts")


def image_name(service):
    return f"localhost/docfleet-{service}:latest"


def buildah(*args):
    return subprocess.run(["buildah", *args], check=True, capture_output=True, text=True).stdout.strip()


def mounts(scratch):
    def bind(path, source, *options):
        return {"destination": path, "source": source, "type": "bind",
                "options": ["bind", "nosuid", "nodev", *options]}
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
         "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/sys", "type": "bind", "source": "/sys",
         "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]},
        bind("/scratch", scratch, "rw"),
        bind("/etc/resolv.conf", "/etc/resolv.conf", "ro"),
        bind("/etc/hosts", "/etc/hosts", "ro"),
    ]


def bundle(root, args, environ, scratch, hostname):
    """The OCI runtime configuration of one container."""
    with open(SECCOMP, encoding="utf-8") as f:
        seccomp = json.load(f)
    empty = {k: [] for k in ("bounding", "effective", "inheritable", "permitted", "ambient")}
    return {
        "ociVersion": "1.0.2", "hostname": hostname,
        "root": {"path": root, "readonly": True},
        "process": {"terminal": False, "user": {"uid": UID, "gid": UID}, "cwd": "/", "args": args,
                    "env": [f"{k}={v}" for k, v in environ.items()], "capabilities": empty,
                    "noNewPrivileges": True,
                    "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 16384, "soft": 1024}]},
        "mounts": mounts(scratch),
        "linux": {"namespaces": [{"type": t} for t in NAMESPACES], "seccomp": seccomp,
                  "maskedPaths": list(MASKED), "readonlyPaths": list(READONLY)},
    }


class Container(rig.Process):
    """`runc run` as a process of the rig; `pid` is that of the program inside, seen from here."""

    def __init__(self, name, identity, folder, log):
        self.identity, self.state = identity, os.path.join(folder, "runc")
        super().__init__(name, ["runc", "--root", self.state, "run", "--bundle", folder, identity],
                         log, env={"PATH": os.environ["PATH"]}, death=signal.SIGTERM)

    def runc(self, *args, check=False):
        return subprocess.run(["runc", "--root", self.state, *args], capture_output=True, text=True,
                              check=check, timeout=60)

    def inner_pid(self):
        """Of the container's first process."""
        told = self.runc("state", self.identity)
        return json.loads(told.stdout)["pid"] if told.returncode == 0 else 0

    def execute(self, *args):
        """A further process in the container, held as the first."""
        return self.runc("exec", "--cwd", "/", "--user", f"{UID}:{UID}", self.identity, *args)

    def send(self, sig):
        if self.alive():
            self.runc("kill", self.identity, str(int(sig)))

    def kill9(self):
        self.send(signal.SIGKILL)
        self.popen.wait(20)
        self.runc("delete", "--force", self.identity)

    def stop(self, sig=signal.SIGTERM, timeout=30):
        try:
            return super().stop(sig, timeout)
        finally:
            self.runc("delete", "--force", self.identity)


class ImageFleet(rig.Fleet):
    """A fleet whose every program, docfleetctl too, is the one of its image."""

    def __init__(self, servers, **kw):
        self.roots, self.working = {}, []
        super().__init__(servers, **kw)

    def root(self, service):
        """(folder of the image's root, its settings)"""
        if service not in self.roots:
            image = image_name(service)
            container = buildah("from", "--pull-never", image)
            self.working.append(container)
            config = json.loads(buildah("inspect", "--type", "image", image))["OCIv1"]["config"]
            self.roots[service] = (buildah("mount", container), config)
        return self.roots[service]

    def has(self, name, build=None):
        return subprocess.run(["buildah", "inspect", "--type", "image", image_name(name)],
                              capture_output=True).returncode == 0

    def _bundle(self, name, service, args, environ):
        """(id, folder) of a container to be."""
        root, config = self.root(service)
        assert config["User"] == f"{UID}:{UID}", config
        identity = f"docfleet-{self.name}-{re.sub(r'[^a-z0-9]', '-', name)}-{secrets.token_hex(3)}"
        folder = os.path.join(self.dir, "bundles", identity)
        scratch = os.path.join(folder, "scratch")
        os.makedirs(scratch)
        os.chown(scratch, UID, UID)
        own = dict(e.split("=", 1) for e in config["Env"])
        given = {k: v for k, v in environ.items() if k.startswith("DOCFLEET_") and
                 k not in ("DOCFLEET_SCRATCH_DIR", "DOCFLEET_CONSOLE_DIR")}  # folders of the host
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
            json.dump(bundle(root, [*config["Entrypoint"], *args], {**own, **given}, scratch,
                             identity[-20:]), f)
        return identity, folder

    def spawn(self, name, service, program, args, environ, build):
        return Container(name, *self._bundle(name, service, args, environ), self.log_path(name))

    def ctl(self, *args, check=True, timeout=120, env=None, build=None):
        environ = dict(self.settings(), DOCFLEET_URL=self.url, **(env or {}))
        identity, folder = self._bundle("docfleetctl", "docfleetctl", args, environ)
        run = subprocess.run(["runc", "--root", os.path.join(folder, "runc"), "run", "--bundle", folder,
                              identity], capture_output=True, text=True, timeout=timeout)
        if check:
            assert run.returncode == 0, \
                f"docfleetctl {' '.join(args)}: exit {run.returncode}\n{run.stdout}{run.stderr}"
            return run.stdout
        return run

    def close(self):
        for process in list(self.processes.values()):
            with contextlib.suppress(rig.Timeout):
                process.stop()
        self.processes.clear()
        for container in self.working:
            subprocess.run(["buildah", "rm", container], capture_output=True)
        self.working, self.roots = [], {}


def status_of(pid):
    """Fields of /proc/PID/status."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
