#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Installs the chart on a real API server and writes docs/kubernetes-check.md.

usage: check.py [--values NAME]... [--no-report]     (run it by `make k8s-check`)

etcd, kube-apiserver and kube-controller-manager run on free ports of 127.0.0.1, in a folder that goes
afterwards; tools/k8s/build.sh builds them once. Namespaces enforce Pod Security "restricted". There is no
kubelet: pods are made and stay pending, so nothing here says that a container starts.
"""
import argparse
import collections
import contextlib
import datetime
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests"))
from lib import chart  # noqa: E402  pylint: disable=wrong-import-position
import yaml  # noqa: E402  pylint: disable=wrong-import-position

sys.path.insert(0, os.path.join(ROOT, "tools", "chart"))
import crd_schemas  # noqa: E402  pylint: disable=wrong-import-position

TOKEN = "check"
REPORT = os.path.join(ROOT, "docs", "kubernetes-check.md")
NAMES = ["default", "external", "autoscaled", "minimal", "everything", "production"]  # the whole life
ALSO = ["hpa", "tls", "development", "staging"]  # each object by itself
PLURAL = {"NetworkPolicy": "networkpolicies", "Ingress": "ingresses", "PriorityClass": "priorityclasses"}
WIDE = {"PriorityClass", "Namespace", "CustomResourceDefinition"}
DEADLINE = 180


class Failed(Exception):
    pass


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(condition, what, timeout=DEADLINE):
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"timed out after {timeout} s: {what() if callable(what) else what}")
        time.sleep(0.2)


class Cluster:
    """etcd, an API server and the controllers; api() speaks to it, helm() runs the command line."""

    def __init__(self, built, folder):
        self.built, self.dir, self.processes, self.context = built, folder, [], None
        self.port = free_port()
        self.kubeconfig = f"{folder}/kubeconfig"

    def run(self, name, *args):
        log = open(f"{self.dir}/{name}.log", "wb")
        self.processes.append(subprocess.Popen([f"{self.built}/{name}", *args], stdout=log, stderr=log,
                                               stdin=subprocess.DEVNULL))

    def start(self):
        client, peer = free_port(), free_port()
        etcd = f"http://127.0.0.1:{client}"
        self.run("etcd", "--data-dir", f"{self.dir}/etcd", "--listen-client-urls", etcd,
                 "--advertise-client-urls", etcd, "--listen-peer-urls", f"http://127.0.0.1:{peer}",
                 "--unsafe-no-fsync=true")
        for args in (["genrsa", "-out", f"{self.dir}/sa.key", "2048"],
                     ["rsa", "-in", f"{self.dir}/sa.key", "-pubout", "-out", f"{self.dir}/sa.pub"]):
            subprocess.run(["openssl", *args], check=True, capture_output=True)
        with open(f"{self.dir}/tokens.csv", "w", encoding="utf-8") as f:
            f.write(f"{TOKEN},admin,1,\"system:masters\"\n")
        self.run("kube-apiserver", f"--etcd-servers={etcd}", f"--cert-dir={self.dir}/certs",
                 f"--secure-port={self.port}", "--bind-address=127.0.0.1",
                 "--service-cluster-ip-range=10.96.0.0/16", f"--service-account-key-file={self.dir}/sa.pub",
                 f"--service-account-signing-key-file={self.dir}/sa.key",
                 "--service-account-issuer=https://kubernetes.default.svc",
                 f"--token-auth-file={self.dir}/tokens.csv", "--authorization-mode=RBAC",
                 "--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none")
        certificate = f"{self.dir}/certs/apiserver.crt"
        until(lambda: os.path.exists(certificate) or self.dead(), "the API server's certificate")
        self.context = ssl.create_default_context(cafile=certificate)
        with open(self.kubeconfig, "w", encoding="utf-8") as f:
            json.dump({"apiVersion": "v1", "kind": "Config", "current-context": "c",
                       "clusters": [{"name": "c", "cluster": {"server": f"https://127.0.0.1:{self.port}",
                                                              "certificate-authority": certificate}}],
                       "users": [{"name": "u", "user": {"token": TOKEN}}],
                       "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}, f)
        until(lambda: self.ready() or self.dead(), "the API server")
        self.run("kube-controller-manager", f"--kubeconfig={self.kubeconfig}",
                 f"--service-account-private-key-file={self.dir}/sa.key", "--leader-elect=false",
                 "--secure-port=0")

    def dead(self):
        for p in self.processes:
            if p.poll() is not None:
                with open(f"{self.dir}/{os.path.basename(p.args[0])}.log", encoding="utf-8", errors="replace") as f:
                    raise Failed(f"{p.args[0]} ended with {p.returncode}:\n{f.read()[-2000:]}")
        return False

    def ready(self):
        with contextlib.suppress(OSError, urllib.error.HTTPError):
            return self.api("GET", "/readyz", raw=True)[0] == b"ok"
        return False

    def stop(self):
        for p in reversed(self.processes):
            p.send_signal(signal.SIGTERM)
            try:
                p.wait(20)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()

    def api(self, method, path, body=None, raw=False, kind="application/json"):
        """(answer, warnings); HTTPError otherwise."""
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.port}{path}", method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": kind})
        with urllib.request.urlopen(request, context=self.context, timeout=60) as answer:
            text = answer.read()
            return (text if raw else json.loads(text)), answer.headers.get_all("Warning") or []

    def post(self, body, namespace=None, dry=False):
        group, kind = body["apiVersion"], body["kind"]
        plural = PLURAL.get(kind, kind.lower() + "s")
        base = f"/api/{group}" if "/" not in group else f"/apis/{group}"
        where = f"/namespaces/{namespace}" if namespace and kind not in WIDE else ""
        query = "?fieldValidation=Strict" + ("&dryRun=All" if dry else "")
        return self.api("POST", f"{base}{where}/{plural}{query}", body)

    def objects(self, namespace, path):
        return self.api("GET", f"/apis/{path.replace('/', f'/namespaces/{namespace}/', 1)}" if path.count("/") == 1
                        else f"/apis/{path.rsplit('/', 1)[0]}/namespaces/{namespace}/{path.rsplit('/', 1)[1]}")[0]["items"]

    def core(self, namespace, kind):
        return self.api("GET", f"/api/v1/namespaces/{namespace}/{kind}")[0]["items"]

    def helm(self, *args, values=None):
        """Its output; fails if it fails, or if it warns about anything."""
        extra = []
        if values is not None:
            path = f"{self.dir}/values.json"
            with open(path, "w", encoding="utf-8") as f:
                json.dump(values, f)
            extra = ["-f", path]
        run = subprocess.run([f"{self.built}/helm", "--kubeconfig", self.kubeconfig, *args, *extra], cwd=self.dir,
                             capture_output=True, text=True, timeout=600,
                             env={"HOME": self.dir, "PATH": os.environ["PATH"]})
        said = [line for line in run.stderr.splitlines() if line.strip()]
        if run.returncode or said:
            raise Failed(f"helm {' '.join(args)}: exit {run.returncode}\n" + "\n".join(said[-20:]))
        return run.stdout


def controls(cluster, namespace):
    """The server does refuse what it must: else its silence would prove nothing."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad"},
           "spec": {"containers": [{"name": "a", "image": "a"}]}}
    refused = {}
    for name, body in (("a pod that is not restricted", pod),
                       ("a misspelt field", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"},
                                             "dta": {}}),
                       ("a ScaledObject without a target", {
                           "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "x"},
                           "spec": {"triggers": []}})):
        try:
            cluster.post(body, namespace, dry=True)
        except urllib.error.HTTPError as e:
            refused[name] = json.loads(e.read())["message"]
        else:
            raise Failed(f"the server took {name}")
    _, warnings = cluster.post({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "bad"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod["spec"]}}}, namespace, dry=True)
    if not any("restricted" in w for w in warnings):
        raise Failed("the server did not warn of a Deployment that is not restricted")
    return refused


