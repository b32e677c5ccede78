/* SPDX-License-Identifier: Apache-2.0 */
/* SRCS: services/dispatcher/sfq.c */
/*
 * The scheduler's promises: shares by cost and weight, a newcomer's bonus once per idle time, the
 * cap of one user while others wait, and nothing lost between picks and put-backs.
 */
#include "services/dispatcher/sfq.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define NO_CAP 1000000
#define T0 100000U

static struct task_head head_of(int user, int n, int cost)
{
    struct task_head head = {.seq = (int64_t)user * 100000 + n, .cost = cost};

    snprintf(head.user_id, UUID_TEXT, "018f0000-0000-7000-8000-%012x", (unsigned)user);
    snprintf(head.key.file_id, UUID_TEXT, "018f%04x-0000-7000-8000-%012x", (unsigned)n & 0xffff,
             (unsigned)user);
    head.key.stage = STAGE_TEXT;
    head.key.unit = n;
    head.key.generation = 1;
    return head;
}

static void add(struct sfq *sfq, const struct task_head *head)
{
    struct err err = ERR_INIT;

    assert_int_equal(sfq_add(sfq, head, &err), 0);
}

static struct sfq *make(enum sfq_mode mode)
{
    struct sfq *sfq = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(sfq_new(mode, &sfq, &err), 0);
    return sfq;
}

static int user_of(const struct task_head *head)
{
    return (int)strtol(head->user_id + 24, NULL, 16);
}

/* Keeps every user's queue filled (cost of user u: costs[u]) and counts what n picks cost. */
static void run(struct sfq *sfq, const int *costs, int users, int n, double *ret_served)
{
    int next[16] = {0};
    struct task_head head;

    for (int u = 0; u < users; u++) {
        ret_served[u] = 0;
        for (; next[u] < 4; next[u]++) {
            head = head_of(u, next[u], costs[u]);
            add(sfq, &head);
        }
    }
    for (int i = 0; i < n; i++) {
        assert_true(sfq_pick(sfq, T0, NO_CAP, &head));
        int u = user_of(&head);
        ret_served[u] += head.cost;
        sfq_sent(sfq, head.user_id, T0);
        head = head_of(u, next[u]++, costs[u]);
        add(sfq, &head);
    }
}

static void test_cost(void **state)
{
    static const int costs[] = {1, 10, 3};
    struct sfq *sfq = make(SFQ_FAIR);
    double served[3];

    (void)state;
    run(sfq, costs, 3, 3000, served);
    /* Each got the same amount of pages, give or take one unit of each. */
    assert_true(served[1] > served[0] - 12 && served[1] < served[0] + 12);
    assert_true(served[2] > served[0] - 6 && served[2] < served[0] + 6);
    sfq_free(sfq);
}

static void test_weight(void **state)
{
    static const int costs[] = {2, 2};
    struct sfq *sfq = make(SFQ_FAIR);
    struct task_head head = head_of(1, 99, 2);
    double served[2];

    (void)state;
    add(sfq, &head);
    sfq_set_weight(sfq, head.user_id, 3.0);
    sfq_set_weight(sfq, head.user_id, 0); /* refused */
    sfq_set_weight(sfq, "nobody", 5.0);   /* unknown */
    run(sfq, costs, 2, 4000, served);
    assert_true(served[1] > 2.95 * served[0] && served[1] < 3.05 * served[0]);
    sfq_free(sfq);
}

static void test_seq_order(void **state)
{
    struct sfq *sfq = make(SFQ_FAIR);
    static const int order[] = {5, 1, 4, 2, 3, 2};
    struct task_head head;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        head = head_of(1, order[i], 1);
        add(sfq, &head);
    }
    assert_int_equal(sfq_waiting(sfq), 5); /* the second 2 was held already */
    for (int n = 1; n <= 5; n++) {
        assert_true(sfq_pick(sfq, T0, NO_CAP, &head));
        assert_int_equal(head.key.unit, n);
    }
    assert_false(sfq_pick(sfq, T0, NO_CAP, &head));
    sfq_free(sfq);
}

