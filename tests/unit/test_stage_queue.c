/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue between poll and slots: fair over users, and an offset is committed only when
 * everything before it is settled.
 */
#include "libcommon/stage_queue.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static struct work_item item_of(int user, int64_t offset, int cost)
{
    struct work_item item = {.partition = 0, .offset = offset};

    item.order.cost = cost;
    item.order.key.unit = (int)offset;
    snprintf(item.order.user_id, UUID_TEXT, "018f0000-0000-7000-8000-%012x", (unsigned)user);
    return item;
}

static void push(struct stage_queue *queue, int user, int partition, int64_t offset, int cost)
{
    struct work_item item = item_of(user, offset, cost);
    struct err err = ERR_INIT;

    item.partition = partition;
    assert_int_equal(stage_queue_push(queue, &item, &err), 0);
}

static struct stage_queue *make(void)
{
    struct stage_queue *queue = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(stage_queue_new(&queue, &err), 0);
    return queue;
}

static int pop_user(struct stage_queue *queue)
{
    struct work_item item;

    assert_true(stage_queue_pop(queue, 0, &item));
    return (int)strtol(item.order.user_id + 24, NULL, 16);
}

static void test_fair(void **state)
{
    struct stage_queue *queue = make();
    int cheap = 0;

    (void)state;
    for (int i = 0; i < 40; i++) {
        push(queue, 1, 0, i, 1);
    }
    for (int i = 40; i < 50; i++) {
        push(queue, 2, 0, i, 10);
    }
    push(queue, 3, 0, 50, 1);
    bool third = false;
    for (int i = 0; i < 13; i++) {
        int user = pop_user(queue);
        cheap += user == 1;
        third = third || user == 3;
    }
    assert_true(third);            /* a late user need not wait for the others' backlog */
    assert_in_range(cheap, 9, 11); /* ten of cost 1 for each of cost 10 */
    assert_int_equal(stage_queue_len(queue), 38);
    stage_queue_free(queue);
}

/* One who has the slots and an order read ahead stands behind one who has nothing at work. */
static void test_newcomer(void **state)
{
    struct stage_queue *queue = make();
    struct work_item first, second;

    (void)state;
    push(queue, 1, 0, 0, 1);
    assert_true(stage_queue_pop(queue, 0, &first));
    push(queue, 1, 0, 1, 1);
    push(queue, 2, 0, 2, 1);
    assert_int_equal(pop_user(queue), 2);
    push(queue, 3, 0, 3, 1);
    assert_int_equal(pop_user(queue), 3);
    push(queue, 2, 0, 4, 1);
    assert_true(stage_queue_pop(queue, 0, &second)); /* both run one: in the order of service */
    assert_int_equal(second.offset, 1);
    stage_queue_ended(queue, &first);
    stage_queue_ended(queue, &second);
    push(queue, 1, 0, 5, 1);
    assert_int_equal(pop_user(queue), 1); /* nothing of his runs now, but one of the other */
    assert_int_equal(pop_user(queue), 2);
    stage_queue_free(queue);
}

/* A stream of others does not keep back for ever who has something at work. */
static void test_overtaken(void **state)
{
    struct stage_queue *queue = make();
    struct work_item item;
    int before = 0;

    (void)state;
    push(queue, 1, 0, 0, 1);
    assert_true(stage_queue_pop(queue, 0, &item));
    push(queue, 1, 0, 1, 1);
    for (int user = 2; user < 40; user++) {
        push(queue, user, 0, user, 1);
        assert_true(stage_queue_pop(queue, 0, &item));
        if (item.offset == 1) {
            break;
        }
        stage_queue_ended(queue, &item);
        before++;
    }
    assert_int_equal(before, 4);
    stage_queue_free(queue);
}

static void test_order_of_one(void **state)
{
    struct stage_queue *queue = make();
    struct work_item item;

    (void)state;
    for (int i = 0; i < 20; i++) {
        push(queue, 1, 0, i, 1);
    }
    for (int i = 0; i < 20; i++) {
        assert_true(stage_queue_pop(queue, 0, &item));
        assert_int_equal(item.offset, i);
    }
    uint64_t start = clock_mono_ms();
    assert_false(stage_queue_pop(queue, 30, &item));
    assert_true(clock_mono_ms() - start >= 29);
    stage_queue_free(queue);
}

static void test_offsets(void **state)
{
    struct stage_queue *queue = make();

    (void)state;
    assert_true(stage_queue_commit(queue, 0) == -1);
    for (int i = 10; i < 15; i++) {
        push(queue, 1, 0, i, 1);
    }
    assert_true(stage_queue_commit(queue, 0) <= 10);
    stage_queue_settle(queue, 0, 12);
    assert_true(stage_queue_commit(queue, 0) <= 10);
    stage_queue_settle(queue, 0, 10);
    assert_true(stage_queue_commit(queue, 0) == 11);
    assert_true(stage_queue_commit(queue, 0) == -1); /* nothing new */
    stage_queue_skip(queue, 0, 15);
    assert_true(stage_queue_commit(queue, 0) <= 11);
    stage_queue_settle(queue, 0, 11);
    assert_true(stage_queue_commit(queue, 0) == 13);
    stage_queue_settle(queue, 0, 14);
    stage_queue_settle(queue, 0, 13);
    assert_true(stage_queue_commit(queue, 0) == 16);
    stage_queue_settle(queue, 0, 13); /* twice: nothing */
    assert_true(stage_queue_commit(queue, 0) == -1);
    stage_queue_skip(queue, 0, 20); /* a gap, as compaction or transactions leave */
    assert_true(stage_queue_commit(queue, 0) == 21);
    stage_queue_free(queue);
}

