/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docfleetctl canary: a small picture goes the way of every upload, through all stages, and what
 * comes of it is looked at as its owner would. Once, or again and again with metrics.
 * Invariant: it knows of docfleet only what the API says; a fleet that lies to its users fails it.
 * Refuses to keep more than one file of a run that failed: that one is for whoever looks.
 */
#include <stdio.h>
#include <string.h>

#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "services/docfleetctl/client.h"

#define DATASET_NAME "docfleet canary"
#define POLL_MS 500
#define ANSWER_MAX (4U * 1024 * 1024)
#define CALL_TIMEOUT_MS 15000U
/* A run may take this many times its objective before it is given up. */
#define GIVE_UP 5
#define PULSE_MS 120000U

/* What tools/make_canary.py has drawn, and a word it says. */
extern const char canary_png[], canary_png_end[];
__asm__(".section .rodata\n.global canary_png\ncanary_png:\n"
        ".incbin \"services/docfleetctl/canary.png\"\n"
        ".global canary_png_end\ncanary_png_end:\n.byte 0\n.previous\n");
#define CANARY_WORD "CANARY-4711"

struct canary {
    struct api api;
    char dataset[UUID_TEXT];
    char file[UUID_TEXT]; /* of this run; "" : none yet */
    int64_t objective_ms, every_ms;
    uint64_t step_ms;      /* the step began */
    struct health *health; /* NULL: one run */
    int pulse;
    const char *step;
};

/* Steps -----------------------------------------------------------------------------------------*/

static const char *const steps[] = {"dataset", "upload",    "work",   "text", "record",
                                    "preview", "thumbnail", "remove", NULL};

static void begin(struct canary *canary, const char *step)
{
    canary->step = step;
    canary->step_ms = clock_mono_ms();
}

static void end(const struct canary *canary)
{
    char labels[48];

    snprintf(labels, sizeof(labels), "step=\"%s\"", canary->step);
    metrics_set("docfleet_canary_step_seconds", labels,
                (double)(clock_mono_ms() - canary->step_ms) / 1000);
}

static int wrong(struct err *err, const char *what)
{
    return err_set(err, ERR_PERMANENT, "canary", "%s", what);
}

/* A file's part as bytes, whatever its type. */
static int fetch(const struct canary *canary, const char *rest, struct http_response *ret,
                 struct err *err)
{
    CLEANUP(buf_done) struct buf url;
    const char *headers[] = {canary->api.authorization};

    buf_init(&url, 16384);
    if (buf_puts(&url, canary->api.base, err) < 0 ||
        api_path(&url, "/files/", canary->file, rest, err) < 0) {
        return -1;
    }
    const struct http_request request = {.url = url.data,
                                         .headers = headers,
                                         .n_headers = 1,
                                         .max_response = ANSWER_MAX,
                                         .timeout_ms = CALL_TIMEOUT_MS};
    if (http_call(canary->api.http, &request, ret, err) < 0) {
        return -1;
    }
    return ret->status == 200 ? 0 : api_problem(&canary->api, ret, err);
}

static bool holds(const struct http_response *resp, const char *word)
{
    return resp->body.data && memmem(resp->body.data, resp->body.len, word, strlen(word));
}

/* The dataset of former runs, or a new one. */
static int find_dataset(struct canary *canary, struct err *err)
{
    CLEANUP(json_cleanup) json_t *page = NULL;
    CLEANUP(json_cleanup) json_t *made = NULL;
    CLEANUP(json_cleanup) json_t *body = NULL;
    size_t i;
    json_t *item;

    if (canary->dataset[0]) {
        return 0;
    }
    if (api_call(&canary->api, "GET", "/datasets?limit=200", NULL, &page, err) < 0) {
        return -1;
    }
    json_array_foreach(json_object_get(page, "items"), i, item)
    {
        if (strcmp(api_text(item, "name"), DATASET_NAME) == 0) {
            snprintf(canary->dataset, UUID_TEXT, "%s", api_text(item, "id"));
            return 0;
        }
    }
    body = json_pack("{s:s, s:[{s:s, s:s, s:s, s:b}, {s:s, s:s, s:s, s:b}]}", "name", DATASET_NAME,
                     "columns", "name", "Invoice number", "type", "string", "description",
                     "number of the invoice", "required", 0, "name", "Total amount", "type",
                     "money", "description", "total to pay", "required", 0);
    if (!body) {
        return err_nomem(err);
    }
    if (api_call(&canary->api, "POST", "/datasets", body, &made, err) < 0) {
        return -1;
    }
    snprintf(canary->dataset, UUID_TEXT, "%s", api_text(made, "id"));
    return 0;
}

