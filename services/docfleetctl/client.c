/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls, their errors in plain language, and the small commands: datasets, record, text.
 */
#include "services/docfleetctl/client.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MAX (64U * 1024 * 1024)
#define COLUMNS_FILE_MAX (1024U * 1024)
#define WAIT_MAX_MS 60000
#define DOWNLOAD_TIMEOUT_MS (12U * 3600 * 1000)
#define STALL_SECONDS 180U

int api_open(const struct ctl *ctl, bool admin, struct api *ret_api, struct err *err)
{
    CLEANUP(buf_done) struct buf base;
    CLEANUP(buf_done) struct buf auth;
    struct http_client_config config = {
        .user_agent = "docfleetctl",
        .ca_file = service_ca_file(&ctl->service, ctl->options.url_ca_file)};
    struct api api = {.admin = admin, .tries_max = API_TRIES_SHORT};
    const char *key = ctl->options.api_key;
    size_t len = strlen(ctl->options.url);

    buf_init(&base, 4096);
    buf_init(&auth, 16384);
    if (admin && *ctl->options.admin_key) {
        key = ctl->options.admin_key;
    }
    if (!*key) {
        return err_set(err, ERR_PERMANENT, "no_key",
                       "no key: set DOCFLEET_%s, or name a file with DOCFLEET_%s_FILE",
                       admin ? "ADMIN_KEY" : "API_KEY", admin ? "ADMIN_KEY" : "API_KEY");
    }
    if (strncmp(ctl->options.url, "http://", 7) != 0 &&
        strncmp(ctl->options.url, "https://", 8) != 0) {
        return err_set(err, ERR_PERMANENT, "bad_url", "DOCFLEET_URL is no http address: %s",
                       api_clean(ctl->options.url));
    }
    while (len > 0 && ctl->options.url[len - 1] == '/') {
        len--;
    }
    if (buf_append(&base, ctl->options.url, len, err) < 0 || buf_puts(&base, "/api/v1", err) < 0 ||
        buf_printf(&auth, err, "Authorization: Bearer %s", key) < 0 ||
        http_client_new(&config, &api.http, err) < 0) {
        return -1;
    }
    api.base = buf_steal(&base);
    api.authorization = buf_steal(&auth);
    *ret_api = api;
    return 0;
}

void api_close(struct api *api)
{
    http_client_free(api->http);
    free(api->base);
    free(api->authorization);
    *api = (struct api){0};
}

/* Errors ----------------------------------------------------------------------------------------*/

static void add_errors(const json_t *doc, struct err *err)
{
    size_t i;
    json_t *item;

    json_array_foreach(json_object_get(doc, "errors"), i, item)
    {
        size_t n = strlen(err->msg);
        snprintf(err->msg + n, sizeof(err->msg) - n, "; %s: %s", api_text(item, "pointer"),
                 api_text(item, "detail"));
    }
}

int api_problem(const struct api *api, const struct http_response *resp, struct err *err)
{
    CLEANUP(json_cleanup) json_t *doc = NULL;
    enum err_class class =
        resp->status == 429 || resp->status >= 500 ? ERR_TRANSIENT : ERR_PERMANENT;

    if (resp->status == 401) {
        return err_set(err, class, "unauthorized",
                       "the gateway does not know this key (DOCFLEET_%s)",
                       api->admin ? "ADMIN_KEY" : "API_KEY");
    }
    if (!resp->body.data ||
        jget_load(resp->body.data, resp->body.len, ANSWER_MAX, &doc, NULL) < 0 ||
        !json_is_string(json_object_get(doc, "code"))) {
        return err_set(err, class, "http_status",
                       "HTTP %d and no explanation: is there a docfleet gateway at this address?",
                       resp->status);
    }
    const char *detail = json_object_get(doc, "detail") ? "detail" : "title";
    err_set(err, class, api_text(doc, "code"), "%s", api_text(doc, detail));
    if (resp->status == 403 && api->admin) {
        err_set(err, class, "forbidden", "this key is not an operator's: set DOCFLEET_ADMIN_KEY");
    }
    add_errors(doc, err);
    if (resp->status >= 500 && json_object_get(doc, "requestId")) {
        err_wrap(err, "request %s", api_text(doc, "requestId"));
    }
    return -1;
}

static bool worth_repeating(int status)
{
    return status == 408 || status == 425 || status == 429 || status >= 500;
}

bool api_wait_retry(int tries, int tries_max, const struct http_response *resp,
                    const struct err *err)
{
    int64_t ms = 250LL << (tries < 8 ? tries : 8);

    if (tries >= tries_max ||
        (resp ? !worth_repeating(resp->status)
              : err->class != ERR_TRANSIENT || strcmp(err->code, "http_tls") == 0)) {
        return false;
    }
    int64_t asked = resp ? http_retry_after_ms(resp, clock_wall_ms()) : -1;
    if (asked >= 0) {
        ms = asked;
    }
    ms = ms > WAIT_MAX_MS ? WAIT_MAX_MS : ms;
    return ctl_sleep(ms);
}

