/* SPDX-License-Identifier: Apache-2.0 */
/* SRCS: services/dispatcher/sfq.c services/dispatcher/sfq_flow.c services/dispatcher/sfq_view.c */
/*
 * What waits: nothing is lost or reordered between picks, put-backs, refills and passes; and what
 * the scheduler shows of it.
 */
#include "tests/unit/sfq_help.h"

/* Heads -----------------------------------------------------------------------------------------*/

static void test_seq_order(void **state)
{
    struct sfq *sfq = make(SFQ_FAIR);
    static const int order[] = {5, 1, 4, 2, 3, 2};
    struct sfq_pick p;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        add(sfq, head_of(1, order[i], 1));
    }
    assert_int_equal(sfq_waiting(sfq), 5); /* the second 2 was held already */
    for (int n = 1; n <= 5; n++) {
        p = pick(sfq, NO_CAP);
        assert_int_equal(p.head.key.unit, n);
    }
    assert_false(sfq_pick(sfq, NO_CAP, &p));
    sfq_free(sfq);
}

/* What was picked and not sent costs nothing and keeps its place. */
static void test_put_back(void **state)
{
    struct sfq *sfq = make(SFQ_FAIR);
    struct err err = ERR_INIT;
    struct sfq_pick batch[7];
    int first = 0;

    (void)state;
    for (int n = 0; n < 10; n++) {
        for (int u = 1; u <= 2; u++) {
            add(sfq, head_of(u, n, 4));
        }
    }
    add(sfq, lane_head(3, 77, LANE_BULK));
    for (int i = 0; i < 50; i++) { /* a batch over and over put back: the same one comes again */
        for (size_t k = 0; k < ARRAY_LEN(batch); k++) {
            struct sfq_pick p = pick(sfq, NO_CAP);
            if (i > 0) {
                assert_string_equal(p.head.key.file_id, batch[k].head.key.file_id);
                assert_true(p.start == batch[k].start && p.v == batch[k].v);
            }
            batch[k] = p;
        }
        for (size_t k = ARRAY_LEN(batch); k-- > 0;) {
            assert_int_equal(sfq_put_back(sfq, &batch[k], &err), 0);
        }
        assert_int_equal(sfq_waiting(sfq), 21);
    }
    for (int i = 0; i < 9; i++) {
        first += send_next(sfq) == 1;
    }
    assert_in_range(first, 4, 5);
    /* Gone ones: the user's share stays its own. */
    for (int i = 0; i < 3; i++) {
        struct sfq_pick p = pick(sfq, NO_CAP);
        sfq_unpick(sfq, &p);
    }
    assert_int_equal(sfq_waiting(sfq), 9);
    sfq_unpick(sfq, &(struct sfq_pick){.head = {.user_id = "nobody"}});
    sfq_free(sfq);
}

/* A flow that is full takes its head back all the same; the last one is read again later. */
static void test_put_back_full(void **state)
{
    struct sfq *sfq = make(SFQ_FAIR);
    struct err err = ERR_INIT;
    struct task_head heads[SFQ_HEADS_MAX + 1];
    struct task_ask asks[2];

    (void)state;
    for (int n = 0; n < (int)ARRAY_LEN(heads); n++) {
        heads[n] = head_of(1, n, 1);
    }
    assert_int_equal(sfq_load(sfq, name_of(1), 0, heads, SFQ_HEADS_MAX, false, &err), 0);
    struct sfq_pick p = pick(sfq, NO_CAP);
    assert_int_equal(sfq_append(sfq, name_of(1), 0, &heads[SFQ_HEADS_MAX], 1, false, &err), 0);
    assert_int_equal(sfq_put_back(sfq, &p, &err), 0);
    assert_int_equal(sfq_waiting(sfq), SFQ_HEADS_MAX);
    for (int n = 0; n < SFQ_HEADS_MAX; n++) {
        p = pick(sfq, NO_CAP);
        assert_int_equal(p.head.key.unit, n);
    }
    assert_int_equal(sfq_hungry(sfq, asks, 2), 1);
    assert_int_equal(asks[0].after, heads[SFQ_HEADS_MAX - 1].seq);
    sfq_free(sfq);
}

