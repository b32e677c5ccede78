/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The exporter. Field numbers are those of opentelemetry-proto 1.x (trace/v1/trace.proto,
 * common/v1/common.proto, collector/trace/v1/trace_service.proto); statuses that are tried again,
 * and that a partial success is not, are as the OTLP specification has it.
 * A span is written down when it ends, so that the queue holds bytes and nothing else.
 */
#include "libcommon/otlp.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/buf.h"
#include "libcommon/http.h"
#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "libcommon/protobuf.h"
#include "libcommon/trace.h"

#define QUEUE_MAX 4096U
#define BATCH_MAX 512U
#define BATCH_MS 1000U
#define SPAN_BYTES_MAX 4096U
#define BODY_MAX ((size_t)BATCH_MAX * SPAN_BYTES_MAX)
#define ANSWER_MAX 65536U
#define TIMEOUT_MS 10000U
#define TRIES_MAX 5
#define WAIT_FIRST_MS 1000U
#define WAIT_MAX_MS 30000U
#define STOP_MS 3000U
#define HEADERS_MAX 8U
#define TELL_EVERY_MS 60000U

struct piece {
    size_t len;
    unsigned char data[];
};

struct otlp {
    struct http_client *http;
    char url[512];
    char *headers[HEADERS_MAX + 1];
    size_t n_headers;
    unsigned char resource[512];
    size_t resource_len;
    pthread_t thread;
    pthread_mutex_t lock; /* all below */
    pthread_cond_t wake;
    struct piece *queue[QUEUE_MAX];
    size_t head, n;
    bool stop;
    uint64_t stop_until;
    uint64_t told_ms; /* of the thread alone */
};

/* The one exporter of the process; spans end in any thread. Set before threads, cleared last. */
static struct otlp *active;

static void count(const char *outcome, double n)
{
    char labels[40];

    snprintf(labels, sizeof(labels), "outcome=\"%s\"", outcome);
    metrics_add("docfleet_trace_spans_total", labels, n);
}

/* Spans as bytes --------------------------------------------------------------------------------*/

static void put_text(struct pb *pb, unsigned field, const char *key, const char *value)
{
    size_t kv = pb_begin(pb, field);
    pb_string(pb, 1, key);
    size_t any = pb_begin(pb, 2);
    pb_string(pb, 1, value);
    pb_end(pb, any);
    pb_end(pb, kv);
}

static void put_attr(struct pb *pb, unsigned field, const struct trace_attr *attr)
{
    if (attr->is_text) {
        put_text(pb, field, attr->key, attr->text);
        return;
    }
    size_t kv = pb_begin(pb, field);
    pb_string(pb, 1, attr->key);
    size_t any = pb_begin(pb, 2);
    pb_varint(pb, 3, (uint64_t)attr->number);
    pb_end(pb, any);
    pb_end(pb, kv);
}

static void put_span(struct pb *pb, const struct trace_span *span, uint64_t end_ns)
{
    pb_bytes(pb, 1, span->ctx.trace, sizeof(span->ctx.trace));
    pb_bytes(pb, 2, span->ctx.span, sizeof(span->ctx.span));
    if (span->has_parent) {
        pb_bytes(pb, 4, span->parent, sizeof(span->parent));
    }
    pb_string(pb, 5, span->name);
    pb_varint(pb, 6, (uint64_t)span->kind);
    pb_fixed64(pb, 7, span->start_ns);
    pb_fixed64(pb, 8, end_ns);
    for (size_t i = 0; i < span->n_attrs; i++) {
        put_attr(pb, 9, &span->attrs[i]);
    }
    if (span->has_link) {
        size_t link = pb_begin(pb, 13);
        pb_bytes(pb, 1, span->link.trace, sizeof(span->link.trace));
        pb_bytes(pb, 2, span->link.span, sizeof(span->link.span));
        pb_end(pb, link);
    }
    if (span->failed) {
        size_t status = pb_begin(pb, 15);
        pb_string(pb, 2, span->error);
        pb_varint(pb, 3, 2); /* STATUS_CODE_ERROR */
        pb_end(pb, status);
    }
}

