/* SPDX-License-Identifier: Apache-2.0 */
/* PKGS: libcurl libcrypto */
/* SRCS: tests/unit/scripted_server.c */
/*
 * The HTTP client against a server that does what a test tells it to: answers, falls silent, cuts.
 */
#include "libcommon/http.h"
#include "tests/unit/scripted_server.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static struct http_client *client;
static char url[64];

static void begin(const struct step *steps, int n_steps)
{
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/a", server_start(steps, n_steps));
    assert_int_equal(http_client_new(NULL, &client, NULL), 0);
}

static void end(void)
{
    http_client_free(client); /* closes the connections the server waits on */
    server_stop();
}

static int call(const struct http_request *req, struct http_response *resp, struct err *err)
{
    *err = ERR_INIT;
    return http_call(client, req, resp, err);
}

static void test_get(void **state)
{
    static const struct step steps[] = {
        {.answer =
             "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-One:  first  \r\netag: \"e\"\r\n\r\nhello"},
        {.answer = "HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n"},
        {.answer = "HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"},
    };
    static const char *const headers[] = {"X-Mine: 1", "Content-Type: text/plain"};
    struct http_request req = {.url = url, .headers = headers, .n_headers = 2};
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    struct err err;

    (void)state;
    begin(steps, ARRAY_LEN(steps));
    assert_int_equal(call(&req, &resp, &err), 0);
    assert_int_equal(resp.status, 200);
    assert_string_equal(resp.body.data, "hello");
    assert_int_equal(resp.body_bytes, 5);
    assert_string_equal(http_header_get(&resp, "x-ONE"), "first");
    assert_string_equal(http_header_get(&resp, "ETag"), "\"e\"");
    assert_null(http_header_get(&resp, "X-Two"));
    assert_non_null(strstr(server.last, "GET /a HTTP/1.1\r\n"));
    assert_non_null(strstr(server.last, "\r\nX-Mine: 1\r\n"));
    http_response_done(&resp);
    assert_int_equal(call(&req, &resp, &err), 0); /* a redirect is an answer like others */
    assert_int_equal(resp.status, 302);
    http_response_done(&resp);
    assert_int_equal(call(&req, &resp, &err), 0);
    assert_int_equal(resp.status, 204);
    assert_null(http_header_get(&resp, "X-Early"));
    assert_int_equal(atomic_load(&server.connections), 1); /* all over one connection */
    end();
}

