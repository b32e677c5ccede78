/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One stage's leader: knows who waits (sfq), what is out (out), who works (heartbeats), and sends
 * as much as the credit allows. Its memory is a cache of the task table: it is dropped when the
 * lock is lost and rebuilt at take-over.
 *
 * Credit G = K + W + (completions a second * HOP_S), at least K + 2: K slots, W workers; enough
 * that a slot never waits for the dispatcher, and no more, as everything that is out is beyond
 * fairness.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/event.h"
#include "libcommon/fault.h"
#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "services/dispatcher/dispatcher.h"
#include "services/dispatcher/out.h"

#define HOP_S 0.06
#define IDLE_POLL_MS 200U
#define BUSY_POLL_MS 50U
#define RECONCILE_MS 5000U
#define STRAYS_MS 60000U
#define WORKERS_MS 1000U
#define HEADS_PER_USER 4
#define REFILL_LOW 8
#define REFILL_USERS 64
#define CRASHES_MAX 3
#define SEND_TIMEOUT_MS 11000U
#define CREDIT_MAX 4096

struct stage_state {
    struct dispatcher *d;
    int stage;
    char label[32];
    struct sfq *sfq;
    struct out_list out;
    struct task_worker workers[TASK_WORKERS_MAX];
    size_t n_workers;
    int n_partitions;
    bool paused, broker_ok, leads;
    int credit;
    double rate;     /* completions a second, smoothed */
    int returned;    /* since the last look at workers */
    double claim_ms; /* slowest claim lately, decaying */
    uint64_t now, workers_at, reconcile_at, strays_at, sweep_at, backlog_at, broker_at, checked_at;
    char (*users)[UUID_TEXT];
};

/* Heads -----------------------------------------------------------------------------------------*/

struct load_ctx {
    struct stage_state *s;
    char user[UUID_TEXT]; /* of the run of heads being read */
    int n;                /* its length */
    int limit;
};

static void end_run(struct load_ctx *load)
{
    if (load->n > 0) {
        sfq_set_more(load->s->sfq, load->user, load->n >= load->limit);
    }
}

static int take_head(void *ctx, const struct task_head *head, struct err *err)
{
    struct load_ctx *load = ctx;

    if (strcmp(load->user, head->user_id) != 0) {
        end_run(load);
        snprintf(load->user, sizeof(load->user), "%s", head->user_id);
        load->n = 0;
    }
    load->n++;
    return out_has(&load->s->out, &head->key) ? 0 : sfq_add(load->s->sfq, head, err);
}

static int load_user(struct stage_state *s, const char *user, int64_t after, struct err *err)
{
    struct load_ctx load = {.s = s, .limit = SFQ_HEADS_MAX};
    double weight;

    sfq_set_more(s->sfq, user, false);
    if (task_heads_user(s->d->service.db, s->stage, user, after, SFQ_HEADS_MAX, take_head, &load,
                        err) < 0) {
        return -1;
    }
    end_run(&load);
    if (load.n > 0 && task_weight(s->d->service.db, user, &weight, err) == 0) {
        sfq_set_weight(s->sfq, user, weight);
    }
    return 0;
}

static int reconcile(struct stage_state *s, struct err *err)
{
    struct load_ctx load = {.s = s, .limit = HEADS_PER_USER};

    s->reconcile_at = s->now + RECONCILE_MS;
    sfq_reset(s->sfq);
    if (task_heads_all(s->d->service.db, s->stage, HEADS_PER_USER, take_head, &load, err) < 0) {
        return -1;
    }
    end_run(&load);
    sfq_prune(s->sfq, s->now > 60000 ? s->now - 60000 : 0);
    return 0;
}

