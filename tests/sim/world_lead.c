/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A dispatcher process: the production leader (stage_core.c) over a lead_io of the model, with one
 * coroutine per stage and one for what is due, as stage_loop.c has threads. Leadership is a lock
 * that can be lost without its holder knowing, so that two may lead for a while.
 */
#include <string.h>

#include "tests/sim/world.h"

/* The table -------------------------------------------------------------------------------------*/

static uint64_t io_now(void *ctx)
{
    (void)ctx;
    return (uint64_t)(fiber_now() / 1000);
}

static int io_heads_page(void *ctx, int stage, int flows, int per_flow, task_head_fn fn, void *arg,
                         struct task_place *place, bool *ret_end, struct err *err)
{
    (void)ctx;
    if (world_db_enter(err) < 0 ||
        model_heads_page(&w.m, stage, flows, per_flow, fn, arg, place, ret_end, err) < 0) {
        return -1;
    }
    return world_db_leave(err);
}

static int io_heads_asked(void *ctx, int stage, const struct task_ask *asks, size_t n,
                          task_head_fn fn, void *arg, struct err *err)
{
    (void)ctx;
    if (world_db_enter(err) < 0 || model_heads_asked(&w.m, stage, asks, n, fn, arg, err) < 0) {
        return -1;
    }
    return world_db_leave(err);
}

static int io_heads_any(void *ctx, int stage, bool *ret_any, struct err *err)
{
    (void)ctx;
    if (world_db_enter(err) < 0) {
        return -1;
    }
    *ret_any = model_heads_any(&w.m, stage);
    return world_db_leave(err);
}

static int io_dispatch(void *ctx, const struct task_key *keys, size_t n, int *seqs,
                       struct task_trace *traces, struct err *err)
{
    (void)ctx;
    if (world_db_enter(err) < 0) {
        return -1;
    }
    model_dispatch(&w.m, keys, n, seqs);
    for (size_t i = 0; i < n; i++) {
        traces[i] = (struct task_trace){.wait_ms = 0};
        const struct m_task *t = model_task(&w.m, &keys[i]);
        world_trace("dispatch %s stage %d unit %d seq %d", keys[i].file_id + 30, keys[i].stage,
                    keys[i].unit, seqs[i]);
        if (t && seqs[i]) {
            world_check_wait(t);
            w.sent[t->stage]++;
        }
    }
    return world_db_leave(err);
}

static int io_check_out(void *ctx, struct task_out *outs, size_t n, struct err *err)
{
    (void)ctx;
    if (world_db_enter(err) < 0) {
        return -1;
    }
    model_check_out(&w.m, outs, n);
    return world_db_leave(err);
}

static int io_expire(void *ctx, const struct task_out *out, bool *ret_done, struct err *err)
{
    (void)ctx;
    if (world_db_enter(err) < 0) {
        return -1;
    }
    *ret_done = model_expire(&w.m, out);
    const struct m_task *t = model_task(&w.m, &out->key);
    if (*ret_done && t) {
        world_trace("lease of %s stage %d unit %d is over", out->key.file_id + 30, out->key.stage,
                    out->key.unit);
        world_check_expire(t);
    }
    return world_db_leave(err);
}

static int io_expire_dead(void *ctx, const struct task_out *out, struct task_end *ret_end,
                          struct err *err)
{
    (void)ctx;
    if (world_db_enter(err) < 0) {
        return -1;
    }
    const struct m_task *t = model_task(&w.m, &out->key);
    if (t && t->state == TASK_RUNNING && t->token == out->token) {
        struct err why;
        err_set(&why, ERR_UNKNOWN, "crash_loop", "lost");
        if (t->lease_until >= w.m.now) {
            world_fail("I8: dead as crash loop, and its lease is held");
        }
        world_check_expire(t);
        world_check_letter(t, &why);
    }
    if (model_expire_dead(&w.m, out, ret_end, err) < 0) {
        return -1;
    }
    if (t) {
        world_check_file(model_index(out->key.file_id));
    }
    return world_db_leave(err);
}

