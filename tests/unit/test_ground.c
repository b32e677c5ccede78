/* SPDX-License-Identifier: Apache-2.0 */
/* PKGS: icu-uc */
/* SRCS: services/ai-extractor/extract.c services/ai-extractor/proposals.c */
/* SRCS: services/ai-extractor/ground.c services/ai-extractor/score.c */
/* SRCS: services/ai-extractor/norm.c services/ai-extractor/layout.c */
/* SRCS: services/ai-extractor/typing.c services/ai-extractor/typing_number.c */
/* SRCS: services/ai-extractor/typing_date.c services/ai-extractor/backend_rules.c */
/* SRCS: services/ai-extractor/rules_labels.c services/ai-extractor/rules_table.c */
/* SRCS: services/ai-extractor/rules_value.c services/ai-extractor/rules_places.c */
/* SRCS: services/ai-extractor/rules_sections.c services/ai-extractor/rules_patterns.c */
/* SRCS: services/ai-extractor/rules_bands.c services/ai-extractor/rules_rows.c */
/*
 * The one property that matters: what is published stands in the text. A made-up backend proposes
 * right, sloppy and invented values; the record holds only what the document says.
 */
#include "services/ai-extractor/backend.h"
#include "services/ai-extractor/ground.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char page_one[] = "Agreement no. K-77\n"
                               "Supplier:  M\xC3\xBCller  &  S\xC3\xB6hne GmbH\n"
                               "Effective 3. M\xC3\xA4rz 2024 for 1.234,50 EUR net\n"
                               "The plan is renewed auto-\nmatically each year\n";
static const char page_two[] = "Total 1.234,50 EUR\nReference 99-1 and 99-1\n";

static struct candidate proposed;

static int propose(const struct backend *backend, const struct backend_job *job,
                   struct proposals *ret, struct err *err)
{
    (void)backend;
    (void)job;
    return proposals_add(ret, 0, &proposed, err);
}

static const struct backend made_up = {.name = "made-up", .propose = propose};

/* value, status and the page of one cell, as "status page value". */
static void grounds(const char *type_json, const char *raw, const char *quote, int page,
                    const char *want)
{
    struct err err = ERR_INIT;
    struct columns *columns = NULL;
    struct extract_result result;
    const struct extract_options options = {.part = EXTRACT_ALL, .attempt = 1};
    struct doctext *doc = doctext_new();
    char text[256];

    (void)snprintf(text, sizeof(text), "[{\"name\":\"x\",%s}]", type_json);
    json_t *json = json_loads(text, 0, NULL);
    assert_int_equal(columns_parse_request(json, &columns, NULL, &err), 0);
    assert_int_equal(doctext_add_page(doc, 1, page_one, strlen(page_one), NULL, 0, NULL, &err), 0);
    assert_int_equal(doctext_add_page(doc, 2, page_two, strlen(page_two), NULL, 0, NULL, &err), 0);
    proposed = (struct candidate){
        .raw = (char *)(uintptr_t)raw, .quote = (char *)(uintptr_t)quote, .page = page, .prior = 1};
    assert_int_equal(extract_record(&made_up, columns, doc, &options, &result, &err), 0);
    const json_t *cell = json_object_get(result.cells, "c1");
    char *value = json_dumps(json_object_get(result.values, "c1"), JSON_ENCODE_ANY | JSON_COMPACT);
    (void)snprintf(text, sizeof(text), "%s %d %s",
                   json_string_value(json_object_get(cell, "status")),
                   (int)json_integer_value(json_object_get(cell, "page")), value);
    if (strcmp(text, want) != 0) {
        fail_msg("%s in %s gives %s, not %s", raw, quote ? quote : "nothing", text, want);
    }
    free(value);
    extract_result_done(&result);
    json_decref(json);
    columns_free(columns);
    doctext_free(doc);
}

