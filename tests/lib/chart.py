# SPDX-License-Identifier: Apache-2.0
"""The chart, rendered: sets of values that the checks go through, and objects as Python sees them."""
import copy
import functools
import glob
import os

import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CHART = os.path.join(ROOT, "helm", "docfleet")
SERVICES = {"gateway": "ingest-gateway", "dispatcher": "dispatcher", "textExtractor": "text-extractor",
            "ocrFallback": "ocr-fallback", "aiExtractor": "ai-extractor", "previewWorker": "preview-worker",
            "thumbnailWorker": "thumbnail-worker", "cleaner": "cleaner"}
WORKERS = {k: v for k, v in SERVICES.items() if k not in ("gateway", "dispatcher")}

MINIMAL = {"database": {"existingSecret": "pg"}, "kafka": {"brokers": "kafka.example:9092"},
           "s3": {"endpoint": "https://s3.example", "existingSecret": "s3"}}
SCALED = {key: {"autoscaling": {"enabled": True}} for key in SERVICES if key != "dispatcher"}
TLS = {"kafka": {"brokers": "a.example:9093,b.example:9093", "ports": [9093], "securityProtocol": "SASL_SSL",
                 "username": "docfleet", "existingSecret": "kafka", "ca": {"existingSecret": "ca"},
                 "clientCertificate": {"existingSecret": "kafka-cert"}},
       "database": {"existingSecret": "pg", "directUrlKey": "direct", "gatewayUrlKey": "gateway",
                    "importerUrlKey": "importer", "makeLogins": True, "ownerUrlKey": "owner", "ca": {"existingSecret": "ca"}},
       "s3": {"endpoint": "https://s3.example", "existingSecret": "s3", "ca": {"existingSecret": "ca"}},
       "gateway": {"tls": {"existingSecret": "gateway-tls"}}}
PEERS = [{"ipBlock": {"cidr": "192.0.2.0/24"}}]


def merge(*parts):
    """Maps merged, later ones win, as Helm does with several value files."""
    made = {}
    for part in parts:
        for key, value in copy.deepcopy(part).items():
            old = made.get(key)
            made[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return made


def ready(name):
    with open(f"{CHART}/values-{name}.yaml", encoding="utf-8") as f:
        return yaml.safe_load(f)


EVERYTHING = merge(MINIMAL, TLS, SCALED, {
    "commonLabels": {"team": "documents"}, "commonAnnotations": {"note": "x"},
    "image": {"registry": "registry.example/team", "tag": "1.2.3", "pullSecrets": [{"name": "pull"}],
              "digests": {"dispatcher": "sha256:" + "0" * 64}},
    "config": {"TRACE_SAMPLE": 0.5, "OTLP_ENDPOINT": "http://otel.example:4318"},
    "secretConfig": {"OTLP_HEADERS": {"existingSecret": "otel", "key": "headers"}},
    "existingConfigMap": "mine", "extraEnv": [{"name": "TZ", "value": "UTC"}],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "s3": {"createBucket": True, "publicEndpoint": "https://files.example"},
    "backup": {"enabled": True, "storageClass": "slow"},
    "gateway": {"config": {"MAX_FILE_SIZE": "1GiB", "OIDC_ISSUER": "https://login.example", "OIDC_CLIENT_ID": "docfleet"},
                "secretConfig": {"OIDC_CLIENT_SECRET": {"existingSecret": "oidc", "key": "secret"},
                                 "OIDC_CA": {"existingSecret": "ca", "key": "ca.crt"}}, "podAnnotations": {"a": "b"}, "nodeSelector": {"pool": "web"}},
    "ocrFallback": {"textract": {"endpoint": "https://textract.example", "existingSecret": "aws"}},
    "aiExtractor": {"existingSecret": "ai", "config": {
        "AI_BACKEND": "openai", "AI_URL": "https://ai.example/v1", "AI_MODEL": "m", "AI_UNIT_TOKENS": 2000000}},
    "scanWorker": {"enabled": True, "clamd": "clamd.example:3310", "autoscaling": {"enabled": True}},
    "priorityClasses": {"create": True}, "tolerations": [{"key": "docs", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}]}]}}},
    "ingress": {"enabled": True, "className": "nginx", "hosts": ["docs.example"],
                "tls": [{"hosts": ["docs.example"], "secretName": "tls"}]},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "gw"}], "hostnames": ["docs.example"]},
    "networkPolicy": {"ingressFrom": PEERS, "metricsFrom": PEERS, "dnsTo": PEERS, "databaseTo": PEERS,
                      "kafkaTo": PEERS, "s3To": PEERS, "providersTo": PEERS, "importsTo": PEERS,
                      "identityTo": PEERS, "identityPorts": [443], "tracesTo": PEERS, "tracesPorts": [4318]},
    "metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
                "prometheusRule": {"enabled": True, "runbookUrl": "https://runbooks.example/docfleet"},
                "dashboards": {"enabled": True}},
    "tests": {"canary": {"existingSecret": "canary", "dataset": "01a20374-8261-7001-a95b-8985ef435083"}}})

MATRIX = {
    "default": {"bundled": {"enabled": True}},
    "external": merge(MINIMAL, {"s3": {"publicEndpoint": "https://files.example"},
                                "database": {"directUrlKey": "direct"}}),
    "minimal": merge(MINIMAL, {"networkPolicy": {"enabled": False}, "migrations": {"enabled": False, "wait": False},
                               "importer": {"enabled": False}, "ctl": {"enabled": False}, "tests": {"enabled": False},
                               "serviceAccount": {"create": False}, "topologySpread": {"enabled": False},
                               "gateway": {"streamPort": 0, "preStopSeconds": 0},
                               **{k: {"pdb": {"enabled": False}} for k in SERVICES if k != "gateway"}}),
    "autoscaled": merge(MINIMAL, SCALED),
    "hpa": merge(MINIMAL, SCALED, {"autoscaling": {"kind": "hpa"}}),
    "bundled-scaled": merge({"bundled": {"enabled": True}}, SCALED),
    "tls": merge(MINIMAL, TLS),
    "everything": EVERYTHING,
    **{os.path.basename(p)[7:-5]: ready(os.path.basename(p)[7:-5])
       for p in sorted(glob.glob(f"{CHART}/values-*.yaml"))},
}


@functools.lru_cache(maxsize=None)
def loaded():
    import helm_python
    return helm_python.Chart.load(CHART)


def render(values, name="r", namespace="ns", **how):
    """All objects; an exception of helm_python says what values are refused, and why."""
    made = loaded().render(values, name=name, namespace=namespace, **how)
    return [doc for path, text in sorted(made.items()) if path.endswith(".yaml")
            for doc in yaml.safe_load_all(text) if doc]


def manifest(values, name="r", namespace="ns"):
    return yaml.safe_dump_all(render(values, name, namespace), sort_keys=False)


def pod_specs(objects):
    """(kind, name, metadata of the pod, its spec) of everything that makes pods."""
    for o in objects:
        spec = o.get("spec", {})
        if o["kind"] == "Pod":
            template = o
        elif o["kind"] == "CronJob":
            template = spec["jobTemplate"]["spec"]["template"]
        else:
            template = spec.get("template")
        if template and "containers" in template.get("spec", {}):
            yield o["kind"], o["metadata"]["name"], template["metadata"], template["spec"]


def containers(spec):
    return spec.get("initContainers", []) + spec["containers"]
