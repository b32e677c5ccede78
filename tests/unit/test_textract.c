/* SPDX-License-Identifier: Apache-2.0 */
/* PKGS: jansson libcurl libpq */
/* SRCS: services/ocr-fallback/textract_wire.c services/ocr-fallback/textract_blocks.c */
/* SRCS: services/ocr-fallback/ocr_page.c */
/*
 * What Textract's answers mean: errors in JSON, XML and nonsense; blocks to text, words and spans.
 */
#include "services/ocr-fallback/textract.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void check_error(int status, const char *body, const char *type, enum err_class class,
                        const char *code, bool throttled)
{
    struct err err = ERR_INIT;
    bool was = !throttled;

    assert_int_equal(textract_error(status, body, strlen(body), type, &was, &err), -1);
    assert_int_equal(err.class, class);
    assert_string_equal(err.code, code);
    assert_int_equal(was, throttled);
}

static void test_errors(void **state)
{
    static const char away[] = "provider_unavailable";

    (void)state;
    check_error(400, "{\"__type\":\"ThrottlingException\",\"Message\":\"x\"}", NULL, ERR_TRANSIENT,
                away, true);
    check_error(400, "{\"__type\":\"com.amazonaws.textract#LimitExceededException\"}", NULL,
                ERR_TRANSIENT, away, true);
    check_error(400, "{}", "ProvisionedThroughputExceededException:http://x/", ERR_TRANSIENT, away,
                true);
    check_error(429, "", NULL, ERR_TRANSIENT, away, true);
    check_error(400, "{\"__type\":\"UnrecognizedClientException\"}", NULL, ERR_TRANSIENT, away,
                false);
    check_error(403,
                "<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code></Error></ErrorResponse>",
                NULL, ERR_TRANSIENT, away, false);
    check_error(403, "<html>no", NULL, ERR_TRANSIENT, away, false);
    check_error(502, "<Code>", NULL, ERR_TRANSIENT, away, false);
    check_error(500, "{\"__type\":\"InternalServerError\"}", NULL, ERR_TRANSIENT, away, false);
    check_error(400, "{\"__type\":\"BadDocumentException\"}", NULL, ERR_PERMANENT, "corrupt",
                false);
    check_error(400, "{\"__type\":\"UnsupportedDocumentException\"}", NULL, ERR_PERMANENT,
                "unsupported_type", false);
    check_error(400, "{\"__type\":\"InvalidJobIdException\"}", NULL, ERR_PERMANENT, "input_gone",
                false);
    check_error(400, "{\"__type\":7}", NULL, ERR_UNKNOWN, "provider_refused", false);
    check_error(400, "", NULL, ERR_UNKNOWN, "provider_refused", false);
    check_error(400, "{\"__type\":\"SomethingNew\"}", NULL, ERR_UNKNOWN, "provider_refused", false);
}

static void test_base64(void **state)
{
    static const char *const want[] = {"", "AA==", "AP8=", "AP8Q", "AP8QgA=="};
    static const unsigned char bytes[] = {0, 255, 16, 128};

    (void)state;
    for (size_t n = 0; n < ARRAY_LEN(want); n++) {
        CLEANUP(buf_done) struct buf body = {0};
        char text[80];
        buf_init(&body, 200);
        assert_int_equal(textract_document(bytes, n, &body, NULL), 0);
        snprintf(text, sizeof(text), "{\"Document\":{\"Bytes\":\"%s\"}}", want[n]);
        assert_string_equal(body.data, text);
    }
    /* longer than the piece it is written in */
    CLEANUP(buf_done) struct buf body = {0};
    CLEANUP(free_cleanup) char *large = calloc(1, 30000);
    buf_init(&body, 50000);
    assert_int_equal(textract_document(large, 30000, &body, NULL), 0);
    assert_int_equal(body.len, 22 + 40000 + 3);
}

static void test_host(void **state)
{
    char host[32];

    (void)state;
    assert_int_equal(textract_host("https://textract.x.com", host, sizeof(host), NULL), 0);
    assert_string_equal(host, "textract.x.com");
    assert_int_equal(textract_host("https://textract.x.com:443/", host, sizeof(host), NULL), 0);
    assert_string_equal(host, "textract.x.com");
    assert_int_equal(textract_host("http://127.0.0.1:443/a", host, sizeof(host), NULL), 0);
    assert_string_equal(host, "127.0.0.1:443");
    assert_int_equal(textract_host("http://", host, sizeof(host), NULL), -1);
    assert_int_equal(textract_host("http://u:p@h/", host, sizeof(host), NULL), -1);
    assert_int_equal(
        textract_host("http://a-name-that-is-too-long-for-the-place/", host, sizeof(host), NULL),
        -1);
}

