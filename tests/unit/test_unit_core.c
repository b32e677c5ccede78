/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's core against a scripted world: which end is written, when objects are kept, when
 * nothing is claimed, who runs alone, what the drain gives back.
 */
#include "libcommon/unit_core.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "libcommon/log.h"

/* The fakes look at few of what they are given, the tests at no state of cmocka's. */
#pragma GCC diagnostic ignored "-Wunused-parameter"

#define FILE_1 "018f0000-0000-7000-8000-000000000001"
#define USER_1 "018f0000-0000-7000-8000-00000000000a"

enum { ANSWER_OK, ANSWER_FENCED, ANSWER_LOST }; /* LOST: written, and the reply did not come */

static struct world {
    struct unit_core core;
    struct unit_io io;
    struct guard guard;
    struct stage_ctx ctx;
    struct stage stage;
    _Atomic uint64_t now;
    /* The script. */
    int attempts, failures, refunds, outage_retries;
    int claim_fails; /* so often, then it answers */
    bool stop_at_claim;
    int complete[4], n_complete;
    bool ended_by_me, lease_gone;
    int renew_r;
    bool keep_in_pause;
    int handle_r;
    struct err handle_err;
    int64_t retry_after;
    /* What happened. */
    int claims, completes, deads, backs, handed_back, beats, notified, puts_ended, probes;
    bool kept, beat_open, goodbye;
    enum task_back how;
    int64_t delay;
    int64_t committed;
    int commits;
    atomic_int inside, most_inside;
    atomic_bool release;
} w;

static uint64_t now_ms(void *ctx)
{
    return w.now;
}

static int64_t wall_ms(void *ctx)
{
    return 0;
}

static void pause_ms(void *ctx, unsigned ms)
{
    w.now += ms;
    if (w.keep_in_pause) {
        w.core.renew_at = 0;
        unit_core_keep(&w.core);
    }
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

static double random01(void *ctx)
{
    return 0.5;
}

static int claim(void *ctx, int slot, const struct task_key *key, int seq, struct task_claim *ret,
                 struct err *err)
{
    w.claims++;
    if (w.stop_at_claim) {
        atomic_store(&w.core.stopping, true);
    }
    if (w.claim_fails-- > 0) {
        return err_set(err, ERR_TRANSIENT, "db_unavailable", "away");
    }
    *ret = (struct task_claim){.key = *key,
                               .token = 7,
                               .attempts = w.attempts,
                               .failures = w.failures,
                               .refunds = w.refunds,
                               .outage_retries = w.outage_retries,
                               .version = 1};
    return 1;
}

static int renew(void *ctx, const struct task_key *keys, const int64_t *tokens, size_t n,
                 bool *lost, struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        lost[i] = w.lease_gone;
    }
    return w.renew_r;
}

static int complete(void *ctx, const struct task_claim *of, const char *outcome,
                    struct task_end *ret_end, struct err *err)
{
    int answer = w.completes < w.n_complete ? w.complete[w.completes] : ANSWER_OK;

    assert_non_null(outcome);
    w.completes++;
    if (answer == ANSWER_LOST) {
        w.lease_gone = true;
        return err_set(err, ERR_TRANSIENT, "db_unavailable", "cut");
    }
    *ret_end = (struct task_end){.fenced = answer == ANSWER_FENCED, .stage_over = true};
    return 0;
}

static int dead(void *ctx, const struct task_claim *of, const struct err *why, const char *child,
                struct task_end *ret_end, struct err *err)
{
    w.deads++;
    *ret_end = (struct task_end){.stage_over = true};
    return 0;
}

static int ended_by(void *ctx, const struct task_claim *of, bool *ret_ours, struct err *err)
{
    *ret_ours = w.ended_by_me;
    return 0;
}

static int put_back(void *ctx, const struct task_claim *of, enum task_back how, int64_t delay_ms,
                    const struct err *why, const char *ext, bool *ret_fenced, struct err *err)
{
    w.backs++;
    w.how = how;
    w.delay = delay_ms;
    *ret_fenced = false;
    return 0;
}

static int hand_back(void *ctx, const struct task_key *keys, const int *seqs, size_t n,
                     struct err *err)
{
    w.handed_back += (int)n;
    return 0;
}

static int heartbeat(void *ctx, const struct unit_beat *beat, struct err *err)
{
    w.beats++;
    w.beat_open = beat->open;
    return 0;
}

static int goodbye(void *ctx, struct err *err)
{
    w.goodbye = true;
    return 0;
}

static void notify(void *ctx, int stage, const char *user)
{
    w.notified++;
}

static void notify_all(void *ctx)
{
}

static size_t partitions(void *ctx, int32_t *ret, size_t max)
{
    ret[0] = 0;
    return 1;
}

