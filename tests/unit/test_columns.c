/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Columns of a dataset: what is accepted, every mistake with its pointer, and the way there and
 * back. Also the in-memory document they are filled from.
 */
#include "libcommon/columns.h"
#include "libcommon/doctext.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static json_t *load(const char *text)
{
    json_error_t why;
    json_t *json = json_loads(text, 0, &why);

    if (!json) {
        fail_msg("%s", why.text);
    }
    return json;
}

static void refused(const char *text, const char *pointer)
{
    struct err err = ERR_INIT;
    struct columns *columns = NULL;
    json_t *json = load(text);
    json_t *errors = json_array();
    bool found = false;
    size_t i;
    json_t *item;

    assert_int_equal(columns_parse_request(json, &columns, errors, &err), -1);
    assert_null(columns);
    assert_string_equal(err.code, "invalid_schema");
    assert_int_equal(err.class, ERR_PERMANENT);
    json_array_foreach(errors, i, item)
    {
        found |= strcmp(json_string_value(json_object_get(item, "pointer")), pointer) == 0;
    }
    if (!found) {
        fail_msg("no error at %s for %s", pointer, text);
    }
    json_decref(errors);
    json_decref(json);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct columns *columns = NULL;
    struct columns *again = NULL;
    json_t *json =
        load("[{\"name\":\"Total\",\"type\":\"money\",\"currency\":\"EUR\",\"required\":true},"
             "{\"name\":\"Kind\",\"type\":\"enum\",\"enum\":[\"a\",\"b\"]},"
             "{\"name\":\"When\",\"type\":\"date\",\"dateOrder\":\"mdy\",\"description\":\"day\"},"
             "{\"name\":\"Lines\",\"type\":\"rows\",\"itemColumns\":[{\"name\":\"Qty\",\"type\":"
             "\"integer\"}]}]");

    assert_int_equal(columns_parse_request(json, &columns, NULL, &err), 0);
    assert_int_equal(columns->n, 4);
    assert_string_equal(columns->items[0].id, "c1");
    assert_string_equal(columns->items[0].currency, "EUR");
    assert_true(columns->items[0].required);
    assert_int_equal(columns->items[1].n_enums, 2);
    assert_int_equal(columns->items[2].date_order, DATE_ORDER_MDY);
    assert_string_equal(columns->items[3].item_columns->items[0].id, "i1");
    assert_int_equal(columns_find(columns, "c4"), 3);
    assert_int_equal(columns_find(columns, "c9"), -1);
    json_t *stored = columns_to_json(columns);
    assert_int_equal(columns_parse_stored(stored, &again, &err), 0);
    json_t *second = columns_to_json(again);
    assert_true(json_equal(stored, second));
    assert_int_equal(columns_parse_stored(json, &again, &err), -1); /* no ids */
    json_decref(second);
    json_decref(stored);
    json_decref(json);
    columns_free(again);
    columns_free(columns);
}

static void test_mistakes(void **state)
{
    (void)state;
    refused("[]", "/columns");
    refused("{}", "/columns");
    refused("[1]", "/columns/0");
    refused("[{\"type\":\"string\"}]", "/columns/0/name");
    refused("[{\"name\":\"a\",\"type\":\"blob\"}]", "/columns/0/type");
    refused("[{\"name\":\"a\"}]", "/columns/0/type");
    refused("[{\"name\":\"a\\u0007\",\"type\":\"string\"}]", "/columns/0/name");
    refused("[{\"name\":\"a\\u0085\",\"type\":\"string\"}]", "/columns/0/name");
    refused("[{\"name\":\"  \",\"type\":\"string\"}]", "/columns/0/name");
    refused("[{\"name\":\"\\u00c4\",\"type\":\"string\"},{\"name\":\"\\u00e4\",\"type\":\"date\"}]",
            "/columns/1/name");
    refused("[{\"name\":\"a\",\"type\":\"string\",\"enum\":[\"x\"]}]", "/columns/0/enum");
    refused("[{\"name\":\"a\",\"type\":\"enum\"}]", "/columns/0/enum");
    refused("[{\"name\":\"a\",\"type\":\"enum\",\"enum\":[\"x\",\"X\"]}]", "/columns/0/enum/1");
    refused("[{\"name\":\"a\",\"type\":\"money\",\"currency\":\"euro\"}]", "/columns/0/currency");
    refused("[{\"name\":\"a\",\"type\":\"date\",\"dateOrder\":\"xyz\"}]", "/columns/0/dateOrder");
    refused("[{\"name\":\"a\",\"type\":\"string\",\"required\":1}]", "/columns/0/required");
    refused("[{\"name\":\"a\",\"type\":\"string\",\"bogus\":1}]", "/columns/0");
    refused("[{\"name\":\"a\",\"type\":\"rows\"}]", "/columns/0/itemColumns");
    refused("[{\"name\":\"a\",\"type\":\"rows\",\"itemColumns\":[]}]", "/columns/0/itemColumns");
    refused("[{\"name\":\"a\",\"type\":\"rows\",\"itemColumns\":[{\"name\":\"b\",\"type\":\"rows\","
            "\"itemColumns\":[{\"name\":\"c\",\"type\":\"date\"}]}]}]",
            "/columns/0/itemColumns/0/type");
}

