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
/* SRCS: services/ai-extractor/parts.c */
/*
 * Plans of long documents, and what becomes of rows at the seams of page ranges.
 */
#include "services/ai-extractor/parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct columns *columns_of(const char *text)
{
    struct err err = ERR_INIT;
    struct columns *columns = NULL;
    json_t *json = json_loads(text, 0, NULL);

    assert_non_null(json);
    assert_int_equal(columns_parse_request(json, &columns, NULL, &err), 0);
    json_decref(json);
    return columns;
}

static const char mixed[] =
    "[{\"name\":\"Number\",\"type\":\"string\"},{\"name\":\"Items\",\"type\":\"rows\","
    "\"itemColumns\":[{\"name\":\"Item\",\"type\":\"string\"},{\"name\":\"Amount\",\"type\":"
    "\"money\",\"required\":true},{\"name\":\"Note\",\"type\":\"string\"}]}]";

static struct part *plan(const struct columns *columns, size_t n_pages, size_t *ret_n)
{
    int pages[600];
    const struct locale_hint hint = {.order = DATE_ORDER_DMY, .decimal = ',', .currency = "EUR"};

    for (size_t i = 0; i < n_pages; i++) {
        pages[i] = (int)i + 1;
    }
    struct part *parts = parts_plan(columns, pages, n_pages, 7, &hint, ret_n);
    assert_non_null(parts);
    return parts;
}

/* --- plans ------------------------------------------------------------------------------------ */

static void ranges_cover_every_page_once(void **state)
{
    (void)state;
    struct columns *columns = columns_of(mixed);

    for (size_t n_pages = 1; n_pages < 600; n_pages++) {
        size_t n;
        struct part *parts = plan(columns, n_pages, &n);
        int next = 1;
        assert_true(parts[0].kind == PART_SCALARS && parts[0].first == 1);
        assert_int_equal(parts[0].last, n_pages);
        for (size_t i = 1; i < n; i++) {
            assert_int_equal(parts[i].kind, PART_ROWS);
            assert_int_equal(parts[i].column, 1);
            assert_int_equal(parts[i].first, next);
            assert_true(parts[i].last >= parts[i].first);
            assert_true(parts[i].seen - parts[i].first < (int)PART_PAGES);
            assert_int_equal(parts[i].seen, parts[i].last + (i + 1 < n ? 1 : 0));
            assert_int_equal(parts[i].units, n);
            next = parts[i].last + 1;
        }
        assert_int_equal(next, n_pages + 1);
        free(parts);
    }
    columns_free(columns);
}

static void every_rows_column_has_its_ranges(void **state)
{
    (void)state;
    struct columns *columns = columns_of("[{\"name\":\"A\",\"type\":\"rows\",\"itemColumns\":[{"
                                         "\"name\":\"x\",\"type\":\"string\"}]},"
                                         "{\"name\":\"B\",\"type\":\"rows\",\"itemColumns\":[{"
                                         "\"name\":\"x\",\"type\":\"string\"}]}]");
    size_t n;
    struct part *parts = plan(columns, 20, &n);

    assert_int_equal(n, 6); /* no scalar column, no unit for them */
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(parts[i].kind, PART_ROWS);
        assert_int_equal(parts[i].column, i / 3);
    }
    free(parts);
    columns_free(columns);
}

static void an_input_comes_back_as_it_was(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct columns *columns = columns_of(mixed);
    size_t n;
    struct part *parts = plan(columns, 400, &n);

    for (size_t i = 0; i < n; i++) {
        struct part back;
        json_t *input = part_to_input(&parts[i]);
        char *text = json_dumps(input, JSON_COMPACT);
        assert_true(strlen(text) < 1024);
        assert_int_equal(part_from_input(input, columns, &back, &err), 0);
        assert_int_equal(back.kind, parts[i].kind);
        assert_int_equal(back.first, parts[i].first);
        assert_int_equal(back.last, parts[i].last);
        assert_int_equal(back.seen, parts[i].seen);
        assert_int_equal(back.column, parts[i].column);
        assert_int_equal(back.schema, 7);
        assert_int_equal(back.units, n);
        assert_true(back.hint.order == DATE_ORDER_DMY && back.hint.decimal == ',');
        assert_string_equal(back.hint.currency, "EUR");
        free(text);
        json_decref(input);
    }
    free(parts);
    columns_free(columns);
}