static struct ocr_page read_json(const char *text, int page, int expect)
{
    CLEANUP(json_cleanup) json_t *blocks = json_loads(text, 0, NULL);
    struct ocr_page read;
    struct err err = ERR_INIT;

    assert_non_null(blocks);
    ocr_page_init(&read);
    assert_int_equal(textract_read_blocks(blocks, page, &read, &err), expect);
    return read;
}

#define BOX(l, t, w, h)                                                                            \
    "\"Geometry\":{\"BoundingBox\":{\"Left\":" #l ",\"Top\":" #t ",\"Width\":" #w                  \
    ",\"Height\":" #h "}}"

static void test_blocks(void **state)
{
    static const char text[] =
        "[{\"BlockType\":\"PAGE\",\"Id\":\"p\"},"
        "{\"BlockType\":\"LINE\",\"Id\":\"l1\",\"Text\":\"Stra\\u00dfe 7\",\"Confidence\":90,"
        "\"Relationships\":[{\"Type\":\"CHILD\",\"Ids\":[\"w1\",\"w2\",\"gone\"]}]," BOX(
            0.1, 0.1, 0.5, 0.1) "},"
                                "{\"BlockType\":\"LINE\",\"Id\":\"l2\",\"Text\":\"no "
                                "words\",\"Confidence\":50," BOX(
                                    0, 0.5, 0.8,
                                    0.1) "},"
                                         "{\"BlockType\":\"LINE\",\"Id\":\"l3\",\"Text\":\"other "
                                         "page\",\"Page\":2},"
                                         "{\"BlockType\":\"WORD\",\"Id\":\"w1\",\"Text\":"
                                         "\"Stra\\u00dfe\",\"Confidence\":99," BOX(
                                             0.1, 0.1, 0.2,
                                             0.1) "},"
                                                  "{\"BlockType\":\"WORD\",\"Id\":\"w2\",\"Text\":"
                                                  "\"7\",\"Confidence\":80," BOX(0.9, 0.1, 0.3,
                                                                                 0.1) "}]";
    struct ocr_page page = read_json(text, 1, 0);

    (void)state;
    assert_string_equal(page.text.data, "Stra\xc3\x9f"
                                        "e 7\nno words");
    assert_int_equal(page.n_words, 4);
    assert_int_equal(page.words[0].start, 0);
    assert_int_equal(page.words[0].end, 6);
    assert_int_equal(page.words[1].start, 7);
    assert_int_equal(page.words[1].end, 8);
    assert_true(page.words[1].x1 <= 1); /* cut at the page's edge */
    assert_int_equal(page.words[3].start, 12);
    assert_int_equal(page.words[3].end, 17);
    assert_true(page.words[3].x0 > 0.29 && page.words[3].x1 > 0.79);
    assert_true(ocr_page_confidence(&page) > 0.5 && ocr_page_confidence(&page) < 0.99);
    ocr_page_done(&page);
    page = read_json(text, 2, 0);
    assert_string_equal(page.text.data, "other page");
    ocr_page_done(&page);
}

static void test_odd_blocks(void **state)
{
    struct ocr_page page = read_json("[]", 1, 0);

    (void)state;
    assert_int_equal(page.n_words, 0);
    assert_true(ocr_page_confidence(&page) < 0);
    ocr_page_done(&page);
    page = read_json("{}", 1, -1);
    ocr_page_done(&page);
    page = read_json("[1,null,{\"BlockType\":\"LINE\"},{\"BlockType\":\"WORD\",\"Id\":\"a\"},"
                     "{\"BlockType\":\"LINE\",\"Relationships\":7},"
                     "{\"BlockType\":\"LINE\",\"Text\":\"x\",\"Relationships\":[7,{\"Type\":"
                     "\"CHILD\",\"Ids\":[1]}],\"Geometry\":{\"BoundingBox\":{\"Left\":\"far\"}}}]",
                     1, 0);
    assert_string_equal(page.text.data, "x");
    ocr_page_done(&page);
    page = read_json("[{\"BlockType\":\"WORD\",\"Id\":\"a\",\"Text\":5},{\"BlockType\":\"LINE\","
                     "\"Relationships\":[{\"Type\":\"CHILD\",\"Ids\":[\"a\"]}]}]",
                     1, -1);
    ocr_page_done(&page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors),     cmocka_unit_test(test_base64),
        cmocka_unit_test(test_host),       cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_odd_blocks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
