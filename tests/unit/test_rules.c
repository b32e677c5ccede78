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
 * The rules backend from text to record: labels beside and above values, tables, titles, and
 * above all what it must leave empty.
 */
#include "services/ai-extractor/extract.h"
#include "services/ai-extractor/score.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct extract_result run(const char *columns_json, const char *text)
{
    struct err err = ERR_INIT;
    struct columns *columns = NULL;
    struct extract_result result;
    const struct extract_options options = {.part = EXTRACT_ALL, .attempt = 1};
    struct doctext *doc = doctext_new();
    json_t *json = json_loads(columns_json, 0, NULL);

    assert_int_equal(columns_parse_request(json, &columns, NULL, &err), 0);
    assert_int_equal(doctext_add_page(doc, 1, text, strlen(text), NULL, 0, NULL, &err), 0);
    assert_int_equal(extract_record(backend_rules(), columns, doc, &options, &result, &err), 0);
    assert_string_equal(result.backend, "rules");
    json_decref(json);
    columns_free(columns);
    doctext_free(doc);
    return result;
}

/* One column; want is the value as compact JSON. */
static void one(const char *name, const char *type, const char *text, const char *want)
{
    char columns[256];

    (void)snprintf(columns, sizeof(columns), "[{\"name\":\"%s\",\"type\":\"%s\"}]", name, type);
    struct extract_result result = run(columns, text);
    char *got = json_dumps(json_object_get(result.values, "c1"), JSON_ENCODE_ANY | JSON_COMPACT);
    if (strcmp(got, want) != 0) {
        fail_msg("%s in \"%s\" gives %s, not %s", name, text, got, want);
    }
    free(got);
    extract_result_done(&result);
}

static void test_labels(void **state)
{
    (void)state;
    one("Invoice number", "string", "Invoice No: A-17\n", "\"A-17\"");
    one("Invoice number", "string", "Invoice # RE-20190610/507 issued at 2019-06-10\n",
        "\"RE-20190610/507\"");
    one("Invoice number", "string", "Rechnungsnr.    4711\n", "\"4711\"");
    one("Invoice number", "string", "Facture FA-2017-0010\n", "\"FA-2017-0010\"");
    one("Invoice number", "string", "Bill#:VO01-540401 Order#: 140508\n", "\"VO01-540401\"");
    one("Issue date", "date", "Rechnung Nr. 17 vom 13.06.2018\n", "\"2018-06-13\"");
    one("Issue date", "date", "Date de facture      13/11/2017\n", "\"2017-11-13\"");
    one("Due date", "date", "Invoice date: 1 May 2024\nDue date: 31 May 2024\n", "\"2024-05-31\"");
    one("Total", "money", "Subtotal   10.00\nTax   1.90\nTotal   11.90\n",
        "{\"amount\":\"11.90\",\"currency\":null}");
    one("Total", "money", "Total (EUR):   11,90\n", "{\"amount\":\"11.90\",\"currency\":\"EUR\"}");
    one("Net total", "money", "Summe netto: 496,00 \xE2\x82\xAC\nSumme: 571,04 \xE2\x82\xAC\n",
        "{\"amount\":\"496.00\",\"currency\":\"EUR\"}");
    one("Policy ref", "string", "Policy ref: AB 12\n", "\"AB 12\"");
    one("Seats", "integer", "Seats: 12\n", "12");
    one("Weight", "number", "Weight: 12.5 kg\n", "12.5");
    one("IBAN", "string", "IBAN: DE88 2008 0000 0970 3757 00 BIC COBADEFFXXX\n",
        "\"DE88 2008 0000 0970 3757 00\"");
    one("Currency", "string", "W\xC3\xA4hrung:   EUR\n", "\"EUR\"");
}

static void test_below(void **state)
{
    (void)state;
    const char *text = "Invoice no     Invoice date     Customer no\n"
                       "4711           02.03.2024       K-9\n";

    one("Invoice number", "string", text, "\"4711\"");
    one("Issue date", "date", text, "\"2024-03-02\"");
    one("Customer number", "string", text, "\"K-9\"");
}

static void test_abstains(void **state)
{
    (void)state;
    one("Supplier", "string", "The Supplier shall provide the Services to the Customer.\n", "null");
    one("Total", "money",
        "The total liability of either party under this agreement shall in no event be more than "
        "the fees paid in the 12 months before 1,000.00 dollars.\n",
        "null");
    one("Issue date", "date", "Date: 09/11/2023\n", "null"); /* two readings */
    one("Total", "money", "Total number of items: 5\n", "null");
    one("IBAN", "string", "IBAN: DE88 2008 0000 0970 3757 01\n", "null");
    one("Status", "string", "nothing here\n", "null");
    one("Invoice number", "string", "", "null");
}

static void test_ambiguous_date(void **state)
{
    (void)state;
    struct extract_result result =
        run("[{\"name\":\"Date\",\"type\":\"date\"}]", "Date: 09/11/2023\n");
    const json_t *cell = json_object_get(result.cells, "c1");

    assert_string_equal(json_string_value(json_object_get(cell, "status")), "conflict");
    assert_string_equal(json_string_value(json_object_get(cell, "reason")), "ambiguous_date");
    assert_int_equal(json_array_size(json_object_get(cell, "alternatives")), 2);
    assert_true(result.needs_review);
    extract_result_done(&result);
    result =
        run("[{\"name\":\"Date\",\"type\":\"date\",\"dateOrder\":\"mdy\"}]", "Date: 09/11/2023\n");
    assert_string_equal(json_string_value(json_object_get(result.values, "c1")), "2023-09-11");
    extract_result_done(&result);
}