def established(cluster, name):
    crd = cluster.api("GET", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")[0]
    return any(c["type"] == "Established" and c["status"] == "True"
               for c in crd.get("status", {}).get("conditions") or [])


def pods_made(cluster, namespace):
    """Every Deployment, StatefulSet and Job has the pods it asks for, so no admission refused one."""
    wanted = {}
    for d in cluster.objects(namespace, "apps/v1/deployments") + cluster.objects(namespace, "apps/v1/statefulsets"):
        wanted[d["metadata"]["name"]] = d["spec"]["replicas"]
    for j in cluster.objects(namespace, "batch/v1/jobs"):
        wanted[j["metadata"]["name"]] = 1
    made = collections.Counter()
    sets = {r["metadata"]["name"]: r["metadata"]["ownerReferences"][0]["name"]
            for r in cluster.objects(namespace, "apps/v1/replicasets")}
    for pod in cluster.core(namespace, "pods"):
        if not pod["metadata"].get("deletionTimestamp"):
            owner = pod["metadata"]["ownerReferences"][0]["name"]
            made[sets.get(owner, owner)] += 1
    return wanted and all(made[name] >= n for name, n in wanted.items()) and sum(made.values())


def refusals(cluster, namespace, word=""):
    return [f"{e['involvedObject']['name']}: {e['message']}" for e in cluster.core(namespace, "events")
            if e.get("type") == "Warning" and "FailedCreate" in e.get("reason", "") and word in e["message"]]


def fresh(cluster, name):
    namespace = f"check-{name}"
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    cluster.post({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}})
    return namespace


