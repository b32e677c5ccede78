/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CloudEvents: what is written can be read again, and whatever else arrives is a bad record, never
 * a crash and never half an order.
 */
#include "libcommon/event.h"

#include "libcommon/jget.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define USER "018f0000-0000-7000-8000-00000000000a"
#define FILE_ID "018f0000-0000-7000-8000-00000000000b"
#define DATA                                                                                       \
    "\"userId\":\"" USER "\",\"fileId\":\"" FILE_ID                                                \
    "\",\"stage\":\"text\",\"unit\":0,\"generation\":1,\"dispatchSeq\":1,\"cost\":1"
#define WORK(data) "{\"specversion\":\"1.0\",\"type\":\"docfleet.work.v1\",\"data\":{" data "}}"

static int decode(const char *value, size_t len, const char *key, struct work_order *order)
{
    struct err err = ERR_INIT;
    int rc = event_decode_work(value, len, key, key ? strlen(key) : 0, order, &err);

    if (rc < 0) {
        assert_int_equal(err.class, ERR_PERMANENT);
        assert_string_equal(err.code, "bad_record");
    }
    return rc;
}

static void test_round_trip(void **state)
{
    struct work_order order = {
        .key = {.file_id = FILE_ID, .stage = STAGE_OCR, .unit = 7, .generation = 2147483647},
        .user_id = USER,
        .dispatch_seq = 9,
        .cost = 10,
        .sent_ms = 1700000000123};
    struct work_order back = {0};
    CLEANUP(buf_done) struct buf buf;
    struct err err = ERR_INIT;

    (void)state;
    buf_init(&buf, EVENT_WORK_MAX);
    assert_int_equal(event_encode_work(&order, &buf, &err), 0);
    assert_int_equal(decode(buf.data, buf.len, USER, &back), 0);
    assert_string_equal(back.key.file_id, FILE_ID);
    assert_string_equal(back.user_id, USER);
    assert_int_equal(back.key.stage, STAGE_OCR);
    assert_int_equal(back.key.unit, 7);
    assert_int_equal(back.key.generation, 2147483647);
    assert_int_equal(back.dispatch_seq, 9);
    assert_int_equal(back.cost, 10);
    assert_true(back.sent_ms == 1700000000123);
}

static void test_unknown_members(void **state)
{
    static const char text[] =
        "{\"new\":[1,{}],\"type\":\"docfleet.work.v1\",\"data\":{" DATA ",\"later\":{\"x\":null}}}";
    struct work_order order = {0};

    (void)state;
    assert_int_equal(decode(text, strlen(text), USER, &order), 0);
    assert_int_equal(order.key.stage, STAGE_TEXT);
    assert_true(order.sent_ms == 0);
}

static void test_hostile(void **state)
{
    static const char *const bad[] = {
        "",
        " ",
        "null",
        "[]",
        "\"text\"",
        "{}",
        "{\"type\":5}",
        "{\"type\":\"docfleet.work.v1\"}",
        "{\"type\":\"docfleet.work.v1\",\"data\":[]}",
        "{\"type\":\"docfleet.work.v2\",\"data\":{" DATA "}}",
        "{\"type\":\"docfleet.file_created.v1\",\"data\":{" DATA "}}",
        WORK(DATA) "x",
        "\xef\xbb\xbf" WORK(DATA),
        WORK("\"userId\":\"" USER "\",\"userId\":\"" USER "\""),
        WORK("\"userId\":\"nobody\",\"fileId\":\"" FILE_ID
             "\",\"stage\":\"text\",\"unit\":0,\"generation\":1,\"dispatchSeq\":1,\"cost\":1"),
        WORK("\"userId\":\"" USER "\",\"fileId\":\"../../etc\",\"stage\":\"text\",\"unit\":0,"
             "\"generation\":1,\"dispatchSeq\":1,\"cost\":1"),
        WORK("\"userId\":\"" USER "\",\"fileId\":\"" FILE_ID
             "\",\"stage\":\"sleep\",\"unit\":0,\"generation\":1,\"dispatchSeq\":1,\"cost\":1"),
        WORK("\"userId\":\"" USER "\",\"fileId\":\"" FILE_ID
             "\",\"stage\":\"text\",\"unit\":-1,\"generation\":1,\"dispatchSeq\":1,\"cost\":1"),
        WORK("\"userId\":\"" USER "\",\"fileId\":\"" FILE_ID
             "\",\"stage\":\"text\",\"unit\":0,\"generation\":0,\"dispatchSeq\":1,\"cost\":1"),
        WORK("\"userId\":\"" USER "\",\"fileId\":\"" FILE_ID
             "\",\"stage\":\"text\",\"unit\":0,\"generation\":1,\"dispatchSeq\":1.5,\"cost\":1"),
        WORK("\"userId\":\"" USER "\",\"fileId\":\"" FILE_ID "\",\"stage\":\"text\",\"unit\":0,"
             "\"generation\":1,\"dispatchSeq\":1,\"cost\":99999999999999999999"),
        WORK("\"userId\":\"" USER "\\u0000\",\"fileId\":\"" FILE_ID
             "\",\"stage\":\"text\",\"unit\":0,\"generation\":1,\"dispatchSeq\":1,\"cost\":1"),
    };
    struct work_order order = {.cost = 77};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(decode(bad[i], strlen(bad[i]), USER, &order), -1);
        assert_int_equal(order.cost, 77);
    }
    assert_int_equal(decode(NULL, 0, USER, &order), -1);
}