/* Calls -----------------------------------------------------------------------------------------*/

static int call_until(const struct api *api, const struct http_request *request,
                      struct http_response *ret_resp, struct err *err)
{
    for (int tries = 0;; tries++) {
        CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
        int rc = http_call(api->http, request, &resp, err);
        if (rc == 0 && resp.status / 100 == 2) {
            *ret_resp = resp;
            resp = HTTP_RESPONSE_INIT;
            return 0;
        }
        /* What went to a sink already cannot be taken back. */
        bool again = !(request->sink_to_fd && rc < 0 && strcmp(err->code, "http_connect") != 0);
        if (again && api_wait_retry(tries, api->tries_max, rc == 0 ? &resp : NULL, err)) {
            continue;
        }
        if (rc < 0 && atomic_load(&ctl_stop)) {
            return err_set(err, ERR_TRANSIENT, "aborted", "interrupted");
        }
        return rc == 0 ? api_problem(api, &resp, err)
                       : err_wrap(err, "no answer from %s", api_clean(api->base));
    }
}

int api_call(const struct api *api, const char *method, const char *path, const json_t *body,
             json_t **ret_doc, struct err *err)
{
    CLEANUP(buf_done) struct buf url;
    CLEANUP(free_cleanup) char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    char key[64], id[UUID_TEXT];

    uuid_v7(id);
    snprintf(key, sizeof(key), "Idempotency-Key: %s", id);
    const char *headers[] = {api->authorization, "Accept: application/json",
                             "Content-Type: application/json", key};
    buf_init(&url, 16384);
    if ((body && !text) || buf_printf(&url, err, "%s%s", api->base, path) < 0) {
        return text ? -1 : err_nomem(err);
    }
    struct http_request request = {.method = method,
                                   .url = url.data,
                                   .headers = headers,
                                   .n_headers = text ? 4 : 2,
                                   .body = text,
                                   .body_len = text ? strlen(text) : 0,
                                   .max_response = ANSWER_MAX,
                                   .abort = &ctl_stop};
    if (call_until(api, &request, &resp, err) < 0) {
        return -1;
    }
    if (resp.status == 204) {
        *ret_doc = json_null();
        return 0;
    }
    if (jget_load(resp.body.data ? resp.body.data : "", resp.body.len, ANSWER_MAX, ret_doc, err) <
        0) {
        return err_wrap(err, "the gateway's answer cannot be read");
    }
    return 0;
}

int api_print_to(const struct api *api, const char *path, int fd, struct err *err)
{
    CLEANUP(buf_done) struct buf url;
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    const char *headers[] = {api->authorization};

    buf_init(&url, 16384);
    if (buf_printf(&url, err, "%s%s", api->base, path) < 0) {
        return -1;
    }
    struct http_request request = {.url = url.data,
                                   .headers = headers,
                                   .n_headers = 1,
                                   .sink_to_fd = true,
                                   .sink_fd = fd,
                                   .max_response = INT64_MAX,
                                   .timeout_ms = DOWNLOAD_TIMEOUT_MS,
                                   .low_speed_bytes = 1,
                                   .low_speed_seconds = STALL_SECONDS,
                                   .abort = &ctl_stop};
    return call_until(api, &request, &resp, err);
}

int api_each(const struct api *api, const char *path, api_item_fn fn, void *ctx, struct err *err)
{
    CLEANUP(json_cleanup) json_t *page = NULL;
    const char *cursor = NULL;

    do {
        CLEANUP(buf_done) struct buf url;
        size_t i;
        json_t *item;
        buf_init(&url, 32768);
        if (buf_printf(&url, err, cursor ? "%s&cursor=%s" : "%s", path, cursor) < 0) {
            return -1;
        }
        json_decref(page);
        page = NULL;
        if (api_call(api, "GET", url.data, NULL, &page, err) < 0) {
            return -1;
        }
        json_array_foreach(json_object_get(page, "items"), i, item)
        {
            if (fn(ctx, item, err) < 0) {
                return -1;
            }
        }
        cursor = json_string_value(json_object_get(page, "nextCursor"));
    } while (cursor);
    return 0;
}

int api_print_json(const json_t *doc, struct err *err)
{
    return json_dumpf(doc, stdout, JSON_COMPACT | JSON_ENCODE_ANY) < 0 || putchar('\n') == EOF
               ? err_set(err, ERR_UNKNOWN, "io", "the output could not be written")
               : 0;
}

int api_path(struct buf *buf, const char *prefix, const char *id, const char *rest, struct err *err)
{
    if (!uuid_valid(id)) {
        return err_set(err, ERR_PERMANENT, "usage", "not an id: %s", api_clean(id));
    }
    return buf_printf(buf, err, "%s%s%s", prefix, id, rest);
}

/* Text for people -------------------------------------------------------------------------------*/

#define TEXT_RING 16U