def server_side(cluster, namespace, values):
    """Each object by itself, strictly; what the server warns of is a failure."""
    objects = chart.render(values, namespace=namespace)
    for o in objects:
        try:
            _, warnings = cluster.post(o, namespace, dry=True)
        except urllib.error.HTTPError as e:
            message = json.loads(e.read())["message"]
            # the class comes with the release itself
            if o["kind"] == "Pod" and "no PriorityClass" in message:
                continue
            raise Failed(f"{o['kind']} {o['metadata']['name']}: {message}") from None
        if warnings:
            raise Failed(f"{o['kind']} {o['metadata']['name']}: {warnings}")
    return len(objects)


def images(cluster, namespace):
    return {c["image"] for d in cluster.objects(namespace, "apps/v1/deployments")
            for c in d["spec"]["template"]["spec"]["containers"]}


def migrate_jobs(cluster, namespace):
    return {j["metadata"]["name"] for j in cluster.objects(namespace, "batch/v1/jobs")
            if j["metadata"]["labels"].get("app.kubernetes.io/component") == "migrate"}


def left(cluster, namespace):
    found = []
    for kind in ("configmaps", "secrets", "services", "serviceaccounts", "persistentvolumeclaims"):
        found += [o["metadata"]["name"] for o in cluster.core(namespace, kind)]
    for path in ("apps/v1/deployments", "apps/v1/statefulsets", "batch/v1/cronjobs", "batch/v1/jobs",
                 "policy/v1/poddisruptionbudgets", "networking.k8s.io/v1/networkpolicies",
                 "networking.k8s.io/v1/ingresses", "autoscaling/v2/horizontalpodautoscalers",
                 "keda.sh/v1alpha1/scaledobjects", "keda.sh/v1alpha1/triggerauthentications",
                 "monitoring.coreos.com/v1/servicemonitors", "monitoring.coreos.com/v1/prometheusrules",
                 "gateway.networking.k8s.io/v1/httproutes"):
        found += [o["metadata"]["name"] for o in cluster.objects(namespace, path)]
    return {n for n in found if n not in ("kube-root-ca.crt", "default")}


def unexpected(cluster, namespace):
    """Volumes and the Secret of bundled servers are kept, and the volume of backups."""
    return {n for n in left(cluster, namespace)
            if n not in ("r-docfleet-bundled", "r-docfleet-backup") and not n.startswith("data-r-docfleet-")}


