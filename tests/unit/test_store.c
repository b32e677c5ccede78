/* SPDX-License-Identifier: Apache-2.0 */
/* PKGS: libcurl libcrypto */
/* SRCS: tests/unit/scripted_server.c */
/*
 * The store without a store: keys, configuration, XML, and what the s3 driver makes of answers that
 * real servers give only on a bad day.
 */
#include "libcommon/store.h"
#include "libcommon/store_s3.h"
#include "tests/unit/scripted_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct store *store;
static char endpoint[64];

#define assert_err(call, want_class, want_code)                                                    \
    do {                                                                                           \
        struct err err_ = ERR_INIT;                                                                \
        struct err *e = &err_;                                                                     \
        assert_int_equal((call), -1);                                                              \
        assert_string_equal(e->code, (want_code));                                                 \
        assert_int_equal(e->class, (want_class));                                                  \
    } while (0)

static void test_keys(void **state)
{
    static const char *const good[] = {"a", "a/b c/\xc3\xbc.txt", "...", "a/.hidden/..x",
                                       "\xf0\x9f\x93\x84"};
    static const char *const bad[] = {"",
                                      "/a",
                                      "a/",
                                      "a//b",
                                      ".",
                                      "..",
                                      "a/../b",
                                      "a/.",
                                      "a\nb",
                                      "a\x7f",
                                      "\x01",
                                      "\xff",
                                      "\xc0\xaf",
                                      "\xed\xa0\x80",
                                      "\xc3",
                                      "\xe2\x82",
                                      "\xf5\x80\x80\x80"};
    char longest[STORE_KEY_MAX + 2];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(store_check_key(good[i], NULL), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_err(store_check_key(bad[i], e), ERR_PERMANENT, "invalid_name");
    }
    assert_err(store_check_key(NULL, e), ERR_PERMANENT, "invalid_name");
    memset(longest, 'k', sizeof(longest));
    longest[STORE_KEY_MAX + 1] = '\0';
    assert_err(store_check_key(longest, e), ERR_PERMANENT, "invalid_name");
    longest[STORE_KEY_MAX] = '\0';
    assert_int_equal(store_check_key(longest, NULL), 0);
}

static void test_config(void **state)
{
    static const char *const bad[] = {"",           "127.0.0.1:1",      "ftp://x",   "http://",
                                      "http://a/b", "http://user@host", "http://a?b"};
    struct store_config config = {
        .driver = "s3", .bucket = "b", .access_key = "a", .secret_key = "s"};
    struct store *opened = NULL;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        config.endpoint = bad[i];
        assert_err(store_open(&config, &opened, e), ERR_FATAL, "config");
    }
    config.endpoint = NULL;
    assert_err(store_open(&config, &opened, e), ERR_FATAL, "config");
    config.endpoint = "https://s3.example.com:443/";
    config.public_endpoint = "ftp://x";
    assert_err(store_open(&config, &opened, e), ERR_FATAL, "config");
    config.public_endpoint = NULL;
    config.driver = "floppy";
    assert_err(store_open(&config, &opened, e), ERR_FATAL, "config");
    config.driver = "s3";
    config.secret_key = "";
    assert_err(store_open(&config, &opened, e), ERR_FATAL, "config");
    config.secret_key = "s";
    assert_int_equal(store_open(&config, &opened, NULL), 0);
    assert_string_equal(opened->authority, "s3.example.com");
    assert_string_equal(opened->endpoint, "https://s3.example.com");
    assert_true(opened->tls);
    store_free(opened);
    store_free(NULL);
    store_upload_free(NULL);
}

static void test_small_parts(void **state)
{
    char etag[80];
    char longest[200];

    (void)state;
    assert_int_equal(store_parse_time("2026-03-01T10:20:30.250Z"), 1772360430250);
    assert_int_equal(store_parse_time("2026-03-01T10:20:30Z"), 1772360430000);
    assert_int_equal(store_parse_time("2026-03-01T10:20:30.1234567Z"), 1772360430123);
    assert_int_equal(store_parse_time("yesterday"), -1);
    assert_int_equal(store_parse_time("2026-03-01T10:20:30+01:00"), -1);
    store_copy_etag(etag, "\"abc\"");
    assert_string_equal(etag, "abc");
    store_copy_etag(etag, "abc");
    assert_string_equal(etag, "abc");
    store_copy_etag(etag, NULL);
    assert_string_equal(etag, "");
    memset(longest, 'e', sizeof(longest));
    longest[199] = '\0';
    store_copy_etag(etag, longest);
    assert_string_equal(etag, "");
}

