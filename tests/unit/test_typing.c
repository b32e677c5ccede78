/* SPDX-License-Identifier: Apache-2.0 */
/* PKGS: icu-uc */
/* SRCS: services/ai-extractor/norm.c services/ai-extractor/typing.c */
/* SRCS: services/ai-extractor/typing_number.c services/ai-extractor/typing_date.c */
/*
 * Reading numbers, money, dates and words as people write them; what is no value stays none.
 */
#include "services/ai-extractor/typing.h"

#include "services/ai-extractor/norm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct locale_hint open_hint = {.order = DATE_ORDER_AUTO};

static void reads(enum column_type type, const char *text, const char *want)
{
    const struct column column = {.type = type};
    struct value value;
    const bool ok = typing_parse(&column, text, strlen(text), &open_hint, &value);

    if (!want) {
        if (ok) {
            fail_msg("\"%s\" was read as %s", text, value.text);
        }
        return;
    }
    if (!ok || strcmp(value.text, want) != 0) {
        fail_msg("\"%s\" gives %s, not %s", text, ok ? value.text : "nothing", want);
    }
}

static void test_numbers(void **state)
{
    (void)state;
    reads(COLUMN_NUMBER, "12", "12");
    reads(COLUMN_NUMBER, "1.234,50", "1234.50");
    reads(COLUMN_NUMBER, "1,234.50", "1234.50");
    reads(COLUMN_NUMBER, "1 234,50", "1234.50");
    reads(COLUMN_NUMBER,
          "1\xC2\xA0"
          "234\xE2\x80\xAF"
          "567,5",
          "1234567.5");
    reads(COLUMN_NUMBER, "1'234'567", "1234567");
    reads(COLUMN_NUMBER, "-5,0000", "-5.0000");
    reads(COLUMN_NUMBER,
          "\xE2\x88\x92"
          "3.5",
          "-3.5");
    reads(COLUMN_NUMBER, "007", "7");
    reads(COLUMN_NUMBER, "19 %", "19");
    reads(COLUMN_NUMBER, "12.03.2024", NULL);
    reads(COLUMN_NUMBER, "1.2.3", NULL);
    reads(COLUMN_NUMBER, "250g", NULL);
    reads(COLUMN_NUMBER, "RE-20151008/504", NULL);
    reads(COLUMN_NUMBER, "2024-03-14", NULL);
    reads(COLUMN_NUMBER, "10:35", NULL);
    reads(COLUMN_INTEGER, "1.000", NULL); /* two readings are no integer */
    reads(COLUMN_INTEGER, "42,00", "42");
    reads(COLUMN_INTEGER, "42,50", NULL);
}

static void money(const char *text, const char *amount, const char *currency)
{
    const struct column column = {.type = COLUMN_MONEY};
    struct value value;

    if (!typing_parse(&column, text, strlen(text), &open_hint, &value)) {
        fail_msg("\"%s\" is no money", text);
    }
    assert_string_equal(value.text, amount);
    assert_string_equal(value.currency, currency);
}

static void test_money(void **state)
{
    (void)state;
    money("1.234,50 \xE2\x82\xAC", "1234.50", "EUR");
    money("\xE2\x82\xAC 1.234,50", "1234.50", "EUR");
    money("EUR 12,00", "12.00", "EUR");
    money("$1,980.00", "1980.00", "USD");
    money("RM 20.00", "20.00", "MYR");
    money("US$ 5.00", "5.00", "USD");
    money("10,-", "10", "");
    money("8,79-", "-8.79", "");
    money("(15.00)", "-15.00", "");
    money("-$ 12.00", "-12.00", "USD");
    money("1.234", "1234", "");
    reads(COLUMN_MONEY, "EURO", NULL);
    reads(COLUMN_MONEY, "DE136695976", NULL);
    reads(COLUMN_MONEY, "+49 932 431", NULL);
}

static void test_money_in_line(void **state)
{
    (void)state;
    const char *line = "19 % 336.00 \xE2\x82\xAC 63.84 \xE2\x82\xAC";
    struct token token;
    size_t at = 0;

    assert_true(typing_next(COLUMN_MONEY, line, strlen(line), &at, &open_hint, &token));
    assert_true(token.value.flags & VALUE_PERCENT);
    assert_true(typing_next(COLUMN_MONEY, line, strlen(line), &at, &open_hint, &token));
    assert_string_equal(token.value.text, "336.00");
    assert_string_equal(token.value.currency, "EUR");
    assert_true(typing_next(COLUMN_MONEY, line, strlen(line), &at, &open_hint, &token));
    assert_string_equal(token.value.text, "63.84");
    assert_false(typing_next(COLUMN_MONEY, line, strlen(line), &at, &open_hint, &token));
}