def life(cluster, name, values):
    """Install, upgrade, roll back, uninstall; gives the row of the report."""
    namespace = fresh(cluster, name)
    count = server_side(cluster, namespace, values)
    cluster.helm("install", "r", chart.CHART, "-n", namespace, values=values)
    pods = until(lambda: pods_made(cluster, namespace), lambda: f"{name}: the pods; {refusals(cluster, namespace)}")
    if refusals(cluster, namespace):
        raise Failed(f"{name}: {refusals(cluster, namespace)}")
    before, jobs = images(cluster, namespace), migrate_jobs(cluster, namespace)

    newer = chart.merge(values, {"image": {"tag": "9.9.9"}, "config": {"LOG_LEVEL": "warn"},
                                 "gateway": {"streamPort": 8082}, "textExtractor": {"slots": 3}})
    cluster.helm("upgrade", "r", chart.CHART, "-n", namespace, values=newer)
    after = images(cluster, namespace)
    if not all(i.endswith(":9.9.9") or "@sha256" in i for i in after) or after == before:
        raise Failed(f"{name}: the upgrade changed no image: {after}")
    until(lambda: not migrate_jobs(cluster, namespace) & jobs, f"{name}: the old Job gone after the upgrade", 60)
    until(lambda: pods_made(cluster, namespace), f"{name}: pods after the upgrade")

    # to another shape altogether, and back by rollback
    other = chart.MATRIX["minimal" if name in ("everything", "production") else "everything"]
    cluster.helm("upgrade", "r", chart.CHART, "-n", namespace, values=other)
    cluster.helm("rollback", "r", "1", "-n", namespace)
    if images(cluster, namespace) != before:
        raise Failed(f"{name}: after the rollback {images(cluster, namespace)}, at first {before}")
    until(lambda: migrate_jobs(cluster, namespace) == jobs,
          lambda: f"{name}: the first Job after the rollback; {jobs}, {migrate_jobs(cluster, namespace)}", 60)
    until(lambda: pods_made(cluster, namespace), f"{name}: pods after the rollback")
    # on the way a set that is going may miss a PriorityClass that has gone; nothing else is refused
    if refusals(cluster, namespace, "violates"):
        raise Failed(f"{name}: {refusals(cluster, namespace)}")
    revisions = len(json.loads(cluster.helm("history", "r", "-n", namespace, "-o", "json")))
    cluster.helm("uninstall", "r", "-n", namespace)
    until(lambda: not unexpected(cluster, namespace), lambda: f"{name}: left {unexpected(cluster, namespace)}")
    kept = sorted(left(cluster, namespace))
    print(f"{name}: {count} objects, {pods} pods, {revisions} revisions, kept {kept or 'nothing'}", flush=True)
    return [name, str(count), str(pods), "no refusal, no warning", "done", "done",
            ", ".join(f"`{k}`" for k in kept) or "nothing"]


def released():
    """The commit of the chart that people may have installed: the last tag, or its first commit."""
    tag = git("describe", "--tags", "--abbrev=0", "HEAD^")
    first = git("log", "--diff-filter=A", "--format=%h", "--", "helm/docfleet/Chart.yaml").split("\n")[-1]
    return tag or first