static void commit(void *ctx, const struct unit_offset *offsets, size_t n)
{
    w.commits++;
    if (n > 0) {
        w.committed = offsets[n - 1].next;
    }
}

static void end_puts(void *ctx, struct job_puts *puts, bool keep)
{
    w.puts_ended++;
    w.kept = keep;
    job_puts_free(puts, NULL, true);
}

static int probe(void *ctx, int dep, struct err *err)
{
    w.probes++;
    return 0;
}

static int handle(struct job *job, struct err *err)
{
    int n = atomic_fetch_add(&w.inside, 1) + 1;
    int most = atomic_load(&w.most_inside);

    while (n > most && !atomic_compare_exchange_weak(&w.most_inside, &most, n)) {
    }
    while (!atomic_load(&w.release)) {
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
    atomic_fetch_sub(&w.inside, 1);
    job->retry_after_ms = w.retry_after;
    *err = w.handle_err;
    return w.handle_r;
}

static int setup(void **state)
{
    struct err err = ERR_INIT;

    log_setup("test", LOG_ERROR);
    w = (struct world){.now = 1000, .attempts = 1, .committed = -1};
    atomic_store(&w.release, true);
    w.io = (struct unit_io){.ctx = &w,
                            .now_ms = now_ms,
                            .wall_ms = wall_ms,
                            .pause_ms = pause_ms,
                            .random01 = random01,
                            .claim = claim,
                            .renew = renew,
                            .complete = complete,
                            .dead = dead,
                            .ended_by = ended_by,
                            .put_back = put_back,
                            .hand_back = hand_back,
                            .heartbeat = heartbeat,
                            .goodbye = goodbye,
                            .notify = notify,
                            .notify_events = notify_all,
                            .partitions = partitions,
                            .commit = commit,
                            .end_puts = end_puts,
                            .probe = probe};
    w.stage = (struct stage){.id = STAGE_TEXT, .handle = handle};
    guard_init(&w.guard);
    w.ctx.guard = &w.guard;
    assert_int_equal(unit_core_init(&w.core, &w.io, &w.stage, &w.ctx, 2, 15000, &err), 0);
    return 0;
}

static int teardown(void **state)
{
    unit_core_done(&w.core);
    guard_done(&w.guard);
    return 0;
}

static void give(int64_t offset)
{
    struct work_order order = {.key = {.file_id = FILE_1, .stage = STAGE_TEXT, .generation = 1},
                               .user_id = USER_1,
                               .dispatch_seq = 1,
                               .cost = 1};
    CLEANUP(buf_done) struct buf buf = {0};
    struct err err = ERR_INIT;

    buf_init(&buf, EVENT_WORK_MAX);
    assert_int_equal(event_encode_work(&order, &buf, &err), 0);
    unit_core_take(&w.core, buf.data, buf.len, USER_1, strlen(USER_1), 0, offset, NULL);
}

static void test_done(void **state)
{
    unit_core_take(&w.core, "junk", 4, "*", 1, 0, 4, NULL); /* skipped, the partition moves on */
    give(5);
    assert_true(unit_core_turn(&w.core, 0, 0));
    assert_int_equal(w.completes, 1);
    assert_true(w.kept);
    assert_false(unit_core_turn(&w.core, 0, 0));
    unit_core_keep(&w.core);
    assert_true(w.committed == 6);
    assert_true(w.beats == 1 && !w.beat_open);
    assert_false(unit_core_busy(&w.core));
}

/* The reply to the end was lost; asked again, the row says fenced, and the token says: by us. */
static void test_unknown_commit(void **state)
{
    w.complete[0] = ANSWER_LOST;
    w.complete[1] = ANSWER_FENCED;
    w.n_complete = 2;
    w.ended_by_me = true;
    give(1);
    assert_true(unit_core_turn(&w.core, 0, 0));
    assert_int_equal(w.completes, 2);
    assert_true(w.kept);
    assert_true(w.notified > 0);
}

/* The same, and a renewal finds no lease before the second try: the objects are the winner's. */
static void test_unknown_commit_then_renewal(void **state)
{
    w.complete[0] = ANSWER_LOST;
    w.n_complete = 1;
    w.ended_by_me = true;
    w.keep_in_pause = true;
    give(1);
    assert_true(unit_core_turn(&w.core, 0, 0));
    assert_int_equal(w.completes, 1);
    assert_true(w.kept);
}

/* While the only unit runs: when the next renewal is due after one that returned r. */
static uint64_t due_after(int r)
{
    w.core.running[0].active = true;
    w.core.renew_at = 0;
    w.renew_r = r;
    unit_core_keep(&w.core);
    w.core.running[0].active = false;
    return w.core.renew_at - w.now;
}

/* A third of a lease, or soon where one row was locked or nobody answered. */
static void test_renewal(void **state)
{
    assert_int_equal(due_after(0), w.core.lease_ms / 3);
    assert_true(due_after(1) < (uint64_t)w.core.lease_ms / 3);
    assert_true(due_after(-1) < (uint64_t)w.core.lease_ms / 3);
    assert_false(w.core.running[0].lost);
}

static void test_fenced(void **state)
{
    w.complete[0] = ANSWER_FENCED;
    w.n_complete = 1;
    w.ended_by_me = true; /* not asked: every answer came */
    give(1);
    assert_true(unit_core_turn(&w.core, 0, 0));
    assert_int_equal(w.puts_ended, 1);
    assert_false(w.kept);
}

static void end_with(int r, enum err_class class, const char *code)
{
    w.handle_r = r;
    w.handle_err = ERR_INIT;
    if (class != ERR_NONE) {
        err_set(&w.handle_err, class, code, "so it is");
    }
    w.backs = w.deads = 0;
    give(1);
    assert_true(unit_core_turn(&w.core, 0, 0));
}

static void test_fates(void **state)
{
    w.outage_retries = 2;
    w.refunds = 3;
    w.attempts = 4;
    end_with(-1, ERR_TRANSIENT, "store_unavailable");
    assert_true(w.backs == 1 && w.how == TASK_BACK_TRANSIENT);
    assert_true(w.delay == 32000); /* 2 s * 4^2, times 1 */
    w.retry_after = 7200000;
    end_with(-1, ERR_TRANSIENT, "provider_unavailable");
    assert_true(w.delay == 3600000); /* what a provider asks for, within the hour */
    end_with(-1, ERR_PERMANENT, "corrupt");
    assert_true(w.deads == 1 && w.backs == 0);
    w.failures = 1;
    end_with(-1, ERR_UNKNOWN, "child_crashed");
    assert_true(w.backs == 1 && w.how == TASK_BACK_UNKNOWN && w.delay == 8000);
    w.failures = 2;
    w.attempts = 6;
    end_with(-1, ERR_UNKNOWN, "child_crashed");
    assert_int_equal(w.deads, 1);
    end_with(-1, ERR_UNKNOWN, "something");
    assert_int_equal(w.backs, 1);
    end_with(STAGE_WAIT, ERR_NONE, "");
    assert_true(w.backs == 1 && w.how == TASK_BACK_WAIT_EXT);
    assert_true(unit_backoff_ms(0, 0) == 1000 && unit_backoff_ms(0, 1) == 3000);
    assert_true(unit_backoff_ms(20, 1) == 5400000);
}

static void test_breaker(void **state)
{
    struct err err = ERR_INIT;
    int64_t wait;

    guard_use(&w.guard, GUARD_STORE, GUARD_BY_CALL);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(guard_enter(&w.guard, GUARD_STORE, w.now, &wait, &err), 0);
        guard_leave(&w.guard, GUARD_STORE, w.now, BREAKER_ANSWER_FAILED);
    }
    give(1);
    give(2);
    assert_int_equal(unit_core_intake(&w.core), UNIT_INTAKE_SHUT);
    assert_false(unit_core_turn(&w.core, 0, 0));
    unit_core_keep(&w.core);
    assert_int_equal(w.claims, 0);
    assert_int_equal(w.handed_back, 2);
    assert_true(w.beat_open);
    assert_int_equal(w.probes, 0);
    w.now += 5000;
    unit_core_keep(&w.core); /* asks, and is answered */
    assert_int_equal(w.probes, 1);
    assert_int_equal(unit_core_intake(&w.core), UNIT_INTAKE_OPEN);
    unit_core_keep(&w.core); /* says so at once */
    assert_false(w.beat_open);
    assert_true(w.committed == 3);
}