static int io_hand_back(void *ctx, const struct task_key *keys, const int *seqs, size_t n,
                        struct err *err)
{
    (void)ctx;
    if (world_db_enter(err) < 0) {
        return -1;
    }
    int count = model_hand_back(&w.m, keys, seqs, n);
    world_trace("leader takes %d of %zu back", count, n);
    return world_db_leave(err);
}

static int io_workers(void *ctx, int stage, struct task_worker *workers, size_t max, size_t *ret_n,
                      bool *ret_paused, struct err *err)
{
    (void)ctx;
    if (world_db_enter(err) < 0) {
        return -1;
    }
    *ret_n = model_live_workers(&w.m, stage, workers, max, ret_paused);
    return world_db_leave(err);
}

static int io_db_uptime(void *ctx, int64_t *ret_s, struct err *err)
{
    (void)ctx;
    if (world_db_enter(err) < 0) {
        return -1;
    }
    *ret_s = (w.m.now - w.m.started) / 1000;
    return world_db_leave(err);
}

static int io_promote(void *ctx, task_due_fn fn, void *arg, struct err *err)
{
    (void)ctx;
    if (world_db_enter(err) < 0) {
        return -1;
    }
    model_promote(&w.m, fn, arg);
    return world_db_leave(err);
}

struct stray_copy {
    struct wlead *me;
    int stage;
};

static int copy_stray(void *ctx, const struct task_out *out, const char *user_id, int cost,
                      struct err *err)
{
    struct stray_copy *copy = ctx;
    size_t *n = &copy->me->stages[copy->stage].n_strays;

    (void)err;
    if (*n < ARRAY_LEN(copy->me->stages[copy->stage].strays)) {
        copy->me->stages[copy->stage].strays[*n].out = *out;
        memcpy(copy->me->stages[copy->stage].strays[*n].user, user_id, UUID_TEXT);
        copy->me->stages[copy->stage].strays[(*n)++].cost = cost;
    }
    return 0;
}

/* Not fresh: what was asked for at the call before, of then. */
static int io_strays(void *ctx, int stage, bool fresh, task_stray_fn fn, void *arg, struct err *err)
{
    struct wlead *me = ctx;
    struct stray_copy copy = {me, stage};

    if (fresh && world_db_enter(err) < 0) {
        return -1;
    }
    w.m.now = fiber_now() / 1000;
    if (fresh) {
        return model_strays(&w.m, stage, fn, arg, err) < 0 ? -1 : world_db_leave(err);
    }
    for (size_t i = 0; i < me->stages[stage].n_strays; i++) {
        if (fn(arg, &me->stages[stage].strays[i].out, me->stages[stage].strays[i].user,
               me->stages[stage].strays[i].cost, err) < 0) {
            return -1;
        }
    }
    me->stages[stage].n_strays = 0;
    return world_db_reachable(&me->proc) ? model_strays(&w.m, stage, copy_stray, &copy, err) : 0;
}

static int io_census(void *ctx, int stage, task_census_fn fn, void *arg, double *ret_oldest_s,
                     struct err *err)
{
    const struct wlead *me = ctx;

    (void)err;
    if (!world_db_reachable(&me->proc) || sim_chance(0.5)) {
        return 0;
    }
    w.m.now = fiber_now() / 1000;
    model_census(&w.m, stage, fn, arg, ret_oldest_s);
    return 1;
}

/* No more orders are out than the credit and, beyond it, the newcomers' quarter. Where nothing
 * fails the credit only rises with the rate, so the most of it that was published is the bound. */
static void check_credit(int stage, const struct lead_stats *stats)
{
    int most;

    if (stats->queue.credit < 0 || stats->queue.out < 0 || stats->queue.waiting < 0) {
        world_fail("the leader publishes nonsense: credit %d", (int)stats->queue.credit);
    }
    if ((int)stats->queue.credit > w.most_credit[stage]) {
        w.most_credit[stage] = (int)stats->queue.credit;
    }
    most = w.most_credit[stage];
    most += most / 4 > 2 ? most / 4 : 2;
    if (w.kind == WORLD_FAIR && (int)stats->queue.out > most) {
        world_fail("I7: %d orders of stage %d are out, the most is %d", (int)stats->queue.out,
                   stage, most);
    }
}

