/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One call over a libcurl easy handle from the pool, and the translation of its outcome.
 * A handle keeps its connections when it goes back to the pool, so a busy pair of threads talks
 * over two connections and not over hundreds.
 */
#include "libcommon/http.h"

#include "libcommon/http_intern.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <curl/curl.h>

#define IDLE_MAX 64
#define DEFAULT_IDLE 16
#define DEFAULT_CONNECT_MS 5000
#define DEFAULT_TIMEOUT_MS 60000
#define DEFAULT_RESPONSE (1U << 20)

struct http_client {
    pthread_mutex_t lock; /* idle, n_idle */
    CURL *idle[IDLE_MAX];
    int n_idle;
    int max_idle;
    char *user_agent;
    char *ca_file;
    bool public_only;
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_init_rc;

static void init_curl(void)
{
    curl_init_rc = curl_global_init(CURL_GLOBAL_DEFAULT);
}

int http_client_new(const struct http_client_config *config, struct http_client **ret_client,
                    struct err *err)
{
    static const struct http_client_config defaults = {.max_idle = 0};

    if (!config) {
        config = &defaults;
    }
    pthread_once(&curl_once, init_curl);
    if (curl_init_rc != CURLE_OK) {
        return err_set(err, ERR_FATAL, "internal", "libcurl does not start: %s",
                       curl_easy_strerror(curl_init_rc));
    }
    if (config->ca_file && access(config->ca_file, R_OK) < 0) {
        return err_set(err, ERR_FATAL, "invalid_config", "the CA file %s cannot be read: %s",
                       config->ca_file, strerrordesc_np(errno));
    }
    CLEANUP(http_client_cleanup) struct http_client *client = calloc(1, sizeof(*client));
    if (!client) {
        return err_nomem(err);
    }
    pthread_mutex_init(&client->lock, NULL);
    client->max_idle = config->max_idle > 0 ? config->max_idle : DEFAULT_IDLE;
    if (client->max_idle > IDLE_MAX) {
        client->max_idle = IDLE_MAX;
    }
    client->public_only = config->public_only;
    client->user_agent = strdup(config->user_agent ? config->user_agent : "docfleet");
    client->ca_file = config->ca_file ? strdup(config->ca_file) : NULL;
    if (!client->user_agent || (config->ca_file && !client->ca_file)) {
        return err_nomem(err);
    }
    *ret_client = STEAL(client);
    return 0;
}

void http_client_free(struct http_client *client)
{
    if (!client) {
        return;
    }
    for (int i = 0; i < client->n_idle; i++) {
        curl_easy_cleanup(client->idle[i]);
    }
    pthread_mutex_destroy(&client->lock);
    free(client->user_agent);
    free(client->ca_file);
    free(client);
}

static CURL *client_take(struct http_client *client)
{
    CURL *curl = NULL;

    pthread_mutex_lock(&client->lock);
    if (client->n_idle > 0) {
        curl = client->idle[--client->n_idle];
    }
    pthread_mutex_unlock(&client->lock);
    return curl ? curl : curl_easy_init();
}

static void client_give(struct http_client *client, CURL *curl)
{
    curl_easy_reset(curl);
    pthread_mutex_lock(&client->lock);
    if (client->n_idle < client->max_idle) {
        client->idle[client->n_idle++] = curl;
        curl = NULL;
    }
    pthread_mutex_unlock(&client->lock);
    if (curl) {
        curl_easy_cleanup(curl);
    }
}

static bool is_success(const struct transfer *t)
{
    if (t->request->sink_status) {
        return t->status == t->request->sink_status;
    }
    return t->status >= 200 && t->status < 300;
}

static int write_all(int fd, const char *data, size_t len, struct err *err)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return err_from_errno(err, errno, "writing a response");
        }
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

static int take_success(struct transfer *t, const char *data, size_t len)
{
    const struct http_request *req = t->request;
    uint64_t max = req->max_response ? req->max_response : DEFAULT_RESPONSE;

    if (len > max - t->response->body_bytes) {
        return err_set(&t->err, ERR_PERMANENT, "too_large", "the answer has more than %llu bytes",
                       (unsigned long long)max);
    }
    t->response->body_bytes += len;
    if (req->sink) {
        return req->sink(req->sink_ctx, data, len, &t->err);
    }
    if (req->sink_to_fd) {
        return write_all(req->sink_fd, data, len, &t->err);
    }
    return buf_append(&t->response->body, data, len, &t->err);
}

static size_t on_body(char *data, size_t size, size_t n, void *ctx)
{
    struct transfer *t = ctx;
    size_t len = size * n;

    if (is_success(t)) {
        return take_success(t, data, len) < 0 ? 0 : len;
    }
    size_t room = HTTP_ERROR_BODY_MAX - min_size(t->response->body.len, HTTP_ERROR_BODY_MAX);
    if (buf_append(&t->response->body, data, min_size(len, room), &t->err) < 0) {
        return 0;
    }
    return len;
}

