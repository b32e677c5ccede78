#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The custom resources the chart makes: their definitions from the Go modules that publish them.

usage: crd_schemas.py files      paths of the definitions' YAML, for an API server
       crd_schemas.py schemas    JSON schemas into tests/chart/crds, one a kind, without the prose

The schemas are kept in the tree, so that the checks need neither Go nor the network; NOTICE names them.
"""
import json
import os
import subprocess
import sys

import yaml

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/chart/crds")
KEDA, OPERATOR, GATEWAY = ("github.com/kedacore/keda/v2@v2.21.0",
                           "github.com/prometheus-operator/prometheus-operator@v0.85.0",
                           "sigs.k8s.io/gateway-api@v1.4.0")
DEFINITIONS = {
    KEDA: ["config/crd/bases/keda.sh_scaledobjects.yaml",
           "config/crd/bases/keda.sh_triggerauthentications.yaml"],
    OPERATOR: ["example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
               "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml"],
    GATEWAY: ["config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"],
}


class Loader(yaml.SafeLoader):
    """`=` alone is a value of an enum there, and YAML 1.1's own type for PyYAML."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: loader.construct_scalar(node))


def files():
    paths = []
    for module, names in DEFINITIONS.items():
        out = subprocess.run(["go", "mod", "download", "-json", module], check=True, cwd="/",
                             capture_output=True, text=True).stdout
        paths += [os.path.join(json.loads(out)["Dir"], name) for name in names]
    return paths


def strict(node, top=False):
    """What a validator needs: no prose, no rules in CEL, and no members that are not named."""
    if isinstance(node, list):
        return [strict(n) for n in node]
    if not isinstance(node, dict):
        return node
    made = {}
    for key, value in node.items():
        if key in ("description", "default", "example") and not isinstance(value, dict):
            continue
        if key == "properties":
            made[key] = {name: strict(v) for name, v in value.items()}
        elif not key.startswith("x-kubernetes-"):
            made[key] = strict(value)
    if node.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if "properties" in made and not top and "additionalProperties" not in made \
            and not node.get("x-kubernetes-preserve-unknown-fields"):
        made["additionalProperties"] = False
    return made


def schemas():
    os.makedirs(OUT, exist_ok=True)
    for path in files():
        with open(path, encoding="utf-8") as f:
            crd = yaml.load(f, Loader)
        spec = crd["spec"]
        for version in spec["versions"]:
            if not version["storage"]:
                continue
            made = strict(version["schema"]["openAPIV3Schema"], top=True)
            made["properties"]["metadata"] = {"type": "object"}
            made["additionalProperties"] = False
            name = f"{spec['names']['kind'].lower()}-{spec['group'].split('.')[0]}-{version['name']}.json"
            with open(os.path.join(OUT, name), "w", encoding="utf-8") as f:
                json.dump(made, f, separators=(",", ":"), sort_keys=True)
                f.write("\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["files"]:
        print("\n".join(files()))
    elif sys.argv[1:] == ["schemas"]:
        schemas()
    else:
        sys.exit(__doc__)
