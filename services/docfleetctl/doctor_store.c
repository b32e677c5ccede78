/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The object store: what services ask of it, tried on an object that is gone afterwards.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "libcommon/sigv4.h"
#include "services/docfleetctl/doctor.h"

#define SKEW_WARN_MS 60000
#define SKEW_BAD_MS 600000
#define CALL_MS 15000

void check_store_reach(struct doctor *d)
{
    const struct core_options *core = &d->ctl->service.core;
    const char *public = *core->s3_public_endpoint ? core->s3_public_endpoint : NULL;
    struct err err = ERR_INIT;
    struct store_config config = {.driver = core->store_driver,
                                  .endpoint = core->s3_endpoint,
                                  .public_endpoint = public,
                                  .region = core->s3_region,
                                  .bucket = core->s3_bucket,
                                  .access_key = core->s3_access_key,
                                  .secret_key = core->s3_secret_key,
                                  .timeout_ms = CALL_MS,
                                  .scratch_dir = core->scratch_dir};

    if (store_open(&config, &d->store, &err) < 0 || store_ping(d->store, &err) < 0) {
        found(d, FOUND_PROBLEM, NULL, "%s, bucket %s: %s", core->s3_endpoint, core->s3_bucket,
              err.msg);
        store_free(d->store);
        d->store = NULL;
        return;
    }
    found(d, FOUND_OK, NULL, "%s, bucket %s", core->s3_endpoint, core->s3_bucket);
}

/* Below uploads/: what a killed doctor leaves there, the cleaner's sweep for orphans takes. */
static void new_key(char *key, size_t size)
{
    char id[UUID_TEXT];

    uuid_v7(id);
    snprintf(key, size, "uploads/doctor/%s/1-doctor.txt", id);
}

static const char text[] = "docfleetctl doctor was here\n";

static int roundtrip(struct doctor *d, const char *key, struct err *err)
{
    CLEANUP(buf_done) struct buf all;
    CLEANUP(buf_done) struct buf part;

    buf_init(&all, sizeof(text));
    buf_init(&part, sizeof(text));
    if (store_put_mem(d->store, key, text, strlen(text), "text/plain", err) < 0) {
        return err_wrap(err, "put");
    }
    if (store_get_mem(d->store, key, STORE_WHOLE, strlen(text), &all, err) < 0 ||
        store_get_mem(d->store, key, (struct store_range){.offset = 12, .length = 6}, 6, &part,
                      err) < 0) {
        return err_wrap(err, "get");
    }
    if (all.len != strlen(text) || memcmp(all.data, text, all.len) != 0 || part.len != 6 ||
        memcmp(part.data, text + 12, 6) != 0) {
        return err_set(err, ERR_UNKNOWN, "hash_mismatch", "other bytes came back");
    }
    return 0;
}

void check_store_roundtrip(struct doctor *d)
{
    struct err err = ERR_INIT;
    char key[128];

    if (needs_store(d)) {
        return;
    }
    new_key(key, sizeof(key));
    uint64_t start = clock_mono_ms();
    int rc = roundtrip(d, key, &err);
    if (store_delete(d->store, key, rc == 0 ? &err : NULL) < 0 && rc == 0) {
        rc = err_wrap(&err, "delete");
    }
    if (rc < 0) {
        found_err(d, FOUND_PROBLEM, &err);
    } else {
        found(d, FOUND_OK, NULL, "it does, in %llu ms",
              (unsigned long long)(clock_mono_ms() - start));
    }
}

static int multipart(struct doctor *d, const char *key, struct err *err)
{
    CLEANUP(store_upload_cleanup) struct store_upload *up = NULL;
    CLEANUP(free_cleanup) char *part = calloc(1, STORE_PART_SIZE);
    struct store_stored stored;

    if (!part) {
        return err_nomem(err);
    }
    if (store_upload_begin(d->store, key, "text/plain", STORE_PART_SIZE * 2, &up, err) < 0 ||
        store_upload_write(up, part, STORE_PART_SIZE, err) < 0 ||
        store_upload_write(up, text, strlen(text), err) < 0 ||
        store_upload_commit(up, &stored, err) < 0) {
        return -1;
    }
    return stored.size == STORE_PART_SIZE + strlen(text)
               ? 0
               : err_set(err, ERR_UNKNOWN, "hash_mismatch", "it has another size");
}

void check_store_multipart(struct doctor *d)
{
    struct err err = ERR_INIT;
    char key[128];

    if (needs_store(d)) {
        return;
    }
    if (!(store_caps(d->store) & STORE_CAP_MULTIPART)) {
        found(d, FOUND_SKIPPED, NULL, "the driver %s has no parts",
              d->ctl->service.core.store_driver);
        return;
    }
    new_key(key, sizeof(key));
    int rc = multipart(d, key, &err);
    struct err ignored = ERR_INIT;
    if (store_delete(d->store, key, &ignored) < 0 && rc == 0) {
        err = ignored;
        rc = -1;
    }
    if (rc < 0) {
        found_err(d, FOUND_PROBLEM, &err);
    } else {
        found(d, FOUND_OK, NULL, "two parts, 8 MiB");
    }
}