static size_t on_header(char *line, size_t size, size_t n, void *ctx)
{
    struct transfer *t = ctx;
    size_t len = size * n;

    if (len > 5 && memcmp(line, "HTTP/", 5) == 0) {
        /* A new head: of the answer itself, after any "100 Continue". */
        t->status = http_parse_status(line, len);
        http_headers_reset(t->response);
        /* An error body may be longer than the caller's limit for a good one, and vice versa. */
        uint64_t max = t->request->max_response ? t->request->max_response : DEFAULT_RESPONSE;
        t->response->body.max =
            is_success(t) ? (size_t)min_u64(max, SIZE_MAX / 4) : HTTP_ERROR_BODY_MAX;
        return len;
    }
    http_headers_add(t->response, line, len);
    return len;
}

static size_t on_source(char *data, size_t size, size_t n, void *ctx)
{
    struct transfer *t = ctx;
    const struct http_request *req = t->request;
    size_t room = size * n;
    ssize_t got;

    if (req->source) {
        t->source_used = true;
        got = req->source(req->source_ctx, data, room, &t->err);
        return got < 0 || (size_t)got > room ? CURL_READFUNC_ABORT : (size_t)got;
    }
    room = min_size(room, req->body_len - t->sent);
    if (room == 0) {
        return 0;
    }
    if (req->body_from_fd) {
        do {
            got = pread(req->body_fd, data, room, (off_t)(req->body_offset + t->sent));
        } while (got < 0 && errno == EINTR);
        if (got <= 0) {
            if (got < 0) {
                err_from_errno(&t->err, errno, "reading a file to send");
            } else {
                err_set(&t->err, ERR_UNKNOWN, "io", "the file to send is shorter than was said");
            }
            return CURL_READFUNC_ABORT;
        }
    } else {
        memcpy(data, (const char *)req->body + t->sent, room);
        got = (ssize_t)room;
    }
    t->sent += (size_t)got;
    return (size_t)got;
}

static int on_seek(void *ctx, curl_off_t offset, int origin)
{
    struct transfer *t = ctx;

    if (t->request->source || origin != SEEK_SET || offset < 0 ||
        (uint64_t)offset > t->request->body_len) {
        return CURL_SEEKFUNC_CANTSEEK;
    }
    t->sent = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

static int on_progress(void *ctx, curl_off_t dl_total, curl_off_t dl_now, curl_off_t ul_total,
                       curl_off_t ul_now)
{
    const struct transfer *t = ctx;

    (void)dl_total, (void)dl_now, (void)ul_total, (void)ul_now;
    return atomic_load(t->request->abort) ? 1 : 0;
}

/* setopt fails only for lack of memory or for an option the library was built without. */
#define SET(option, value)                                                                         \
    do {                                                                                           \
        if (curl_easy_setopt(curl, option, value) != CURLE_OK) {                                   \
            return err_set(err, ERR_TRANSIENT, "no_memory", "libcurl refused an option");          \
        }                                                                                          \
    } while (0)

static int set_common(CURL *curl, const struct http_client *client, struct transfer *t,
                      struct err *err)
{
    const struct http_request *req = t->request;

    SET(CURLOPT_URL, req->url);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_PATH_AS_IS, 1L); /* an object's key may hold ".." */
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_USERAGENT, client->user_agent);
    SET(CURLOPT_ERRORBUFFER, t->curl_error);
    SET(CURLOPT_HTTPHEADER, t->header_list);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, t);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, t);
    SET(CURLOPT_CONNECTTIMEOUT_MS,
        (long)(req->connect_timeout_ms ? req->connect_timeout_ms : DEFAULT_CONNECT_MS));
    SET(CURLOPT_TIMEOUT_MS, (long)(req->timeout_ms ? req->timeout_ms : DEFAULT_TIMEOUT_MS));
    if (req->no_repeat) {
        SET(CURLOPT_FRESH_CONNECT, 1L); /* libcurl repeats by itself on a kept one that died */
    }
    if (req->low_speed_seconds) {
        SET(CURLOPT_LOW_SPEED_LIMIT, (long)(req->low_speed_bytes ? req->low_speed_bytes : 1));
        SET(CURLOPT_LOW_SPEED_TIME, (long)req->low_speed_seconds);
    }
    if (client->ca_file) {
        SET(CURLOPT_CAINFO, client->ca_file);
    }
    if (client->public_only) {
        SET(CURLOPT_OPENSOCKETFUNCTION, http_open_public);
        SET(CURLOPT_PROXY, "");
    }
    if (req->abort) {
        SET(CURLOPT_NOPROGRESS, 0L);
        SET(CURLOPT_XFERINFOFUNCTION, on_progress);
        SET(CURLOPT_XFERINFODATA, t);
    }
    return 0;
}

