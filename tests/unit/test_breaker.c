/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The breaker by itself, and the breakers of a process: when they open, who may try, when they
 * close.
 */
#include "libcommon/guard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void answer(struct breaker *breaker, uint64_t now, unsigned n, enum breaker_answer how)
{
    for (unsigned i = 0; i < n; i++) {
        assert_true(breaker_enter(breaker, now));
        breaker_leave(breaker, now, how);
    }
}

static void open_it(struct breaker *breaker, uint64_t now)
{
    answer(breaker, now, BREAKER_MIN_CALLS, BREAKER_ANSWER_FAILED);
    assert_int_equal(breaker->state, BREAKER_OPEN);
}

static void test_opens(void **state)
{
    struct breaker breaker = {0};

    (void)state;
    answer(&breaker, 1000, 9, BREAKER_ANSWER_FAILED);
    assert_int_equal(breaker.state, BREAKER_CLOSED); /* nine calls say nothing */
    answer(&breaker, 1000, 1, BREAKER_ANSWER_FAILED);
    assert_int_equal(breaker.state, BREAKER_OPEN);
    assert_false(breaker_enter(&breaker, 5999));

    breaker = (struct breaker){0};
    answer(&breaker, 1000, 6, BREAKER_ANSWER_OK);
    answer(&breaker, 2000, 5, BREAKER_ANSWER_FAILED);
    assert_int_equal(breaker.state, BREAKER_CLOSED); /* 5 of 11 */
    answer(&breaker, 3000, 1, BREAKER_ANSWER_FAILED);
    assert_int_equal(breaker.state, BREAKER_OPEN); /* 6 of 12 */

    breaker = (struct breaker){0};
    answer(&breaker, 1000, 100, BREAKER_ANSWER_NONE);
    assert_int_equal(breaker.state, BREAKER_CLOSED);
    assert_true(breaker_wait_ms(&breaker, 1000) == 0);
}

/* What is older than the window counts no more. */
static void test_window(void **state)
{
    struct breaker breaker = {0};

    (void)state;
    answer(&breaker, 0, 9, BREAKER_ANSWER_FAILED);
    answer(&breaker, BREAKER_WINDOW_MS + 3000, 9, BREAKER_ANSWER_FAILED);
    assert_int_equal(breaker.state, BREAKER_CLOSED);

    breaker = (struct breaker){0};
    for (uint64_t i = 0; i < 9; i++) {
        answer(&breaker, i * 3000, 1, BREAKER_ANSWER_FAILED);
    }
    answer(&breaker, 29000, 1, BREAKER_ANSWER_FAILED);
    assert_int_equal(breaker.state, BREAKER_OPEN); /* ten within 30 s */

    breaker = (struct breaker){0};
    for (uint64_t i = 0; i < 100; i++) {
        answer(&breaker, i * 4000, 1, BREAKER_ANSWER_FAILED); /* never ten within 30 s */
    }
    assert_int_equal(breaker.state, BREAKER_CLOSED);
}

static void test_probes(void **state)
{
    struct breaker breaker = {0};
    uint64_t now = 100000;
    const uint64_t waits[] = {5000, 10000, 20000, 40000, 60000, 60000};

    (void)state;
    open_it(&breaker, now);
    for (size_t i = 0; i < ARRAY_LEN(waits); i++) {
        assert_true(breaker_wait_ms(&breaker, now) == waits[i]);
        assert_false(breaker_enter(&breaker, now + waits[i] - 1));
        now += waits[i];
        assert_true(breaker_due(&breaker, now));
        assert_true(breaker_enter(&breaker, now)); /* one probe */
        assert_int_equal(breaker.state, BREAKER_HALF_OPEN);
        assert_false(breaker_enter(&breaker, now)); /* and no other */
        breaker_leave(&breaker, now, BREAKER_ANSWER_FAILED);
        assert_int_equal(breaker.state, BREAKER_OPEN);
    }
    now += 60000;
    assert_true(breaker_enter(&breaker, now));
    breaker_leave(&breaker, now, BREAKER_ANSWER_NONE); /* told nothing: another at once */
    assert_true(breaker_enter(&breaker, now));
    breaker_leave(&breaker, now, BREAKER_ANSWER_OK);
    assert_int_equal(breaker.state, BREAKER_CLOSED);
    assert_int_equal(breaker.openings, 1);
    /* It begins anew: old failures are forgotten, the wait is short again. */
    answer(&breaker, now, 9, BREAKER_ANSWER_FAILED);
    assert_int_equal(breaker.state, BREAKER_CLOSED);
    answer(&breaker, now, 1, BREAKER_ANSWER_FAILED);
    assert_true(breaker_wait_ms(&breaker, now) == 5000);
}

/* A probe whose caller vanished keeps nobody out for ever; a late answer of a call that began
 * before the opening neither closes nor prolongs. */
