/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the operators' handlers share.
 * Invariant: every change an operator makes leaves a line in `audit`.
 */
#pragma once

#include "services/ingest-gateway/request.h"

/* Who did what to whom; target and detail may be NULL. */
int admin_audit(struct request *req, const char *action, const char *target, const json_t *detail,
                struct err *err) WARN_UNUSED;
