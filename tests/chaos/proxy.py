# SPDX-License-Identifier: Apache-2.0
"""The fault proxy from Python: links with names, faults set and taken back.

    proxy = Proxy(directory)
    link = proxy.link("postgres:text#1", upstream_port)     # link.port is what the service is given
    link.set(delay=500, jitter=100); link.cut(); link.blackhole(); link.reset()
    Links([...]).set(...)                                    # the same for many at once

Keys of set() are those of tests/chaos/faultproxy.c. Faults hold until reset().
"""
import json
import os
import socket
import threading

from lib import rig

SYNC = b"S\x00\x00\x00\x04"  # ends each statement of the extended protocol
COMMIT = b"COMMIT"


class Proxy:
    def __init__(self, directory, build="release"):
        self.path = os.path.join(directory, "proxy.sock")
        self.process = rig.Process("faultproxy", [f"{rig.ROOT}/build/{build}/bin/faultproxy",
                                                  self.path], os.path.join(directory, "proxy.log"))
        self.lock, self.links = threading.Lock(), {}
        self.socket = rig.wait_until(self._connect, 10, what="the fault proxy")
        self.lines = self.socket.makefile("rb")

    def _connect(self):
        made = socket.socket(socket.AF_UNIX)
        made.connect(self.path)
        return made

    def command(self, line):
        with self.lock:
            self.socket.sendall(line.encode() + b"\n")
            answer = self.lines.readline().decode().strip()
        if not answer.startswith("ok"):
            raise AssertionError(f"proxy: {line}: {answer or 'gone'}")
        return answer[3:]

    def link(self, name, upstream, http=False, host="127.0.0.1", port=None):
        name = name.replace(" ", "_")
        port = port or rig.free_port()
        self.command(f"link {name} {port} {host} {upstream}{' http' if http else ''}")
        self.links[name] = Link(self, name, port)
        return self.links[name]

    def stats(self, name="*"):
        return json.loads(self.command(f"stats {name}"))

    def reset(self):
        self.command("reset *")

    def stop(self):
        self.process.stop(9)


class Faults:
    """What can be done to one link or to many; `names` are theirs."""

    def each(self, verb, rest=""):
        return [self.proxy.command(f"{verb} {name}{rest}") for name in self.names]

    def set(self, **keys):
        words = "".join(f" {k} {v.hex() if isinstance(v, bytes) else v}" for k, v in keys.items())
        self.each("set", words)

    def reset(self):
        self.each("reset")

    def cut(self):
        """Resets every open connection; gives how many."""
        return sum(int(n) for n in self.each("cut"))

    def blackhole(self):
        self.set(mode="blackhole")

    def refuse(self):
        """New connections are refused and the open ones reset: as if nobody were there."""
        self.set(mode="refuse")
        return self.cut()

    def total(self, what):
        return sum(self.proxy.stats(name)[name][what] for name in self.names)


class Link(Faults):
    def __init__(self, proxy, name, port):
        self.proxy, self.name, self.port, self.names = proxy, name, port, [name]


class Links(Faults):
    def __init__(self, links):
        self.links = list(links)
        self.proxy = self.links[0].proxy
        self.names = [link.name for link in self.links]