/* Settled in any order, the committed offset never passes an open one. */
static void test_offsets_shuffled(void **state)
{
    enum { N = 500 };
    struct stage_queue *queue = make();
    bool settled[N] = {false};
    unsigned seed = 7;

    (void)state;
    for (int i = 0; i < N; i++) {
        push(queue, i % 3, 0, i, 1);
    }
    for (int n = 0; n < N; n++) {
        seed = seed * 1103515245U + 12345U;
        int at = (int)((seed >> 8) % N);
        while (settled[at]) {
            at = (at + 1) % N;
        }
        settled[at] = true;
        stage_queue_settle(queue, 0, at);
        int first = 0;
        while (first < N && settled[first]) {
            first++;
        }
        assert_true(stage_queue_commit(queue, 0) == first);
    }
    stage_queue_free(queue);
}

static void test_revoke(void **state)
{
    struct stage_queue *queue = make();
    struct work_item item;

    (void)state;
    for (int i = 0; i < 10; i++) {
        push(queue, i, i % 2, 100 + i, 1);
    }
    stage_queue_revoke(queue, 1);
    assert_int_equal(stage_queue_len(queue), 5);
    stage_queue_settle(queue, 1, 101); /* late, of the old assignment */
    assert_true(stage_queue_commit(queue, 1) == -1);
    for (int i = 0; i < 5; i++) {
        assert_true(stage_queue_pop(queue, 0, &item));
        assert_int_equal(item.partition, 0);
    }
    push(queue, 1, 1, 50, 1); /* it comes back, from an earlier offset */
    assert_true(stage_queue_commit(queue, 1) <= 50);
    stage_queue_settle(queue, 1, 50);
    assert_true(stage_queue_commit(queue, 1) == 51);
    stage_queue_free(queue);
}

static void test_full(void **state)
{
    struct stage_queue *queue = make();
    struct work_item item = item_of(1, 0, 1);
    struct err err = ERR_INIT;

    (void)state;
    for (int i = 0; i < (int)STAGE_QUEUE_MAX; i++) {
        push(queue, i, 0, i, 1);
    }
    item.offset = STAGE_QUEUE_MAX;
    assert_int_equal(stage_queue_push(queue, &item, &err), -1);
    assert_int_equal(err.class, ERR_TRANSIENT);
    assert_string_equal(err.code, "queue_full");
    assert_true(stage_queue_pop(queue, 0, &item));
    item = item_of(1, STAGE_QUEUE_MAX, 1);
    assert_int_equal(stage_queue_push(queue, &item, &err), 0);
    item.partition = -1;
    assert_int_equal(stage_queue_push(queue, &item, &err), -1);
    item.partition = 100000;
    assert_int_equal(stage_queue_push(queue, &item, &err), -1);
    stage_queue_skip(queue, -1, 1);
    stage_queue_settle(queue, 100000, 1);
    stage_queue_revoke(queue, -5);
    assert_true(stage_queue_commit(queue, -1) == -1);
    stage_queue_free(queue);
}

static void *wait_for_item(void *arg)
{
    struct work_item item;

    return stage_queue_pop(arg, 20000, &item) ? arg : NULL;
}

static void test_close(void **state)
{
    struct stage_queue *queue = make();
    struct work_item items[8], item = item_of(1, 9, 1);
    struct err err = ERR_INIT;
    pthread_t thread;
    void *got = queue;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, wait_for_item, queue), 0);
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    assert_int_equal(stage_queue_take(queue, items, 8), 0);
    stage_queue_close(queue);
    pthread_join(thread, &got); /* woken at once, with nothing */
    assert_null(got);
    stage_queue_free(queue);

    queue = make();
    for (int i = 0; i < 5; i++) {
        push(queue, i, 0, i, 1);
    }
    stage_queue_close(queue);
    assert_int_equal(stage_queue_take(queue, items, 2), 2);
    assert_int_equal(stage_queue_take(queue, items, 8), 3);
    assert_int_equal(items[2].offset, 4);
    assert_false(stage_queue_pop(queue, 1000, &item));
    /* What still comes in can be taken out, too. */
    assert_int_equal(stage_queue_push(queue, &item, &err), 0);
    assert_int_equal(stage_queue_take(queue, items, 8), 1);
    assert_int_equal(stage_queue_len(queue), 0);
    /* Handed back, they are not settled: the next owner reads them again. */
    assert_true(stage_queue_commit(queue, 0) <= 0);
    stage_queue_free(queue);
    stage_queue_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fair),      cmocka_unit_test(test_newcomer),
        cmocka_unit_test(test_overtaken), cmocka_unit_test(test_order_of_one),
        cmocka_unit_test(test_offsets),   cmocka_unit_test(test_offsets_shuffled),
        cmocka_unit_test(test_revoke),    cmocka_unit_test(test_full),
        cmocka_unit_test(test_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