/* The sink: in the thread that ended the span. */
static void take_span(const struct trace_span *span, uint64_t end_ns)
{
    struct otlp *otlp = active;
    unsigned char data[SPAN_BYTES_MAX];
    struct pb pb = {.at = data, .end = data + sizeof(data)};

    size_t outer = pb_begin(&pb, 2); /* ScopeSpans.spans */
    put_span(&pb, span, end_ns);
    pb_end(&pb, outer);
    size_t len = (size_t)(pb.at - data);
    struct piece *piece = pb.full ? NULL : malloc(sizeof(*piece) + len);
    if (!piece) {
        count("dropped", 1);
        return;
    }
    piece->len = len;
    memcpy(piece->data, data, len);
    pthread_mutex_lock(&otlp->lock);
    bool room = otlp->n < QUEUE_MAX;
    if (room) {
        otlp->queue[(otlp->head + otlp->n++) % QUEUE_MAX] = piece;
        if (otlp->n == BATCH_MAX) {
            pthread_cond_signal(&otlp->wake);
        }
    }
    pthread_mutex_unlock(&otlp->lock);
    if (!room) {
        free(piece);
        count("dropped", 1);
    }
}

/* Batches ---------------------------------------------------------------------------------------*/

/* ExportTraceServiceRequest with one resource and one scope. */
static int make_body(const struct otlp *otlp, struct piece *const *pieces, size_t n,
                     struct buf *body, struct err *err)
{
    static const unsigned char scope[] = "\x0a\x0a\x0a\x08"
                                         "docfleet"; /* scope { name } */
    const size_t scope_len = sizeof(scope) - 1;
    unsigned char head[2 * PB_HEAD_MAX];
    size_t spans = scope_len;

