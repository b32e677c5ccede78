/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which handler answers: one table, from which 405, the metrics' labels and the check against
 * openapi.yaml come as well.
 * Invariant: a path matches by whole segments; {id} takes a UUID, {page} a number from 1, {key}
 * lower-case letters and digits, {token} 32 digits of hex and {stage} letters, so a malformed id is
 * a 404 before any handler.
 */
#pragma once

#include "services/ingest-gateway/request.h"

extern const struct route routes[];
extern const size_t n_routes;
extern const struct route console_route; /* whatever is not under /api/ */

/* Returns the route, filling params; NULL when there is none. allow (size bytes) then lists the
 * methods the path has, or is "". */
const struct route *route_find(const char *method, const char *path,
                               char params[REQUEST_PARAMS_MAX][UUID_TEXT], char *allow,
                               size_t size);
