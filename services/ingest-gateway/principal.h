/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who asks: the account behind a request, its role, and what the credential it came with may do.
 * Invariant: scopes never hold more than the role allows, whatever a key or token says; so whoever
 * loses a role loses what it gave with the next request.
 * Refuses to know how somebody proved who he is: auth.c, session.c and token.c do.
 */
#pragma once

#include "libcommon/uuid.h"

enum scope {
    SCOPE_NONE = 0,         /* no credentials are needed */
    SCOPE_READ = 1 << 0,    /* one's own datasets, files, records */
    SCOPE_WRITE = 1 << 1,   /* change them */
    SCOPE_OPERATE = 1 << 2, /* stages, dead letters, pauses: the fleet */
    SCOPE_ADMIN = 1 << 3,   /* users, quotas, everybody's keys, the audit log */
};

enum role { ROLE_NONE, ROLE_USER, ROLE_OPERATOR, ROLE_ADMIN };

enum credential {
    CREDENTIAL_NONE,
    CREDENTIAL_KEY,     /* dfk_<id>_<secret> */
    CREDENTIAL_SESSION, /* a cookie, after a sign-in */
    CREDENTIAL_TOKEN,   /* a JWT of the configured issuer */
};

#define PRINCIPAL_NAME_SIZE 404U /* an account's name: 100 characters of UTF-8 */

#define PRINCIPAL_DATASETS_MAX 20U

struct principal {
    enum credential credential;
    enum role role;
    unsigned scopes; /* enum scope, or-ed */
    char user_id[UUID_TEXT];
    char name[PRINCIPAL_NAME_SIZE];
    char key_id[40];            /* "" unless CREDENTIAL_KEY */
    char session_id[UUID_TEXT]; /* "" unless CREDENTIAL_SESSION */
    /* Ids with commas, of a key for some datasets alone; "": no such limit. */
    char datasets[PRINCIPAL_DATASETS_MAX * UUID_TEXT + 1];
};

/* The one table of roles: user, operator, admin. ROLE_NONE for another name. */
enum role role_parse(const char *name);
const char *role_name(enum role role);
/* What a role may do at most. */
unsigned role_scopes(enum role role);

/* "read" "write" "operate" "admin" -> enum scope; 0 for another name. */
unsigned scope_parse(const char *name);
/* "read" ... of one bit; "" for none. */
const char *scope_name(unsigned scope);
/* Scopes of a list with commas, cut to what the role allows. admin includes the others, operate
 * includes read and write; keys of operators from before `operate` existed say admin. */
unsigned scopes_of(const char *list, enum role role);
/* "read,write" into out. */
void scopes_text(unsigned all, char *out, size_t size);
