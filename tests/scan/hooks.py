# SPDX-License-Identifier: Apache-2.0
"""What the scan (api_scan.py) changes of schemathesis' requests and findings, each with its reason.

The scan's own credentials and accounts must outlive it, so requests that would end them are sent at
others of the same kind. Every answer is counted by operation and status for the report.
"""
import atexit
import collections
import json
import os
import re

import schemathesis

with open(os.environ["SCAN_GROUND"], encoding="utf-8") as f:
    GROUND = json.load(f)
KEPT, SPARE = set(GROUND["kept"]), GROUND["spare"]
counts = collections.Counter()


def spare(kind, case):
    return SPARE[kind][hash(case.id) % len(SPARE[kind])]


# What a schema cannot say, so that data which fits it may be refused all the same. Each with the code
# and the words of the refusal: any other one of the same call is a finding.
BEYOND_SCHEMA = tuple((code, re.compile(words)) for code, words in (
    # An opaque text that only a page before can give.
    ("bad_request", r"^the cursor (does not belong to this list|belongs to no page)"),
    # RFC 8259 section 9 lets a reader of JSON set such limits; the description tells them.
    ("malformed_json", r"NUL character|a number is too big|nested deeper than"),
    # JSON Schema counts characters, some of our limits are of bytes, and the description says so.
    ("invalid_json", r"has more than \d+ bytes"), ("invalid_value", r"(exceed|longer than|of 1 to) \d+ bytes"),
    # Columns that fit one by one and not together, or are too long as UTF-8: see only_together().
    ("invalid_schema", r"^the columns are not valid"),
    # Times that RFC 3339 allows and no calendar or clock has: offsets beyond 16 hours, the year 0.
    ("invalid_value", r"no such time"), ("bad_request", r"a time is written 2026"),
    # Five fields of cron and names of time zones have grammars of their own.
    ("invalid_value", r"^/schedule"),
    # Where an import may not read is told by where the fleet keeps its own objects.
    ("invalid_value", r"^/prefix: in the fleet's own store"),
    ("weak_password", r""),
    # A manifest is a document of its own inside the form, and file parts need contents.
    ("malformed_json", r"^(manifest: )?(line \d|empty document)"), ("invalid_json", r"manifest"), ("no_files", r""),
    # Which of the dataset's columns hold rows.
    ("bad_request", r"^rows names no column of rows"),
    # Members of an object have no order, parts of a form do.
    ("bad_request", r"^the part manifest comes first"),
))
TOGETHER = re.compile(r"name of another column|there twice|longer than \d+ bytes|1 to \d+ bytes")


def only_together(problem):
    return all(TOGETHER.search(e["detail"]) for e in problem.get("errors", ()))


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """False drops it."""
    if type(failure).__name__ != "RejectedPositiveData":
        return True
    try:
        problem = response.json()
    except ValueError:
        return True
    if problem.get("code") == "invalid_schema" and not only_together(problem):
        return True
    if problem.get("code") == "malformed_json" and problem["detail"].startswith(("line", "empty")) and \
            case.operation.definition.raw.get("operationId") != "uploadFiles" and \
            not BEYOND_SCHEMA[1][1].search(problem["detail"]):
        return True
    return not any(problem.get("code") == code and words.search(problem.get("detail", ""))
                   for code, words in BEYOND_SCHEMA)


@schemathesis.hook
def before_call(context, case, kwargs):
    label = case.operation.label
    path = case.path_parameters or {}
    # Its own key, or that of another person of the scan.
    if label == "DELETE /api/v1/api-keys/{key}" and path.get("key") in KEPT:
        path["key"] = spare("keys", case)
    # Disabling, demoting or signing out people of the scan.
    if label.split(" ")[1].startswith("/api/v1/admin/users/{id}") and path.get("id") in KEPT:
        path["id"] = spare("users", case)


@schemathesis.hook
def after_call(context, case, response):
    counts[f"{case.operation.label} {response.status_code}"] += 1


@schemathesis.hook
def after_network_error(context, case, request):
    counts[f"{case.operation.label} no answer"] += 1


@atexit.register
def write():
    with open(os.environ["SCAN_COUNTS"], "w", encoding="utf-8") as out:
        json.dump(counts, out)