static int io_publish(void *ctx, int stage, const struct lead_stats *stats, struct err *err)
{
    (void)ctx;
    if (world_db_enter(err) < 0) {
        return -1;
    }
    check_credit(stage, stats);
    return world_db_leave(err);
}

static int io_partitions(void *ctx, int stage, int *ret_n, struct err *err)
{
    const struct wlead *me = ctx;

    (void)stage;
    fiber_sleep(sim_range(MS, 5 * MS));
    if (!sim_bus_reachable(&me->proc)) {
        return err_set(err, ERR_TRANSIENT, "kafka_unavailable", "no broker");
    }
    *ret_n = BUS_PARTITIONS;
    return 0;
}

static bool io_broker_alive(void *ctx)
{
    const struct wlead *me = ctx;

    return sim_bus_reachable(&me->proc);
}

/* An order that is not acknowledged may have arrived, one that is may come twice or late. */
static bool send_one(const struct wlead *me, int stage, const struct lead_order *order,
                     struct err *err)
{
    CLEANUP(buf_done) struct buf buf;
    struct work_order work = {.key = order->key,
                              .dispatch_seq = order->dispatch_seq,
                              .cost = order->cost,
                              .sent_ms = fiber_now() / 1000 + me->proc.wall_skew_ms};
    int partition = order->partition >= 0 && order->partition < BUS_PARTITIONS
                        ? order->partition
                        : model_index(order->user_id) % BUS_PARTITIONS;
    const struct m_task *t = model_task(&w.m, &order->key);
    bool fails = !sim_bus_reachable(&me->proc) || sim_chance(w.p_bus_fail);

    if (!t || t->dispatch_seq < order->dispatch_seq) {
        world_fail("an order is sent before its row says so");
    }
    memcpy(work.user_id, order->user_id, UUID_TEXT);
    buf_init(&buf, EVENT_WORK_MAX);
    if (event_encode_work(&work, &buf, err) < 0) {
        world_fail("an order does not fit a record");
        return false;
    }
    if (!fails || (sim_bus_reachable(&me->proc) && sim_chance(0.5))) {
        int64_t late = sim_chance(w.p_bus_fail) ? sim_range(0, 30 * SECOND) : sim_range(MS, 4 * MS);
        sim_bus_append(stage, partition, &work, buf.data, buf.len, late);
        if (sim_chance(w.p_bus_fail)) {
            sim_bus_append(stage, partition, &work, buf.data, buf.len,
                           late + sim_range(0, 5 * SECOND));
        }
    }
    return !fails;
}

static int io_send(void *ctx, int stage, const struct lead_order *orders, size_t n, bool *ok,
                   struct err *err)
{
    const struct wlead *me = ctx;
    bool all = true;

    fiber_sleep(sim_range(MS, 4 * MS));
    for (size_t i = 0; i < n; i++) {
        ok[i] = send_one(me, stage, &orders[i], err);
        all = all && ok[i];
    }
    if (!all) {
        fiber_sleep(sim_range(MS, 11 * SECOND));
        return err_set(err, ERR_TRANSIENT, "kafka_unavailable", "not acknowledged");
    }
    return 0;
}

static void io_notify(void *ctx, int stage, const char *user_id)
{
    (void)ctx;
    world_notify(stage, user_id);
}

static void io_tell(void *ctx, int stage, const struct lead_news *news)
{
    (void)ctx;
    world_trace("leader of stage %d: note %d, %zu %s %s", stage, (int)news->note, news->n,
                news->what ? news->what : "", news->err ? news->err->msg : "");
}

/* Leadership ------------------------------------------------------------------------------------*/

static bool hold(struct wlead *me, int lock, int64_t believes_until)
{
    int *holder = &w.lock_holder[lock];

    if (fiber_now() < believes_until) {
        return true;
    }
    fiber_sleep(sim_range(MS / 2, 3 * MS));
    if (!world_db_reachable(&me->proc)) {
        if (*holder == me->number) {
            *holder = -1; /* the session is gone, and the lock with it */
        }
        return false;
    }
    if (*holder < 0 && me->proc.alive) {
        *holder = me->number;
        world_trace("dispatcher %d leads %d", me->number, lock);
    }
    return *holder == me->number;
}