static void test_bodies(void **state)
{
    static const struct step ok = {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"};
    const struct step steps[] = {ok, ok, ok};
    struct http_request req = {.method = "POST", .url = url, .body = "some bytes", .body_len = 10};
    struct err err;
    char path[] = "/tmp/test-http-XXXXXX";
    CLEANUP(fd_cleanup) int fd = mkstemp(path);
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;

    (void)state;
    begin(steps, ARRAY_LEN(steps));
    assert_int_equal(call(&req, &resp, &err), 0);
    assert_non_null(strstr(server.last, "Content-Length: 10\r\n"));
    assert_null(strcasestr(server.last, "Expect:"));
    assert_string_equal(strstr(server.last, "\r\n\r\n") + 4, "some bytes");
    http_response_done(&resp);

    unlink(path);
    assert_int_equal(write(fd, "0123456789", 10), 10);
    req = (struct http_request){.method = "PUT",
                                .url = url,
                                .body_from_fd = true,
                                .body_fd = fd,
                                .body_offset = 3,
                                .body_len = 4,
                                .sink_to_fd = true,
                                .sink_fd = fd};
    assert_int_equal(call(&req, &resp, &err), 0);
    assert_string_equal(strstr(server.last, "\r\n\r\n") + 4, "3456");
    char back[3] = "";
    assert_int_equal(pread(fd, back, 2, 10), 2); /* the answer went behind what was written */
    assert_string_equal(back, "ok");
    http_response_done(&resp);

    req.body_len = 400;
    assert_int_equal(call(&req, &resp, &err), -1);
    assert_string_equal(err.code, "io");
    end();
}

static ssize_t three_times(void *ctx, char *data, size_t size, struct err *err)
{
    int *n = ctx;

    (void)err;
    assert_true(size > 6);
    if (*n == 3) {
        return 0;
    }
    memcpy(data, "abcdef", 6);
    (*n)++;
    return 6;
}

static ssize_t broken(void *ctx, char *data, size_t size, struct err *err)
{
    (void)ctx, (void)data, (void)size;
    return err_set(err, ERR_UNKNOWN, "own", "the source broke");
}

static void test_source(void **state)
{
    static const struct step steps[] = {
        {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
        {.reset = true},
        {.reset = true},
    };
    int n = 0;
    struct http_request req = {
        .method = "PUT", .url = url, .source = three_times, .source_ctx = &n, .source_len = -1};
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    struct err err;

    (void)state;
    begin(steps, ARRAY_LEN(steps));
    assert_int_equal(call(&req, &resp, &err), 0);
    assert_non_null(strstr(server.last, "6\r\nabcdef\r\n6\r\nabcdef\r\n6\r\nabcdef\r\n0\r\n\r\n"));
    http_response_done(&resp);
    n = 0;
    assert_int_equal(call(&req, &resp, &err), -1); /* cannot be had again: no repeat */
    assert_string_equal(err.code, "http_reset");
    assert_int_equal(atomic_load(&server.requests), 2);
    req.source = broken;
    assert_int_equal(call(&req, &resp, &err), -1);
    assert_string_equal(err.code, "own");
    end();
}

static int count_bytes(void *ctx, const char *data, size_t len, struct err *err)
{
    size_t *n = ctx;

    (void)data, (void)err;
    *n += len;
    return 0;
}

static int refuse(void *ctx, const char *data, size_t len, struct err *err)
{
    (void)ctx, (void)data, (void)len;
    return err_set(err, ERR_PERMANENT, "own", "no more");
}

static void test_sink(void **state)
{
    static const struct step steps[] = {
        {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"},
        {.answer = "HTTP/1.1 500 Oops\r\nContent-Length: 5\r\n\r\nerror"},
        {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"},
        {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"},
        {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"},
    };
    size_t n = 0;
    struct http_request req = {.url = url, .sink = count_bytes, .sink_ctx = &n};
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    struct err err;

    (void)state;
    begin(steps, ARRAY_LEN(steps));
    assert_int_equal(call(&req, &resp, &err), 0);
    assert_int_equal(n, 4);
    assert_int_equal(resp.body.len, 0);
    http_response_done(&resp);
    assert_int_equal(call(&req, &resp, &err), 0); /* an error document is not for the sink */
    assert_int_equal(n, 4);
    assert_string_equal(resp.body.data, "error");
    http_response_done(&resp);
    req.sink_status = 206;
    assert_int_equal(call(&req, &resp, &err), 0);
    assert_int_equal(resp.status, 200);
    assert_int_equal(n, 4);
    http_response_done(&resp);
    req.sink_status = 0;
    req.sink = refuse;
    assert_int_equal(call(&req, &resp, &err), -1);
    assert_string_equal(err.code, "own");
    req.sink = count_bytes;
    req.max_response = 3;
    assert_int_equal(call(&req, &resp, &err), -1);
    assert_string_equal(err.code, "too_large");
    assert_int_equal(err.class, ERR_PERMANENT);
    end();
}

static void test_reset(void **state)
{
    static const struct step steps[] = {
        {.reset = true},
        {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond", .close = true},
        {.reset = true},
        {.close = true},
        {.reset = true},
        {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this", .close = true},
    };
    struct http_request req = {.method = "PUT", .url = url, .body = "body", .body_len = 4};
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    struct err err;

    (void)state;
    begin(steps, ARRAY_LEN(steps));
    assert_int_equal(call(&req, &resp, &err), 0); /* repeated once, with the whole body */
    assert_string_equal(resp.body.data, "second");
    assert_string_equal(strstr(server.last, "\r\n\r\n") + 4, "body");
    http_response_done(&resp);
    assert_int_equal(call(&req, &resp, &err), -1); /* not twice */
    assert_int_equal(err.class, ERR_TRANSIENT);
    assert_string_equal(err.code, "http_reset");
    assert_int_equal(atomic_load(&server.requests), 4);
    req.no_repeat = true;
    assert_int_equal(call(&req, &resp, &err), -1);
    assert_int_equal(atomic_load(&server.requests), 5);
    assert_int_equal(call(&req, &resp, &err), -1); /* a body that was cut */
    assert_int_equal(err.class, ERR_TRANSIENT);
    assert_string_equal(err.code, "http_reset");
    end();
}

static void *raise_flag(void *ctx)
{
    atomic_bool *flag = ctx;

    usleep(200000);
    atomic_store(flag, true);
    return NULL;
}

static void test_silence(void **state)
{
    static const struct step steps[] = {{.silence_ms = 700, .close = true},
                                        {.silence_ms = 2500, .close = true}};
    struct http_request req = {.url = url, .timeout_ms = 300};
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    struct err err;
    atomic_bool flag = false;
    pthread_t thread;

    (void)state;
    begin(steps, ARRAY_LEN(steps));
    uint64_t start = clock_mono_ms();
    assert_int_equal(call(&req, &resp, &err), -1);
    assert_int_equal(err.class, ERR_TRANSIENT);
    assert_string_equal(err.code, "http_timeout");
    assert_in_range(clock_mono_ms() - start, 250, 5000);

    req.timeout_ms = 10000;
    req.abort = &flag;
    assert_int_equal(pthread_create(&thread, NULL, raise_flag, &flag), 0);
    start = clock_mono_ms();
    assert_int_equal(call(&req, &resp, &err), -1);
    pthread_join(thread, NULL);
    assert_string_equal(err.code, "aborted");
    assert_in_range(clock_mono_ms() - start, 150, 5000);
    assert_int_equal(call(&req, &resp, &err), -1); /* not even begun */
    assert_string_equal(err.code, "aborted");
    end();
}

static void test_refused(void **state)
{
    static const struct {
        const char *url;
        enum err_class class;
        const char *code;
    } cases[] = {
        {"http://127.0.0.1:1/", ERR_TRANSIENT, "http_connect"},
        {"ftp://127.0.0.1/", ERR_PERMANENT, "http_url"},
        {"file:///etc/passwd", ERR_PERMANENT, "http_url"},
        {"http://[bad", ERR_PERMANENT, "http_url"},
        {"", ERR_PERMANENT, "http_url"},
    };
    static const char *const headers[] = {"X-Bad: a\r\nX-Smuggled: b"};
    CLEANUP(http_client_cleanup) struct http_client *own = NULL;
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    struct err err;

    (void)state;
    assert_int_equal(http_client_new(NULL, &own, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct http_request req = {.url = cases[i].url, .timeout_ms = 3000};
        assert_int_equal(http_call(own, &req, &resp, &err), -1);
        assert_string_equal(err.code, cases[i].code);
        assert_int_equal(err.class, cases[i].class);
    }
    struct http_request req = {
        .url = "http://127.0.0.1:1/", .headers = headers, .n_headers = 1, .timeout_ms = 1000};
    assert_int_equal(http_call(own, &req, &resp, &err), -1);
    assert_string_equal(err.code, "http_url");
}

static void test_bounds(void **state)
{
    CLEANUP(buf_done) struct buf answer = {.max = SCRIPTED_REQUEST_MAX};
    struct step steps[1] = {{.close = true}};
    struct http_request req = {.url = url};
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    struct err err;

    (void)state;
    assert_int_equal(buf_puts(&answer, "HTTP/1.1 404 Not Found\r\n", NULL), 0);
    for (int i = 0; i < 60; i++) {
        assert_int_equal(buf_printf(&answer, NULL, "X-%d: %0500d\r\n", i, i), 0);
    }
    assert_int_equal(buf_puts(&answer, "\r\n", NULL), 0);
    for (int i = 0; i < 3000; i++) {
        assert_int_equal(buf_printf(&answer, NULL, "%0100d", i), 0);
    }
    steps[0].answer = answer.data;
    begin(steps, 1);
    assert_int_equal(call(&req, &resp, &err), 0);
    assert_int_equal(resp.status, 404);
    assert_int_equal(resp.body.len, HTTP_ERROR_BODY_MAX);
    assert_in_range(resp.n_headers, 20, HTTP_HEADERS_MAX);
    assert_true(resp.header_len <= HTTP_HEADER_BYTES_MAX);
    assert_non_null(http_header_get(&resp, "X-7"));
    assert_null(http_header_get(&resp, "X-59"));
    end();
}

static void assert_wait(const char *value, int64_t want)
{
    struct http_response resp = HTTP_RESPONSE_INIT;

    if (value) {
        resp.headers[0] = (struct http_header){.name = "retry-after", .value = value};
        resp.n_headers = 1;
    }
    assert_int_equal(http_retry_after_ms(&resp, 784111777000), want);
}

static void test_retry_after(void **state)
{
    (void)state;
    assert_wait(NULL, -1);
    assert_wait("", -1);
    assert_wait("soon", -1);
    assert_wait("-5", -1);
    assert_wait("0", 0);
    assert_wait("7", 7000);
    assert_wait("3601", HTTP_RETRY_AFTER_MAX);
    assert_wait("99999999999999999999999", HTTP_RETRY_AFTER_MAX);
    assert_wait("Sun, 06 Nov 1994 08:49:47 GMT", 10000);
    assert_wait("Sun, 06 Nov 1994 08:49:27 GMT", 0);
    assert_wait("Sun, 06 Nov 2094 08:49:37 GMT", HTTP_RETRY_AFTER_MAX);
}

static void test_status(void **state)
{
    static const struct {
        int status;
        enum err_class class;
    } cases[] = {{408, ERR_TRANSIENT}, {429, ERR_TRANSIENT}, {500, ERR_TRANSIENT},
                 {503, ERR_TRANSIENT}, {400, ERR_PERMANENT}, {404, ERR_PERMANENT},
                 {302, ERR_UNKNOWN}};
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(http_error_from_status(&err, cases[i].status, "the service"), -1);
        assert_int_equal(err.class, cases[i].class);
    }
    assert_string_equal(err.msg, "the service: HTTP 302");
    CLEANUP(buf_done) struct buf buf = {.max = 100};
    assert_int_equal(http_encode(&buf, "a b/\xc3\xbc~+", true, NULL), 0);
    assert_string_equal(buf.data, "a%20b/%C3%BC~%2B");
    buf_reset(&buf);
    assert_int_equal(http_encode(&buf, "/", false, NULL), 0);
    assert_string_equal(buf.data, "%2F");
}

static void *many_calls(void *ctx)
{
    struct http_request req = {.url = url};
    struct err err;

    (void)ctx;
    for (int i = 0; i < 20; i++) {
        CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
        if (call(&req, &resp, &err) < 0 || resp.status != 200) {
            return url;
        }
    }
    return NULL;
}

/* The server serves one connection after another, so each answer ends its connection. */
static void test_threads(void **state)
{
    struct step steps[80];
    pthread_t threads[4];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        steps[i] = (struct step){
            .answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
            .close = true};
    }
    begin(steps, ARRAY_LEN(steps));
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, many_calls, NULL), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        void *result = NULL;
        pthread_join(threads[i], &result);
        assert_null(result);
    }
    assert_int_equal(atomic_load(&server.requests), 80);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get),         cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_source),      cmocka_unit_test(test_sink),
        cmocka_unit_test(test_reset),       cmocka_unit_test(test_silence),
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_retry_after), cmocka_unit_test(test_status),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
