/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Share links: who has one downloads one file, without an account.
 * Invariant: a download is counted by one statement that also looks whether one is left, before its
 * first byte goes out; so at most max_downloads answers hold the file, over all replicas and at
 * once. Refuses to tell anything of the file until the password is right, and anything of a link
 * but "unknown" or "ended"; never shows a file that is in quarantine or not scanned yet.
 */
#pragma once

#define SHARE_TOKEN_SIZE 33U  /* 16 random bytes in hex, and the NUL */
#define SHARE_DAYS_DEFAULT 30 /* of a link that was made without an end */
#define SHARE_DOWNLOADS_MAX 1000000
#define SHARE_PASSWORD_MIN 8U

/* Of a row s of share_link: may it be used? */
#define SHARE_OPEN                                                                                 \
    "(s.revoked_at IS NULL AND s.expires_at > now()"                                               \
    " AND (s.max_downloads IS NULL OR s.downloads < s.max_downloads))"
