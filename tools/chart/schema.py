#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints helm/docfleet/values.schema.json: which values there are and which are allowed. `make docs`
writes it, a test compares it, and compares its names with those of values.yaml."""
import json

TEXT, BOOL, COUNT = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
NAME = {"type": "string", "minLength": 1}
ONE = {"type": "integer", "minimum": 1}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
PORTS = {"type": "array", "items": PORT, "uniqueItems": True}
ANY, LIST = {"type": "object"}, {"type": "array"}
OBJECTS = {"type": "array", "items": ANY}
LABELS = {"type": "object", "additionalProperties": TEXT}
SIZE = {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$"}
CPU = {"type": ["string", "number"], "pattern": "^[0-9]+(\\.[0-9]+)?m?$"}
DURATION = {"type": "string", "pattern": "^([0-9]+(h|m|s|ms))+$"}
URL = {"type": "string", "pattern": "^(https?://[^ ]+)?$"}
CRON = {"type": "string", "pattern": "^(@[a-z]+|\\S+( +\\S+){4})$"}
SECRET_NAME = {"type": "string", "pattern": "^[a-z0-9.-]*$", "maxLength": 253}
SETTING = {"pattern": "^[A-Z][A-Z0-9_]*$", "not": {"pattern": "^DOCFLEET_"}}
CONFIG = {"type": "object", "propertyNames": SETTING,
          "additionalProperties": {"type": ["string", "number", "boolean"]}}


def obj(props, required=()):
    made = {"type": "object", "additionalProperties": False, "properties": props}
    return dict(made, required=list(required)) if required else made


SECRETS = {"type": "object", "propertyNames": {**SETTING, "not": {"pattern": "^DOCFLEET_|_FILE$"}},
           "additionalProperties": obj({"existingSecret": {**SECRET_NAME, "minLength": 1}, "key": NAME},
                                       ["existingSecret", "key"])}
CA = obj({"existingSecret": SECRET_NAME, "key": NAME})
PAIR = obj({"existingSecret": SECRET_NAME, "certKey": NAME, "keyKey": NAME})
AMOUNTS = obj({"cpu": CPU, "memory": SIZE, "ephemeral-storage": SIZE})
RESOURCES = obj({"requests": AMOUNTS, "limits": AMOUNTS})
PDB = obj({"enabled": BOOL, "maxUnavailable": {"type": ["integer", "string"], "minimum": 1,
                                               "pattern": "^[0-9]+%$"}})
SCALING = obj({"enabled": BOOL, "minReplicas": ONE, "maxReplicas": ONE,
               "cpu": {"type": "integer", "minimum": 1, "maximum": 100}})
IMAGE = obj({"image": NAME, "storage": SIZE})
POD = {"podLabels": LABELS, "podAnnotations": LABELS, "nodeSelector": LABELS, "tolerations": OBJECTS,
       "affinity": ANY, "priorityClassName": TEXT, "securityContext": ANY, "podSecurityContext": ANY,
       "extraEnv": OBJECTS, "extraVolumes": OBJECTS, "extraVolumeMounts": OBJECTS}


def service(slots=False, scaled=True, **more):
    props = {"enabled": BOOL, "replicas": COUNT, "resources": RESOURCES, "scratch": SIZE, "config": CONFIG,
             "secretConfig": SECRETS, "pdb": PDB, **POD, **more}
    if slots:
        props["slots"] = {"type": "integer", "minimum": 0, "maximum": 256}
    if scaled:
        props["autoscaling"] = SCALING
    return obj(props)


def watched(**more):
    return obj({"enabled": BOOL, "labels": LABELS, **more})


VALUES = {
    # Helm adds it where the chart is part of another
    "global": ANY,
    "nameOverride": TEXT, "fullnameOverride": TEXT, "commonLabels": LABELS, "commonAnnotations": LABELS,
    "image": obj({"registry": TEXT, "repository": NAME, "tag": TEXT,
                  "digests": {"type": "object", "additionalProperties":
                              {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}},
                  "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]}, "pullSecrets": OBJECTS}),
    "config": CONFIG, "existingConfigMap": TEXT, "secretConfig": SECRETS, "extraEnv": OBJECTS,
    "extraVolumes": OBJECTS, "extraVolumeMounts": OBJECTS,
    "database": obj({"existingSecret": SECRET_NAME, "urlKey": NAME, "directUrlKey": TEXT, "gatewayUrlKey": TEXT,
                     "importerUrlKey": TEXT, "makeLogins": BOOL, "ownerUrlKey": TEXT, "ca": CA, "port": PORT}),
    "kafka": obj({"brokers": {"type": "string", "pattern": "^([^,: ]+:[0-9]+(,[^,: ]+:[0-9]+)*)?$"},
                  "ports": {**PORTS, "minItems": 1},
                  "securityProtocol": {"enum": ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]},
                  "saslMechanism": {"enum": ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]},
                  "username": TEXT, "existingSecret": SECRET_NAME, "passwordKey": NAME, "ca": CA,
                  "clientCertificate": PAIR}),
    "s3": obj({"driver": {"enum": ["s3", "libs3"]}, "endpoint": URL, "publicEndpoint": URL, "region": NAME,
               "bucket": {"type": "string", "pattern": "^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"},
               "createBucket": BOOL, "existingSecret": SECRET_NAME, "accessKeyKey": NAME,
               "secretKeyKey": NAME, "ca": CA, "port": PORT}),
    "bundled": obj({"enabled": BOOL, "existingSecret": SECRET_NAME, "storageClass": TEXT, "postgres": IMAGE,
                    "kafka": IMAGE, "s3": IMAGE}),
    "migrations": obj({"enabled": BOOL, "wait": BOOL, "topics": BOOL,
                       "partitions": {"type": "integer", "minimum": 1, "maximum": 200},
                       "backoffLimit": COUNT, "rerun": TEXT, "resources": RESOURCES}),
    "importer": obj({"enabled": BOOL, "schedule": CRON, "suspend": BOOL, "activeDeadlineSeconds": ONE,
                     "config": CONFIG, "secretConfig": SECRETS, "resources": RESOURCES, "scratch": SIZE,
                     **POD}),
    "backup": obj({"enabled": BOOL, "schedule": CRON, "suspend": BOOL, "activeDeadlineSeconds": ONE,
                   "existingClaim": TEXT, "storage": SIZE, "storageClass": TEXT,
                   "objects": BOOL, "image": TEXT,
                   "extraArgs": {"type": "array", "items": TEXT}, "config": CONFIG, "resources": RESOURCES,
                   **POD}),
    "ctl": obj({"enabled": BOOL}),
    "gateway": service(streamPort={"type": "integer", "minimum": 0, "maximum": 65535, "not": {"enum": [8080, 9100]}},
                       preStopSeconds={"type": "integer", "minimum": 0, "maximum": 60}, tls=PAIR,
                       service=obj({"type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
                                    "port": PORT, "annotations": LABELS})),
    "dispatcher": service(scaled=False, shards={"type": "integer", "minimum": 1, "maximum": 64}),
    "textExtractor": service(slots=True),
    "ocrFallback": service(slots=True, textract=obj({"endpoint": URL, "existingSecret": SECRET_NAME,
                                                     "accessKeyKey": NAME, "secretKeyKey": NAME})),
    "aiExtractor": service(slots=True, existingSecret=SECRET_NAME, keyKey=NAME),
    "previewWorker": service(slots=True), "thumbnailWorker": service(slots=True),
    "cleaner": service(slots=True),
    "scanWorker": service(slots=True, clamd={"type": "string", "pattern": "^([^: ]+:[0-9]+)?$"}),
    "autoscaling": obj({"kind": {"enum": ["keda", "hpa"]}, "databaseSecret": SECRET_NAME, "databaseUrlKey": TEXT,
                        "pollingInterval": ONE, "scaleDownStabilizationSeconds":
                        {"type": "integer", "minimum": 0, "maximum": 3600}}),
    "terminationGracePeriodSeconds": {"type": "integer", "minimum": 30, "maximum": 3600},
    "podSecurityContext": ANY, "securityContext": ANY,
    "serviceAccount": obj({"create": BOOL, "name": TEXT, "annotations": LABELS}),
    "priorityClassName": TEXT,
    "priorityClasses": obj({"create": BOOL, "control": {"type": "integer", "maximum": 1000000000},
                            "workers": {"type": "integer", "maximum": 1000000000}}),
    "topologySpread": obj({"enabled": BOOL, "topologyKey": NAME, "maxSkew": ONE,
                           "whenUnsatisfiable": {"enum": ["ScheduleAnyway", "DoNotSchedule"]}}),
    "nodeSelector": LABELS, "tolerations": OBJECTS, "affinity": ANY,
    "ingress": obj({"enabled": BOOL, "className": TEXT, "annotations": LABELS,
                    "hosts": {"type": "array", "items": NAME}, "tls": OBJECTS}),
    "httpRoute": obj({"enabled": BOOL, "parentRefs": OBJECTS, "hostnames": {"type": "array", "items": NAME},
                      "annotations": LABELS, "requestTimeout": DURATION}),
    "networkPolicy": obj({"enabled": BOOL, **{name: OBJECTS for name in (
        "ingressFrom", "metricsFrom", "kedaFrom", "dnsTo", "databaseTo", "kafkaTo", "s3To", "providersTo",
        "scannerTo", "importsTo", "identityTo", "tracesTo")}, **{name: PORTS for name in (
            "providersPorts", "importsPorts", "identityPorts", "tracesPorts")}}),
    "metrics": obj({"serviceMonitor": watched(interval=DURATION),
                    "prometheusRule": watched(runbookUrl=URL),
                    "dashboards": watched(annotations=LABELS)}),
    "canary": obj({"enabled": BOOL, "existingSecret": SECRET_NAME, "key": NAME, "every": DURATION,
                   "objective": DURATION, "resources": RESOURCES}),
    "tests": obj({"enabled": BOOL, "canary": obj({"existingSecret": SECRET_NAME, "key": NAME,
                                                  "dataset": {"type": "string", "pattern": "^([0-9a-f-]{36})?$"}})}),
}

if __name__ == "__main__":
    print(json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", "title": "docfleet",
                      **obj(VALUES)}, indent=1))
