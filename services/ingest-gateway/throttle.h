/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slows down guessing of passwords, over all replicas: leaky buckets in Postgres for the pair of
 * account and address, for the account, and for the address (of IPv6 its /64).
 * Invariant: a try is counted before the password is looked at, in one statement, so tries at the
 * same moment cannot share a place; one that is refused does not make the wait longer.
 */
#pragma once

#include "services/ingest-gateway/request.h"

/* 0: go on; -1: "too_many_tries", and *ret_wait_s says when the next makes sense. */
int throttle_try(struct request *req, const char *account, int64_t *ret_wait_s,
                 struct err *err) WARN_UNUSED;
/* The password was right: the pair starts anew, the others get their try back. */
int throttle_passed(struct request *req, const char *account, struct err *err) WARN_UNUSED;