    for (size_t i = 0; i < n; i++) {
        spans += pieces[i]->len;
    }
    size_t inner = pb_head(head, 2, spans); /* scope_spans */
    size_t all = otlp->resource_len + inner + spans;
    size_t outer = pb_head(head + PB_HEAD_MAX, 1, all); /* resource_spans */
    if (buf_append(body, head + PB_HEAD_MAX, outer, err) < 0 ||
        buf_append(body, otlp->resource, otlp->resource_len, err) < 0 ||
        buf_append(body, head, inner, err) < 0 || buf_append(body, scope, scope_len, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        if (buf_append(body, pieces[i]->data, pieces[i]->len, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ExportTraceServiceResponse: partial_success { rejected_spans, error_message }. */
static double rejected_of(const struct http_response *resp)
{
    uint64_t rejected = 0;
    struct pb_view all = {(const unsigned char *)resp->body.data, resp->body.len}, partial;

    if (resp->body.data && pb_find_bytes(&all, 1, &partial) &&
        pb_find_varint(&partial, 1, &rejected) && rejected <= BATCH_MAX) {
        return (double)rejected;
    }
    return 0;
}

static bool worth_repeating(int status)
{
    return status == 429 || status == 502 || status == 503 || status == 504;
}

static void tell(struct otlp *otlp, const struct err *err)
{
    uint64_t now = clock_mono_ms();

    if (otlp->told_ms == 0 || now - otlp->told_ms > TELL_EVERY_MS) {
        otlp->told_ms = now;
        log_err(LOG_WARN, "traces not exported", err);
    }
}

/* One try: 1 done (also: refused for good), 0 to be tried again after *ret_wait_ms. */
static int send_once(struct otlp *otlp, const struct buf *body, size_t n, int tries,
                     int64_t *ret_wait_ms)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    struct err err = ERR_INIT;
    pthread_mutex_lock(&otlp->lock);
    bool last = otlp->stop;
    pthread_mutex_unlock(&otlp->lock);
    const struct http_request request = {.method = "POST",
                                         .url = otlp->url,
                                         .headers = (const char *const *)otlp->headers,
                                         .n_headers = otlp->n_headers,
                                         .body = body->data,
                                         .body_len = body->len,
                                         .max_response = ANSWER_MAX,
                                         .timeout_ms = last ? STOP_MS : TIMEOUT_MS,
                                         .connect_timeout_ms = last ? 1000 : 0};

    *ret_wait_ms = -1;
    if (http_call(otlp->http, &request, &resp, &err) == 0) {
        if (resp.status >= 200 && resp.status < 300) {
            double rejected = rejected_of(&resp);
            count("exported", (double)n - rejected);
            if (rejected > 0) {
                count("rejected", rejected);
            }
            return 1;
        }
        http_error_from_status(&err, resp.status, "the collector");
        *ret_wait_ms = http_retry_after_ms(&resp, clock_wall_ms());
        if (!worth_repeating(resp.status)) {
            tries = TRIES_MAX;
        }
    } else if (err.class != ERR_TRANSIENT) {
        tries = TRIES_MAX;
    }
    if (tries >= TRIES_MAX || last) {
        tell(otlp, &err);
        count("failed", (double)n);
        return 1;
    }
    return 0;
}

/* Waits; false when the end came. */
static bool wait_ms(struct otlp *otlp, uint64_t ms)
{
    uint64_t until = clock_mono_ms() + ms;
    struct timespec ts = {.tv_sec = (time_t)(until / 1000),
                          .tv_nsec = (long)(until % 1000) * 1000000L};

    pthread_mutex_lock(&otlp->lock);
    while (!otlp->stop && clock_mono_ms() < until) {
        pthread_cond_timedwait(&otlp->wake, &otlp->lock, &ts);
    }
    bool on = !otlp->stop;
    pthread_mutex_unlock(&otlp->lock);
    return on;
}

static void send_batch(struct otlp *otlp, struct piece *const *pieces, size_t n)
{
    CLEANUP(buf_done) struct buf body;
    struct err err = ERR_INIT;
    uint64_t backoff = WAIT_FIRST_MS;
    int64_t wait;

    buf_init(&body, BODY_MAX);
    if (make_body(otlp, pieces, n, &body, &err) < 0) {
        tell(otlp, &err);
        count("failed", (double)n);
        return;
    }
    for (int tries = 1; send_once(otlp, &body, n, tries, &wait) == 0; tries++) {
        uint64_t jitter = clock_mono_us() % (backoff / 2 + 1);
        wait_ms(otlp, wait >= 0 ? min_u64((uint64_t)wait, WAIT_MAX_MS) : backoff / 2 + jitter);
        backoff = min_u64(backoff * 2, WAIT_MAX_MS);
    }
}

static void *send_loop(void *arg)
{
    struct otlp *otlp = arg;
    struct piece *pieces[BATCH_MAX];

    for (;;) {
        pthread_mutex_lock(&otlp->lock);
        bool stop = otlp->stop;
        bool waits = otlp->n < BATCH_MAX && !stop;
        pthread_mutex_unlock(&otlp->lock);
        if (waits) {
            uint64_t until = clock_mono_ms() + BATCH_MS;
            struct timespec ts = {.tv_sec = (time_t)(until / 1000),
                                  .tv_nsec = (long)(until % 1000) * 1000000L};
            pthread_mutex_lock(&otlp->lock);
            if (otlp->n < BATCH_MAX && !otlp->stop) {
                pthread_cond_timedwait(&otlp->wake, &otlp->lock, &ts);
            }
            pthread_mutex_unlock(&otlp->lock);
        }
        pthread_mutex_lock(&otlp->lock);
        size_t n = min_size(otlp->n, BATCH_MAX);
        for (size_t i = 0; i < n; i++) {
            pieces[i] = otlp->queue[(otlp->head + i) % QUEUE_MAX];
        }
        otlp->head = (otlp->head + n) % QUEUE_MAX;
        otlp->n -= n;
        bool over = otlp->stop && (n == 0 || clock_mono_ms() > otlp->stop_until);
        pthread_mutex_unlock(&otlp->lock);
        if (n > 0 && !over) {
            send_batch(otlp, pieces, n);
        } else if (n > 0) {
            count("dropped", (double)n);
        }
        for (size_t i = 0; i < n; i++) {
            free(pieces[i]);
        }
        if (over) {
            return NULL;
        }
    }
}

/* Start and end ---------------------------------------------------------------------------------*/

static int add_header(struct otlp *otlp, const char *line, struct err *err)
{
    if (otlp->n_headers == HEADERS_MAX) {
        return err_set(err, ERR_FATAL, "invalid_config", "OTLP_HEADERS has too many headers");
    }
    otlp->headers[otlp->n_headers] = strdup(line);
    return otlp->headers[otlp->n_headers++] ? 0 : err_nomem(err);
}

/* name=value,name=value */
static int add_headers(struct otlp *otlp, const char *text, struct err *err)
{
    CLEANUP(free_cleanup) char *copy = strdup(text);
    char *save = NULL;

    if (!copy || add_header(otlp, "Content-Type: application/x-protobuf", err) < 0) {
        return err_nomem(err);
    }
    for (char *item = strtok_r(copy, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
        CLEANUP(free_cleanup) char *line = NULL;
        char *eq = strchr(item, '=');
        if (!eq || eq == item) {
            return err_set(err, ERR_FATAL, "invalid_config",
                           "OTLP_HEADERS is name=value, comma separated");
        }
        *eq = '\0';
        if (asprintf(&line, "%s: %s", item, eq + 1) < 0) {
            line = NULL;
            return err_nomem(err);
        }
        if (add_header(otlp, line, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static void make_resource(struct otlp *otlp, const struct otlp_config *config)
{
    struct pb pb = {.at = otlp->resource, .end = otlp->resource + sizeof(otlp->resource)};
    size_t resource = pb_begin(&pb, 1);

    put_text(&pb, 1, "service.name", config->service);
    put_text(&pb, 1, "service.namespace", "docfleet");
    put_text(&pb, 1, "service.version", config->version);
    put_text(&pb, 1, "service.instance.id", config->instance);
    pb_end(&pb, resource);
    otlp->resource_len = pb.full ? 0 : (size_t)(pb.at - otlp->resource);
}

static void otlp_free(struct otlp *otlp)
{
    if (!otlp) {
        return;
    }
    for (size_t i = 0; i < otlp->n_headers; i++) {
        explicit_bzero(otlp->headers[i], strlen(otlp->headers[i]));
        free(otlp->headers[i]);
    }
    http_client_free(otlp->http);
    pthread_mutex_destroy(&otlp->lock);
    pthread_cond_destroy(&otlp->wake);
    free(otlp);
}
DEFINE_CLEANUP(struct otlp *, otlp_cleanup, otlp_free)

int otlp_start(const struct otlp_config *config, struct otlp **ret_otlp, struct err *err)
{
    CLEANUP(otlp_cleanup) struct otlp *otlp = calloc(1, sizeof(*otlp));
    const struct http_client_config http = {.ca_file = config->ca_file, .max_idle = 1};
    size_t len = strlen(config->endpoint);
    pthread_condattr_t attr;

    if (!otlp) {
        return err_nomem(err);
    }
    pthread_mutex_init(&otlp->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&otlp->wake, &attr);
    pthread_condattr_destroy(&attr);
    while (len > 0 && config->endpoint[len - 1] == '/') {
        len--;
    }
    if ((strncmp(config->endpoint, "http://", 7) != 0 &&
         strncmp(config->endpoint, "https://", 8) != 0) ||
        len + sizeof("/v1/traces") > sizeof(otlp->url)) {
        return err_set(err, ERR_FATAL, "invalid_config",
                       "DOCFLEET_OTLP_ENDPOINT is not an http or https address");
    }
    snprintf(otlp->url, sizeof(otlp->url), "%.*s/v1/traces", (int)len, config->endpoint);
    make_resource(otlp, config);
    if (add_headers(otlp, config->headers, err) < 0 ||
        http_client_new(&http, &otlp->http, err) < 0) {
        return -1;
    }
    if (pthread_create(&otlp->thread, NULL, send_loop, otlp) != 0) {
        return err_set(err, ERR_FATAL, "internal", "cannot start a thread");
    }
    active = otlp;
    trace_setup(take_span, config->sample);
    *ret_otlp = STEAL(otlp);
    return 0;
}

void otlp_stop(struct otlp *otlp)
{
    if (!otlp) {
        return;
    }
    trace_setup(NULL, 0);
    pthread_mutex_lock(&otlp->lock);
    otlp->stop = true;
    otlp->stop_until = clock_mono_ms() + STOP_MS;
    pthread_cond_signal(&otlp->wake);
    pthread_mutex_unlock(&otlp->lock);
    pthread_join(otlp->thread, NULL);
    active = NULL;
    otlp_free(otlp);
}