static int on_xml(void *ctx, const char *name, const char *text, struct err *err)
{
    return text ? buf_printf(ctx, err, "%s=%s;", name, text) : buf_printf(ctx, err, "<%s>", name);
}

static void assert_xml(const char *xml, const char *want)
{
    CLEANUP(buf_done) struct buf out = {.max = 4096};

    int rc = s3_xml_walk(xml, strlen(xml), on_xml, &out, NULL);
    if (!want) {
        assert_int_equal(rc, -1);
        return;
    }
    assert_int_equal(rc, 0);
    assert_string_equal(out.data, want);
}

static void test_xml(void **state)
{
    static const char whole[] = "<?xml version=\"1.0\"?><!-- c --><s:List xmlns:s=\"a>b\" x='>'>"
                                "<Key>a &amp; &lt;b&gt; &#252;&#xFC; &quot;&apos;</Key><Empty/>"
                                "<Inner><Key>2</Key></Inner></s:List>\n";
    CLEANUP(buf_done) struct buf deep = {.max = 4096};
    CLEANUP(buf_done) struct buf out = {.max = 4096};
    char text[6];

    (void)state;
    assert_xml(whole, "<List><Key>Key=a & <b> \xc3\xbc\xc3\xbc \"';<Empty>Empty=;<Inner><Key>Key=2;"
                      "Inner=;List=;");
    for (size_t i = 0; i < strlen(whole) - 1; i++) { /* whatever is cut off, it is noticed */
        assert_int_equal(s3_xml_walk(whole, i, on_xml, &out, NULL), -1);
        buf_reset(&out);
    }
    assert_xml("", NULL);
    assert_xml("plain text", NULL);
    assert_xml("<a></b>", NULL);
    assert_xml("<a></a><b></b>", NULL);
    assert_xml("</a>", NULL);
    assert_xml("<>x</>", NULL);
    assert_xml("<!DOCTYPE a><a/>", NULL);
    assert_xml("<a><![CDATA[x]]></a>", NULL);
    assert_xml("<a>&bomb;</a>", NULL);
    assert_xml("<a>&#0;</a>", NULL);
    assert_xml("<a>&#xD800;</a>", NULL);
    assert_xml("<a>& b</a>", NULL);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(buf_puts(&deep, "<a>", NULL), 0);
    }
    assert_xml(deep.data, NULL);
    assert_true(s3_xml_find("<a><Code>Long code</Code><Code>2</Code></a>", 43, "Code", text, 6));
    assert_string_equal(text, "Long ");
    assert_false(s3_xml_find("<a></a>", 7, "Code", text, 6));
    assert_false(s3_xml_find(NULL, 0, "Code", text, 6));
    assert_int_equal(s3_xml_escape(&out, "<a&\"b\">", NULL), 0);
    assert_string_equal(out.data, "&lt;a&amp;&quot;b&quot;&gt;");
}

static void begin(const struct step *steps, int n_steps)
{
    struct store_config config = {.driver = "s3",
                                  .endpoint = endpoint,
                                  .bucket = "b",
                                  .access_key = "a",
                                  .secret_key = "s",
                                  .timeout_ms = 5000};

    snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%d", server_start(steps, n_steps));
    assert_int_equal(store_open(&config, &store, NULL), 0);
}

static void end(void)
{
    store_free(store);
    server_stop();
}

#define ERROR_XML(code) "<Error><Code>" code "</Code><Message>m</Message></Error>"
#define ANSWER(status, body) "HTTP/1.1 " status "\r\nConnection: close\r\n\r\n" body