static void test_dates(void **state)
{
    (void)state;
    reads(COLUMN_DATE, "2024-03-14", "2024-03-14");
    reads(COLUMN_DATE, "14.03.2024", "2024-03-14");
    reads(COLUMN_DATE, "14. 03. 2024", "2024-03-14");
    reads(COLUMN_DATE, "14/03/24", "2024-03-14");
    reads(COLUMN_DATE, "03/14/2024", "2024-03-14");
    reads(COLUMN_DATE, "14 March 2024", "2024-03-14");
    reads(COLUMN_DATE, "March 14, 2024", "2024-03-14");
    reads(COLUMN_DATE, "March 3rd, 2024", "2024-03-03");
    reads(COLUMN_DATE, "14. M\xC3\xA4rz 2024", "2024-03-14");
    reads(COLUMN_DATE, "1er ao\xC3\xBBt 2024", "2024-08-01");
    reads(COLUMN_DATE, "5 de mayo de 2024", "2024-05-05");
    reads(COLUMN_DATE, "14-Mar-24", "2024-03-14");
    reads(COLUMN_DATE, "20180304", "2018-03-04");
    reads(COLUMN_DATE, "31.02.2024", NULL);
    reads(COLUMN_DATE, "29.02.2023", NULL);
    reads(COLUMN_DATE, "29.02.2024", "2024-02-29");
    reads(COLUMN_DATE, "12.345.678", NULL);
    reads(COLUMN_DATE, "Marta 3", NULL);
    reads(COLUMN_DATETIME, "14.03.2024 16:05", "2024-03-14T16:05:00");
    reads(COLUMN_DATETIME, "2024-03-14T16:05:07Z", "2024-03-14T16:05:07Z");
    reads(COLUMN_DATETIME, "03/14/2024 4:05 PM", "2024-03-14T16:05:00");
    reads(COLUMN_DATETIME, "14.03.2024", NULL);
}

static void test_two_readings(void **state)
{
    (void)state;
    struct column column = {.type = COLUMN_DATE};
    struct value value;

    assert_true(typing_parse(&column, "09/11/2023", 10, &open_hint, &value));
    assert_true(value.flags & VALUE_TWO_READINGS);
    assert_string_equal(value.text, "2023-11-09");
    assert_string_equal(value.other, "2023-09-11");
    column.date_order = DATE_ORDER_MDY;
    const struct locale_hint hint = typing_hint(&column, &open_hint);
    assert_true(typing_parse(&column, "09/11/2023", 10, &hint, &value));
    assert_false(value.flags & VALUE_TWO_READINGS);
    assert_string_equal(value.text, "2023-09-11");
    column = (struct column){.type = COLUMN_NUMBER};
    assert_true(typing_parse(&column, "1.234", 5, &open_hint, &value));
    assert_true(value.flags & VALUE_TWO_READINGS);
}

static void test_habits(void **state)
{
    (void)state;
    struct locale_votes votes = {.dmy = 0};
    const char *text = "Invoice date 11/17/2017\nTotal 1,980.00 \xE2\x82\xAC\n";

    locale_learn(&votes, text, strlen(text));
    struct locale_hint hint = locale_decide(&votes);
    assert_int_equal(hint.order, DATE_ORDER_MDY);
    assert_int_equal(hint.decimal, '.');
    assert_string_equal(hint.currency, "EUR");
    votes = (struct locale_votes){.dmy = 0};
    text = "Sold 10 pens for GBP 12.00";
    locale_learn(&votes, text, strlen(text));
    hint = locale_decide(&votes);
    assert_int_equal(hint.order, DATE_ORDER_DMY);
}

static void test_words(void **state)
{
    (void)state;
    char *words[] = {(char[]){"paid"}, (char[]){"paid in part"}, (char[]){"open"}};
    const struct column column = {.type = COLUMN_ENUM, .enums = words, .n_enums = 3};
    struct value value;

    assert_true(typing_enum_in(&column, "Status: PAID", 12, &value));
    assert_string_equal(value.text, "paid");
    assert_true(typing_enum_in(&column, "paid in part", 12, &value));
    assert_string_equal(value.text, "paid in part");
    assert_false(typing_enum_in(&column, "paid or open", 12, &value));
    assert_false(typing_enum_in(&column, "reopened", 8, &value));
    assert_true(typing_boolean("Ja", 2, &value));
    assert_true(value.truth);
    assert_true(typing_boolean("no.", 3, &value));
    assert_false(value.truth);
    assert_false(typing_boolean("maybe", 5, &value));
}

static void test_json(void **state)
{
    (void)state;
    struct value value = {.type = COLUMN_NUMBER, .text = "10.50"};
    json_t *json = value_to_json(&value);

    assert_true(json_is_real(json));
    json_decref(json);
    memcpy(value.text, "12345678901234567890.12", sizeof("12345678901234567890.12"));
    json = value_to_json(&value);
    assert_string_equal(json_string_value(json), "12345678901234567890.12");
    json_decref(json);
    memcpy(value.text, "400.0000", sizeof("400.0000"));
    json = value_to_json(&value);
    assert_int_equal(json_integer_value(json), 400);
    json_decref(json);
}

static void test_folding(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct norm norm;
    char key[64];
    const char *text = "Rech\xC2\xADnungs-\n  nummer \xEF\xAC\x81t \xC3\x84ON\xE2\x80\x93X";

    assert_int_equal(norm_new(text, strlen(text), &norm, &err), 0);
    char ascii[64];
    for (size_t i = 0; i < norm.n; i++) {
        ascii[i] = (char)norm.cp[i];
    }
    ascii[norm.n] = '\0';
    assert_string_equal(ascii, "rechnungsnummer fit aon-x");
    assert_int_equal(norm.map[4], 5); /* behind the soft hyphen */
    norm_done(&norm);
    (void)norm_key("N\xC2\xB0 TVA (client):", 18, key, sizeof(key));
    assert_string_equal(key, "n tva client");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),       cmocka_unit_test(test_money),
        cmocka_unit_test(test_money_in_line), cmocka_unit_test(test_dates),
        cmocka_unit_test(test_two_readings),  cmocka_unit_test(test_habits),
        cmocka_unit_test(test_words),         cmocka_unit_test(test_json),
        cmocka_unit_test(test_folding),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