static int refill(struct stage_state *s, struct err *err)
{
    char users[REFILL_USERS][UUID_TEXT];
    int64_t cursors[REFILL_USERS];
    size_t n = sfq_refill(s->sfq, REFILL_LOW, users, cursors, REFILL_USERS);

    for (size_t i = 0; i < n; i++) {
        if (load_user(s, users[i], cursors[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* What is out -----------------------------------------------------------------------------------*/

static void entry_back(struct stage_state *s, size_t i)
{
    sfq_back(s->sfq, s->out.entries[i].user_id, s->now);
    out_remove(&s->out, i);
    s->returned++;
}

static void note_claim(struct stage_state *s, struct out_entry *e)
{
    if (e->task.running && !e->claimed) {
        double delay = (double)(s->now - e->sent_ms);
        e->claimed = true;
        s->claim_ms = delay > s->claim_ms ? delay : s->claim_ms * 0.99;
    }
}

/* Asks for the rows of everything that is out; what came back frees credit. */
static int check_out(struct stage_state *s, struct err *err)
{
    struct task_out chunk[DISPATCH_BATCH_MAX];

    s->checked_at = s->now;
    for (size_t end = s->out.n; end > 0;) {
        size_t k = min_size(end, DISPATCH_BATCH_MAX), at = end - k;
        for (size_t i = 0; i < k; i++) {
            chunk[i] = s->out.entries[at + i].task;
        }
        if (task_check_out(s->d->service.db, chunk, k, err) < 0) {
            return -1;
        }
        for (size_t i = k; i-- > 0;) { /* backwards: removal moves the last entry */
            s->out.entries[at + i].task = chunk[i];
            note_claim(s, &s->out.entries[at + i]);
            if (chunk[i].back) {
                entry_back(s, at + i);
            }
        }
        end = at;
    }
    return 0;
}

/* The lease of a running unit is over: its worker is lost. */
static void sweep_expired(struct stage_state *s, struct out_entry *e)
{
    struct task_end end;
    struct err err = ERR_INIT;
    bool done = false;
    int r;

    if (e->task.crashes >= CRASHES_MAX) {
        r = task_expire_dead(s->d->service.db, &e->task, &end, &err);
        done = r == 0 && !end.fenced;
    } else {
        r = task_expire(s->d->service.db, &e->task, &done, &err);
    }
    if (r < 0) {
        log_err(LOG_WARN, "expired lease stays", &err);
    } else if (done) {
        metrics_inc("docfleet_lease_takeovers_total", s->label);
        log_warn("lease was over, unit taken back", kv_str("file", e->task.key.file_id),
                 kv_str("stage", stage_name(s->stage)), kv_i64("unit", e->task.key.unit),
                 kv_i64("crashes", e->task.crashes));
        notify_stage(s->d->service.notifier, s->stage, e->user_id);
    }
}

static void sweep_unclaimed(struct stage_state *s, struct out_entry *e)
{
    struct err err = ERR_INIT;

    if (task_hand_back(s->d->service.db, &e->task.key, &e->task.dispatch_seq, 1, &err) < 0) {
        log_err(LOG_WARN, "unclaimed order stays", &err);
        return;
    }
    e->waited_ms = 0;
    metrics_inc("docfleet_sweeper_reemits_total", s->label);
    log_info("order was not claimed, sent again", kv_str("file", e->task.key.file_id),
             kv_str("stage", stage_name(s->stage)), kv_i64("unit", e->task.key.unit));
    notify_stage(s->d->service.notifier, s->stage, e->user_id);
}

static int sweep(struct stage_state *s, struct err *err)
{
    uint64_t elapsed = s->sweep_at ? s->now - s->sweep_at : 0;
    double limit = fmax((double)s->d->options.dispatch_timeout_ms, 5 * s->claim_ms);
    int64_t uptime = 0;

    s->sweep_at = s->now;
    if (s->out.n == 0) {
        return 0;
    }
    if (check_out(s, err) < 0 || task_db_uptime(s->d->service.db, &uptime, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < s->out.n; i++) {
        struct out_entry *e = &s->out.entries[i];
        if (e->task.expired && uptime * 1000 > s->d->service.core.lease_ms) {
            sweep_expired(s, e);
        } else if (!e->task.running && s->broker_ok && s->n_workers > 0 && !s->paused) {
            e->waited_ms += elapsed;
            if ((double)e->waited_ms >= limit) {
                sweep_unclaimed(s, e);
            }
        }
    }
    return 0;
}

static int take_stray(void *ctx, const struct task_out *out, const char *user_id, int cost,
                      struct err *err)
{
    struct stage_state *s = ctx;
    struct out_entry e = {
        .task = *out, .cost = cost, .partition = -1, .sent_ms = s->now, .claimed = true};

    if (out_has(&s->out, &out->key)) {
        return 0;
    }
    snprintf(e.user_id, sizeof(e.user_id), "%s", user_id);
    if (out_add(&s->out, &e, err) < 0) {
        return -1;
    }
    sfq_sent(s->sfq, user_id, s->now);
    return 0;
}

static int find_strays(struct stage_state *s, struct err *err)
{
    s->strays_at = s->now + STRAYS_MS;
    return task_strays(s->d->service.db, s->stage, take_stray, s, err);
}

/* Workers and credit ----------------------------------------------------------------------------*/

static int look_at_workers(struct stage_state *s, struct err *err)
{
    double elapsed = s->workers_at ? (double)(s->now - s->workers_at) / 1000 : 1;
    int slots = 0;
    double top, jain;

    if (task_workers(s->d->service.db, s->stage, s->workers, TASK_WORKERS_MAX, &s->n_workers,
                     &s->paused, err) < 0) {
        return -1;
    }
    s->workers_at = s->now;
    for (size_t i = 0; i < s->n_workers; i++) {
        slots += s->workers[i].slots;
    }
    s->rate = 0.5 * s->rate + 0.5 * (elapsed > 0 ? s->returned / elapsed : 0);
    s->returned = 0;
    if (slots == 0) {
        s->credit = (int)s->d->options.credit_floor;
    } else {
        int extra = (int)s->n_workers + (int)ceil(s->rate * HOP_S);
        s->credit = slots + (extra > 2 ? extra : 2);
    }
    if (s->credit > CREDIT_MAX) {
        s->credit = CREDIT_MAX;
    }
    sfq_shares(s->sfq, &top, &jain);
    char labels[64];
    snprintf(labels, sizeof(labels), "%s,kind=\"granted\"", s->label);
    metrics_set("docfleet_credit", labels, s->credit);
    snprintf(labels, sizeof(labels), "%s,kind=\"used\"", s->label);
    metrics_set("docfleet_credit", labels, (double)s->out.n);
    metrics_set("docfleet_fairness_top_share", s->label, top);
    metrics_set("docfleet_fairness_jain", s->label, jain);
    return 0;
}

static int write_backlog(struct stage_state *s, struct err *err)
{
    uint64_t start = clock_mono_ms(), took;
    int64_t pending = 0;
    double oldest = 0;
    char labels[64];

    /* what workers have ended since the last look is no backlog any more */
    if (s->out.n > 0 && s->checked_at != s->now && check_out(s, err) < 0) {
        return -1;
    }
    if (task_backlog(s->d->service.db, s->stage, (int64_t)s->out.n, &pending, &oldest, err) < 0) {
        return -1;
    }
    took = clock_mono_ms() - start;
    s->backlog_at = s->now + 1000 + took * 20; /* a large count is taken more rarely */
    snprintf(labels, sizeof(labels), "%s,state=\"pending\"", s->label);
    metrics_set("docfleet_queue_depth", labels, (double)pending);
    snprintf(labels, sizeof(labels), "%s,state=\"out\"", s->label);
    metrics_set("docfleet_queue_depth", labels, (double)s->out.n);
    metrics_set("docfleet_queue_oldest_seconds", s->label, pending > 0 ? oldest : 0);
    return 0;
}

/* Sending ---------------------------------------------------------------------------------------*/

struct sending_batch {
    struct task_head heads[DISPATCH_BATCH_MAX];
    struct task_key keys[DISPATCH_BATCH_MAX];
    int seqs[DISPATCH_BATCH_MAX];
    char traces[DISPATCH_BATCH_MAX][64];
    struct bus_message messages[DISPATCH_BATCH_MAX];
    char *values[DISPATCH_BATCH_MAX];
    size_t index[DISPATCH_BATCH_MAX]; /* message -> head */
    bool ok[DISPATCH_BATCH_MAX];
    size_t n, n_messages;
};

static int encode(struct stage_state *s, struct sending_batch *b, size_t i, struct err *err)
{
    CLEANUP(buf_done) struct buf buf;
    const struct task_head *head = &b->heads[i];
    struct work_order order = {.key = head->key,
                               .dispatch_seq = b->seqs[i],
                               .cost = head->cost,
                               .sent_ms = clock_wall_ms()};
    size_t m = b->n_messages;

    snprintf(order.user_id, sizeof(order.user_id), "%s", head->user_id);
    buf_init(&buf, EVENT_WORK_MAX);
    if (event_encode_work(&order, &buf, err) < 0) {
        return -1;
    }
    size_t len = buf.len;
    b->values[m] = buf_steal(&buf);
    b->index[m] = i;
    b->messages[m] =
        (struct bus_message){.topic = stage_topic(s->stage),
                             .key = head->user_id,
                             .value = b->values[m],
                             .len = len,
                             .partition = out_choose_partition(
                                 &s->out, s->workers, s->n_workers, s->n_partitions,
                                 strcmp(s->d->options.partitioning, "key") == 0, head->user_id),
                             .traceparent = b->traces[i][0] ? b->traces[i] : NULL};
    b->n_messages++;
    struct out_entry e = {.task = {.key = head->key, .dispatch_seq = b->seqs[i]},
                          .cost = head->cost,
                          .partition = b->messages[m].partition,
                          .sent_ms = s->now};
    snprintf(e.user_id, sizeof(e.user_id), "%s", head->user_id);
    sfq_sent(s->sfq, head->user_id, s->now);
    return out_add(&s->out, &e, err);
}

/* What the broker did not take goes back at once; an order that arrives all the same claims
 * nothing, as its row is pending or has a new dispatch_seq. */
static void give_back_unsent(struct stage_state *s, struct sending_batch *b)
{
    struct err err = ERR_INIT;

    for (size_t m = 0; m < b->n_messages; m++) {
        size_t i = b->index[m];
        if (!b->ok[m] && task_hand_back(s->d->service.db, &b->keys[i], &b->seqs[i], 1, &err) < 0) {
            log_err(LOG_WARN, "unsent order stays until it is swept", &err);
        }
    }
    s->reconcile_at = s->now; /* heads are read anew */
}

static void produce(struct stage_state *s, struct sending_batch *b)
{
    struct err err = ERR_INIT;

    fault_point("dispatch.after_commit");
    if (bus_send(s->d->producer, b->messages, b->n_messages, SEND_TIMEOUT_MS, b->ok, &err) < 0) {
        log_err(LOG_WARN, "work orders not sent", &err);
        s->broker_ok = false;
        s->broker_at = clock_mono_ms() + 1000;
        give_back_unsent(s, b);
    } else {
        s->broker_ok = true;
        metrics_add("docfleet_dispatched_total", s->label, (double)b->n_messages);
    }
    fault_point("dispatch.after_produce");
}

static size_t pick_batch(struct stage_state *s, struct sending_batch *b)
{
    size_t free_credit = s->credit > (int)s->out.n ? (size_t)s->credit - s->out.n : 0;
    size_t max = min_size(free_credit, DISPATCH_BATCH_MAX);
    int cap = (int)ceil(0.9 * s->credit);

    while (b->n < max && sfq_pick(s->sfq, s->now, cap, &b->heads[b->n])) {
        b->keys[b->n] = b->heads[b->n].key;
        b->n++;
    }
    return b->n;
}

/* One batch; *ret_more: there may be another. */
static int send_batch(struct stage_state *s, bool *ret_more, struct err *err)
{
    struct sending_batch *b = calloc(1, sizeof(*b));
    int r = 0;

    *ret_more = false;
    if (!b) {
        return err_nomem(err);
    }
    if (pick_batch(s, b) > 0) {
        r = task_dispatch(s->d->service.db, b->keys, b->n, b->seqs, b->traces, err);
        for (size_t i = 0; r < 0 && i < b->n; i++) {
            sfq_unpick(s->sfq, &b->heads[i]); /* unknown outcome: reconciliation reads the rows */
            s->reconcile_at = s->now;
            s->strays_at = s->now;
        }
        for (size_t i = 0; r == 0 && i < b->n; i++) {
            if (b->seqs[i] == 0) {
                sfq_unpick(s->sfq, &b->heads[i]);
            } else {
                r = encode(s, b, i, err);
            }
        }
        if (b->n_messages > 0) {
            produce(s, b);
        }
        *ret_more = r == 0 && s->broker_ok && s->credit > (int)s->out.n && sfq_waiting(s->sfq) > 0;
    }
    for (size_t m = 0; m < b->n_messages; m++) {
        free(b->values[m]);
    }
    free(b);
    return r;
}

static bool may_send(struct stage_state *s)
{
    struct err err = ERR_INIT;

    if (s->paused || sfq_waiting(s->sfq) == 0) {
        return false;
    }
    if (s->n_partitions == 0 || !s->broker_ok) {
        if (s->now < s->broker_at) {
            return false;
        }
        if (bus_partitions(s->d->producer, stage_topic(s->stage), &s->n_partitions, &err) < 0) {
            log_err(LOG_WARN, "waiting for kafka", &err);
            s->broker_ok = false;
            s->broker_at = clock_mono_ms() + 1000;
            return false;
        }
        s->broker_ok = true;
    }
    return true;
}

/* The loop --------------------------------------------------------------------------------------*/

static int take_over(struct stage_state *s, struct err *err)
{
    struct sfq *fresh = NULL;

    if (sfq_new(strcmp(s->d->options.scheduling, "fifo") == 0 ? SFQ_FIFO : SFQ_FAIR, &fresh, err) <
        0) {
        return -1;
    }
    sfq_free(s->sfq);
    s->sfq = fresh;
    out_clear(&s->out);
    s->broker_ok = true;
    s->sweep_at = 0;
    s->workers_at = 0;
    if (find_strays(s, err) < 0 || look_at_workers(s, err) < 0 || reconcile(s, err) < 0) {
        return -1;
    }
    s->leads = true;
    return 0;
}

/* What is done by the clock. */
static int timed_work(struct stage_state *s, struct err *err)
{
    if (s->now - s->workers_at >= WORKERS_MS && look_at_workers(s, err) < 0) {
        return -1;
    }
    if (s->now >= s->strays_at && find_strays(s, err) < 0) {
        return -1;
    }
    if (s->now - s->sweep_at >= (uint64_t)s->d->options.sweep_ms && sweep(s, err) < 0) {
        return -1;
    }
    return s->now >= s->backlog_at ? write_backlog(s, err) : 0;
}

/* Brings the heads up to date: everything from time to time, else the users that were named; with
 * nothing at hand and nobody named, one probe. */
static int load_heads(struct stage_state *s, size_t n_users, bool overflow, struct err *err)
{
    bool any = false;

    if ((s->now >= s->reconcile_at || overflow) && reconcile(s, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < n_users; i++) {
        if (load_user(s, s->users[i], 0, err) < 0) {
            return -1;
        }
    }
    if (n_users > 0 || sfq_waiting(s->sfq) > 0) {
        return 0;
    }
    if (task_heads_any(s->d->service.db, s->stage, &any, err) < 0) {
        return -1;
    }
    return any ? reconcile(s, err) : 0;
}

static int turn(struct stage_state *s, size_t n_users, bool overflow, struct err *err)
{
    bool more = true;

    if (timed_work(s, err) < 0 || load_heads(s, n_users, overflow, err) < 0) {
        return -1;
    }
    if (sfq_waiting(s->sfq) > 0 && (int)s->out.n >= s->credit && s->now != s->checked_at &&
        check_out(s, err) < 0) {
        return -1;
    }
    while (more && may_send(s)) {
        s->now = clock_mono_ms();
        if (send_batch(s, &more, err) < 0 || refill(s, err) < 0) {
            return -1;
        }
    }
    return 0;
}

void *stage_loop(void *arg)
{
    const struct stage_thread *thread = arg;
    struct dispatcher *d = thread->dispatcher;
    struct stage_state *s = calloc(1, sizeof(*s));
    struct leader leader = {.key = thread->stage};
    struct err err = ERR_INIT;
    bool overflow = false;

    if (!s || sfq_new(SFQ_FAIR, &s->sfq, &err) < 0 ||
        !(s->users = calloc(WAKE_USERS_MAX, UUID_TEXT))) {
        log_error("no memory to lead a stage, another replica will");
        free(s);
        return NULL;
    }
    s->d = d;
    s->stage = thread->stage;
    snprintf(s->label, sizeof(s->label), "stage=\"%s\"", stage_name(s->stage));
    while (!atomic_load(&d->service.stopping)) {
        bool busy = sfq_waiting(s->sfq) > 0;
        size_t n =
            wake_wait(&d->wakes[s->stage], busy ? BUSY_POLL_MS : IDLE_POLL_MS, s->users, &overflow);
        s->now = clock_mono_ms();
        err = ERR_INIT;
        if (!leader_hold(&leader, d)) {
            s->leads = false;
            wake_wait(&d->wakes[s->stage], 1000, NULL, &overflow);
            continue;
        }
        if ((!s->leads && take_over(s, &err) < 0) || turn(s, n, overflow, &err) < 0) {
            log_err(LOG_WARN, "dispatching waits", &err);
            s->leads = false; /* memory may be wrong: read everything again */
            wake_wait(&d->wakes[s->stage], 500, NULL, &overflow);
        }
    }
    leader_release(&leader);
    out_done(&s->out);
    sfq_free(s->sfq);
    free(s->users);
    free(s);
    return NULL;
}
