# SPDX-License-Identifier: Apache-2.0
"""The chart: it renders for every set of values, its objects are valid, and they say what they must."""
import functools
import json
import os
import re
import subprocess
import sys

import pytest
import yaml

from lib import chart

PROGRAMS = {**{name: name for name in chart.SERVICES.values()}, "scan-worker": "scan-worker",
            "importer": "importer", "migrate": "docfleetctl",
            "backup": "docfleetctl", "ctl": "docfleetctl", "test": "docfleetctl"}
FOREIGN = ("postgres", "kafka", "s3")
every = pytest.mark.parametrize("values", chart.MATRIX.values(), ids=chart.MATRIX.keys())


@functools.lru_cache(maxsize=None)
def rendered(name):
    return chart.render(chart.MATRIX[name])


def objects(values):
    """Rendered once for each set of the matrix."""
    for name, known in chart.MATRIX.items():
        if known is values:
            return rendered(name)
    return chart.render(values)


def one(values, kind, name):
    return next(o for o in objects(values) if o["kind"] == kind and o["metadata"]["name"] == name)


def refused(values):
    with pytest.raises(Exception) as caught:
        chart.render(chart.merge(chart.MINIMAL, values))
    return str(caught.value)


def ours(values):
    for kind, name, meta, spec in chart.pod_specs(objects(values)):
        component = meta["labels"]["app.kubernetes.io/component"]
        if component not in FOREIGN:
            yield component, kind, name, meta, spec


# --- it is a chart --------------------------------------------------------------------------------
@every
def test_lint_strict(values):
    import helm_python
    found = helm_python.lint(chart.CHART, values, strict=True)
    assert found["total_charts_linted"] == 1 and not found["errors"], found
    assert all(m["severity"] <= 1 for m in found["messages"]), found  # 1 tells, 2 warns


def test_generated_files_are_current():
    for script, path in (("schema.py", "values.schema.json"), ("docs.py", "README.md")):
        made = subprocess.run([sys.executable, f"{chart.ROOT}/tools/chart/{script}"], check=True,
                              capture_output=True, text=True).stdout
        with open(f"{chart.CHART}/{path}", encoding="utf-8") as f:
            assert f.read() == made, f"helm/docfleet/{path} is old: make docs"


def test_schema_and_values_name_the_same():
    """Every value is in the schema and is documented; the schema has nothing of its own but what all
    services may take."""
    with open(f"{chart.CHART}/values.yaml", encoding="utf-8") as f:
        values = yaml.safe_load(f)
    with open(f"{chart.CHART}/values.schema.json", encoding="utf-8") as f:
        schema = json.load(f)
    with open(f"{chart.CHART}/README.md", encoding="utf-8") as f:
        documented = set(re.findall(r"^\| `([^`]+)`", f.read(), re.M))
    every_service = {"secretConfig", "podLabels", "podAnnotations", "nodeSelector", "tolerations", "affinity",
                     "priorityClassName", "securityContext", "podSecurityContext", "extraEnv",
                     "extraVolumes", "extraVolumeMounts"}

    def walk(value, part, path):
        known = part.get("properties")
        if known is None or not isinstance(value, dict):
            assert any(path == d or path.startswith(d + ".") for d in documented), f"{path} is not documented"
            return
        assert set(value) <= set(known), f"not in the schema: {path} {set(value) - set(known)}"
        more = set(known) - set(value) - every_service - {"global"}
        assert not more or any(path == d or path.startswith(d + ".") for d in documented), \
            f"not in values.yaml: {path} {more}"
        for key, below in value.items():
            walk(below, known[key], f"{path}.{key}" if path else key)
    walk(values, schema, "")


@pytest.mark.parametrize("values, words", [
    ({"replicaCount": 3}, "replicaCount"),
    ({"gateway": {"replica": 3}}, "replica"),
    ({"gateway": {"replicas": -1}}, "minimum"),
    ({"textExtractor": {"slots": "two"}}, "slots"),
    ({"config": {"log-level": "info"}}, "log-level"),
    ({"config": {"DOCFLEET_LOG_LEVEL": "info"}}, "DOCFLEET_LOG_LEVEL"),
    ({"secretConfig": {"AI_KEY_FILE": {"existingSecret": "x", "key": "y"}}}, "AI_KEY_FILE"),
    ({"secretConfig": {"AI_KEY": {"existingSecret": "x"}}}, "key"),
    ({"kafka": {"brokers": "kafka"}}, "brokers"),
    ({"kafka": {"securityProtocol": "ssl"}}, "securityProtocol"),
    ({"s3": {"endpoint": "s3.example"}}, "endpoint"),
    ({"image": {"digests": {"dispatcher": "latest"}}}, "digests"),
    ({"gateway": {"streamPort": 8080}}, "streamPort"),
    ({"migrations": {"partitions": 0}}, "partitions"),
    ({"terminationGracePeriodSeconds": 5}, "terminationGracePeriodSeconds"),
    ({"importer": {"schedule": "hourly"}}, "schedule"),
    ({"textExtractor": {"autoscaling": {"minReplicas": 0}}}, "minReplicas"),
    ({"textExtractor": {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 2}}}, "maxReplicas is below"),
    ({"kafka": {"securityProtocol": "SASL_SSL"}}, "kafka.username and kafka.existingSecret are required"),
    ({"database": {"existingSecret": ""}}, "database.existingSecret is required"),
    ({"kafka": {"brokers": ""}}, "kafka.brokers is required"),
    ({"s3": {"existingSecret": ""}}, "s3.existingSecret is required"),
    ({"s3": {"endpoint": ""}}, "s3.endpoint is required"),
    ({"scanWorker": {"enabled": True}}, "scanWorker.clamd is required"),
    ({"scanWorker": {"clamd": "clamd"}}, "clamd"),
    ({"ingress": {"enabled": True}}, "ingress.hosts is required"),
    ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs is required"),
    ({"ocrFallback": {"textract": {"endpoint": "https://t.example"}}}, "textract.existingSecret is required"),
])
def test_what_is_refused(values, words):
    assert words in refused(values)