/* A newcomer whose order could not be sent is a newcomer still. */
static void test_bonus_not_lost(void **state)
{
    struct sfq *sfq = make(SFQ_FAIR);
    struct err err = ERR_INIT;

    (void)state;
    for (int n = 0; n < 10; n++) {
        add(sfq, head_of(1, n, 1));
    }
    send_next(sfq);
    send_next(sfq);
    add(sfq, head_of(2, 0, 1));
    for (int i = 0; i < 3; i++) {
        struct sfq_pick p = pick(sfq, NO_CAP);
        assert_int_equal(user_of(&p), 2);
        assert_int_equal(sfq_put_back(sfq, &p, &err), 0);
    }
    /* gone: the next one has it */
    struct sfq_pick p = pick(sfq, NO_CAP);
    sfq_unpick(sfq, &p);
    add(sfq, head_of(2, 1, 1));
    assert_int_equal(send_next(sfq), 2);
    sfq_free(sfq);
}

static void test_refill(void **state)
{
    struct sfq *sfq = make(SFQ_FAIR);
    struct err err = ERR_INIT;
    struct task_head heads[SFQ_HEADS_MAX + 5];
    struct task_ask asks[8];
    struct sfq_pick p;

    (void)state;
    for (int n = 0; n < (int)ARRAY_LEN(heads); n++) {
        heads[n] = head_of(1, n, 1);
    }
    assert_int_equal(sfq_want(sfq, name_of(1), 0), SFQ_HEADS_FIRST);
    assert_int_equal(sfq_load(sfq, name_of(1), 0, heads, 4, true, &err), 0);
    assert_int_equal(sfq_hungry(sfq, asks, 8), 0); /* full enough */
    for (int i = 0; i < 3; i++) {
        pick(sfq, NO_CAP);
    }
    assert_int_equal(sfq_hungry(sfq, asks, 8), 1);
    assert_string_equal(asks[0].user_id, name_of(1));
    assert_int_equal(asks[0].after, heads[3].seq); /* read on after the last one that was kept */
    assert_int_equal(asks[0].limit, 7);            /* twice as many as before */
    assert_int_equal(sfq_hungry(sfq, asks, 8), 0); /* each once */
    assert_int_equal(sfq_append(sfq, name_of(1), 0, &heads[4], ARRAY_LEN(heads) - 4, false, &err),
                     0);
    assert_int_equal(sfq_waiting(sfq), SFQ_HEADS_MAX); /* the rest later */
    for (int n = 3; n < SFQ_HEADS_MAX + 3; n++) {
        p = pick(sfq, NO_CAP);
        assert_int_equal(p.head.key.unit, n);
    }
    assert_int_equal(sfq_hungry(sfq, asks, 8), 1);
    assert_int_equal(asks[0].after, heads[SFQ_HEADS_MAX + 2].seq);
    assert_int_equal(sfq_append(sfq, name_of(1), 0, NULL, 0, false, &err), 0);
    assert_int_equal(sfq_hungry(sfq, asks, 8), 0);
    assert_false(sfq_pick(sfq, NO_CAP, &p));
    sfq_free(sfq);
}

/* What a pass does not find waits no more; users without a trace are forgotten. */
static void test_pass(void **state)
{
    struct sfq *sfq = make(SFQ_FAIR);
    struct err err = ERR_INIT;

    (void)state;
    for (int u = 1; u <= 100; u++) {
        add(sfq, head_of(u, 0, 1));
    }
    for (int i = 0; i < 50; i++) {
        int u = send_next(sfq);
        if (i < 20) {
            back(sfq, u, 1);
        }
    }
    sfq_begin_pass(sfq);
    for (int u = 91; u <= 100; u++) {
        struct task_head head = head_of(u, 0, 1);
        assert_int_equal(sfq_load(sfq, head.user_id, 0, &head, 1, false, &err), 0);
    }
    add(sfq, head_of(7, 1, 1)); /* named meanwhile */
    sfq_end_pass(sfq, T0);      /* too early to forget */
    assert_int_equal(sfq_waiting(sfq), 11);
    assert_int_equal(sfq_users(sfq), 100 - 40); /* the 40 others' bonus was never used */
    sfq_begin_pass(sfq);
    for (int u = 91; u <= 100; u++) {
        struct task_head head = head_of(u, 0, 1);
        assert_int_equal(sfq_load(sfq, head.user_id, 0, &head, 1, false, &err), 0);
    }
    sfq_end_pass(sfq, T0 + 1);
    assert_int_equal(sfq_users(sfq), 40); /* 30 have something out, 10 wait */
    sfq_free(sfq);
    sfq_free(NULL);
}

/* Views -----------------------------------------------------------------------------------------*/