static int send(struct canary *canary, struct err *err)
{
    static const char tail[] = "\r\n--docfleet-canary--\r\n";
    CLEANUP(buf_done) struct buf url;
    CLEANUP(buf_done) struct buf body;
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    CLEANUP(json_cleanup) json_t *doc = NULL;
    const char *headers[] = {canary->api.authorization, "Accept: application/json",
                             "Content-Type: multipart/form-data; boundary=docfleet-canary"};

    buf_init(&url, 16384);
    buf_init(&body, 1U << 20);
    if (buf_puts(&url, canary->api.base, err) < 0 ||
        api_path(&url, "/datasets/", canary->dataset, "/files", err) < 0 ||
        buf_puts(&body,
                 "--docfleet-canary\r\nContent-Disposition: form-data; name=\"file\"; "
                 "filename=\"canary.png\"\r\nContent-Type: image/png\r\n\r\n",
                 err) < 0 ||
        buf_append(&body, canary_png, (size_t)(canary_png_end - canary_png), err) < 0 ||
        buf_puts(&body, tail, err) < 0) {
        return -1;
    }
    const struct http_request request = {.method = "POST",
                                         .url = url.data,
                                         .headers = headers,
                                         .n_headers = ARRAY_LEN(headers),
                                         .body = body.data,
                                         .body_len = body.len,
                                         .max_response = ANSWER_MAX,
                                         .timeout_ms = CALL_TIMEOUT_MS};
    if (http_call(canary->api.http, &request, &resp, err) < 0) {
        return -1;
    }
    if (resp.status / 100 != 2) {
        canary->dataset[0] = '\0'; /* it may have been removed: look again */
        return api_problem(&canary->api, &resp, err);
    }
    if (jget_load(resp.body.data ? resp.body.data : "", resp.body.len, ANSWER_MAX, &doc, err) < 0) {
        return -1;
    }
    snprintf(canary->file, UUID_TEXT, "%s",
             api_text(json_array_get(json_object_get(doc, "files"), 0), "id"));
    return uuid_valid(canary->file) ? 0 : wrong(err, "the upload was taken and has no id");
}

/* 1 when every pipeline of the file has ended well, 0 while it is in work. */
static int look(const struct canary *canary, struct err *err)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    CLEANUP(json_cleanup) json_t *doc = NULL;

    if (fetch(canary, "", &resp, err) < 0 ||
        jget_load(resp.body.data ? resp.body.data : "", resp.body.len, ANSWER_MAX, &doc, err) < 0) {
        return -1;
    }
    const char *state = api_text(doc, "state");
    if (strcmp(state, "done") == 0) {
        return 1;
    }
    if (strcmp(state, "processing") == 0 || strcmp(state, "uploading") == 0) {
        return 0;
    }
    return err_set(err, ERR_PERMANENT, "canary", "file %s is %s", canary->file, state);
}

static void beat(const struct canary *canary)
{
    if (canary->health) {
        health_beat(canary->health, canary->pulse);
    }
}

static int wait_done(struct canary *canary, struct err *err)
{
    uint64_t until = clock_mono_ms() + (uint64_t)canary->objective_ms * GIVE_UP;

    for (;;) {
        int r = look(canary, err);
        if (r != 0 && !(r < 0 && err->class == ERR_TRANSIENT && clock_mono_ms() < until)) {
            return r < 0 ? -1 : 0;
        }
        if (clock_mono_ms() >= until) {
            return err_set(err, ERR_TRANSIENT, "canary", "file %s is not done after %lld s",
                           canary->file, (long long)canary->objective_ms * GIVE_UP / 1000);
        }
        beat(canary);
        if (!ctl_sleep(POLL_MS)) {
            return err_set(err, ERR_TRANSIENT, "cancelled", "the process ends");
        }
    }
}

/* Is a value of the record filled in? */
static int check_record(const struct canary *canary, struct err *err)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    CLEANUP(json_cleanup) json_t *doc = NULL;
    const char *name;
    json_t *value;

    if (fetch(canary, "/record", &resp, err) < 0 ||
        jget_load(resp.body.data ? resp.body.data : "", resp.body.len, ANSWER_MAX, &doc, err) < 0) {
        return -1;
    }
    json_object_foreach(json_object_get(json_array_get(json_object_get(doc, "items"), 0), "values"),
                        name, value)
    {
        if (!json_is_null(value)) {
            return 0;
        }
    }
    return wrong(err, "the record has no value");
}