static void test_enum_and_boolean(void **state)
{
    (void)state;
    struct extract_result result =
        run("[{\"name\":\"Status\",\"type\":\"enum\",\"enum\":[\"open\",\"paid\"]},"
            "{\"name\":\"Express\",\"type\":\"boolean\"}]",
            "Status: PAID\nExpress: no\n");

    assert_string_equal(json_string_value(json_object_get(result.values, "c1")), "paid");
    assert_true(json_is_false(json_object_get(result.values, "c2")));
    extract_result_done(&result);
}

static void test_evidence(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct columns *columns = NULL;
    struct extract_result result;
    const struct extract_options options = {.part = EXTRACT_ALL, .attempt = 1};
    struct doctext *doc = doctext_new();
    const char *text = "gr\xC3\xB6\xC3\x9F Total 11,90";
    const char *words = "{\"page\":1,\"width\":600,\"height\":800,\"words\":["
                        "[0.1,0.1,0.2,0.12,0,4,1],[0.1,0.2,0.2,0.22,5,10,1],"
                        "[0.6,0.2,0.7,0.22,11,16,0.8]]}";
    json_t *json = json_loads("[{\"name\":\"Total\",\"type\":\"money\",\"required\":true},"
                              "{\"name\":\"Other\",\"type\":\"string\",\"required\":true}]",
                              0, NULL);

    assert_int_equal(columns_parse_request(json, &columns, NULL, &err), 0);
    assert_int_equal(
        doctext_add_page(doc, 1, text, strlen(text), words, strlen(words), "tesseract", &err), 0);
    assert_int_equal(extract_record(backend_rules(), columns, doc, &options, &result, &err), 0);
    const json_t *cell = json_object_get(result.cells, "c1");
    char *span = json_dumps(json_object_get(cell, "span"), JSON_COMPACT);
    char *boxes = json_dumps(json_object_get(cell, "boxes"), JSON_COMPACT | JSON_REAL_PRECISION(4));
    assert_string_equal(span, "[11,16]");
    assert_string_equal(boxes, "[[0.6,0.2,0.7,0.22]]");
    assert_string_equal(json_string_value(json_object_get(cell, "quote")), "11,90");
    assert_int_equal(json_integer_value(json_object_get(cell, "page")), 1);
    const double confidence = json_real_value(json_object_get(cell, "confidence"));
    assert_true(confidence > 0.6 && confidence < 0.8);
    assert_true(result.needs_review);
    assert_true(result.completeness > 0.49 && result.completeness < 0.51);
    cell = json_object_get(result.cells, "c2");
    assert_string_equal(json_string_value(json_object_get(cell, "reason")), "needs_ai_backend");
    free(span);
    free(boxes);
    extract_result_done(&result);
    json_decref(json);
    columns_free(columns);
    doctext_free(doc);
}

static void test_rows(void **state)
{
    (void)state;
    struct extract_result result = run("[{\"name\":\"Lines\",\"type\":\"rows\",\"itemColumns\":["
                                       "{\"name\":\"Description\",\"type\":\"string\"},"
                                       "{\"name\":\"Quantity\",\"type\":\"number\"},"
                                       "{\"name\":\"Amount\",\"type\":\"money\"}]}]",
                                       "Description          Quantity    Unit price     Amount\n"
                                       "Pens, blue                 10          1.00      10.00\n"
                                       "Desk lamp                   1         20.50      20.50\n"
                                       "                                       Total     30.50\n"
                                       "Thank you             2                           9.99\n");
    const json_t *rows = json_object_get(result.rows, "c1");

    assert_int_equal(json_array_size(rows), 2);
    char *row = json_dumps(json_object_get(json_array_get(rows, 1), "values"),
                           JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(row, "{\"i1\":\"Desk lamp\",\"i2\":1,\"i3\":{\"amount\":\"20.50\","
                             "\"currency\":null}}");
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(result.values, "c1"), "count")), 2);
    free(row);
    extract_result_done(&result);
}

static void test_sums(void **state)
{
    (void)state;
    const char *columns = "[{\"name\":\"Net total\",\"type\":\"money\"},"
                          "{\"name\":\"Tax\",\"type\":\"money\"},"
                          "{\"name\":\"Total\",\"type\":\"money\"}]";
    struct extract_result result =
        run(columns, "Subtotal  100.00\nTax       19.00\nTotal     150.00\n");
    const json_t *cell = json_object_get(result.cells, "c3");

    assert_string_equal(json_string_value(json_object_get(cell, "reason")), "sum_mismatch");
    assert_true(result.needs_review);
    extract_result_done(&result);
    result = run(columns, "Subtotal  100.00\nTax        7.00\nTax       19.00\nTotal     119.00\n");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(result.values, "c2"), "amount")),
        "19.00");
    extract_result_done(&result);
}

static void test_checksums(void **state)
{
    (void)state;
    assert_true(iban_valid("DE88200800000970375700"));
    assert_true(iban_valid("GB82 WEST 1234 5698 7654 32"));
    assert_false(iban_valid("GB82 WEST 1234 5698 7654 33"));
    assert_false(iban_valid("DE"));
    assert_true(vat_id_shaped("DE136695976"));
    assert_true(vat_id_shaped("FR11999999998"));
    assert_false(vat_id_shaped("XX136695976"));
    assert_false(vat_id_shaped("D"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_below),
        cmocka_unit_test(test_abstains),
        cmocka_unit_test(test_ambiguous_date),
        cmocka_unit_test(test_enum_and_boolean),
        cmocka_unit_test(test_evidence),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_checksums),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