static void a_strange_input_is_refused(void **state)
{
    (void)state;
    struct columns *columns = columns_of(mixed);
    static const char *const changes[] = {
        "{\"part\":\"other\"}",     "{\"part\":1}",       "{\"column\":0}",
        "{\"column\":2}",           "{\"column\":-1}",    "{\"pages\":[5,4,4]}",
        "{\"pages\":[0,4,4]}",      "{\"pages\":[1,4]}",  "{\"pages\":null}",
        "{\"currency\":\"EUROS\"}", "{\"decimal\":null}", "{\"order\":9}",
        "{\"schema\":\"1\"}",       "{\"units\":-1}",
    };
    const struct part part = {
        .kind = PART_ROWS, .schema = 1, .units = 2, .column = 1, .first = 1, .last = 9, .seen = 10};

    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        struct err err = ERR_INIT;
        struct part back;
        json_t *input = part_to_input(&part);
        json_t *change = json_loads(changes[i], 0, NULL);
        assert_int_equal(part_from_input(input, columns, &back, &err), 0);
        assert_int_equal(json_object_update(input, change), 0);
        assert_int_equal(part_from_input(input, columns, &back, &err), -1);
        assert_string_equal(err.code, "invalid_input");
        json_decref(change);
        json_decref(input);
    }
    columns_free(columns);
}

/* --- merging ---------------------------------------------------------------------------------- */

/* A cell found at page, start..start+4; page 0: empty. */
static json_t *cell(int page, int start)
{
    return page ? json_pack("{s:s, s:i, s:[i, i]}", "status", "ok", "page", page, "span", start,
                            start + 4)
                : json_pack("{s:s}", "status", "empty");
}

struct row {
    const char *item, *amount;
    int item_page, item_at, amount_page, amount_at;
    bool review;
    const char *note;
    int note_page, note_at;
};

static json_t *row_json(const struct row *row)
{
    return json_pack("{s:{s:s?, s:s?, s:s?}, s:{s:o, s:o, s:o}, s:b}", "values", "i1", row->item,
                     "i2", row->amount, "i3", row->note, "cells", "i1",
                     cell(row->item_page, row->item_at), "i2",
                     cell(row->amount_page, row->amount_at), "i3",
                     cell(row->note_page, row->note_at), "review", row->review ? 1 : 0);
}

static json_t *answer_of(const struct part *part, const struct row *rows, size_t n)
{
    struct extract_result result = {
        .values = json_object(), .cells = json_object(), .rows = json_object()};
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++) {
        (void)json_array_append_new(list, row_json(&rows[i]));
    }
    if (part->kind == PART_ROWS) {
        struct err err = ERR_INIT;
        (void)json_object_set(result.rows, "c2", list);
        const struct column column = {.id = "c2"};
        assert_int_equal(
            extract_count_rows(&column, n, n ? NULL : "no_text", result.values, result.cells, &err),
            0);
    } else {
        (void)json_object_set_new(result.values, "c1", json_string("X-1"));
        (void)json_object_set_new(result.cells, "c1", cell(1, 1));
    }
    json_decref(list);
    result.usage.calls = 2;
    result.usage.prompt_tokens = 100;
    (void)snprintf(result.backend, sizeof(result.backend), "openai:m");
    json_t *answer = part_answer(part, &result);
    extract_result_done(&result);
    assert_non_null(answer);
    return answer;
}

static const struct part first_range = {
    .kind = PART_ROWS, .schema = 1, .units = 3, .column = 1, .first = 1, .last = 9, .seen = 10};
static const struct part second_range = {
    .kind = PART_ROWS, .schema = 1, .units = 3, .column = 1, .first = 10, .last = 12, .seen = 12};
