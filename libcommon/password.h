/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Passwords as argon2id hashes (libsodium), which carry their own parameters.
 * Invariant: a hash takes PASSWORD_MEMORY bytes and about a tenth of a second of one core, so no
 * more than PASSWORD_AT_ONCE run at a time in a process and few more may wait; the work for an
 * account without a password, or for none at all, is the same.
 * Refuses passwords that the policy does not take; programs that use it link libsodium.
 */
#pragma once

#include "libcommon/err.h"

#define PASSWORD_OPS 3U                    /* passes */
#define PASSWORD_MEMORY ((size_t)48 << 20) /* bytes */
#define PASSWORD_AT_ONCE 2U                /* hashes at a time */
#define PASSWORD_WAITING 4U                /* further callers that may wait */
#define PASSWORD_BYTES_MAX 1024U
#define PASSWORD_HASH_SIZE 128U

/* The policy: at least min characters, at most PASSWORD_BYTES_MAX bytes of UTF-8 without control
 * characters, not the account's name, not one or two characters over and over. ERR_PERMANENT
 * "weak_password" with a reason in plain words. */
int password_check(const char *password, size_t min, const char *account,
                   struct err *err) WARN_UNUSED;

/* ERR_TRANSIENT "overloaded" when too many are at it, "no_memory". */
int password_hash(const char *password, char ret_hash[PASSWORD_HASH_SIZE],
                  struct err *err) WARN_UNUSED;
/* hash NULL: there is none, and the answer is false after the same work. *ret_stale (may be NULL):
 * the hash was made with other parameters and should be made anew. */
int password_verify(const char *hash, const char *password, bool *ret_right, bool *ret_stale,
                    struct err *err) WARN_UNUSED;
