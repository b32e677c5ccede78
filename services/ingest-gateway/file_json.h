/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file as the API shows it, made from its row, its tasks, its pages and its artifacts.
 * Invariant: only files of the given account that are not deleted appear, in the order asked for.
 */
#pragma once

#include "services/ingest-gateway/sql.h"

/* An array with one object a file of ids ('{uuid,uuid}'); files that are not there are left out. */
int file_json_load(struct db_conn *conn, const char *user_id, const char *ids, json_t **ret_files,
                   struct err *err) WARN_UNUSED;