/* One user is far ahead; a newcomer goes first, but only once per idle time. */
static void test_newcomer(void **state)
{
    struct sfq *sfq = make(SFQ_FAIR);
    struct task_head head;

    (void)state;
    for (int n = 0; n < 20; n++) {
        head = head_of(1, n, 5);
        add(sfq, &head);
    }
    for (int n = 0; n < 5; n++) {
        assert_true(sfq_pick(sfq, T0, NO_CAP, &head));
        sfq_sent(sfq, head.user_id, T0);
    }
    head = head_of(2, 0, 1);
    add(sfq, &head);
    assert_true(sfq_pick(sfq, T0 + 1, NO_CAP, &head));
    assert_int_equal(user_of(&head), 2);
    sfq_sent(sfq, head.user_id, T0 + 1);
    sfq_back(sfq, head.user_id, T0 + 2);
    /* Again at once: no bonus, start = max(v, finish), so at most a tie with user 1. */
    int second = 0;
    for (int n = 1; n <= 6; n++) {
        head = head_of(2, n, 5);
        add(sfq, &head);
    }
    for (int i = 0; i < 6; i++) {
        assert_true(sfq_pick(sfq, T0 + 3, NO_CAP, &head));
        sfq_sent(sfq, head.user_id, T0 + 3);
        second += user_of(&head) == 2;
    }
    assert_true(second == 3 || second == 4); /* alternating: no second bonus */
    sfq_free(sfq);
}

/* A user that uploads one file after the other is a newcomer only the first time. */
static void test_bonus_once(void **state)
{
    struct sfq *sfq = make(SFQ_FAIR);
    struct task_head head;
    int second = 0;
    bool waits = false;

    (void)state;
    for (int n = 0; n < 32; n++) {
        head = head_of(1, n, 1);
        add(sfq, &head);
    }
    for (int round = 0; round < 40; round++) {
        head = head_of(2, round, 1);
        if (!waits) {
            add(sfq, &head);
        }
        assert_true(sfq_pick(sfq, T0 + (uint64_t)round, NO_CAP, &head));
        waits = user_of(&head) != 2;
        second += user_of(&head) == 2;
        sfq_sent(sfq, head.user_id, T0 + (uint64_t)round);
        sfq_back(sfq, head.user_id, T0 + (uint64_t)round);
    }
    assert_in_range(second, 18, 22);
    sfq_free(sfq);
}

static void test_bonus_after_idle(void **state)
{
    struct sfq *sfq = make(SFQ_FAIR);
    struct task_head head;

    (void)state;
    for (int n = 0; n < 20; n++) {
        head = head_of(1, n, 1);
        add(sfq, &head);
    }
    /* User 2 used a lot, then nothing for the idle time: its debt is forgotten. */
    head = head_of(2, 0, 500);
    add(sfq, &head);
    for (int i = 0; i < 4; i++) {
        assert_true(sfq_pick(sfq, T0, NO_CAP, &head));
        sfq_sent(sfq, head.user_id, T0);
        sfq_back(sfq, head.user_id, T0);
    }
    head = head_of(2, 1, 1);
    add(sfq, &head);
    assert_true(sfq_pick(sfq, T0 + SFQ_IDLE_MS - 1, NO_CAP, &head));
    assert_int_equal(user_of(&head), 1);
    sfq_sent(sfq, head.user_id, T0);
    sfq_reset(sfq);
    for (int n = 10; n < 20; n++) {
        head = head_of(1, n, 1);
        add(sfq, &head);
    }
    head = head_of(2, 1, 1);
    add(sfq, &head);
    assert_true(sfq_pick(sfq, T0 + SFQ_IDLE_MS + 1, NO_CAP, &head));
    assert_int_equal(user_of(&head), 2);
    sfq_free(sfq);
}

