/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cleaner's periodic work: objects that no row names, old rows, folded counts.
 * Invariant: an object is removed only when it is older than the grace and a look at the database
 * after its listing finds no row that names it.
 */
#pragma once

#include "libcommon/service.h"

/* Held while objects are deleted (release it afterwards); ERR_TRANSIENT "backup_running" while a
 * backup wants everything to stay. */
int sweep_guard(struct service *service, struct db_conn **ret_guard, struct err *err) WARN_UNUSED;
/* Whether a legal hold keeps what is in the dataset. */
int sweep_held(struct service *service, const char *dataset_id, bool *ret_held,
               struct err *err) WARN_UNUSED;
/* At most STORE_DELETE_MAX keys, under the guard; adds their number to *n. While a backup runs they
 * stay for the next sweep. */
int sweep_keys(struct service *service, const char *const *keys, size_t k, uint64_t *n,
               struct err *err) WARN_UNUSED;
/* Deletes everything under the prefix; adds the number to *n. */
int sweep_prefix(struct store *store, const char *prefix, uint64_t *n, struct err *err) WARN_UNUSED;
/* Does what is due; one process of the fleet at a time. */
int sweep_tick(struct service *service, struct err *err) WARN_UNUSED;