static void test_bytes(void **state)
{
    static const char good[] = WORK(DATA);
    struct work_order order = {0};
    size_t size = 10U << 20;
    char *big = malloc(size);
    char *nul = malloc(sizeof(good));

    (void)state;
    assert_non_null(big);
    assert_non_null(nul);
    memset(big, '[', size);
    assert_int_equal(decode(big, size, USER, &order), -1);
    memset(big, ' ', size);
    memcpy(big, good, sizeof(good) - 1);
    assert_int_equal(decode(big, size, USER, &order), -1);
    memset(big, '\0', size);
    assert_int_equal(decode(big, size, USER, &order), -1);
    /* A NUL at any place, and every way to be cut short. */
    for (size_t i = 0; i < sizeof(good) - 1; i++) {
        memcpy(nul, good, sizeof(good));
        nul[i] = '\0';
        assert_int_equal(decode(nul, sizeof(good) - 1, USER, &order), -1);
        assert_int_equal(decode(good, i, USER, &order), -1);
    }
    free(big);
    free(nul);
}

static void test_key(void **state)
{
    static const char good[] = WORK(DATA);
    struct work_order order = {0};

    (void)state;
    assert_int_equal(decode(good, strlen(good), USER, &order), 0);
    assert_int_equal(decode(good, strlen(good), NULL, &order), -1);
    assert_int_equal(decode(good, strlen(good), "", &order), -1);
    assert_int_equal(decode(good, strlen(good), FILE_ID, &order), -1);
    assert_int_equal(decode(good, strlen(good), USER "x", &order), -1);
}

static json_t *encoded(const struct event_row *row)
{
    CLEANUP(buf_done) struct buf buf;
    struct err err = ERR_INIT;
    json_t *doc = NULL;

    buf_init(&buf, 2 * EVENT_MAX);
    assert_int_equal(event_encode(row, &buf, &err), 0);
    assert_true(buf.len <= EVENT_MAX);
    assert_int_equal(jget_load(buf.data, buf.len, 2 * EVENT_MAX, &doc, &err), 0);
    return doc;
}

static void test_event(void **state)
{
    struct event_row row = {.pos = 12,
                            .at = "2026-01-02T03:04:05.678Z",
                            .user_id = USER,
                            .file_id = FILE_ID,
                            .kind = "file_updated",
                            .stage = STAGE_AI,
                            .body = "{\"state\":\"done\",\"pos\":99,\"userId\":\"forged\"}"};
    CLEANUP(json_cleanup)
    json_t *want =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:{s:s, s:i, s:s, s:s, s:s}}", "specversion",
                  "1.0", "type", "docfleet.file_updated.v1", "source", "/docfleet/dispatcher", "id",
                  "12", "time", row.at, "datacontenttype", "application/json", "data", "state",
                  "done", "pos", 12, "userId", USER, "fileId", FILE_ID, "stage", "ai");
    CLEANUP(json_cleanup) json_t *doc = encoded(&row);

    (void)state;
    assert_true(json_equal(doc, want));
}

static void test_event_bodies(void **state)
{
    static char big[EVENT_MAX * 2];
    const char *bodies[] = {NULL, "", "null", "[1]", "{", "{\"a\":\"\xff\"}", big};
    struct event_row row = {
        .pos = 1, .at = "2026-01-02T03:04:05.678Z", .user_id = USER, .kind = "batch_updated"};

    (void)state;
    memset(big, 'x', sizeof(big) - 1);
    memcpy(big, "{\"a\":\"", 6);
    memcpy(big + sizeof(big) - 3, "\"}", 3);
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        row.body = bodies[i];
        CLEANUP(json_cleanup) json_t *doc = encoded(&row);
        assert_int_equal(json_object_size(json_object_get(doc, "data")), 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_unknown_members),
        cmocka_unit_test(test_hostile),      cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_key),          cmocka_unit_test(test_event),
        cmocka_unit_test(test_event_bodies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
