/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Schedules: what a field takes and refuses, and the next time in every corner of a calendar.
 */
#include "libcommon/cron.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* "2026-11-23 05:06" */
static struct cron_time at(const char *text)
{
    struct cron_time t = {0};

    assert_int_equal(sscanf(text, "%d-%d-%d %d:%d", &t.year, &t.month, &t.day, &t.hour, &t.minute),
                     5);
    return t;
}

static void expect(const char *schedule, const char *after, const char *next)
{
    struct cron cron;
    struct err err = ERR_INIT;
    struct cron_time from = at(after), t;
    char text[80] = "never";

    if (cron_parse(schedule, &cron, &err) < 0) {
        fail_msg("%s: %s", schedule, err.msg);
    }
    if (cron_next(&cron, &from, &t)) {
        snprintf(text, sizeof(text), "%04d-%02d-%02d %02d:%02d", t.year, t.month, t.day, t.hour,
                 t.minute);
    }
    assert_string_equal(text, next);
}

static void test_next(void **state)
{
    (void)state;
    expect("* * * * *", "2026-11-23 05:06", "2026-11-23 05:07");
    expect("* * * * *", "2026-12-31 23:59", "2027-01-01 00:00");
    expect("0 2 * * *", "2026-11-23 02:00", "2026-11-24 02:00");
    expect("0 2 * * *", "2026-11-23 01:59", "2026-11-23 02:00");
    expect("*/15 8-17 * * mon-fri", "2026-11-20 17:45", "2026-11-23 08:00");
    expect("5/20 * * * *", "2026-11-23 05:45", "2026-11-23 06:05");
    expect("30 4 1,15 * *", "2026-11-15 04:30", "2026-12-01 04:30");
    expect("0 0 29 2 *", "2026-11-23 00:00", "2028-02-29 00:00");
    expect("0 0 29 2 *", "2096-03-01 00:00", "2104-02-29 00:00"); /* 2100 has none */
    expect("0 0 31 JAN,Mar *", "2026-01-31 00:00", "2026-03-31 00:00");
    expect("0 0 * * 7", "2026-11-23 00:00", "2026-11-29 00:00"); /* Sunday by either number */
    expect("0 0 * * 0", "2026-11-23 00:00", "2026-11-29 00:00");
    /* both day fields: either will do */
    expect("0 0 13 * fri", "2026-11-07 00:00", "2026-11-13 00:00");
    expect("0 0 14 * fri", "2026-11-07 00:00", "2026-11-13 00:00");
    expect("0 0 30 2 *", "2026-11-23 00:00", "never");
    expect("  0   3\t* * *  ", "2026-11-23 05:06", "2026-11-24 03:00");
}

static void test_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 13 *",
        "* * * * 8",
        "5-1 * * * *",
        "*/0 * * * *",
        "a * * * *",
        "1,,2 * * * *",
        "1-2-3 * * * *",
        "@daily",
        "99999999999 * * * *",
        "* * * foo *",
        "-1 * * * *",
    };
    struct cron cron;
    char lengthy[200];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err err = ERR_INIT;
        if (cron_parse(bad[i], &cron, &err) == 0) {
            fail_msg("taken: %s", bad[i]);
        }
        assert_string_equal(err.code, "invalid_value");
        assert_int_equal(err.class, ERR_PERMANENT);
    }
    memset(lengthy, '1', sizeof(lengthy) - 1);
    lengthy[sizeof(lengthy) - 1] = '\0';
    assert_int_equal(cron_parse(lengthy, &cron, NULL), -1);
}

/* Every answer is later than the question, and the question just before it gives it again. */
static void test_steps(void **state)
{
    struct cron cron;
    struct err err = ERR_INIT;
    struct cron_time t = at("2026-01-01 00:00");
    int n = 0;

    (void)state;
    assert_int_equal(cron_parse("*/7 3,21 */5 * 1-5", &cron, &err), 0);
    while (t.year < 2027) {
        struct cron_time next;
        assert_true(cron_next(&cron, &t, &next));
        assert_true(next.minute % 7 == 0 && (next.hour == 3 || next.hour == 21));
        assert_int_equal(next.day % 5, 1);
        t = next;
        n++;
    }
    assert_in_range(n, 500, 1000); /* 18 a day on some 50 days */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_steps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
