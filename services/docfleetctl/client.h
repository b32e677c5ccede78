/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The API as the commands see it: one call, one JSON answer or one plain-language error.
 * Invariant: whatever makes something carries an Idempotency-Key, so that a repeat after a lost
 * answer never makes it twice.
 * Refuses to hold file contents: uploads and texts stream (upload_*.c, api_print_to).
 */
#pragma once

#include "libcommon/http.h"
#include "libcommon/jget.h"
#include "libcommon/uuid.h"
#include "services/docfleetctl/ctl.h"

#define API_TRIES_SHORT 4 /* somebody waits at a prompt: about 4 s */
#define API_TRIES_LONG 8  /* about a minute */

struct api {
    struct http_client *http;
    char *base;          /* http://host:port/api/v1 */
    char *authorization; /* the header line */
    bool admin;
    int tries_max; /* API_TRIES_SHORT unless set */
};

/* Reads address and key from the settings; admin: the operator's key, or the user's without one. */
int api_open(const struct ctl *ctl, bool admin, struct api *ret_api, struct err *err) WARN_UNUSED;
/* Works as CLEANUP(api_close) on a zeroed struct. */
void api_close(struct api *api);

/* path follows /api/v1; body may be NULL. Repeats what is worth it. A 2xx answer is parsed into
 * *ret_doc (the caller's). */
int api_call(const struct api *api, const char *method, const char *path, const json_t *body,
             json_t **ret_doc, struct err *err) WARN_UNUSED;
/* Copies a 2xx body to fd as it comes. */
int api_print_to(const struct api *api, const char *path, int fd, struct err *err) WARN_UNUSED;
/* fn for every item of all pages of a list; path has a query ("/datasets?limit=200"). */
typedef int (*api_item_fn)(void *ctx, const json_t *item, struct err *err);
int api_each(const struct api *api, const char *path, api_item_fn fn, void *ctx,
             struct err *err) WARN_UNUSED;
/* A line of JSON on stdout. */
int api_print_json(const json_t *doc, struct err *err) WARN_UNUSED;

/* A file that is there whole or not at all: written under another name beside it. path NULL:
 * stdout, as it comes. */
struct out_file {
    char *path, *temp; /* NULL: stdout */
    int fd;
};
#define OUT_FILE_INIT ((struct out_file){.fd = -1})
int out_open(const char *path, struct out_file *ret_out, struct err *err) WARN_UNUSED;
int out_commit(struct out_file *out, struct err *err) WARN_UNUSED;
/* Removes what was not committed. Works as CLEANUP on an initialised struct. */
void out_done(struct out_file *out);

/* An answer that is no success (problem+json or anything else) as an error. Returns -1. */
int api_problem(const struct api *api, const struct http_response *resp, struct err *err);
/* Waits before the next try and returns true, if one more makes sense: after a lost connection
 * (resp NULL), 408, 425, 429 and 5xx; as long as Retry-After says. */
bool api_wait_retry(int tries, int tries_max, const struct http_response *resp,
                    const struct err *err);
/* "path/<id>rest" for an id that came from the command line; ERR_PERMANENT "usage" if it is none.
 */
int api_path(struct buf *buf, const char *prefix, const char *id, const char *rest,
             struct err *err) WARN_UNUSED;

/* A member as text ("" when absent), without anything that would steer a terminal; from a ring of
 * 16 buffers of this thread: for printf. */
const char *api_text(const json_t *obj, const char *name);
const char *api_clean(const char *text);
int64_t api_int(const json_t *obj, const char *name);
/* "90m", "24h", "7d" ago as a time; anything else is left as it is, to the gateway. */
void api_time_of(const char *text, char *out, size_t size);