static void test_cap(void **state)
{
    struct sfq *sfq = make(SFQ_FAIR);
    struct task_head head;

    (void)state;
    for (int n = 0; n < 20; n++) {
        head = head_of(1, n, 1);
        add(sfq, &head);
    }
    /* Alone, a user may have everything. */
    for (int n = 0; n < 9; n++) {
        assert_true(sfq_pick(sfq, T0, 9, &head));
        sfq_sent(sfq, head.user_id, T0);
    }
    assert_true(sfq_pick(sfq, T0, 9, &head));
    assert_int_equal(user_of(&head), 1);
    assert_int_equal(sfq_put_back(sfq, &head, NULL), 0);
    /* With another one waiting it is passed over, however cheap it is. */
    for (int n = 0; n < 3; n++) {
        head = head_of(2, n, 1000);
        add(sfq, &head);
    }
    for (int n = 0; n < 3; n++) {
        assert_true(sfq_pick(sfq, T0, 9, &head));
        assert_int_equal(user_of(&head), 2);
        sfq_sent(sfq, head.user_id, T0);
    }
    assert_true(sfq_pick(sfq, T0, 9, &head));
    assert_int_equal(user_of(&head), 1);
    sfq_free(sfq);
}

static void test_fifo(void **state)
{
    struct sfq *sfq = make(SFQ_FIFO);
    struct task_head head;
    int64_t last = -1;

    (void)state;
    for (int u = 3; u > 0; u--) {
        for (int n = 5; n > 0; n--) {
            head = head_of(u, n, n);
            head.seq = n * 10 + u;
            add(sfq, &head);
        }
    }
    for (int i = 0; i < 15; i++) {
        assert_true(sfq_pick(sfq, T0, 1, &head));
        assert_true(head.seq > last);
        last = head.seq;
        sfq_sent(sfq, head.user_id, T0);
    }
    sfq_free(sfq);
}

/* What was picked and not sent costs nothing. */
static void test_unpick(void **state)
{
    struct sfq *sfq = make(SFQ_FAIR);
    struct task_head head, again;
    int first = 0;

    (void)state;
    for (int n = 0; n < 10; n++) {
        for (int u = 1; u <= 2; u++) {
            head = head_of(u, n, 4);
            add(sfq, &head);
        }
    }
    for (int i = 0; i < 50; i++) { /* over and over put back: the same one comes again */
        assert_true(sfq_pick(sfq, T0, NO_CAP, &head));
        assert_int_equal(sfq_put_back(sfq, &head, NULL), 0);
        assert_true(sfq_pick(sfq, T0, NO_CAP, &again));
        assert_string_equal(head.user_id, again.user_id);
        assert_int_equal(head.key.unit, again.key.unit);
        assert_int_equal(sfq_put_back(sfq, &again, NULL), 0);
    }
    assert_int_equal(sfq_waiting(sfq), 20);
    for (int i = 0; i < 10; i++) {
        assert_true(sfq_pick(sfq, T0, NO_CAP, &head));
        first += user_of(&head) == 1;
        sfq_sent(sfq, head.user_id, T0);
    }
    assert_int_equal(first, 5);
    /* Gone ones: the user's share stays its own. */
    for (int i = 0; i < 3; i++) {
        assert_true(sfq_pick(sfq, T0, NO_CAP, &head));
        sfq_unpick(sfq, &head);
    }
    assert_int_equal(sfq_waiting(sfq), 7);
    sfq_unpick(sfq, &(struct task_head){.user_id = "nobody"});
    sfq_free(sfq);
}

static void test_refill(void **state)
{
    struct sfq *sfq = make(SFQ_FAIR);
    char users[8][UUID_TEXT];
    int64_t cursors[8];
    struct task_head head;

    (void)state;
    for (int n = 0; n < SFQ_HEADS_MAX + 5; n++) {
        head = head_of(1, n, 1);
        add(sfq, &head);
    }
    head = head_of(2, 0, 1);
    add(sfq, &head);
    assert_int_equal(sfq_waiting(sfq), SFQ_HEADS_MAX + 1);
    assert_int_equal(sfq_refill(sfq, 8, users, cursors, 8), 0); /* full enough */
    for (int i = 0; i < SFQ_HEADS_MAX - 2; i++) {
        assert_true(sfq_pick(sfq, T0, NO_CAP, &head));
    }
    assert_int_equal(sfq_refill(sfq, 8, users, cursors, 8), 1);
    head = head_of(1, SFQ_HEADS_MAX - 1, 1);
    assert_string_equal(users[0], head.user_id);
    assert_true(cursors[0] == head.seq); /* read on after the last one that was kept */
    sfq_set_more(sfq, users[0], false);
    assert_int_equal(sfq_refill(sfq, 8, users, cursors, 8), 0);
    sfq_set_more(sfq, head.user_id, true);
    assert_int_equal(sfq_refill(sfq, 8, users, cursors, 0), 0);
    sfq_reset(sfq);
    assert_int_equal(sfq_waiting(sfq), 0);
    assert_false(sfq_pick(sfq, T0, NO_CAP, &head));
    assert_int_equal(sfq_refill(sfq, 8, users, cursors, 8), 0);
    sfq_free(sfq);
}