def test_global_is_allowed():
    assert objects(chart.merge(chart.MINIMAL, {"global": {"anything": {"of": "a parent chart"}}}))


# --- its objects are valid ------------------------------------------------------------------------
@pytest.fixture(scope="module")
def kubernetes_schemas(tmp_path_factory):
    """kubernetes-validate's schemas as kubeconform reads them."""
    import kubernetes_validate
    source = os.path.join(os.path.dirname(kubernetes_validate.__file__), "kubernetes-json-schema",
                          "v1.36.0-local-strict")
    into = tmp_path_factory.mktemp("k8s")
    wanted = {"_definitions.json"}
    for o in (o for values in chart.MATRIX.values() for o in objects(values)):
        group, _, version = o["apiVersion"].rpartition("/")
        wanted.add("-".join(filter(None, [o["kind"].lower(), group.split(".")[0], version])) + ".json")
    for entry in wanted & set(os.listdir(source)):
        with open(os.path.join(source, entry), encoding="utf-8") as f:
            doc = json.loads(f.read().replace('"/api/_definitions.json', '"_definitions.json'))
        doc.pop("$id", None)
        (into / entry).write_text(json.dumps(doc))
    return into


def test_kubeconform_strict(kubernetes_schemas, tmp_path):
    """Every object of every set against the schemas of Kubernetes, KEDA, the Prometheus operator and
    the Gateway API; nothing may be skipped."""
    built = subprocess.run([f"{chart.ROOT}/tools/k8s/build.sh", "kubeconform"], check=True,
                           capture_output=True, text=True).stdout.strip()
    for name in chart.MATRIX:
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump_all(rendered(name)))
    bad = tmp_path / "bad.yaml"
    args = [f"{built}/kubeconform", "-strict", "-summary", "-output", "json",
            "-schema-location", f"{kubernetes_schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
            "-schema-location", f"{chart.ROOT}/tests/chart/crds/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"]
    run = subprocess.run([*args, str(tmp_path)], capture_output=True, text=True)
    found = json.loads(run.stdout)
    assert run.returncode == 0, [r for r in found["resources"] if r["status"] != "statusValid"][:10] or run.stderr
    assert found["summary"]["skipped"] == 0 and found["summary"]["valid"] == sum(map(len, map(rendered, chart.MATRIX)))
    # the check can fail
    broken = [o for o in rendered("everything") if o["kind"] in ("ScaledObject", "ServiceMonitor", "Deployment", "HTTPRoute")]
    broken = {o["kind"]: json.loads(json.dumps(o)) for o in broken}
    for o in broken.values():
        o["spec"]["misspelt"] = 1
    bad.write_text(yaml.safe_dump_all(broken.values()))
    run = subprocess.run([*args, str(bad)], capture_output=True, text=True)
    assert json.loads(run.stdout)["summary"]["invalid"] == 4


# --- names and labels -----------------------------------------------------------------------------
@pytest.mark.parametrize("release", ["r", "docfleet", "a-release-whose-name-has-the-most-letters-helm-takes"])
def test_names_fit(release):
    """63 characters with everything that Kubernetes and KEDA put around a name."""
    around = {"CronJob": 11, "StatefulSet": 11, "ScaledObject": 9}
    for o in chart.render(chart.merge(chart.EVERYTHING, {"bundled": {"enabled": True}}), name=release):
        name = o["metadata"]["name"]
        assert len(name) + around.get(o["kind"], 0) <= 63, (o["kind"], name)
        assert re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", name), name
        for key, value in o["metadata"].get("labels", {}).items():
            assert len(value) <= 63, (key, value)


@pytest.mark.parametrize("name", ["default", "everything", "production"])
def test_names_are_unique_and_releases_do_not_clash(name):
    values = chart.MATRIX[name]

    def names(objs):
        return [(o["kind"], o["metadata"]["name"]) for o in objs]
    first, second = chart.render(values, name="one"), chart.render(values, name="two")
    assert len(first) == len(set(names(first)))
    assert not set(names(first)) & set(names(second))
    # nobody selects the pods of the other
    pods = [meta["labels"] for _, _, meta, _ in chart.pod_specs(second)]
    for o in first:
        selector = o.get("spec", {}).get("selector") or o.get("spec", {}).get("podSelector")
        wanted = selector.get("matchLabels", selector) if selector else None
        if wanted and o["kind"] != "ServiceMonitor":
            assert not any(wanted.items() <= labels.items() for labels in pods), (o["kind"], o["metadata"]["name"])


SELECTORS = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}


