/* SPDX-License-Identifier: Apache-2.0 */
/* SRCS: services/dispatcher/out.c */
/*
 * The ledger of what is out, and the choice of partitions that follows the workers' load.
 */
#include "services/dispatcher/out.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define USER "018f0000-0000-7000-8000-00000000000a"

static void put(struct out_list *list, int unit, int partition)
{
    struct out_entry entry = {.partition = partition, .cost = 1};
    struct err err = ERR_INIT;

    snprintf(entry.task.key.file_id, UUID_TEXT, "018f0000-0000-7000-8000-00000000000b");
    entry.task.key.unit = unit;
    entry.task.key.generation = 1;
    assert_int_equal(out_add(list, &entry, &err), 0);
}

static void test_ledger(void **state)
{
    struct out_list list = {0};
    struct task_key key = {.file_id = "018f0000-0000-7000-8000-00000000000b", .generation = 1};

    (void)state;
    for (int i = 0; i < 300; i++) {
        put(&list, i, i % 3);
    }
    put(&list, 300, -1);
    put(&list, 301, OUT_PARTITIONS_MAX + 5);
    assert_int_equal(list.n, 302);
    assert_int_equal(list.by_partition[0], 100);
    key.unit = 7;
    assert_true(out_has(&list, &key));
    key.generation = 2;
    assert_false(out_has(&list, &key));
    key.generation = 1;
    for (size_t i = 0; i < list.n;) {
        if (list.entries[i].task.key.unit % 2 == 1) {
            out_remove(&list, i);
        } else {
            i++;
        }
    }
    assert_int_equal(list.n, 151);
    assert_false(out_has(&list, &key));
    assert_int_equal(list.by_partition[0] + list.by_partition[1] + list.by_partition[2], 150);
    out_clear(&list);
    assert_int_equal(list.n, 0);
    assert_int_equal(list.by_partition[1], 0);
    out_done(&list);
    out_done(&list);
}

static void test_by_hash(void **state)
{
    struct out_list list = {0};
    struct task_worker worker = {.slots = 2, .n_partitions = 1, .partitions = {3}};
    int p = out_choose_partition(&list, NULL, 0, 6, false, USER, NULL);

    (void)state;
    assert_in_range(p, 0, 5);
    assert_int_equal(out_choose_partition(&list, NULL, 0, 6, false, USER, NULL), p);
    assert_int_equal(out_choose_partition(&list, &worker, 1, 6, true, USER, NULL), p);
    assert_int_equal(out_choose_partition(&list, &worker, 1, 6, false, USER, NULL), 3);
    worker.n_partitions = 0; /* none assigned yet */
    assert_int_equal(out_choose_partition(&list, &worker, 1, 6, false, USER, NULL), p);
    worker.n_partitions = 2; /* assigned under another number of partitions */
    worker.partitions[0] = 9;
    worker.partitions[1] = -1;
    assert_int_equal(out_choose_partition(&list, &worker, 1, 6, false, USER, NULL), p);
}

/* Orders go where the least is out per slot, and spread over a worker's partitions. */
static void test_by_load(void **state)
{
    struct out_list list = {0};
    struct task_worker workers[2] = {{.slots = 1, .n_partitions = 2, .partitions = {0, 1}},
                                     {.slots = 3, .n_partitions = 2, .partitions = {2, 3}}};
    int by_worker[2] = {0};

    (void)state;
    for (int i = 0; i < 80; i++) {
        int p = out_choose_partition(&list, workers, 2, 4, false, USER, NULL);
        assert_in_range(p, 0, 3);
        by_worker[p / 2]++;
        put(&list, i, p);
    }
    assert_in_range(by_worker[0], 19, 21);
    assert_in_range(by_worker[1], 59, 61);
    assert_in_range(list.by_partition[2] - list.by_partition[3] + 1, 0, 2);
    assert_in_range(list.by_partition[0] - list.by_partition[1] + 1, 0, 2);
    out_done(&list);
}

/* A batch puts all orders of one worker into one partition, and still shares fairly by load. */
static void test_of_a_batch(void **state)
{
    struct out_list list = {0};
    struct task_worker workers[2] = {{.slots = 1, .n_partitions = 2, .partitions = {0, 1}},
                                     {.slots = 3, .n_partitions = 2, .partitions = {2, 3}}};

    (void)state;
    for (int batch = 0; batch < 4; batch++) {
        bool used[OUT_PARTITIONS_MAX] = {false};
        for (int i = 0; i < 20; i++) {
            int p = out_choose_partition(&list, workers, 2, 4, false, USER, used);
            assert_in_range(p, 0, 3);
            assert_true(used[p]);
            put(&list, batch * 20 + i, p);
        }
        assert_int_equal(used[0] + used[1], 1);
        assert_int_equal(used[2] + used[3], 1);
    }
    assert_in_range(list.by_partition[0] + list.by_partition[1], 19, 21);
    /* the next batch takes the other partition */
    assert_in_range(list.by_partition[2], 29, 31);
    assert_in_range(list.by_partition[3], 29, 31);
    out_done(&list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ledger),
        cmocka_unit_test(test_by_hash),
        cmocka_unit_test(test_by_load),
        cmocka_unit_test(test_of_a_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