static void test_prune(void **state)
{
    struct sfq *sfq = make(SFQ_FAIR);
    struct task_head head;

    (void)state;
    for (int u = 1; u <= 100; u++) {
        head = head_of(u, 0, 1);
        add(sfq, &head);
    }
    for (int i = 0; i < 90; i++) {
        assert_true(sfq_pick(sfq, T0, NO_CAP, &head));
        sfq_sent(sfq, head.user_id, T0);
        if (i < 50) {
            sfq_back(sfq, head.user_id, T0);
        }
    }
    sfq_prune(sfq, T0); /* too early */
    assert_int_equal(sfq_users(sfq), 100);
    sfq_prune(sfq, T0 + 1);
    assert_int_equal(sfq_users(sfq), 50); /* 40 have something out, 10 wait */
    sfq_back(sfq, "nobody", T0);
    sfq_free(sfq);
    sfq_free(NULL);
}

static void test_shares(void **state)
{
    struct sfq *sfq = make(SFQ_FAIR);
    struct task_head head;
    double top, jain;

    (void)state;
    sfq_shares(sfq, &top, &jain);
    assert_true(top < 0.001 && jain > 0.999);
    for (int u = 1; u <= 4; u++) {
        head = head_of(u, 0, 1);
        sfq_sent(sfq, head.user_id, T0);
    }
    sfq_shares(sfq, &top, &jain);
    assert_true(top > 0.249 && top < 0.251 && jain > 0.999);
    for (int i = 0; i < 6; i++) {
        sfq_sent(sfq, head.user_id, T0);
    }
    sfq_shares(sfq, &top, &jain);
    assert_true(top > 0.699 && top < 0.701 && jain < 0.6);
    sfq_free(sfq);
}

/* 10,000 users: everything comes out, once, and by turns. */
static void test_many(void **state)
{
    enum { USERS = 10000, EACH = 3 };
    struct sfq *sfq = make(SFQ_FAIR);
    unsigned char *seen = calloc(USERS, 1);
    struct task_head head;

    (void)state;
    assert_non_null(seen);
    for (int n = 0; n < EACH; n++) {
        for (int u = 0; u < USERS; u++) {
            head = head_of(u, n, 1);
            add(sfq, &head);
        }
    }
    assert_int_equal(sfq_waiting(sfq), USERS * EACH);
    for (int i = 0; i < USERS * EACH; i++) {
        assert_true(sfq_pick(sfq, T0, NO_CAP, &head));
        sfq_sent(sfq, head.user_id, T0);
        int u = user_of(&head);
        assert_int_equal(head.key.unit, seen[u]);
        assert_int_equal(seen[u], i / USERS); /* nobody twice before all once */
        seen[u]++;
    }
    assert_false(sfq_pick(sfq, T0, NO_CAP, &head));
    free(seen);
    sfq_free(sfq);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cost),       cmocka_unit_test(test_weight),
        cmocka_unit_test(test_seq_order),  cmocka_unit_test(test_newcomer),
        cmocka_unit_test(test_bonus_once), cmocka_unit_test(test_bonus_after_idle),
        cmocka_unit_test(test_cap),        cmocka_unit_test(test_fifo),
        cmocka_unit_test(test_unpick),     cmocka_unit_test(test_refill),
        cmocka_unit_test(test_prune),      cmocka_unit_test(test_shares),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