static int set_body(CURL *curl, struct transfer *t, struct err *err)
{
    const struct http_request *req = t->request;
    const char *method = req->method ? req->method : "GET";
    bool has_body = req->source || req->body || req->body_from_fd;

    if (strcmp(method, "HEAD") == 0) {
        SET(CURLOPT_NOBODY, 1L);
        return 0;
    }
    if (has_body || strcmp(method, "PUT") == 0 || strcmp(method, "POST") == 0) {
        int64_t len = req->source ? req->source_len : (int64_t)req->body_len;
        SET(CURLOPT_UPLOAD, 1L);
        SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)(has_body ? len : 0));
        SET(CURLOPT_READFUNCTION, on_source);
        SET(CURLOPT_READDATA, t);
        SET(CURLOPT_SEEKFUNCTION, on_seek);
        SET(CURLOPT_SEEKDATA, t);
        SET(CURLOPT_UPLOAD_BUFFERSIZE, 65536L);
    }
    SET(CURLOPT_CUSTOMREQUEST, method);
    return 0;
}

static int add_line(struct transfer *t, const char *line, struct err *err)
{
    struct curl_slist *list = curl_slist_append(t->header_list, line);

    if (!list) {
        return err_nomem(err);
    }
    t->header_list = list;
    return 0;
}

static int make_header_list(struct transfer *t, struct err *err)
{
    const struct http_request *req = t->request;

    for (size_t i = 0; i < req->n_headers; i++) {
        if (strpbrk(req->headers[i], "\r\n")) {
            return err_set(err, ERR_PERMANENT, "http_url", "a header holds a line end");
        }
        if (add_line(t, req->headers[i], err) < 0) {
            return -1;
        }
    }
    /* Waiting for "100 Continue" costs a second at servers that do not know it. */
    return add_line(t, "Expect:", err);
}

static void transfer_done(struct transfer *t)
{
    curl_slist_free_all(t->header_list);
    t->header_list = NULL;
}

static int run(CURL *curl, const struct http_client *client, struct transfer *t, struct err *err)
{
    t->err = ERR_INIT;
    t->sent = 0;
    t->status = 0;
    if (set_common(curl, client, t, err) < 0 || set_body(curl, t, err) < 0) {
        return -1;
    }
    t->rc = curl_easy_perform(curl);
    if (t->rc == CURLE_OK) {
        return 0;
    }
    if (t->err.class != ERR_NONE) {
        *err = t->err; /* a callback ended the call and knows why */
        return -1;
    }
    return err_from_curl(err, (int)t->rc, t->curl_error);
}

/* Only what never reached the caller may be sent again. */
static bool may_repeat(const struct transfer *t)
{
    bool reset =
        t->rc == CURLE_GOT_NOTHING || t->rc == CURLE_SEND_ERROR || t->rc == CURLE_RECV_ERROR;

    return reset && t->err.class == ERR_NONE && !t->request->no_repeat && !t->source_used &&
           t->response->body_bytes == 0;
}

int http_call(struct http_client *client, const struct http_request *request,
              struct http_response *ret_response, struct err *err)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    CLEANUP(transfer_done) struct transfer t = {.request = request, .response = &resp};
    struct err ignored; /* err may be NULL, the decisions below need one */
    uint64_t start = clock_mono_ms();

    if (!err) {
        err = &ignored;
    }
    if (request->abort && atomic_load(request->abort)) {
        return err_set(err, ERR_TRANSIENT, "aborted", "the call was cancelled");
    }
    if (http_headers_init(&resp, err) < 0 || make_header_list(&t, err) < 0) {
        return -1;
    }
    CURL *curl = client_take(client);
    if (!curl) {
        return err_nomem(err);
    }
    int rc = run(curl, client, &t, err);
    if (rc < 0 && may_repeat(&t)) {
        http_headers_reset(&resp);
        buf_reset(&resp.body);
        rc = run(curl, client, &t, err);
    }
    client_give(client, curl);
    if (rc < 0) {
        return -1;
    }
    resp.status = t.status;
    resp.elapsed_ms = (unsigned)(clock_mono_ms() - start);
    *ret_response = resp;
    resp = HTTP_RESPONSE_INIT; /* moved out */
    return 0;
}

int err_from_curl(struct err *err, int curl_code, const char *detail)
{
    const char *text = detail && detail[0] ? detail : curl_easy_strerror((CURLcode)curl_code);

    switch ((CURLcode)curl_code) {
    case CURLE_OPERATION_TIMEDOUT:
        return err_set(err, ERR_TRANSIENT, "http_timeout", "%s", text);
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
        return err_set(err, ERR_TRANSIENT, "http_connect", "%s", text);
    case CURLE_ABORTED_BY_CALLBACK:
        return err_set(err, ERR_TRANSIENT, "aborted", "the call was cancelled");
    case CURLE_OUT_OF_MEMORY:
        return err_nomem(err);
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return err_set(err, ERR_PERMANENT, "http_url", "%s", text);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
        /* The setup is at fault, not what was asked: it must not cost a file its life. */
        return err_set(err, ERR_TRANSIENT, "http_tls", "%s", text);
    default:
        /* Sends, receives, TLS handshakes cut short, partial bodies, broken HTTP. */
        return err_set(err, ERR_TRANSIENT, "http_reset", "%s", text);
    }
}