/* One slot alone tries what only a unit can try. */
static void test_probe_unit(void **state)
{
    struct err err = ERR_INIT;
    int64_t wait;

    guard_use(&w.guard, GUARD_AI, GUARD_BY_UNIT);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(guard_enter(&w.guard, GUARD_AI, w.now, &wait, &err), 0);
        guard_leave(&w.guard, GUARD_AI, w.now, BREAKER_ANSWER_FAILED);
    }
    give(1);
    assert_false(unit_core_turn(&w.core, 0, 0));
    w.now += 5000;
    assert_int_equal(unit_core_intake(&w.core), UNIT_INTAKE_OPEN);
    w.core.prober = 1; /* the other slot is at it */
    assert_false(unit_core_turn(&w.core, 0, 0));
    w.core.prober = -1;
    assert_true(unit_core_turn(&w.core, 0, 0));
    assert_int_equal(w.core.prober, -1);
}

static void test_drain(void **state)
{
    w.claim_fails = 1;
    w.stop_at_claim = true;
    give(1);
    give(2);
    give(3);
    /* The slot holds an order whose claim was not answered when the signal came: it asks again, and
     * puts back what it holds. */
    assert_true(unit_core_turn(&w.core, 0, 0));
    assert_int_equal(w.claims, 2);
    assert_true(w.backs == 1 && w.how == TASK_BACK_DRAIN);
    unit_core_drain_begin(&w.core);
    assert_true(w.goodbye);
    unit_core_hand_back(&w.core);
    assert_int_equal(w.handed_back, 2);
    give(4); /* slips in */
    unit_core_hand_back(&w.core);
    assert_int_equal(w.handed_back, 3);
    assert_false(unit_core_turn(&w.core, 0, 0));
    unit_core_commit(&w.core);
    assert_true(w.committed == 5);
    int before = w.commits;
    unit_core_commit(&w.core); /* the first may not have come through: again without news */
    assert_true(w.commits == before + 1 && w.committed == 5);
    assert_false(unit_core_busy(&w.core));
}