static const struct part scalars = {
    .kind = PART_SCALARS, .schema = 1, .units = 3, .first = 1, .last = 12, .seen = 12};

/* The items of the merged rows as "a:1 b:2 ". */
static void merged(const struct row *one, size_t n_one, const struct row *two, size_t n_two,
                   struct extract_result *ret, char *text, size_t size)
{
    struct err err = ERR_INIT;
    struct columns *columns = columns_of(mixed);
    json_t *answers = json_array();
    size_t at = 0;

    (void)json_array_append_new(answers, answer_of(&scalars, NULL, 0));
    (void)json_array_append_new(answers, answer_of(&first_range, one, n_one));
    (void)json_array_append_new(answers, answer_of(&second_range, two, n_two));
    assert_int_equal(parts_merge(columns, answers, ret, &err), 0);
    json_decref(answers);
    columns_free(columns);
    const json_t *list = json_object_get(ret->rows, "c2");
    text[0] = '\0';
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *values = json_object_get(json_array_get(list, i), "values");
        const char *item = json_string_value(json_object_get(values, "i1"));
        const char *amount = json_string_value(json_object_get(values, "i2"));
        const char *note = json_string_value(json_object_get(values, "i3"));
        at += (size_t)snprintf(text + at, size - at, "%s:%s%s%s ", item ? item : "-",
                               amount ? amount : "-", note ? ":" : "", note ? note : "");
    }
}

static void check(const struct row *one, size_t n_one, const struct row *two, size_t n_two,
                  const char *want)
{
    struct extract_result result;
    char text[256];

    merged(one, n_one, two, n_two, &result, text, sizeof(text));
    assert_string_equal(text, want);
    const json_t *count = json_object_get(json_object_get(result.values, "c2"), "count");
    assert_int_equal(json_integer_value(count),
                     json_array_size(json_object_get(result.rows, "c2")));
    assert_string_equal(json_string_value(json_object_get(result.values, "c1")), "X-1");
    assert_int_equal(result.usage.calls, 6);
    assert_int_equal(result.usage.prompt_tokens, 300);
    assert_string_equal(result.backend, "openai:m");
    assert_false(result.needs_review);
    assert_true(result.completeness > 0.99);
    extract_result_done(&result);
}

static void rows_come_in_the_order_of_ranges(void **state)
{
    (void)state;
    const struct row one[] = {{"a", "1", 1, 0, 1, 10, false, NULL, 0, 0},
                              {"b", "2", 9, 0, 9, 10, false, NULL, 0, 0}};
    const struct row two[] = {{"c", "3", 10, 0, 10, 10, false, NULL, 0, 0},
                              {"d", "4", 12, 0, 12, 10, false, NULL, 0, 0}};
    check(one, 2, two, 2, "a:1 b:2 c:3 d:4 ");
}

static void a_row_of_the_shared_page_is_the_later_ranges(void **state)
{
    (void)state;
    const struct row one[] = {{"a", "1", 9, 0, 9, 10, false, NULL, 0, 0},
                              {"c", "3", 10, 0, 10, 10, false, NULL, 0, 0}};
    const struct row two[] = {{"c", "3", 10, 0, 10, 10, false, NULL, 0, 0}};
    check(one, 2, two, 1, "a:1 c:3 ");
    check(one, 2, NULL, 0, "a:1 "); /* also when the later range does not see it as a row */
}

static void a_row_over_the_seam_stays_whole(void **state)
{
    (void)state;
    const struct row one[] = {{"a", "1", 9, 90, 10, 10, false, NULL, 0, 0}};
    const struct row rest[] = {{NULL, "1", 0, 0, 10, 10, false, NULL, 0, 0},
                               {"c", "3", 10, 50, 10, 60, false, NULL, 0, 0}};
    check(one, 1, rest, 2, "a:1 c:3 ");
}

static void the_rest_fills_what_the_whole_lacks(void **state)
{
    (void)state;
    const struct row one[] = {{"a", "1", 9, 90, 10, 10, false, NULL, 0, 0}};
    const struct row two[] = {{NULL, "1", 0, 0, 10, 10, false, "n", 10, 20},
                              {"c", "3", 10, 50, 10, 60, false, NULL, 0, 0}};
    check(one, 1, two, 2, "a:1:n c:3 ");
}

