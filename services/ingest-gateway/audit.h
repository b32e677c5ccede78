/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The audit log: who did what, when, from where, and how it ended.
 * Invariant: each request of a route that has an audit name, and reached its handler, leaves one
 * row, whatever the answer; Postgres refuses to change or drop rows, and each holds the digest of
 * the one before it. What Postgres does not take at that moment waits in
 * memory (audit_late.h); what it refuses, and what a crash takes along, is in the log alone.
 * Refuses bodies, passwords, keys and contents: ids, names and counts only.
 */
#pragma once

#include "services/ingest-gateway/request.h"

struct gateway;

/* Writes the row of a request that was answered with `status`. */
void audit_request(struct gateway *gw, struct request *req, unsigned status);
/* What a handler adds: sets one member of the row's detail. value is taken, NULL does nothing. */
void audit_detail(struct request *req, const char *name, json_t *value);
/* Names what was acted on, instead of the path's first parameter. */
void audit_target(struct request *req, const char *target);