/* The claim came through although the drain had begun: nothing is begun, the attempt is refunded.
 */
static void test_claimed_in_drain(void **state)
{
    w.stop_at_claim = true;
    atomic_store(&w.release, false); /* the handler would hang */
    give(1);
    assert_true(unit_core_turn(&w.core, 0, 0));
    assert_true(w.backs == 1 && w.how == TASK_BACK_DRAIN);
}

static void *turn_in_slot(void *arg)
{
    return unit_core_turn(&w.core, *(int *)arg, 0) ? arg : NULL;
}

/* A handler that heeds nothing: its unit is put back in its place. */
static void test_release(void **state)
{
    pthread_t other;
    int zero = 0;

    atomic_store(&w.release, false);
    give(1);
    assert_int_equal(pthread_create(&other, NULL, turn_in_slot, &zero), 0);
    while (atomic_load(&w.inside) == 0) {
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
    unit_core_drain_begin(&w.core);
    unit_core_grace_over(&w.core);
    assert_true(unit_core_busy(&w.core));
    unit_core_release(&w.core);
    assert_true(w.backs == 1 && w.how == TASK_BACK_DRAIN);
    atomic_store(&w.release, true);
    pthread_join(other, NULL);
}

/* After two crashes a unit waits for the others to end and keeps further ones out. */
static void test_alone(void **state)
{
    pthread_t other, poison;
    int zero = 0, one = 1;

    atomic_store(&w.release, false);
    give(1);
    assert_int_equal(pthread_create(&other, NULL, turn_in_slot, &zero), 0);
    while (atomic_load(&w.inside) == 0) {
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
    w.attempts = 3;
    give(2);
    assert_int_equal(pthread_create(&poison, NULL, turn_in_slot, &one), 0);
    while (unit_core_intake(&w.core) != UNIT_INTAKE_SHUT) {
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    assert_int_equal(atomic_load(&w.inside), 1); /* it waits */
    give(3);
    assert_false(unit_core_turn(&w.core, 0, 0)); /* nobody else begins */
    atomic_store(&w.release, true);
    pthread_join(other, NULL);
    pthread_join(poison, NULL);
    assert_int_equal(atomic_load(&w.most_inside), 1);
    assert_int_equal(w.completes, 2);
    assert_int_equal(unit_core_intake(&w.core), UNIT_INTAKE_OPEN);
    assert_false(unit_core_busy(&w.core));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

/* A pause throws away what the client has fetched: what the credit lets out is taken in, whatever
 * the number of slots, and only memory has a bound. */
static void test_intake(void **state)
{
    int64_t offset;

    for (offset = 0; offset < 256; offset++) {
        give(offset);
        assert_int_equal(unit_core_intake(&w.core), UNIT_INTAKE_OPEN);
    }
    while (unit_core_intake(&w.core) == UNIT_INTAKE_OPEN && offset < 2 * STAGE_QUEUE_MAX) {
        give(offset++);
    }
    assert_int_equal(unit_core_intake(&w.core), UNIT_INTAKE_FULL);
    assert_true(offset < STAGE_QUEUE_MAX);
    while (unit_core_intake(&w.core) == UNIT_INTAKE_FULL) {
        assert_true(unit_core_turn(&w.core, 0, 0));
    }
    assert_true(stage_queue_len(w.core.queue) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_done),       TEST(test_unknown_commit), TEST(test_unknown_commit_then_renewal),
        TEST(test_fenced),     TEST(test_fates),          TEST(test_breaker),
        TEST(test_probe_unit), TEST(test_drain),          TEST(test_claimed_in_drain),
        TEST(test_release),    TEST(test_alone),          TEST(test_intake),
        TEST(test_renewal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