static void test_error_answers(void **state)
{
    static const struct {
        const char *answer;
        enum err_class class;
        const char *code;
    } cases[] = {
        {ANSWER("503 Slow", ERROR_XML("SlowDown")), ERR_TRANSIENT, "store_unavailable"},
        {ANSWER("500 Oops", ""), ERR_TRANSIENT, "store_unavailable"},
        {ANSWER("429 Many", ""), ERR_TRANSIENT, "store_unavailable"},
        {ANSWER("400 Bad", ERROR_XML("RequestTimeout")), ERR_TRANSIENT, "store_unavailable"},
        {ANSWER("409 Conflict", ERROR_XML("OperationAborted")), ERR_TRANSIENT, "store_unavailable"},
        {ANSWER("403 No", ERROR_XML("SignatureDoesNotMatch")), ERR_TRANSIENT, "store_denied"},
        {ANSWER("403 No", "not xml"), ERR_TRANSIENT, "store_denied"},
        {ANSWER("400 Bad", ERROR_XML("ExpiredToken")), ERR_TRANSIENT, "store_denied"},
        {ANSWER("301 Moved", ERROR_XML("PermanentRedirect")), ERR_TRANSIENT, "store_denied"},
        {ANSWER("404 Not Found", ERROR_XML("NoSuchBucket")), ERR_TRANSIENT, "store_denied"},
        {ANSWER("404 Not Found", "<html>a web server</html>"), ERR_TRANSIENT, "store_denied"},
        {ANSWER("404 Not Found", ERROR_XML("NoSuchKey")), ERR_PERMANENT, "input_gone"},
        {ANSWER("416 Range", ""), ERR_PERMANENT, "range"},
        {ANSWER("400 Bad", ERROR_XML("BadDigest")), ERR_UNKNOWN, "hash_mismatch"},
        {ANSWER("400 Bad", ERROR_XML("SomethingNew")), ERR_UNKNOWN, "store_refused"},
        {ANSWER("501 Never", ERROR_XML("NotImplemented")), ERR_UNKNOWN, "unsupported"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ncut", ERR_TRANSIENT, "store_unavailable"},
        {"nonsense\r\n\r\n", ERR_TRANSIENT, "store_denied"},
    };
    struct step steps[ARRAY_LEN(cases)];
    struct buf buf;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        steps[i] = (struct step){.answer = cases[i].answer, .close = true};
    }
    begin(steps, ARRAY_LEN(steps));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_err(store_get_mem(store, "k", STORE_WHOLE, 100, &buf, e), cases[i].class,
                   cases[i].code);
    }
    end();
}

static void test_range_answers(void **state)
{
    static const struct step steps[] = {
        {.answer = ANSWER("200 OK", "the whole object"), .close = true},
        {.answer = ANSWER("206 Partial", "12345"), .close = true},
        {.answer = "HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-4/9\r\n\r\n12345",
         .close = true},
        {.answer = "HTTP/1.1 206 Partial\r\nContent-Range: bytes 2-7/9\r\n\r\n12345",
         .close = true},
        {.answer = "HTTP/1.1 206 Partial\r\nContent-Range: bytes 2-6/9\r\n\r\n12345",
         .close = true},
    };
    struct store_range range = {.offset = 2, .length = 5};
    CLEANUP(buf_done) struct buf buf = {.max = 0};

    (void)state;
    begin(steps, ARRAY_LEN(steps));
    assert_err(store_get_mem(store, "k", range, 100, &buf, e), ERR_FATAL, "unsupported");
    for (int i = 0; i < 3; i++) {
        assert_err(store_get_mem(store, "k", range, 100, &buf, e), ERR_TRANSIENT,
                   "store_unavailable");
    }
    assert_int_equal(store_get_mem(store, "k", range, 100, &buf, NULL), 0);
    assert_string_equal(buf.data, "12345");
    assert_non_null(strstr(server.last, "\r\nRange: bytes=2-6\r\n"));
    end();
}

#define BEGUN ANSWER("200 OK", "<R><UploadId>id&amp;1</UploadId></R>")
#define PART "HTTP/1.1 200 OK\r\nETag: \"p\"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

/* Writes one byte more than a part, so that the upload goes in parts. */
static int upload(struct store_stored *stored, struct err *err)
{
    CLEANUP(store_upload_cleanup) struct store_upload *up = NULL;
    CLEANUP(free_cleanup) char *data = calloc(1, STORE_PART_SIZE + 1);

    assert_non_null(data);
    assert_int_equal(store_upload_begin(store, "k \xc3\xbc", NULL, UINT64_MAX, &up, err), 0);
    if (store_upload_write(up, data, STORE_PART_SIZE + 1, err) < 0) {
        return -1;
    }
    return store_upload_commit(up, stored, err);
}