static int check_part(struct canary *canary, const char *step, const char *rest, const char *word,
                      struct err *err)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;

    begin(canary, step);
    if (fetch(canary, rest, &resp, err) < 0) {
        return -1;
    }
    if (!holds(&resp, word)) {
        return err_set(err, ERR_PERMANENT, "canary", "what came is no %s of it", step);
    }
    end(canary);
    return 0;
}

static int remove_file(const struct canary *canary, const char *file, struct err *err)
{
    CLEANUP(buf_done) struct buf url;
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    const char *headers[] = {canary->api.authorization};

    buf_init(&url, 16384);
    if (buf_puts(&url, canary->api.base, err) < 0 || api_path(&url, "/files/", file, "", err) < 0) {
        return -1;
    }
    const struct http_request request = {.method = "DELETE",
                                         .url = url.data,
                                         .headers = headers,
                                         .n_headers = 1,
                                         .timeout_ms = CALL_TIMEOUT_MS};
    if (http_call(canary->api.http, &request, &resp, err) < 0) {
        return -1;
    }
    return resp.status / 100 == 2 || resp.status == 404 ? 0 : api_problem(&canary->api, &resp, err);
}

/* What former runs left behind, but for the newest: somebody may be looking at it. */
static int remove_old(const struct canary *canary, struct err *err)
{
    CLEANUP(json_cleanup) json_t *page = NULL;
    CLEANUP(buf_done) struct buf path;
    size_t i;
    json_t *item;

    buf_init(&path, 256);
    if (api_path(&path, "/datasets/", canary->dataset, "/files?limit=100&sort=-createdAt", err) <
            0 ||
        api_call(&canary->api, "GET", path.data, NULL, &page, err) < 0) {
        return -1;
    }
    json_array_foreach(json_object_get(page, "items"), i, item)
    {
        if (i > 0 && remove_file(canary, api_text(item, "id"), err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* A run -----------------------------------------------------------------------------------------*/

static int run_steps(struct canary *canary, uint64_t *ret_ms, struct err *err)
{
    canary->file[0] = '\0';
    begin(canary, "dataset");
    if (find_dataset(canary, err) < 0 || remove_old(canary, err) < 0) {
        return -1;
    }
    end(canary);
    uint64_t start = clock_mono_ms();
    begin(canary, "upload");
    if (send(canary, err) < 0) {
        return -1;
    }
    end(canary);
    begin(canary, "work");
    if (wait_done(canary, err) < 0) {
        return -1;
    }
    end(canary);
    if (check_part(canary, "text", "/text", CANARY_WORD, err) < 0) {
        return -1;
    }
    begin(canary, "record");
    if (check_record(canary, err) < 0) {
        return -1;
    }
    end(canary);
    if (check_part(canary, "preview", "/preview/1.webp", "WEBP", err) < 0 ||
        check_part(canary, "thumbnail", "/thumbnail", "WEBP", err) < 0) {
        return -1;
    }
    *ret_ms = clock_mono_ms() - start;
    begin(canary, "remove");
    if (remove_file(canary, canary->file, err) < 0) {
        return -1;
    }
    end(canary);
    return 0;
}

/* -1 when the file did not come through; *ret_ms: how long it took. */
static int run_once(struct canary *canary, uint64_t *ret_ms, struct err *err)
{
    uint64_t start = clock_mono_ms();
    int r = run_steps(canary, ret_ms, err);
    bool slow = r == 0 && *ret_ms > (uint64_t)canary->objective_ms;

    if (r < 0 && atomic_load(&ctl_stop)) {
        return -1;
    }
    *ret_ms = r < 0 ? clock_mono_ms() - start : *ret_ms;
    metrics_set("docfleet_canary_success", "", r < 0 ? 0 : 1);
    metrics_set("docfleet_canary_seconds", "", (double)*ret_ms / 1000);
    metrics_inc("docfleet_canary_runs_total", r < 0  ? "outcome=\"failed\""
                                              : slow ? "outcome=\"slow\""
                                                     : "outcome=\"done\"");
    if (r < 0) {
        err_wrap(err, "step %s", canary->step);
        return -1;
    }
    metrics_set("docfleet_canary_last_success_seconds", "", (double)clock_wall_ms() / 1000);
    return 0;
}

/* Again and again -------------------------------------------------------------------------------*/

static int start_probes(struct canary *canary, const char *listen, struct http_peer *peer,
                        struct err *err)
{
    const struct health_dep gateway = {"gateway", http_peer_check, peer, 0, true};
    const char *colon = strrchr(listen, ':');
    char address[64], *end_of = NULL;
    long port = colon ? strtol(colon + 1, &end_of, 10) : -1;

    if (!colon || (size_t)(colon - listen) >= sizeof(address) || port < 0 || port > 65535 ||
        !end_of || *end_of) {
        return err_set(err, ERR_PERMANENT, "usage", "--listen takes ADDRESS:PORT");
    }
    snprintf(address, sizeof(address), "%.*s", (int)(colon - listen), listen);
    snprintf(peer->url, sizeof(peer->url), "%s/auth/methods", canary->api.base);
    peer->client = canary->api.http;
    if (health_start(address, (int)port, &gateway, 1, &canary->health, err) < 0) {
        return -1;
    }
    canary->pulse = health_pulse(canary->health, "the canary's loop", PULSE_MS);
    log_info("ready", kv_i64("port", health_port(canary->health)));
    return 0;
}

static void show_before_first_run(const struct canary *canary)
{
    metrics_set("docfleet_canary_objective_seconds", "", (double)canary->objective_ms / 1000);
    metrics_add("docfleet_canary_runs_total", "outcome=\"done\"", 0);
    metrics_add("docfleet_canary_runs_total", "outcome=\"slow\"", 0);
    metrics_add("docfleet_canary_runs_total", "outcome=\"failed\"", 0);
    for (size_t i = 0; steps[i]; i++) {
        char labels[48];
        snprintf(labels, sizeof(labels), "step=\"%s\"", steps[i]);
        metrics_add("docfleet_canary_step_seconds", labels, 0);
    }
    /* The fleet has as long as ever to show that it works. */
    metrics_set("docfleet_canary_last_success_seconds", "", (double)clock_wall_ms() / 1000);
}

static int serve(struct canary *canary, const char *listen, struct err *err)
{
    struct http_peer peer;

    if (start_probes(canary, listen, &peer, err) < 0) {
        return -1;
    }
    show_before_first_run(canary);
    while (!atomic_load(&ctl_stop)) {
        uint64_t next = clock_mono_ms() + (uint64_t)canary->every_ms, ms = 0;
        struct err why = ERR_INIT;
        if (run_once(canary, &ms, &why) == 0) {
            log_info("canary came through", kv_u64("ms", ms));
        } else if (!atomic_load(&ctl_stop)) {
            log_err(LOG_WARN, "canary did not come through", &why);
        }
        do {
            beat(canary);
        } while (clock_mono_ms() < next && ctl_sleep(1000));
    }
    health_stop(canary->health);
    return 0;
}

static int duration_option(const struct ctl *ctl, const char *name, const char *usual,
                           int64_t *ret_ms, struct err *err)
{
    const char *text = ctl_option(ctl, name);

    if (config_parse_duration(text ? text : usual, ret_ms) < 0 || *ret_ms < 1000 ||
        *ret_ms > 86400000) {
        return err_set(err, ERR_PERMANENT, "usage", "%s takes a duration from 1s to 1d", name);
    }
    return 0;
}

int ctl_canary(struct ctl *ctl, struct err *err)
{
    struct canary canary = {.pulse = -1};
    const char *listen = ctl_option(ctl, "--listen");
    uint64_t ms = 0;

    if (duration_option(ctl, "--every", "1m", &canary.every_ms, err) < 0 ||
        duration_option(ctl, "--objective", "60s", &canary.objective_ms, err) < 0 ||
        api_open(ctl, false, &canary.api, err) < 0) {
        return -1;
    }
    int r = 0;
    if (listen) {
        r = serve(&canary, listen, err);
    } else if ((r = run_once(&canary, &ms, err)) == 0) {
        printf("the canary came through in %.1f s; it may take %.0f s\n", (double)ms / 1000,
               (double)canary.objective_ms / 1000);
        r = ms <= (uint64_t)canary.objective_ms
                ? 0
                : err_set(err, ERR_PERMANENT, "slow", "slower than its objective");
    }
    api_close(&canary.api);
    return r;
}