@every
def test_selectors_are_stable_and_find_their_pods(values):
    """What selects never changes from version to version; each Deployment, Service, budget finds pods."""
    pods = [meta["labels"] for _, _, meta, _ in chart.pod_specs(objects(values))]
    for o in objects(values):
        spec = o.get("spec", {})
        if o["kind"] in ("Deployment", "StatefulSet", "PodDisruptionBudget"):
            labels = spec["selector"]["matchLabels"]
            assert set(labels) == SELECTORS
        elif o["kind"] == "Service":
            labels = spec["selector"]
        elif o["kind"] == "NetworkPolicy":
            labels = spec["podSelector"]["matchLabels"]
        else:
            continue
        assert any(labels.items() <= p.items() for p in pods), (o["kind"], o["metadata"]["name"])


def test_metrics_service_leaves_jobs_out():
    labels = one(chart.MATRIX["default"], "Service", "r-docfleet-metrics")["spec"]["selector"]
    found = {meta["labels"]["app.kubernetes.io/component"] for _, _, meta, _ in
             chart.pod_specs(rendered("default")) if labels.items() <= meta["labels"].items()}
    assert found == set(chart.SERVICES.values())


# --- pods -----------------------------------------------------------------------------------------
@every
def test_pods_pass_restricted_and_get_no_rights(values):
    seen = set()
    for kind, name, meta, spec in chart.pod_specs(objects(values)):
        seen.add(name)
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, name
        pod = spec["securityContext"]
        assert pod["runAsNonRoot"] is True and pod["runAsUser"] > 0 and pod["fsGroup"] > 0
        assert pod["seccompProfile"]["type"] == "RuntimeDefault"
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        for c in chart.containers(spec):
            own = c["securityContext"]
            assert own["allowPrivilegeEscalation"] is False and own["capabilities"] == {"drop": ["ALL"]}
            assert not own.get("privileged")
            if meta["labels"]["app.kubernetes.io/component"] not in FOREIGN:
                assert own["readOnlyRootFilesystem"] is True
            assert c["resources"]["requests"] and c["resources"]["limits"]["memory"], name
            assert "limits" not in c["resources"] or "cpu" not in c["resources"]["limits"]
        for volume in spec.get("volumes", []):
            assert set(volume) - {"name"} <= {"emptyDir", "projected", "persistentVolumeClaim", "configMap"}, volume
    assert len(seen) >= len(chart.SERVICES)