static void equal_lines_are_two_rows(void **state)
{
    (void)state;
    const struct row one[] = {{"post", "5", 9, 0, 9, 10, false, NULL, 0, 0},
                              {"post", "5", 9, 20, 9, 30, false, NULL, 0, 0}};
    const struct row two[] = {{"post", "5", 10, 0, 10, 10, false, NULL, 0, 0},
                              {"post", "5", 10, 20, 10, 30, false, NULL, 0, 0}};
    check(one, 2, two, 2, "post:5 post:5 post:5 post:5 ");
}

static void one_shared_word_does_not_make_two_rows_one(void **state)
{
    (void)state;
    /* a note printed once, on the later page, for both */
    const struct row one[] = {{"a", "1", 9, 80, 9, 90, false, "n", 10, 10}};
    const struct row two[] = {{"c", "3", 10, 50, 10, 60, false, "n", 10, 10}};
    check(one, 1, two, 1, "a:1:n c:3:n ");
}

static void a_row_that_wants_review_marks_the_record(void **state)
{
    (void)state;
    struct extract_result result;
    char text[256];
    const struct row dropped[] = {{"a", "1", 9, 0, 9, 10, false, NULL, 0, 0},
                                  {"c", NULL, 10, 0, 0, 0, true, NULL, 0, 0}};
    const struct row two[] = {{"c", "3", 10, 0, 10, 10, false, NULL, 0, 0}};
    const struct row kept[] = {{"c", NULL, 10, 0, 0, 0, true, NULL, 0, 0}};

    merged(dropped, 2, two, 1, &result, text, sizeof(text));
    assert_false(result.needs_review);
    extract_result_done(&result);
    merged(dropped, 2, kept, 1, &result, text, sizeof(text));
    assert_true(result.needs_review);
    extract_result_done(&result);
}

static void no_rows_keep_their_reason(void **state)
{
    (void)state;
    struct extract_result result;
    char text[256];

    merged(NULL, 0, NULL, 0, &result, text, sizeof(text));
    const json_t *cell_of = json_object_get(result.cells, "c2");
    assert_string_equal(json_string_value(json_object_get(cell_of, "status")), "empty");
    assert_string_equal(json_string_value(json_object_get(cell_of, "reason")), "no_text");
    assert_true(json_is_null(json_object_get(result.values, "c2")));
    extract_result_done(&result);
}

static void a_broken_answer_is_an_error(void **state)
{
    (void)state;
    struct columns *columns = columns_of(mixed);
    static const char *const broken[] = {"[null]", "[{}]", "[{\"v\":2}]",
                                         "[{\"v\":1,\"backend\":\"x\",\"input\":{}}]"};

    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        struct err err = ERR_INIT;
        struct extract_result result;
        json_t *answers = json_loads(broken[i], 0, NULL);
        assert_int_equal(parts_merge(columns, answers, &result, &err), -1);
        assert_string_equal(err.code, "corrupt");
        json_decref(answers);
    }
    columns_free(columns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_cover_every_page_once),
        cmocka_unit_test(every_rows_column_has_its_ranges),
        cmocka_unit_test(an_input_comes_back_as_it_was),
        cmocka_unit_test(a_strange_input_is_refused),
        cmocka_unit_test(rows_come_in_the_order_of_ranges),
        cmocka_unit_test(a_row_of_the_shared_page_is_the_later_ranges),
        cmocka_unit_test(a_row_over_the_seam_stays_whole),
        cmocka_unit_test(the_rest_fills_what_the_whole_lacks),
        cmocka_unit_test(equal_lines_are_two_rows),
        cmocka_unit_test(one_shared_word_does_not_make_two_rows_one),
        cmocka_unit_test(a_row_that_wants_review_marks_the_record),
        cmocka_unit_test(no_rows_keep_their_reason),
        cmocka_unit_test(a_broken_answer_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