static void test_limits(void **state)
{
    (void)state;
    char text[12000] = "[";
    char name[128];
    size_t n = 1;

    for (int i = 0; i < 101; i++) {
        n += (size_t)snprintf(text + n, sizeof(text) - n,
                              "%s{\"name\":\"n%d\",\"type\":\"string\"}", i ? "," : "", i);
    }
    (void)snprintf(text + n, sizeof(text) - n, "]");
    refused(text, "/columns");
    memset(name, 'x', 101);
    name[101] = '\0';
    (void)snprintf(text, sizeof(text), "[{\"name\":\"%s\",\"type\":\"string\"}]", name);
    refused(text, "/columns/0/name");
}

static void test_doctext(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct doctext *doc = doctext_new();
    const char *words = "{\"page\":1,\"width\":600,\"height\":800,\"words\":"
                        "[[0.1,0.1,0.2,0.12,0,4,0.9],[0.3,0.1,0.4,0.12,5,8,1]]}";

    assert_int_equal(doctext_add_page(doc, 2, "zwei", 4, NULL, 0, NULL, &err), 0);
    assert_int_equal(doctext_add_page(doc, 1, "gr\xC3\xB6\xC3\x9F 5 \xE2\x82\xAC", 12, words,
                                      strlen(words), "tesseract", &err),
                     0);
    assert_int_equal(doc->pages[0].page, 1);
    assert_int_equal(doc->pages[0].n_cp, 8);
    assert_int_equal(doctext_byte_of(&doc->pages[0], 4), 6);
    assert_int_equal(doctext_byte_of(&doc->pages[0], 99), 12);
    assert_int_equal(doctext_cp_of(&doc->pages[0], 3), 2);
    assert_int_equal(doctext_cp_of(&doc->pages[0], 9), 7);
    assert_string_equal(doctext_page(doc, 1)->engine, "tesseract");
    assert_null(doctext_page(doc, 3));
    assert_int_equal(doctext_add_page(doc, 1, "x", 1, NULL, 0, NULL, &err), -1);
    assert_int_equal(doctext_add_page(doc, 3, "\xC3", 1, NULL, 0, NULL, &err), -1);
    assert_int_equal(doctext_add_page(doc, 3, "abc", 3, words, strlen(words), NULL, &err), -1);
    assert_string_equal(err.code, "corrupt");
    doctext_free(doc);
}

static void test_long_page(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct doctext *doc = doctext_new();
    char text[3000];

    for (size_t i = 0; i < 1000; i++) {
        memcpy(text + 3 * i, "\xE2\x82\xAC", 3);
    }
    assert_int_equal(doctext_add_page(doc, 1, text, sizeof(text), NULL, 0, NULL, &err), 0);
    for (uint32_t i = 0; i < 1000; i += 7) {
        assert_int_equal(doctext_byte_of(&doc->pages[0], i), 3 * i);
        assert_int_equal(doctext_cp_of(&doc->pages[0], 3 * i + 2), i);
    }
    doctext_free(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_limits),     cmocka_unit_test(test_doctext),
        cmocka_unit_test(test_long_page),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