static size_t named_users(struct wlead *me, int stage, char (*users)[UUID_TEXT], bool *ret_overflow)
{
    size_t n = 0;

    *ret_overflow = me->stages[stage].n_named > 8;
    for (int u = 0; u < MODEL_USERS_MAX && me->stages[stage].n_named > 0; u++) {
        if (me->stages[stage].named[u]) {
            me->stages[stage].named[u] = false;
            me->stages[stage].n_named--;
            if (n < 8) {
                model_user_id(u, users[n++]);
            }
        }
    }
    return n;
}

static void stage_turns(void *arg)
{
    struct wlead *me = world_lead_of(proc_self());
    int stage = (int)(uintptr_t)arg;
    struct stage_lead *lead = me->stages[stage].lead;
    char users[8][UUID_TEXT];
    struct err err = ERR_INIT;

    for (;;) {
        bool overflow = false;
        if (!me->stages[stage].poked) {
            fiber_wait(&me->stages[stage].hint,
                       world_idle_us((int64_t)stage_lead_wait_ms(lead) * MS));
        }
        me->stages[stage].poked = false;
        size_t n = named_users(me, stage, users, &overflow);
        err = ERR_INIT;
        if (!hold(me, stage, me->stages[stage].believes_until)) {
            me->stages[stage].leads = false;
            if (world_db_reachable(&me->proc)) {
                stage_lead_follow(lead);
            }
            fiber_sleep(world_idle_us(SECOND));
            continue;
        }
        if ((!me->stages[stage].leads && stage_lead_take_over(lead, &err) < 0) ||
            (me->stages[stage].leads = true, stage_lead_turn(lead, users, n, overflow, &err)) < 0) {
            world_trace("stage %d waits: %s", stage, err.msg);
            me->stages[stage].leads = false;
            fiber_sleep(500 * MS);
        }
    }
}

static void due_turns(void *arg)
{
    struct wlead *me = arg;

    for (;;) {
        struct err err = ERR_INIT;
        if (hold(me, 0, 0)) {
            (void)!stage_promote(&me->io, &err);
        }
        fiber_sleep(world_idle_us(250 * MS));
    }
}

struct wlead *world_lead_of(const struct proc *proc)
{
    return proc->owner;
}

void world_start_lead(void)
{
    struct wlead *me = calloc(1, sizeof(*me));
    struct err err;

    if (!me || w.n_leads >= WORLD_LEADS_MAX) {
        abort();
    }
    me->number = w.n_leads;
    w.leads[w.n_leads++] = me;
    proc_start(&me->proc, me);
    me->io = (struct lead_io){.ctx = me,
                              .now_ms = io_now,
                              .heads_page = io_heads_page,
                              .heads_asked = io_heads_asked,
                              .heads_any = io_heads_any,
                              .dispatch = io_dispatch,
                              .check_out = io_check_out,
                              .expire = io_expire,
                              .expire_dead = io_expire_dead,
                              .hand_back = io_hand_back,
                              .workers = io_workers,
                              .db_uptime = io_db_uptime,
                              .promote = io_promote,
                              .strays = io_strays,
                              .census = io_census,
                              .publish = io_publish,
                              .partitions = io_partitions,
                              .broker_alive = io_broker_alive,
                              .send = io_send,
                              .notify = io_notify,
                              .tell = io_tell};
    for (int s = 1; s <= STAGE_MAX; s++) {
        const struct stage_lead_config config = {.stage = s,
                                                 .shards = 1,
                                                 .credit_floor = 4,
                                                 .sweep_ms = 1000,
                                                 .dispatch_timeout_ms = 10000,
                                                 .lease_ms = LEASE_MS};
        if (stage_lead_new(&config, &me->io, &me->stages[s].lead, &err) < 0) {
            abort();
        }
        fiber_start(&me->proc, stage_turns, (void *)(uintptr_t)s);
    }
    fiber_start(&me->proc, due_turns, me);
}