@every
def test_secrets_only_by_reference(values):
    """No literal value of a secret setting, no secret in an environment; each file comes from a Secret
    that the operator named (or the bundled one)."""
    for component, _, name, _, spec in ours(values):
        sources = {item["path"]: s["secret"]["name"] for v in spec["volumes"] if v["name"] == "secrets"
                   for s in v["projected"]["sources"] for item in s["secret"]["items"]}
        for c in chart.containers(spec):
            env = {e["name"]: e for e in c["env"]}
            assert not re.search(r"PASSWORD|SECRET_KEY$|ACCESS_KEY$|DATABASE_URL$|_URL$|API_KEY$|AI_KEY$",
                                 " ".join(n for n in env if not n.endswith("_FILE")
                                          and n not in ("DOCFLEET_AI_URL", "DOCFLEET_URL"))), (name, sorted(env))
            files = {n[9:-5]: e["value"] for n, e in env.items() if n.endswith("_FILE")}
            assert files == {k: f"/etc/docfleet/secrets/{k}" for k in sources}, name
            mounted = {m["name"]: m for m in c["volumeMounts"]}
            assert mounted["secrets"]["readOnly"] is True
    for o in objects(values):
        if o["kind"] == "Secret":
            assert values.get("bundled", {}).get("enabled")
            assert o["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def settings(objs, component):
    """What a program is told: {name: value}, from its environment over the ConfigMap."""
    config = next(o for o in objs if o["kind"] == "ConfigMap" and o["metadata"]["name"].endswith("-config"))
    for _, _, meta, spec in chart.pod_specs(objs):
        if meta["labels"]["app.kubernetes.io/component"] == component:
            own = {e["name"]: e.get("value") for e in spec["containers"][0]["env"]}
            return {**config["data"], **own}
    raise AssertionError(f"no pod of {component}")


@functools.lru_cache(maxsize=None)
def known_settings():
    """{program: names of docs/configuration.md}; a test compares that page with the programs."""
    with open(f"{chart.ROOT}/docs/configuration.md", encoding="utf-8") as f:
        sections = re.split(r"^## ", f.read(), flags=re.M)[1:]
    known = {}
    for section in sections:
        rows = re.findall(r"^\| `(DOCFLEET_\w+)`(, `…_FILE`)?", section, re.M)
        known[section.split("\n")[0].strip()] = {n for n, _ in rows} | {n + "_FILE" for n, f in rows if f}
    return known


@every
def test_every_setting_is_known_to_its_program(values):
    everything = set().union(*known_settings().values())
    for component, _, name, _, spec in ours(values):
        known = known_settings().get(PROGRAMS[component])
        assert known, f"docs/configuration.md has no {PROGRAMS[component]}"
        own = {e["name"] for e in spec["containers"][0]["env"] if e["name"].startswith("DOCFLEET_")}
        assert own <= known, f"{name}: {PROGRAMS[component]} does not know {sorted(own - known)}"
    config = next(o for o in objects(values) if o["kind"] == "ConfigMap" and o["metadata"]["name"].endswith("-config"))
    assert set(config["data"]) <= everything, sorted(set(config["data"]) - everything)


def database_keys(values):
    """{component: {setting: key of the Secret}} for addresses of Postgres."""
    found = {}
    for component, _, _, _, spec in ours(values):
        found[component] = {item["path"]: item["key"] for v in spec["volumes"] if v["name"] == "secrets"
                            for s in v["projected"]["sources"] for item in s["secret"]["items"]
                            if item["path"].endswith("DATABASE_URL")}
    return found


@pytest.mark.parametrize("values,services,gateway,importer,owner", [
    (chart.TLS, "url", "gateway", "importer", "owner"),
    ({"bundled": {"enabled": True}}, "url", "gateway-url", "importer-url", "owner-url")], ids=["external", "bundled"])
def test_each_kind_of_service_has_its_own_login(values, services, gateway, importer, owner):
    keys = database_keys(values)
    assert keys["ingest-gateway"] == {"DATABASE_URL": gateway}
    assert keys["importer"] == {"DATABASE_URL": importer}
    assert keys["dispatcher"] == keys["cleaner"] == {"DATABASE_URL": services}
    assert keys["migrate"] == {"DATABASE_URL": owner, "FLEET_DATABASE_URL": services,
                               "GATEWAY_DATABASE_URL": gateway, "IMPORTER_DATABASE_URL": importer}
    if "bundled" in values:
        data = one(values, "Secret", "r-docfleet-bundled")["stringData"]
        users = {k: data[k].split("//")[1].split(":")[0] for k in (services, gateway, importer, owner)}
        assert users == {services: "docfleet_fleet", gateway: "docfleet_gateway",
                         importer: "docfleet_importer", owner: "docfleet"}
        assert len({data[k].split("@")[0].split(":")[-1] for k in users}) == 4


def test_logins_are_made_by_an_owner_apart():
    assert "database.ownerUrlKey" in refused({"database": {"makeLogins": True}})
    assert database_keys(chart.MINIMAL)["migrate"] == {"DATABASE_URL": "url"}


def test_the_ready_made_settings():
    objs = rendered("everything")
    gateway = settings(objs, "ingest-gateway")
    assert gateway["DOCFLEET_LISTEN"] == "0.0.0.0:8080" and gateway["DOCFLEET_STREAM_PORT"] == "8081"
    assert gateway["DOCFLEET_PROBE_ADDRESS"] == "0.0.0.0" and gateway["DOCFLEET_PROBE_PORT"] == "9100"
    assert gateway["DOCFLEET_MAX_FILE_SIZE"] == "1GiB"
    assert gateway["DOCFLEET_PUBLIC_URL"] == "https://docs.example"
    assert gateway["DOCFLEET_OIDC_CLIENT_SECRET_FILE"] == "/etc/docfleet/secrets/OIDC_CLIENT_SECRET"
    assert "DOCFLEET_PUBLIC_URL" not in settings(rendered("external"), "ingest-gateway")
    assert settings(rendered("production"), "ingest-gateway")["DOCFLEET_PUBLIC_URL"] == "https://docfleet.example"
    ai = settings(objs, "ai-extractor")
    assert ai["DOCFLEET_AI_UNIT_TOKENS"] == "2000000"  # not 2e+06
    assert ai["DOCFLEET_TRACE_SAMPLE"] == "0.5"
    assert ai["DOCFLEET_AI_KEY_FILE"] == "/etc/docfleet/secrets/AI_KEY"
    for worker in ("text-extractor", "dispatcher"):
        assert "DOCFLEET_AI_KEY_FILE" not in settings(objs, worker)


def secret_of(objs, component, path):
    for _, _, meta, spec in chart.pod_specs(objs):
        if meta["labels"]["app.kubernetes.io/component"] == component:
            for s in next(v for v in spec["volumes"] if v["name"] == "secrets")["projected"]["sources"]:
                for item in s["secret"]["items"]:
                    if item["path"] == path:
                        return s["secret"]["name"], item["key"]
    return None


def test_each_gets_its_own_address_of_the_database():
    objs = rendered("everything")
    assert secret_of(objs, "text-extractor", "DATABASE_URL") == ("pg", "url")
    assert secret_of(objs, "text-extractor", "DATABASE_DIRECT_URL") == ("pg", "direct")
    assert secret_of(objs, "ingest-gateway", "DATABASE_URL") == ("pg", "gateway")
    assert secret_of(objs, "migrate", "DATABASE_URL") == ("pg", "owner")
    assert secret_of(objs, "backup", "DATABASE_URL") == ("pg", "owner")


@pytest.mark.parametrize("cpu, slots", [("1", "1"), ("1500m", "2"), ("250m", "1"), (2, "2"), ("3.2", "4"), (0.5, "1")])
def test_slots_follow_the_requested_processors(cpu, slots):
    values = chart.merge(chart.MINIMAL, {"ocrFallback": {"resources": {"requests": {"cpu": cpu}}}})
    assert settings(chart.render(values), "ocr-fallback")["DOCFLEET_SLOTS"] == slots
    values = chart.merge(values, {"ocrFallback": {"slots": 7}})
    assert settings(chart.render(values), "ocr-fallback")["DOCFLEET_SLOTS"] == "7"


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text).group(1))