static void test_late(void **state)
{
    struct breaker breaker = {0};

    (void)state;
    assert_true(breaker_enter(&breaker, 0));
    open_it(&breaker, 0);
    breaker_leave(&breaker, 100, BREAKER_ANSWER_OK);
    assert_int_equal(breaker.state, BREAKER_OPEN);
    assert_true(breaker_enter(&breaker, 5000));
    assert_false(breaker_enter(&breaker, 64999));
    assert_true(breaker_enter(&breaker, 65000));
}

static void fail_calls(struct guard *guard, enum guard_dep dep, uint64_t now, unsigned n)
{
    struct err err = ERR_INIT;
    int64_t wait;

    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(guard_enter(guard, dep, now, &wait, &err), 0);
        guard_leave(guard, dep, now, BREAKER_ANSWER_FAILED);
    }
}

static void test_guard_modes(void **state)
{
    struct guard guard;
    struct err err = ERR_INIT;
    int64_t wait = 0;

    (void)state;
    guard_init(&guard);
    guard_use(&guard, GUARD_STORE, GUARD_BY_CALL);
    guard_use(&guard, GUARD_TEXTRACT, GUARD_HELPFUL);
    guard_use(&guard, GUARD_AI, GUARD_BY_UNIT);
    assert_int_equal(guard_mode(&guard, 0), GUARD_GO);

    fail_calls(&guard, GUARD_TEXTRACT, 0, 10);
    assert_int_equal(guard_mode(&guard, 0), GUARD_GO); /* work goes on without it */
    assert_int_equal(guard_enter(&guard, GUARD_TEXTRACT, 1000, &wait, &err), -1);
    assert_int_equal(err.class, ERR_TRANSIENT);
    assert_string_equal(err.code, "dependency_open");
    assert_true(wait == 4000);

    fail_calls(&guard, GUARD_AI, 0, 10);
    assert_int_equal(guard_mode(&guard, 4999), GUARD_STOP);
    assert_int_equal(guard_mode(&guard, 5000), GUARD_TRY);
    fail_calls(&guard, GUARD_STORE, 1000, 10);
    assert_int_equal(guard_mode(&guard, 5000), GUARD_STOP); /* no unit gets on without it */
    assert_int_equal(guard_mode(&guard, 6000), GUARD_STOP);
    assert_false(guard_probe_due(&guard, GUARD_AI, 6000)); /* a unit's business */
    assert_true(guard_probe_due(&guard, GUARD_STORE, 6000));
    assert_int_equal(guard_enter(&guard, GUARD_STORE, 6000, &wait, &err), 0);
    assert_int_equal(guard_state(&guard, GUARD_STORE), BREAKER_HALF_OPEN);
    guard_leave(&guard, GUARD_STORE, 6000, BREAKER_ANSWER_OK);
    assert_int_equal(guard_mode(&guard, 6000), GUARD_TRY);
    assert_int_equal(guard_enter(&guard, GUARD_AI, 6000, &wait, &err), 0);
    assert_int_equal(guard_mode(&guard, 6000), GUARD_STOP); /* the probe is out */
    guard_leave(&guard, GUARD_AI, 6000, BREAKER_ANSWER_OK);
    assert_int_equal(guard_mode(&guard, 6000), GUARD_GO);
    guard_done(&guard);
    assert_int_equal(guard_enter(NULL, GUARD_AI, 0, &wait, &err), 0);
    guard_leave(NULL, GUARD_AI, 0, BREAKER_ANSWER_FAILED);
    assert_int_equal(guard_mode(NULL, 0), GUARD_GO);
}

static void test_answers(void **state)
{
    static const struct {
        enum err_class class;
        const char *code;
        enum breaker_answer answer;
    } cases[] = {
        {ERR_TRANSIENT, "store_unavailable", BREAKER_ANSWER_FAILED},
        {ERR_TRANSIENT, "http_timeout", BREAKER_ANSWER_FAILED},
        {ERR_TRANSIENT, "aborted", BREAKER_ANSWER_NONE},
        {ERR_TRANSIENT, "cancelled", BREAKER_ANSWER_NONE},
        {ERR_TRANSIENT, "no_memory", BREAKER_ANSWER_NONE},
        {ERR_TRANSIENT, "io", BREAKER_ANSWER_NONE},
        {ERR_UNKNOWN, "provider_refused", BREAKER_ANSWER_NONE},
        {ERR_PERMANENT, "not_found", BREAKER_ANSWER_OK},
    };
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(guard_answer(0, &err), BREAKER_ANSWER_OK);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        err_set(&err, cases[i].class, cases[i].code, "x");
        assert_int_equal(guard_answer(-1, &err), cases[i].answer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opens),       cmocka_unit_test(test_window),
        cmocka_unit_test(test_probes),      cmocka_unit_test(test_late),
        cmocka_unit_test(test_guard_modes), cmocka_unit_test(test_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