static void test_shares(void **state)
{
    struct sfq *sfq = make(SFQ_FAIR);
    double top, jain;

    (void)state;
    sfq_shares(sfq, &top, &jain);
    assert_true(top < 0.001 && jain > 0.999);
    for (int u = 1; u <= 4; u++) {
        for (int n = 0; n < 20; n++) {
            add(sfq, head_of(u, n, 1));
        }
    }
    for (int i = 0; i < 8; i++) {
        back(sfq, send_next(sfq), 2);
    }
    sfq_shares(sfq, &top, &jain);
    assert_true(top > 0.249 && top < 0.251 && jain > 0.999);
    sfq_set_now(sfq, T0 + 10000);
    sfq_sent(sfq, name_of(4));
    sfq_back(sfq, name_of(4), LANE_FIRST, 1, 1, 36);
    sfq_shares(sfq, &top, &jain);
    assert_true(top > 0.7 && jain < 0.6);
    sfq_set_now(sfq, T0 + 400000); /* long ago */
    sfq_sent(sfq, name_of(1));
    sfq_back(sfq, name_of(1), LANE_FIRST, 1, 1, 36);
    sfq_shares(sfq, &top, &jain);
    assert_true(top > 0.99);
    sfq_free(sfq);
}

/* The curve tells how many are sent before; then they are. */
static void test_curve(void **state)
{
    struct sfq *sfq = make(SFQ_FAIR);
    static const double x[] = {0, 1, 2, 4, 8, 16, 32};
    double tasks[ARRAY_LEN(x)];

    (void)state;
    sfq_curve(sfq, false, x, tasks, ARRAY_LEN(x));
    assert_true(tasks[0] < 0.5 && tasks[6] < 0.5);
    for (int u = 1; u <= 5; u++) {
        for (int n = 0; n < 10; n++) {
            add(sfq, head_of(u, n, 1));
        }
    }
    for (int i = 0; i < 10; i++) {
        send_next(sfq);
    }
    sfq_curve(sfq, false, x, tasks, ARRAY_LEN(x));
    /* user 5's third one in its queue (cost 2 before it) comes after two rounds of five */
    assert_true(tasks[2] >= 10 && tasks[2] <= 15);
    assert_true(tasks[5] > 39.5 && tasks[6] > 39.5);
    sfq_set_backlog(sfq, name_of(1), 0, 1000, 2000); /* many more than are held, of cost 2 */
    sfq_set_backlog(sfq, "nobody", 0, 5, 5);
    assert_int_equal(sfq_backlog(sfq), 1000 + 32);
    sfq_curve(sfq, false, x, tasks, ARRAY_LEN(x));
    assert_true(tasks[6] > 32 + 15 && tasks[6] < 32 + 19);
    for (int n = 0; n < 10; n++) {
        add(sfq, lane_head(9, n, LANE_BULK));
    }
    sfq_curve(sfq, true, x, tasks, ARRAY_LEN(x));
    assert_true(tasks[0] > 8.5 && tasks[0] < 10); /* nine of lane 0 first */
    sfq_clear_backlog(sfq);
    assert_int_equal(sfq_backlog(sfq), 50);
    sfq_free(sfq);
}

/* 10,000 users: everything comes out, once, and by turns. */
static void test_many(void **state)
{
    enum { USERS = 10000, EACH = 3 };
    struct sfq *sfq = make(SFQ_FAIR);
    unsigned char *seen = calloc(USERS, 1);
    struct sfq_pick p;

    (void)state;
    assert_non_null(seen);
    for (int n = 0; n < EACH; n++) {
        for (int u = 0; u < USERS; u++) {
            add(sfq, head_of(u, n, 1));
        }
    }
    assert_int_equal(sfq_waiting(sfq), USERS * EACH);
    assert_int_equal(sfq_flows(sfq), USERS);
    for (int i = 0; i < USERS * EACH; i++) {
        p = pick(sfq, NO_CAP);
        sfq_sent(sfq, p.head.user_id);
        int u = user_of(&p);
        assert_int_equal(p.head.key.unit, seen[u]);
        assert_int_equal(seen[u], i / USERS); /* nobody twice before all once */
        seen[u]++;
    }
    assert_false(sfq_pick(sfq, NO_CAP, &p));
    free(seen);
    sfq_free(sfq);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seq_order),     cmocka_unit_test(test_put_back),
        cmocka_unit_test(test_put_back_full), cmocka_unit_test(test_bonus_not_lost),
        cmocka_unit_test(test_refill),        cmocka_unit_test(test_pass),
        cmocka_unit_test(test_shares),        cmocka_unit_test(test_curve),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