@every
def test_draining_fits_into_the_grace(values):
    """SIGTERM comes after preStop, and the process must have ended before SIGKILL."""
    for component, kind, name, _, spec in ours(values):
        if kind != "Deployment":
            continue
        (container,) = spec["containers"]
        pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        drain = seconds(settings(objects(values), component)["DOCFLEET_DRAIN_GRACE"])
        assert pause + drain + 5 <= spec["terminationGracePeriodSeconds"], name


@every
def test_probes_and_ports(values):
    for component, kind, name, _, spec in ours(values):
        if kind != "Deployment":
            continue
        (c,) = spec["containers"]
        told = settings(objects(values), component)
        ports = {p["name"]: p["containerPort"] for p in c["ports"]}
        assert str(ports["probes"]) == told["DOCFLEET_PROBE_PORT"]
        assert c["startupProbe"]["httpGet"] == c["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "probes"}
        assert c["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "probes"}
        if component == "ingest-gateway":
            assert told["DOCFLEET_LISTEN"].endswith(f":{ports['http']}")
            assert told.get("DOCFLEET_STREAM_PORT", "0") == str(ports.get("stream", 0))
    service = one(values, "Service", "r-docfleet")
    tls = bool(values.get("gateway", {}).get("tls"))
    assert {p["appProtocol"] for p in service["spec"]["ports"]} == {"https" if tls else "http"}
    if values.get("ctl", {}).get("enabled", True):
        assert settings(objects(values), "ctl")["DOCFLEET_URL"] == ("https" if tls else "http") + "://r-docfleet:80"
    gateway = one(values, "Deployment", "r-docfleet-ingest-gateway")
    named = {p["name"] for p in gateway["spec"]["template"]["spec"]["containers"][0]["ports"]}
    assert {p["targetPort"] for p in service["spec"]["ports"]} <= named


def test_a_change_of_settings_rolls_the_pods():
    def sums(values):
        return {meta["annotations"]["checksum/config"] for _, kind, _, meta, _ in ours(values) if kind != "Pod"}
    before = sums(chart.MATRIX["external"])
    after = sums(chart.merge(chart.MATRIX["external"], {"config": {"LOG_LEVEL": "warn"}}))
    assert len(before) == len(after) == 1 and before != after


# --- jobs -----------------------------------------------------------------------------------------
def job(values):
    return next(o for o in chart.render(values) if o["kind"] == "Job")


def test_migrations_job():
    """Another spec is another Job (a Job cannot be changed); the same spec is the same. It is no hook,
    so it exists with the release, in every way of installing."""
    values = chart.MATRIX["external"]
    first = job(values)
    assert "helm.sh/hook" not in first["metadata"].get("annotations", {})
    assert job(values)["metadata"]["name"] == first["metadata"]["name"]
    assert chart.render(values, revision=7, is_upgrade=True, is_install=False)
    names = {job(chart.merge(values, more))["metadata"]["name"] for more in (
        {}, {"image": {"tag": "2"}}, {"migrations": {"partitions": 6}}, {"migrations": {"rerun": "1"}},
        {"migrations": {"backoffLimit": 3}}, {"config": {"LOG_LEVEL": "warn"}})}
    assert len(names) == 6
    (container,) = first["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["migrate", "--topics", "--partitions", "24"]
    assert "initContainers" not in first["spec"]["template"]["spec"]
    assert job(chart.MATRIX["default"])["spec"]["template"]["spec"]["initContainers"][0]["args"] == ["bucket", "create"]


def test_pods_wait_for_the_schema():
    for component, kind, _, _, spec in ours(chart.MATRIX["external"]):
        waits = [c["args"] for c in spec.get("initContainers", [])] == [["migrate", "--wait"]]
        assert waits == (kind == "Deployment"), component


def test_scheduled_jobs():
    objs = {o["metadata"]["name"]: o for o in rendered("everything") if o["kind"] == "CronJob"}
    assert set(objs) == {"r-docfleet-importer", "r-docfleet-backup", "r-docfleet-ctl"}
    for name, args in (("importer", None), ("backup", ["backup", "/backup", "--objects"])):
        spec = objs[f"r-docfleet-{name}"]["spec"]
        assert spec["concurrencyPolicy"] == "Forbid" and spec["suspend"] is False
        assert spec["jobTemplate"]["spec"]["template"]["spec"]["containers"][0].get("args") == args
        assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] > 0
    assert objs["r-docfleet-ctl"]["spec"]["suspend"] is True
    # a restore finds what the backup wrote, with the same programs
    own = chart.render(chart.merge(chart.EVERYTHING, {"backup": {"image": "x/ctl-pg:16", "objects": False, "existingClaim": "mine"}}))
    specs = {meta["labels"]["app.kubernetes.io/component"]: spec for _, _, meta, spec in chart.pod_specs(own)}
    for component in ("backup", "ctl"):
        assert specs[component]["containers"][0]["image"] == "x/ctl-pg:16"
        assert {"name": "backup", "persistentVolumeClaim": {"claimName": "mine"}} in specs[component]["volumes"]
    assert specs["backup"]["containers"][0]["args"] == ["backup", "/backup"]
    claim = one(chart.MATRIX["everything"], "PersistentVolumeClaim", "r-docfleet-backup")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_helm_test():
    """doctor always; with a key and a dataset a file goes through, by what the image and the API have."""
    def pod(name):
        return next(o for o in rendered(name) if o["kind"] == "Pod")
    assert [c["args"] for c in chart.containers(pod("default")["spec"])] == [["doctor", "--lenient"]]
    found = pod("everything")
    assert found["metadata"]["annotations"]["helm.sh/hook"] == "test"
    doctor, upload, status = chart.containers(found["spec"])
    assert doctor["args"] == ["doctor", "--lenient"] and upload["args"][0] == "upload" and status["args"][0] == "status"
    folder = os.path.dirname(upload["args"][-1])
    assert folder in {m["mountPath"] for m in upload["volumeMounts"]}
    canary = one(chart.MATRIX["everything"], "ConfigMap", "r-docfleet-canary")
    assert os.path.basename(upload["args"][-1]) in canary["data"]
    assert secret_of(rendered("everything"), "test", "API_KEY") == ("canary", "apiKey")


# --- scaling --------------------------------------------------------------------------------------
STAGES = {"text": 1, "ocr": 2, "ai": 3, "preview": 4, "thumbnail": 5, "clean": 6, "scan": 7}


def test_stage_numbers_are_those_of_the_programs():
    with open(f"{chart.ROOT}/libcommon/states.h", encoding="utf-8") as f:
        text = f.read()
    for name, number in STAGES.items():
        assert re.search(rf"STAGE_{name.upper()}\s*=\s*{number}\b", text), name


@pytest.mark.parametrize("name", ["autoscaled", "everything", "bundled-scaled"])
def test_keda_reads_backlog_and_lag(name):
    objs = rendered(name)
    scaled = {o["metadata"]["name"]: o["spec"] for o in objs if o["kind"] == "ScaledObject"}
    auth = {o["metadata"]["name"] for o in objs if o["kind"] == "TriggerAuthentication"}
    workers = [*chart.WORKERS.values(), *(["scan-worker"] if name == "everything" else [])]
    assert set(scaled) == {f"r-docfleet-{w}" for w in workers}
    for worker, (stage, number) in zip(workers, STAGES.items()):
        spec = scaled[f"r-docfleet-{worker}"]
        slots = settings(objs, worker)["DOCFLEET_SLOTS"]
        backlog, lag = spec["triggers"]
        assert backlog["type"] == "postgresql" and backlog["metadata"]["query"].endswith(f"stage = {number}")
        assert backlog["metadata"]["targetQueryValue"] == lag["metadata"]["lagThreshold"] == slots
        assert lag["type"] == "kafka" and lag["metadata"]["topic"] == f"docfleet.{stage}.v1"
        assert lag["metadata"]["consumerGroup"] == f"docfleet.{stage}"
        assert lag["metadata"]["bootstrapServers"] == settings(objs, worker)["DOCFLEET_KAFKA_BROKERS"]
        assert spec["minReplicaCount"] >= 1
        assert spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] >= 300
        for trigger in spec["triggers"]:
            assert trigger.get("authenticationRef", {"name": None})["name"] in auth | {None}
        deployment = next(o for o in objs if o["kind"] == "Deployment" and o["metadata"]["name"] == f"r-docfleet-{worker}")
        assert "replicas" not in deployment["spec"]  # an upgrade must not undo what was scaled
    if name == "everything":
        kafka = next(o for o in objs if o["metadata"]["name"] == "r-docfleet-keda-kafka")["spec"]
        assert {p["parameter"] for p in kafka["secretTargetRef"] + kafka["configMapTargetRef"]} == \
            {"username", "password", "ca", "cert", "key"}
        assert lag["metadata"]["sasl"] == "scram_sha512" and lag["metadata"]["tls"] == "enable"


def test_hpa_where_keda_is_not():
    kinds = {(o["kind"], o["spec"]["scaleTargetRef"]["name"]) for o in rendered("hpa") if "scaleTargetRef" in o.get("spec", {})}
    assert kinds == {("HorizontalPodAutoscaler", f"r-docfleet-{s}") for s in chart.SERVICES.values() if s != "dispatcher"}
    assert not [o for o in rendered("hpa") if o["apiVersion"].startswith("keda")]


def test_backlog_is_the_table_of_the_schema():
    with open(f"{chart.ROOT}/docs/schema.md", encoding="utf-8") as f:
        table = f.read().split("## backlog")[1].split("\n## ")[0]
    assert "`stage`" in table and "`n`" in table


# --- network --------------------------------------------------------------------------------------
def port_names(values):
    inside = values.get("bundled", {}).get("enabled")
    return {5432: "postgres", 9092: "kafka", 9093: "kafka", 443: "https", 7070: "s3", 53: "dns", 4318: "traces",
            8080: "gateway", 9100: "probes"} if inside or values else {}


def flows(values, component):
    names = port_names(values)
    policy = one(values, "NetworkPolicy", f"r-docfleet-{component}")["spec"]
    out = {names[p["port"]] for rule in policy.get("egress", []) for p in rule["ports"]}
    into = {p["port"] for rule in policy.get("ingress", []) for p in rule["ports"]}
    return out, into


def test_network_policies_are_exact():
    """Who may talk to whom: this table is docs/deployment.md's."""
    values = chart.MATRIX["default"]
    servers = {"dns", "postgres", "kafka", "s3"}
    expected = {
        **{s: (servers, {9100}) for s in chart.SERVICES.values()},
        "ingest-gateway": (servers, {9100, 8080, 8081}),
        "migrate": (servers, set()), "ctl": (servers | {"gateway"}, set()),
        "test": (servers | {"gateway", "probes"}, set()),
        "importer": (servers - {"kafka"} | {"https"}, set()),
        "postgres": (set(), {5432}), "s3": (set(), {7070}), "kafka": ({"dns", "kafka"}, {9092}),
    }
    policies = [o for o in rendered("default") if o["kind"] == "NetworkPolicy"]
    assert {o["metadata"]["name"] for o in policies} == {f"r-docfleet-{n}" for n in [*expected, "default-deny"]}
    for component, wanted in expected.items():
        assert flows(values, component) == wanted, component
    deny = one(values, "NetworkPolicy", "r-docfleet-default-deny")["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"] and not deny.get("ingress") and not deny.get("egress")
    assert set(deny["podSelector"]["matchLabels"]) == SELECTORS - {"app.kubernetes.io/component"}
    for policy in policies:
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        for rule in policy["spec"].get("egress", []):
            assert rule["ports"], policy["metadata"]["name"]
            if rule["ports"][0]["port"] not in (53, 443):
                assert rule["to"], "bundled servers are named by their labels"


def test_only_those_who_use_providers_reach_them():
    values = chart.MATRIX["external"]
    values = chart.merge(values, {"s3": {"port": 9000}, "networkPolicy": {"providersPorts": [8443], "importsPorts": [8444]}})

    def ports(v):
        return {o["metadata"]["name"][11:]: {p["port"] for rule in o["spec"].get("egress", []) for p in rule["ports"]}
                for o in chart.render(v) if o["kind"] == "NetworkPolicy"}
    usual = ports(values)
    for component in chart.SERVICES.values():
        assert usual[component] == {53, 5432, 9092, 9000}
    assert 8444 in usual["importer"]
    paid = chart.merge(values, {"aiExtractor": {"config": {"AI_URL": "https://ai.example:8443"}},
                                "ocrFallback": {"textract": {"endpoint": "https://t.example", "existingSecret": "aws"}},
                                "gateway": {"config": {"OIDC_ISSUER": "https://login.example:8445"}},
                                "networkPolicy": {"identityPorts": [8445], "tracesPorts": [4318]}})
    used = ports(paid)
    for component in chart.SERVICES.values():
        assert (8443 in used[component]) == (component in ("ai-extractor", "ocr-fallback")), component
        assert (8445 in used[component]) == (component == "ingest-gateway")
        assert 4318 in used[component]


def test_the_scan_stands_before_all_else():
    """Gateway and importer are told of the scanner, or files would go round it; only scan-worker asks it."""
    objs = rendered("everything")
    for component in ("scan-worker", "ingest-gateway", "importer"):
        assert settings(objs, component)["DOCFLEET_CLAMD"] == "clamd.example:3310"
    assert "DOCFLEET_CLAMD" not in settings(rendered("external"), "ingest-gateway")
    asks = {o["metadata"]["name"] for o in objs if o["kind"] == "NetworkPolicy" for rule in o["spec"].get("egress", [])
            for p in rule["ports"] if p["port"] == 3310}
    assert asks == {"r-docfleet-scan-worker"}


def test_peers_are_taken_over():
    for o in rendered("everything"):
        if o["kind"] == "NetworkPolicy" and o["metadata"]["name"] == "r-docfleet-text-extractor":
            assert all(rule["to"] == chart.PEERS for rule in o["spec"]["egress"])
            (metrics,) = o["spec"]["ingress"]
            assert metrics["from"][0] == chart.PEERS[0]
            # `helm test` looks at the probes, too
            assert metrics["from"][1]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "test"


# --- access, watching -----------------------------------------------------------------------------
def test_streams_go_to_the_stream_port():
    objs = {o["kind"]: o for o in rendered("everything") if o["kind"] in ("Ingress", "HTTPRoute")}
    paths = {p["path"]: (p["pathType"], p["backend"]["service"]["port"]["name"])
             for p in objs["Ingress"]["spec"]["rules"][0]["http"]["paths"]}
    assert paths == {"/api/v1/events": ("Exact", "stream"), "/api/v1/sync/ws": ("Exact", "stream"), "/": ("Prefix", "http")}
    streams, rest = objs["HTTPRoute"]["spec"]["rules"]
    assert streams["backendRefs"][0]["port"] == 8081 and streams["timeouts"]["request"] == "0s"
    assert rest["backendRefs"][0]["port"] == 80
    without = chart.render(chart.merge(chart.EVERYTHING, {"gateway": {"streamPort": 0}}))
    for o in without:
        if o["kind"] == "Ingress":
            assert [p["path"] for p in o["spec"]["rules"][0]["http"]["paths"]] == ["/"]
        if o["kind"] == "HTTPRoute":
            assert len(o["spec"]["rules"]) == 1


def test_dashboards_and_alerts_come_from_files():
    """Whatever lies in files/ comes out whole; an empty folder makes nothing."""
    folder = f"{chart.CHART}/files"
    boards = sorted(os.listdir(f"{folder}/dashboards")) if os.path.isdir(f"{folder}/dashboards") else []
    boards = [b for b in boards if b.endswith(".json")]
    made = {list(o["data"])[0]: o for o in rendered("everything")
            if o["kind"] == "ConfigMap" and "-dashboard-" in o["metadata"]["name"]}
    assert sorted(made) == boards
    for name in boards:
        with open(f"{folder}/dashboards/{name}", encoding="utf-8") as f:
            assert json.loads(made[name]["data"][name]) == json.load(f)
        assert made[name]["metadata"]["labels"]["grafana_dashboard"] == "1"
    rules = [o for o in rendered("everything") if o["kind"] == "PrometheusRule"]
    if os.path.exists(f"{folder}/alerts.yaml"):
        with open(f"{folder}/alerts.yaml", encoding="utf-8") as f:
            source = yaml.safe_load(f)
        alerts = [r for g in rules[0]["spec"]["groups"] for r in g["rules"]]
        assert [r.get("expr") for r in alerts] == [r.get("expr") for g in source["groups"] for r in g["rules"]]
        for r in alerts:
            url = r.get("annotations", {}).get("runbook_url")
            assert not url or url.startswith("https://runbooks.example/docfleet/"), url
    else:
        assert not rules


def test_scraped_series_are_named_as_the_alerts_expect():
    monitor = next(o for o in rendered("everything") if o["kind"] == "ServiceMonitor")
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["relabelings"][0] == {
        "sourceLabels": ["__meta_kubernetes_pod_label_app_kubernetes_io_component"],
        "targetLabel": "job", "replacement": "docfleet-${1}"}
    service = one(chart.MATRIX["everything"], "Service", "r-docfleet-metrics")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert endpoint["port"] in {p["name"] for p in service["spec"]["ports"]}


def test_images():
    images = {c["image"] for _, _, _, _, spec in ours(chart.MATRIX["everything"]) for c in chart.containers(spec)}
    assert images == {f"registry.example/team/docfleet-{p}:1.2.3" for p in
                      [*chart.SERVICES.values(), "scan-worker", "docfleetctl", "importer"] if p != "dispatcher"} | \
        {"registry.example/team/docfleet-dispatcher@sha256:" + "0" * 64}


def test_bundled_servers_are_those_of_compose():
    with open(f"{chart.ROOT}/deploy/compose.yaml", encoding="utf-8") as f:
        services = yaml.safe_load(f)["services"]
    for name, theirs in (("postgres", "postgres"), ("kafka", "kafka"), ("s3", "store")):
        image = one(chart.MATRIX["default"], "StatefulSet", f"r-docfleet-{name}")["spec"]["template"]["spec"]["containers"][0]["image"]
        assert image.removeprefix("docker.io/").removeprefix("library/") == services[theirs]["image"]


def test_every_image_of_the_chart_is_built():
    """deploy/images has a container file for each image that pods name."""
    images = {c["image"] for _, _, _, _, spec in ours(chart.MATRIX["everything"]) for c in chart.containers(spec)}
    for image in images:
        name = re.search(r"/docfleet-([a-z-]+)[:@]", image).group(1)
        assert os.path.exists(f"{chart.ROOT}/deploy/images/{name}.Containerfile"), name


def test_the_script_for_commands_makes_a_job_of_the_mould(tmp_path):
    """deploy/kubernetes/ctl with kubectl played by a script: it asks for the CronJob, puts the words in
    and leaves nothing behind."""
    fake = tmp_path / "kubectl"
    log = tmp_path / "log"
    fake.write_text("#!/bin/bash\nprintf '%s\\n' \"$*\" >>" + str(log) + "\n"
                    "case \"$*\" in *create\ job*) echo '{}';; *patch*) cat;; *create\ -f*) cat >/dev/null;; esac\n")
    fake.chmod(0o755)
    run = subprocess.run([f"{chart.ROOT}/deploy/kubernetes/ctl", "-n", "docs", "r-docfleet", "user", "create", 'o"ps', "--admin"],
                         env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    calls = log.read_text()
    assert "--from=cronjob/r-docfleet-ctl" in calls and "-n docs" in calls
    words = re.search(r'"value":(\[.*?\])\}', calls).group(1)
    assert json.loads(words) == ["user", "create", 'o"ps', "--admin"]
    assert re.search(r"delete job \S+", calls)


def test_canary():
    """One process that reaches the gateway alone and may be scraped; without a key it is refused."""
    values = chart.merge(chart.EVERYTHING, {"canary": {"enabled": True, "existingSecret": "key", "every": "5m"}})
    found = {o["kind"]: o for o in chart.render(values) if o["metadata"]["name"] == "r-docfleet-canary"
             and o["metadata"]["labels"].get("app.kubernetes.io/component") == "canary"}
    pod = found["Deployment"]["spec"]["template"]
    container = pod["spec"]["containers"][0]
    assert container["args"] == ["canary", "--listen", "0.0.0.0:9100", "--every", "5m", "--objective", "60s"]
    assert pod["metadata"]["labels"]["docfleet-metrics"] == "true" and "initContainers" not in pod["spec"]
    names = {e["name"] for e in container["env"]}
    assert "DOCFLEET_API_KEY_FILE" in names and "DOCFLEET_DATABASE_URL_FILE" not in names
    policy = found["NetworkPolicy"]["spec"]
    assert [p["port"] for rule in policy["egress"] for p in rule["ports"]] == [53, 53, 8080]
    assert [p["port"] for rule in policy["ingress"] for p in rule["ports"]] == [9100]
    with pytest.raises(Exception, match="canary.existingSecret is required"):
        chart.render(chart.merge(chart.EVERYTHING, {"canary": {"enabled": True}}))
    assert not [o for o in chart.render(chart.EVERYTHING)
                if o["metadata"]["labels"].get("app.kubernetes.io/component") == "canary"]