static void test_strings(void **state)
{
    (void)state;
    const char *string = "\"type\":\"string\"";

    grounds(string, "K-77", "Agreement no. K-77", 1, "ok 1 \"K-77\"");
    grounds(string, "K-77", "Agreement no. K-77", 2, "ok 1 \"K-77\""); /* wrong page said */
    grounds(string, "M\xC3\xBCller & S\xC3\xB6hne GmbH", "Supplier: Muller & Sohne GmbH", 1,
            "ok 1 \"M\xC3\xBCller & S\xC3\xB6hne GmbH\"");
    grounds(string,
            "M\xC3\xBC"
            "lIer & S\xC3\xB6hne GmbH",
            NULL, 1, "ok 1 \"M\xC3\xBCller & S\xC3\xB6hne GmbH\""); /* one wrong letter */
    grounds(string, "renewed automatically", NULL, 1, "ok 1 \"renewed auto- matically\"");
    grounds(string, "Acme Ltd", "Supplier: Acme Ltd", 1, "ungrounded 0 null");
    grounds(string, "Acme Ltd", "Agreement no. K-77", 1, "ungrounded 0 null");
    grounds(string, "99-1", "Agreement no. K-77", 1, "ungrounded 0 null"); /* outside its quote */
    grounds(string, "7", NULL, 1, "ungrounded 0 null");                    /* inside K-77 only */
    grounds(string, "GmbX", NULL, 1, "ungrounded 0 null"); /* too short to be a slip */
}

static void test_figures(void **state)
{
    (void)state;
    grounds("\"type\":\"money\"", "1234.50", NULL, 1,
            "ok 1 {\"amount\":\"1234.50\",\"currency\":\"EUR\"}");
    grounds("\"type\":\"money\"", "1.234,50 EUR", "Total 1.234,50 EUR", 2,
            "ok 2 {\"amount\":\"1234.50\",\"currency\":\"EUR\"}");
    grounds("\"type\":\"money\"", "1234.50 USD", NULL, 1, "ungrounded 0 null");
    grounds("\"type\":\"money\"", "1234.51", "for 1.234,50 EUR net", 1, "ungrounded 0 null");
    grounds("\"type\":\"date\"", "2024-03-03", "Effective 3. M\xC3\xA4rz 2024", 1,
            "ok 1 \"2024-03-03\"");
    grounds("\"type\":\"date\"", "2024-03-04", "Effective 3. M\xC3\xA4rz 2024", 1,
            "ungrounded 0 null");
    grounds("\"type\":\"number\"", "5666e311", NULL, 1, "ungrounded 0 null");
    grounds("\"type\":\"integer\"", "77", NULL, 1, "ungrounded 0 null");
}

static void test_words(void **state)
{
    (void)state;
    const char *type = "\"type\":\"boolean\"";

    grounds(type, "true", "renewed automatically each year", 1, "ok 1 true");
    grounds(type, "true", NULL, 1, "ungrounded 0 null");
    grounds(type, "true", "is never renewed", 1, "ungrounded 0 null");
    grounds("\"type\":\"enum\",\"enum\":[\"net\",\"gross\"]", "net", "1.234,50 EUR net", 1,
            "ok 1 \"net\"");
    grounds("\"type\":\"enum\",\"enum\":[\"net\",\"gross\"]", "gross", "incl. all taxes", 1,
            "ungrounded 0 null");
}

/* Spans count code points, also behind letters of two bytes. */
static void test_span(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct doctext *doc = doctext_new();
    struct layout *layout = NULL;
    struct grounder grounder;
    struct grounded found;
    struct column column = {.type = COLUMN_STRING};
    const struct candidate candidate = {.raw = (char[]){"GmbH"}, .page = 1, .prior = 1};
    const struct locale_hint hint = {.order = DATE_ORDER_AUTO};

    assert_int_equal(doctext_add_page(doc, 1, page_one, strlen(page_one), NULL, 0, NULL, &err), 0);
    assert_int_equal(layout_new(doc, &layout, &err), 0);
    assert_int_equal(grounder_init(&grounder, doc, layout, hint, &err), 0);
    assert_int_equal(ground_candidate(&grounder, &column, &candidate, &found, &err), 1);
    assert_int_equal(found.start, 47);
    assert_int_equal(found.end, 51);
    assert_string_equal(found.text, "GmbH");
    assert_memory_equal(page_one + doctext_byte_of(&doc->pages[0], found.start), "GmbH", 4);
    grounded_done(&found);
    grounder_done(&grounder);
    layout_free(layout);
    doctext_free(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_figures),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_span),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
