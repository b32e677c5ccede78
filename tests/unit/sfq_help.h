/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Heads, picks and short words for the tests of the scheduler. Includes cmocka and all it wants.
 */
#pragma once

#include "services/dispatcher/sfq.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define NO_CAP 1000000
#define T0 100000U

#define USERS_MAX 128

static inline struct task_head head_of(int user, int n, int cost)
{
    struct task_head head = {.seq = (int64_t)user * 100000 + n, .cost = cost, .weight = 1};

    snprintf(head.user_id, UUID_TEXT, "018f0000-0000-7000-8000-%012x", (unsigned)user);
    snprintf(head.key.file_id, UUID_TEXT, "018f%04x-0000-7000-8000-%012x", (unsigned)n & 0xffff,
             (unsigned)user);
    head.key.unit = n;
    head.key.generation = 1;
    return head;
}

static inline struct task_head lane_head(int user, int n, int lane)
{
    struct task_head head = head_of(user, n, 1);

    head.lane = lane;
    return head;
}

static inline void add(struct sfq *sfq, struct task_head head)
{
    struct err err = ERR_INIT;

    assert_int_equal(sfq_add(sfq, &head, &err), 0);
}

static inline struct sfq *make(enum sfq_mode mode)
{
    struct sfq *sfq = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(sfq_new(mode, &sfq, &err), 0);
    sfq_set_now(sfq, T0);
    return sfq;
}

static inline int user_of(const struct sfq_pick *pick)
{
    return (int)strtol(pick->head.user_id + 24, NULL, 16);
}

static inline const char *name_of(int user)
{
    static struct task_head head;

    head = head_of(user, 0, 1);
    return head.user_id;
}

static inline struct sfq_pick pick(struct sfq *sfq, int cap)
{
    struct sfq_pick p;

    assert_true(sfq_pick(sfq, cap, &p));
    return p;
}

static inline int send_next(struct sfq *sfq)
{
    struct sfq_pick p = pick(sfq, NO_CAP);

    sfq_sent(sfq, p.head.user_id);
    return user_of(&p);
}

static inline void back(struct sfq *sfq, int user, int cost)
{
    sfq_back(sfq, name_of(user), LANE_FIRST, cost, cost, cost);
}