/* Against the Date of any answer, one that refuses us included. */
void check_store_clock(struct doctor *d)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    struct http_request request = {.url = d->ctl->service.core.s3_endpoint, .timeout_ms = CALL_MS};
    struct err err = ERR_INIT;
    struct tm tm = {0};

    int64_t before = clock_wall_ms();
    if (http_call(d->http, &request, &resp, &err) < 0) {
        found(d, FOUND_SKIPPED, NULL, "%s", err.msg);
        return;
    }
    int64_t now = (before + clock_wall_ms()) / 2;
    const char *date = http_header_get(&resp, "Date");
    if (!date || !strptime(date, "%a, %d %b %Y %H:%M:%S", &tm)) {
        found(d, FOUND_SKIPPED, NULL, "it tells no time");
        return;
    }
    int64_t skew = (int64_t)timegm(&tm) * 1000 + 500 - now, size = skew < 0 ? -skew : skew;
    found(d,
          size > SKEW_BAD_MS    ? FOUND_PROBLEM
          : size > SKEW_WARN_MS ? FOUND_WARNING
                                : FOUND_OK,
          NULL, "%lld s apart", (long long)(skew / 1000));
}

/* GET /bucket?versioning, signed. */
static int ask_versioning(struct doctor *d, struct http_response *ret_resp, struct err *err)
{
    const struct core_options *core = &d->ctl->service.core;
    CLEANUP(sigv4_signature_done) struct sigv4_signature sig = SIGV4_SIGNATURE_INIT;
    const char *host = strstr(core->s3_endpoint, "://");
    char path[300], url[1200], name[256], date[64], hash[128];
    CLEANUP(buf_done) struct buf auth;

    host = host ? host + 3 : core->s3_endpoint;
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(host, "/"), host);
    snprintf(path, sizeof(path), "/%s", core->s3_bucket);
    snprintf(url, sizeof(url),
             "%.*s/%s?versioning=", (int)(host + strcspn(host, "/") - core->s3_endpoint),
             core->s3_endpoint, core->s3_bucket);
    struct sigv4_pair query = {"versioning", ""};
    struct sigv4_pair headers[] = {{"Host", name}, {"X-Amz-Content-Sha256", SIGV4_EMPTY_SHA256}};
    struct sigv4_request signed_request = {.method = "GET",
                                           .path = path,
                                           .query = &query,
                                           .n_query = 1,
                                           .headers = headers,
                                           .n_headers = 2,
                                           .payload_hash = SIGV4_EMPTY_SHA256,
                                           .now = clock_wall_ms() / 1000};
    struct sigv4_creds creds = {.access_key = core->s3_access_key,
                                .secret_key = core->s3_secret_key,
                                .region = core->s3_region,
                                .service = "s3"};
    buf_init(&auth, 4096);
    if (sigv4_sign(&signed_request, &creds, &sig, err) < 0 ||
        buf_printf(&auth, err, "Authorization: %s", sig.authorization) < 0) {
        return -1;
    }
    snprintf(date, sizeof(date), "X-Amz-Date: %s", sig.date);
    snprintf(hash, sizeof(hash), "X-Amz-Content-Sha256: %s", SIGV4_EMPTY_SHA256);
    const char *lines[] = {auth.data, date, hash};
    struct http_request request = {
        .url = url, .headers = lines, .n_headers = 3, .timeout_ms = CALL_MS};
    return http_call(d->http, &request, ret_resp, err);
}

void check_store_versioning(struct doctor *d)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    struct err err = ERR_INIT;

    if (needs_store(d)) {
        return;
    }
    if (strcmp(d->ctl->service.core.store_driver, "s3") != 0) {
        found(d, FOUND_SKIPPED, NULL, "not asked with the driver %s",
              d->ctl->service.core.store_driver);
        return;
    }
    if (ask_versioning(d, &resp, &err) < 0 || resp.status != 200) {
        found(d, FOUND_SKIPPED, NULL, "the store does not say (HTTP %d)", resp.status);
        return;
    }
    bool on = resp.body.data && strstr(resp.body.data, "<Status>Enabled</Status>");
    found(d, on ? FOUND_WARNING : FOUND_OK, NULL, on ? "the bucket keeps old versions" : "it is");
}

static int fetch_presigned(struct doctor *d, const char *key, int *ret_status, struct err *err)
{
    CLEANUP(free_cleanup) char *url = NULL;
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    struct store_presign presign = {.method = "GET", .key = key, .expires = 60};

    if (store_put_mem(d->store, key, text, strlen(text), "text/plain", err) < 0 ||
        store_presign(d->store, &presign, &url, err) < 0) {
        return -1;
    }
    struct http_request request = {.url = url, .timeout_ms = CALL_MS};
    if (http_call(d->http, &request, &resp, err) < 0) {
        return -1;
    }
    *ret_status = resp.status;
    return 0;
}

void check_store_presigned(struct doctor *d)
{
    struct err err = ERR_INIT, ignored = ERR_INIT;
    int status = 0;
    char key[128];

    if (needs_store(d)) {
        return;
    }
    if (!(store_caps(d->store) & STORE_CAP_PRESIGN)) {
        found(d, FOUND_SKIPPED, NULL, "the driver has none");
        return;
    }
    new_key(key, sizeof(key));
    int rc = fetch_presigned(d, key, &status, &err);
    if (store_delete(d->store, key, &ignored) < 0 && rc == 0) {
        err = ignored;
        rc = -1;
    }
    if (rc < 0) {
        found_err(d, FOUND_WARNING, &err);
    } else {
        found(d, status == 200 ? FOUND_OK : FOUND_WARNING, NULL,
              status == 200 ? "it is" : "HTTP %d", status);
    }
}
