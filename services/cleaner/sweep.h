/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cleaner's periodic work: objects that no row names, old rows, folded counts.
 * Invariant: an object is removed only when it is older than the grace and a look at the database
 * after its listing finds no row that names it.
 */
#pragma once

#include "libcommon/service.h"

/* Deletes everything under the prefix; adds the number to *n. */
int sweep_prefix(struct store *store, const char *prefix, uint64_t *n, struct err *err) WARN_UNUSED;
/* Does what is due; one process of the fleet at a time. */
int sweep_tick(struct service *service, struct err *err) WARN_UNUSED;