const char *api_clean(const char *text)
{
    static _Thread_local char ring[TEXT_RING][1024];
    static _Thread_local unsigned at;
    char *out = ring[at++ % TEXT_RING];
    size_t n = 0;

    for (const char *s = text; *s && n < sizeof(ring[0]) - 1; s++) {
        unsigned char c = (unsigned char)*s;
        /* C0, DEL, and C1 in its UTF-8 form. */
        bool c1 = c == 0xc2 && ((unsigned char)s[1] & 0xe0) == 0x80;
        out[n++] = c < 0x20 || c == 0x7f ? ' ' : c1 ? '?' : *s;
        s += c1 ? 1 : 0;
    }
    out[n] = '\0';
    return out;
}

const char *api_text(const json_t *obj, const char *name)
{
    const char *value = json_string_value(json_object_get(obj, name));

    return value ? api_clean(value) : "";
}

int64_t api_int(const json_t *obj, const char *name)
{
    return json_integer_value(json_object_get(obj, name));
}

void api_time_of(const char *text, char *out, size_t size)
{
    char *end = NULL;
    long long n = strtoll(text, &end, 10);
    long long unit = !end || end == text || end[0] == '\0' || end[1] != '\0' ? 0
                     : *end == 's'                                           ? 1
                     : *end == 'm'                                           ? 60
                     : *end == 'h'                                           ? 3600
                     : *end == 'd'                                           ? 86400
                                                                             : 0;
    time_t at = time(NULL);
    struct tm tm;

    if (unit == 0 || n < 0 || n > 36500) {
        snprintf(out, size, "%s", text);
        return;
    }
    at -= (time_t)(n * unit);
    gmtime_r(&at, &tm);
    strftime(out, size, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

/* Datasets --------------------------------------------------------------------------------------*/

static int read_json_file(const char *path, json_t **ret_doc, struct err *err)
{
    CLEANUP(buf_done) struct buf buf;
    char chunk[8192];
    size_t n;
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");

    if (!f) {
        return err_set(err, ERR_PERMANENT, "usage", "cannot open %s", api_clean(path));
    }
    buf_init(&buf, COLUMNS_FILE_MAX);
    int rc = 0;
    while (rc == 0 && (n = fread(chunk, 1, sizeof(chunk), f)) > 0) {
        rc = buf_append(&buf, chunk, n, err);
    }
    if (f != stdin) {
        fclose(f);
    }
    if (rc < 0 ||
        jget_load(buf.data ? buf.data : "", buf.len, COLUMNS_FILE_MAX, ret_doc, err) < 0) {
        return err_wrap(err, "%s", api_clean(path));
    }
    return 0;
}

int ctl_dataset_create(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(json_cleanup) json_t *file = NULL;
    CLEANUP(json_cleanup) json_t *body = NULL;
    CLEANUP(json_cleanup) json_t *made = NULL;

    if (read_json_file(ctl->argv[1], &file, err) < 0 || api_open(ctl, false, &api, err) < 0) {
        return -1;
    }
    /* Either the list of columns, or an object that holds it. */
    json_t *columns = json_is_array(file) ? file : json_object_get(file, "columns");
    if (!json_is_array(columns)) {
        return err_set(err, ERR_PERMANENT, "invalid_schema", "%s holds no list of columns",
                       api_clean(ctl->argv[1]));
    }
    body = json_pack("{s:s, s:O, s:O*}", "name", ctl->argv[0], "columns", columns, "options",
                     json_object_get(file, "options"));
    if (!body) {
        return err_set(err, ERR_PERMANENT, "usage", "the name is not valid UTF-8");
    }
    if (api_call(&api, "POST", "/datasets", body, &made, err) < 0) {
        return -1;
    }
    printf("%s\n", api_text(made, "id"));
    return 0;
}

static int print_dataset(void *ctx, const json_t *item, struct err *err)
{
    const bool *json = ctx;

    (void)err;
    if (*json) {
        return api_print_json(item, err);
    }
    printf("%s  %3zu columns  %s\n", api_text(item, "id"),
           json_array_size(json_object_get(item, "columns")), api_text(item, "name"));
    return 0;
}

int ctl_dataset_list(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    bool json = ctl_flag(ctl, "--json");

    return api_open(ctl, false, &api, err) < 0
               ? -1
               : api_each(&api, "/datasets?limit=200", print_dataset, &json, err);
}

/* Results ---------------------------------------------------------------------------------------*/

static int print_result(struct ctl *ctl, const char *rest, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(buf_done) struct buf path;

    buf_init(&path, 256);
    if (api_path(&path, "/files/", ctl->argv[0], rest, err) < 0 ||
        api_open(ctl, false, &api, err) < 0) {
        return -1;
    }
    return api_print_to(&api, path.data, STDOUT_FILENO, err);
}

int ctl_record(struct ctl *ctl, struct err *err)
{
    if (print_result(ctl, "/record", err) < 0) {
        return -1;
    }
    return write(STDOUT_FILENO, "\n", 1) == 1 ? 0 : err_set(err, ERR_UNKNOWN, "io", "no output");
}

int ctl_text(struct ctl *ctl, struct err *err)
{
    return print_result(ctl, "/text", err);
}
