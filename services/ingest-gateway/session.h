/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Login sessions: a random cookie, of which Postgres holds the digest.
 * Invariant: a session ends when it was idle too long, at its absolute end, at a sign-out, and
 * when its account is disabled, gets another role or another password. A sign-in always makes a
 * new cookie.
 * Refuses a request that changes something without the token that only a page of ours can have
 * read (X-CSRF-Token), or one that a browser says comes from another site.
 */
#pragma once

#include "libcommon/db.h"
#include "services/ingest-gateway/request.h"

#define SESSION_CACHE_MS 5000U
#define SESSION_TOKEN_SIZE 65U /* 32 bytes in hex, and the NUL */
#define SESSIONS_MAX 100       /* open ones of an account; the oldest end */

struct gateway;

/* Fills req->who from the cookie. As auth_request. */
int session_check(struct gateway *gw, struct request *req, bool cached_only, struct err *err);

/* Refuses what a browser says another site began: Sec-Fetch-Site, else Origin. For what needs no
 * session, such as the sign-in. */
int session_same_site(const struct gateway *gw, const struct request *req,
                      struct err *err) WARN_UNUSED;

/* Makes a session of the account in req->who and adds its cookie to reply; the one the request
 * came with ends. method is "password" or "oidc". Sets req->who.session_id; ret_csrf is the token
 * for this session. */
int session_start(struct request *req, const char *method, struct reply *reply,
                  char ret_csrf[SESSION_TOKEN_SIZE], struct err *err) WARN_UNUSED;
/* Another cookie for the same session; all other sessions of the account end. */
int session_rotate(struct request *req, struct reply *reply, char ret_csrf[SESSION_TOKEN_SIZE],
                   struct err *err) WARN_UNUSED;
/* Tells the browser to forget the cookie. */
int session_forget(const struct request *req, struct reply *reply, struct err *err) WARN_UNUSED;
/* Ends all sessions of an account, except one (or NULL). */
int session_end_all(struct gateway *gw, const char *user_id, const char *except,
                    struct err *err) WARN_UNUSED;
/* The CSRF token that belongs to the request's cookie; -1 "unauthorized" without one. */
int session_csrf(const struct request *req, char ret_csrf[SESSION_TOKEN_SIZE],
                 struct err *err) WARN_UNUSED;

/* Did a session's cookie come, whatever it is worth? */
bool session_has_cookie(const struct request *req);
/* The value of a cookie, copied; false when it is absent or does not fit. */
bool session_cookie(const struct request *req, const char *name, char *out, size_t size);
/* "Set-Cookie" with everything a cookie of ours has; max_age 0 deletes it. lax: it also comes with
 * a click from another site. */
int session_set_cookie(const struct request *req, struct reply *reply, const char *name,
                       const char *value, int64_t max_age, bool lax, struct err *err) WARN_UNUSED;
/* Name of a cookie: "__Host-docfleet_<what>" where the connection is encrypted. */
void session_cookie_name(const struct request *req, const char *what, char *out, size_t size);