def from_released(cluster, revision, folder):
    """From that chart to this one and back, with the same values: no field of an object that Kubernetes
    keeps for ever may have changed."""
    tree = f"{folder}/released"
    os.makedirs(tree)
    archive = subprocess.run(["git", "-C", ROOT, "archive", revision, "helm/docfleet"], check=True,
                             stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x", "-C", tree], input=archive, check=True)
    for name in ("default", "autoscaled"):
        namespace = fresh(cluster, f"from-{name}")
        cluster.helm("install", "r", f"{tree}/helm/docfleet", "-n", namespace, values=chart.MATRIX[name])
        until(lambda: pods_made(cluster, namespace), f"{name}: the pods of {revision}")
        cluster.helm("upgrade", "r", chart.CHART, "-n", namespace, values=chart.MATRIX[name])
        until(lambda: pods_made(cluster, namespace), f"{name}: the pods after the upgrade from {revision}")
        cluster.helm("rollback", "r", "1", "-n", namespace)
        cluster.helm("uninstall", "r", "-n", namespace)
    print(f"upgraded from {revision} and back", flush=True)


def alone(cluster, name, values):
    count = server_side(cluster, fresh(cluster, name), values)
    print(f"{name}: {count} objects", flush=True)
    return [name, str(count), "–", "no refusal, no warning", "–", "–", "–"]


def kubeconform(built, names, folder):
    """{set: its objects}, all of them valid and none skipped."""
    import kubernetes_validate
    source = os.path.join(os.path.dirname(kubernetes_validate.__file__), "kubernetes-json-schema", "v1.36.0-local-strict")
    schemas, manifests = f"{folder}/schemas", f"{folder}/manifests"
    os.makedirs(schemas)
    os.makedirs(manifests)
    for entry in os.listdir(source):
        with open(f"{source}/{entry}", encoding="utf-8") as f:
            doc = json.loads(f.read().replace('"/api/_definitions.json', '"_definitions.json'))
        doc.pop("$id", None)
        with open(f"{schemas}/{entry}", "w", encoding="utf-8") as f:
            json.dump(doc, f)
    counts = {}
    for name in names:
        objects = chart.render(chart.MATRIX[name])
        counts[name] = len(objects)
        with open(f"{manifests}/{name}.yaml", "w", encoding="utf-8") as f:
            yaml.safe_dump_all(objects, f)
    pattern = "{{.ResourceKind}}{{.KindSuffix}}.json"
    run = subprocess.run([f"{built}/kubeconform", "-strict", "-summary", "-output", "json",
                          "-schema-location", f"{schemas}/{pattern}",
                          "-schema-location", f"{ROOT}/tests/chart/crds/{pattern}", manifests],
                         capture_output=True, text=True)
    found = json.loads(run.stdout)
    if run.returncode or found["summary"]["skipped"] or found["summary"]["valid"] != sum(counts.values()):
        raise Failed(f"kubeconform: {found['resources'][:5]} {run.stderr}")
    return counts


def git(*args):
    return subprocess.run(["git", "-C", ROOT, *args], capture_output=True, text=True).stdout.strip()


def version_of(module):
    with open(f"{ROOT}/tools/k8s/go.mod", encoding="utf-8") as f:
        return next(line.split()[-1] for line in f if line.strip().startswith(module + " "))


def state():
    """The commit, as it is when the copy of the chart is taken."""
    return git("rev-parse", "--short", "HEAD") + (" with changes" if git("status", "--porcelain", "helm") else "")


def report(rows, refused, valid, built, revision, commit):
    etcd = subprocess.run([f"{built}/etcd", "--version"], capture_output=True, text=True).stdout.split("\n")[0].split()[-1]
    crds = ", ".join(m.split("@")[0].removeprefix("github.com/") + " " + m.split("@")[1] for m in crd_schemas.DEFINITIONS)
    text = f"""# The chart on a real API server

Written by `make k8s-check`; nothing here is estimated. The last run: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}, commit
{commit}.

kube-apiserver and kube-controller-manager {version_of('k8s.io/kubernetes')}, etcd {etcd}, helm {version_of('helm.sh/helm/v3')}.
Custom resources of {crds}.

Each set of values is installed into a namespace that enforces Pod Security *restricted* and warns and
audits by it: every object is first sent by itself with strict field validation, then `helm install`,
`helm upgrade` (other image, settings, ports, slots), `helm upgrade` to quite another set of values,
`helm rollback` to the first revision, `helm uninstall`. A warning of the server or of helm is a failure. The
controllers make the pods, so what admission refuses comes out. Upgrades replace the migration Job, a
rollback brings the first one back. Sets with – are only sent object by object.

| values | objects | pods made | restricted | upgrade | rollback | kept after uninstall |
|---|---|---|---|---|---|---|
""" + "\n".join("| " + " | ".join(row) + " |" for row in rows) + f"""

kubeconform {version_of('github.com/yannh/kubeconform')}, strict, nothing skipped: """ + \
        ", ".join(f"{name} {n} objects" for name, n in valid.items()) + f""" valid.

Upgraded from the chart of {revision} to this one and rolled back, sets default and autoscaled: done.

That the server does refuse: """ + "; ".join(f"{what} (“{said[:110].strip()}”)" for what, said in refused.items()) + """.

What this does not show: there is no kubelet, so no container starts, no probe runs, `helm --wait` and
`helm test` have nothing to wait for. The images run in a test of their own.
"""
    with open(REPORT, "w", encoding="utf-8") as f:
        f.write(text)


def stop_cleanly(*_):
    raise SystemExit("stopped by a signal")


def main():
    signal.signal(signal.SIGTERM, stop_cleanly)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--values", action="append", choices=NAMES + ALSO, help="only these sets")
    parser.add_argument("--no-report", action="store_true")
    args = parser.parse_args()
    built = subprocess.run([f"{ROOT}/tools/k8s/build.sh"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    folder = tempfile.mkdtemp(prefix="docfleet-k8s-")
    commit = state()
    chart.CHART = shutil.copytree(chart.CHART, f"{folder}/docfleet")  # work may go on meanwhile
    cluster = Cluster(built, folder)
    names = args.values or NAMES + ALSO
    failed = []
    try:
        cluster.start()
        for path in crd_schemas.files():
            with open(path, encoding="utf-8") as f:
                crd = yaml.load(f, crd_schemas.Loader)
            cluster.post(crd)
            until(lambda: established(cluster, crd["metadata"]["name"]), f"{path} established")
        refused = controls(cluster, fresh(cluster, "controls"))
        valid = kubeconform(built, names, folder)
        rows, revision = [], released()
        if not args.values:
            from_released(cluster, revision, folder)
        for name in names:
            try:
                rows.append((life if name in NAMES else alone)(cluster, name, chart.MATRIX[name]))
            except Failed as e:
                failed.append(name)
                print(f"{name}: FAILED: {e}", flush=True)
        if not failed and not args.no_report:
            report(rows, refused, valid, built, revision, commit)
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(names) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
