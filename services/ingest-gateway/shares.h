/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Share links: who has one downloads one file, without an account.
 * Invariant: a download is counted by one statement that also looks whether one is left, before its
 * first byte goes out; so at most max_downloads answers hold the file, over all replicas and at
 * once. Refuses to tell anything of the file until the password is right, and anything of a link
 * but "unknown" or "ended"; never shows a file that is in quarantine or not scanned yet.
 */
#pragma once

#include "libcommon/db.h"
#include "services/ingest-gateway/request.h"

#define SHARE_TOKEN_SIZE 33U  /* 16 random bytes in hex, and the NUL */
#define SHARE_DAYS_DEFAULT 30 /* of a link that was made without an end */
#define SHARE_DOWNLOADS_MAX 1000000
#define SHARE_PASSWORD_MIN 8U
#define SHARE_UNLOCK_S 3600 /* how long a password that was right counts in that browser */

struct share {
    char id[UUID_TEXT];
    char file_id[UUID_TEXT];
    char user_id[UUID_TEXT];
    PGresult *row;             /* what the two point into */
    const char *password_hash; /* NULL: none */
    const char *expires_at;    /* RFC 3339 */
    int64_t max_downloads;     /* 0: any number */
    int64_t downloads;
};

void share_done(struct share *share);

/* The open link of a token; from here on the thread's view is that of the file's owner.
 * ERR_PERMANENT "not_found", "share_ended". */
int share_find(struct request *req, const char *token, struct share *ret_share,
               struct err *err) WARN_UNUSED;
/* 0 when the link has no password, or the request the cookie of who gave it;
 * ERR_PERMANENT "password_required". */
int share_unlocked(const struct request *req, const struct share *share,
                   struct err *err) WARN_UNUSED;
/* The cookie that says so for SHARE_UNLOCK_S. */
int share_unlock(const struct request *req, const struct share *share, struct reply *reply,
                 struct err *err) WARN_UNUSED;
