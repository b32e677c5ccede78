/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the handlers of imports share. A dataset's owner sees its imports and may start them and
 * roll them back; operators see all, and only they say what is read from where.
 */
#pragma once

#include "services/ingest-gateway/gateway.h"

/* For `$n::uuid IS NULL OR i.user_id = $n::uuid`: NULL for operators. */
const char *import_viewer(const struct request *req);
/* The import as JSON; "not_found" when it is not there or not theirs to see. */
int import_reply(struct request *req, struct db_conn *conn, const char *import_id, unsigned status,
                 struct reply *reply, struct err *err) WARN_UNUSED;