static void test_multipart_answers(void **state)
{
    static const struct step no_id[] = {{.answer = ANSWER("200 OK", "<R/>"), .close = true}};
    static const struct step late[] = {
        {.answer = BEGUN, .close = true},
        {.answer = PART, .close = true},
        {.answer = PART, .close = true},
        {.answer = ANSWER("200 OK", ERROR_XML("InternalError")), .close = true},
        {.answer = ANSWER("204 No Content", ""), .close = true},
    };
    static const struct step silent[] = {
        {.answer = BEGUN, .close = true},
        {.answer = PART, .close = true},
        {.answer = PART, .close = true},
        {.answer = ANSWER("200 OK", ""), .close = true},
        {.answer = ANSWER("500 Oops", ""), .close = true},
    };
    static const struct step good[] = {
        {.answer = BEGUN, .close = true},
        {.answer = PART, .close = true},
        {.answer = PART, .close = true},
        {.answer = ANSWER("200 OK", "<R><ETag>&quot;whole-2&quot;</ETag></R>"), .close = true},
    };
    struct store_stored stored;

    (void)state;
    begin(no_id, ARRAY_LEN(no_id));
    assert_err(upload(&stored, e), ERR_TRANSIENT, "store_unavailable");
    assert_int_equal(atomic_load(&server.requests), 1);
    end();

    begin(late, ARRAY_LEN(late)); /* 200, and then an error in the body: taken back */
    assert_err(upload(&stored, e), ERR_TRANSIENT, "store_unavailable");
    assert_int_equal(atomic_load(&server.requests), 5);
    assert_non_null(strstr(server.last, "DELETE /b/k%20%C3%BC?uploadId=id%261 HTTP/1.1"));
    end();

    begin(silent, ARRAY_LEN(silent)); /* an empty answer confirms nothing */
    assert_err(upload(&stored, e), ERR_TRANSIENT, "store_unavailable");
    assert_int_equal(atomic_load(&server.requests), 5);
    end();

    begin(good, ARRAY_LEN(good));
    assert_int_equal(upload(&stored, NULL), 0);
    assert_string_equal(stored.etag, "whole-2");
    assert_int_equal(stored.size, STORE_PART_SIZE + 1);
    assert_non_null(strstr(server.last, "<Part><PartNumber>2</PartNumber><ETag>&quot;p&quot;"));
    assert_int_equal(atomic_load(&server.requests), 4);
    end();
}

static void test_delete_many_answers(void **state)
{
    static const struct step steps[] = {
        {.answer = ANSWER("200 OK", "<DeleteResult><Error><Key>a</Key><Code>AccessDenied</Code>"
                                    "</Error></DeleteResult>"),
         .close = true},
        {.answer = ANSWER("200 OK", "<DeleteResult><Error><Key>a</Key><Code>NoSuchKey</Code>"
                                    "</Error></DeleteResult>"),
         .close = true},
        {.answer = ANSWER("200 OK", "<DeleteResult>"), .close = true},
    };
    static const char *const keys[] = {"a", "b & <c>"};

    (void)state;
    begin(steps, ARRAY_LEN(steps));
    assert_err(store_delete_many(store, keys, 2, e), ERR_TRANSIENT, "store_denied");
    assert_non_null(strstr(server.last, "<Key>b &amp; &lt;c&gt;</Key>"));
    assert_non_null(strstr(server.last, "\r\nContent-MD5: "));
    assert_int_equal(store_delete_many(store, keys, 2, NULL), 0);
    assert_err(store_delete_many(store, keys, 2, e), ERR_TRANSIENT, "store_unavailable");
    end();
}

static int fail_entry(void *ctx, const struct store_entry *entry, struct err *err)
{
    (void)ctx, (void)entry;
    return err_set(err, ERR_FATAL, "internal", "there should be no entry");
}

static void test_head_answers(void **state)
{
    static const struct step steps[] = {
        {.answer = ANSWER("404 Not Found", ""), .close = true}, /* the object */
        {.answer = ANSWER("200 OK", ""), .close = true},        /* its bucket */
        {.answer = ANSWER("404 Not Found", ""), .close = true},
        {.answer = ANSWER("404 Not Found", ""), .close = true}, /* no bucket either */
        {.answer = ANSWER("200 OK", ""), .close = true},        /* without a length */
        {.answer = ANSWER("200 OK", "<ListBucketResult><IsTruncated>true</IsTruncated>"),
         .close = true},
    };
    struct store_info info;
    char *token = NULL;

    (void)state;
    begin(steps, ARRAY_LEN(steps));
    assert_err(store_head(store, "k", &info, e), ERR_PERMANENT, "input_gone");
    assert_err(store_head(store, "k", &info, e), ERR_TRANSIENT, "store_denied");
    assert_err(store_head(store, "k", &info, e), ERR_TRANSIENT, "store_unavailable");
    assert_err(store_list(store, "", NULL, 10, fail_entry, NULL, &token, e), ERR_TRANSIENT,
               "store_unavailable");
    assert_null(token);
    assert_err(store_list(store, "", NULL, 0, fail_entry, NULL, &token, e), ERR_PERMANENT,
               "invalid");
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_small_parts),
        cmocka_unit_test(test_xml),
        cmocka_unit_test(test_error_answers),
        cmocka_unit_test(test_range_answers),
        cmocka_unit_test(test_multipart_answers),
        cmocka_unit_test(test_delete_many_answers),
        cmocka_unit_test(test_head_answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
