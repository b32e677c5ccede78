/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The leader's table for a running dispatcher: Postgres, Kafka, log and metrics behind the
 * functions of lead_io.h.
 */
#include "services/dispatcher/lead_io.h"

#include <stdio.h>
#include <string.h>

#include "libcommon/event.h"
#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "libcommon/topics.h"
#include "services/dispatcher/dispatcher.h"

#define SEND_TIMEOUT_MS 11000U
#define TOPICS_AGAIN_MS 5000U
#define BROKER_FRESH_MS 2000U

static struct db *db_of(void *ctx)
{
    const struct stage_thread *thread = ctx;

    return thread->dispatcher->service.db;
}

static uint64_t io_now_ms(void *ctx)
{
    (void)ctx;
    return clock_mono_ms();
}

/* Statements ------------------------------------------------------------------------------------*/

static int io_heads_page(void *ctx, int stage, int flows, int per_flow, task_head_fn fn, void *arg,
                         struct task_place *place, bool *ret_end, struct err *err)
{
    return task_heads_page(db_of(ctx), stage, flows, per_flow, fn, arg, place, ret_end, err);
}

static int io_heads_asked(void *ctx, int stage, const struct task_ask *asks, size_t n,
                          task_head_fn fn, void *arg, struct err *err)
{
    return task_heads_asked(db_of(ctx), stage, asks, n, fn, arg, err);
}

static int io_heads_any(void *ctx, int stage, bool *ret_any, struct err *err)
{
    return task_heads_any(db_of(ctx), stage, ret_any, err);
}

static int io_dispatch(void *ctx, const struct task_key *keys, size_t n, int *seqs,
                       struct task_trace *traces, struct err *err)
{
    return task_dispatch(db_of(ctx), keys, n, seqs, traces, err);
}

static int io_check_out(void *ctx, struct task_out *outs, size_t n, struct err *err)
{
    return task_check_out(db_of(ctx), outs, n, err);
}

static int io_expire(void *ctx, const struct task_out *out, bool *ret_done, struct err *err)
{
    return task_expire(db_of(ctx), out, ret_done, err);
}

static int io_expire_dead(void *ctx, const struct task_out *out, struct task_end *ret_end,
                          struct err *err)
{
    return task_expire_dead(db_of(ctx), out, ret_end, err);
}

static int io_hand_back(void *ctx, const struct task_key *keys, const int *dispatch_seqs, size_t n,
                        struct err *err)
{
    return task_hand_back(db_of(ctx), keys, dispatch_seqs, n, err);
}

static int io_workers(void *ctx, int stage, struct task_worker *workers, size_t max, size_t *ret_n,
                      bool *ret_paused, struct err *err)
{
    return task_workers(db_of(ctx), stage, workers, max, ret_n, ret_paused, err);
}

static int io_db_uptime(void *ctx, int64_t *ret_s, struct err *err)
{
    return task_db_uptime(db_of(ctx), ret_s, err);
}

static int io_promote(void *ctx, task_due_fn fn, void *arg, struct err *err)
{
    return task_promote(db_of(ctx), fn, arg, err);
}

static int io_strays(void *ctx, int stage, bool fresh, task_stray_fn fn, void *arg, struct err *err)
{
    struct stage_thread *thread = ctx;

    return fresh ? task_strays(db_of(ctx), stage, fn, arg, err)
                 : survey_strays(thread->dispatcher->survey, thread, fn, arg, err);
}

static int io_census(void *ctx, int stage, task_census_fn fn, void *arg, double *ret_oldest_s,
                     struct err *err)
{
    struct stage_thread *thread = ctx;

    (void)stage;
    (void)err;
    return survey_census(thread->dispatcher->survey, thread, fn, arg, ret_oldest_s);
}

/* What is shown ---------------------------------------------------------------------------------*/

/* Each shard shows its own part: sums over the label are the stage's. With stats NULL it shows
 * nothing, as the figures of who leads no more would stay as they are. */
static void show(const struct stage_thread *thread, const struct lead_stats *stats)
{
    const struct lead_stats none = {0}, *from = stats ? stats : &none;
    const struct {
        const char *name, *more;
        double value;
    } gauges[] = {
        {"docfleet_credit", ",kind=\"granted\"", (double)from->queue.credit},
        {"docfleet_credit", ",kind=\"used\"", (double)from->queue.out},
        {"docfleet_queue_depth", ",state=\"pending\"", (double)from->queue.waiting},
        {"docfleet_queue_depth", ",state=\"out\"", (double)from->queue.out},
        {"docfleet_queue_oldest_seconds", "", from->queue.oldest_s},
        {"docfleet_queue_users", "", (double)from->queue.users},
        {"docfleet_stage_paused", "", from->queue.paused ? 1 : 0},
        {"docfleet_workers_live", "", (double)from->workers},
        {"docfleet_worker_slots", "", from->slots},
        {"docfleet_fairness_top_share", "", from->top_share},
        {"docfleet_fairness_jain", "", from->jain},
    };
    char labels[80];

    for (size_t i = 0; i < ARRAY_LEN(gauges); i++) {
        snprintf(labels, sizeof(labels), "stage=\"%s\",shard=\"%d\"%s", stage_name(thread->stage),
                 thread->shard, gauges[i].more);
        if (stats) {
            metrics_set(gauges[i].name, labels, gauges[i].value);
        } else {
            metrics_remove(gauges[i].name, labels);
        }
    }
}

void lead_io_show_nothing(const struct stage_thread *thread)
{
    show(thread, NULL);
}

/* One row a stage: the first shard speaks for the others, which are as it is. */
static int io_publish(void *ctx, int stage, const struct lead_stats *stats, struct err *err)
{
    const struct stage_thread *thread = ctx;
    int shards = (int)thread->dispatcher->options.shards;
    struct task_queue_state whole = stats->queue;

    show(thread, stats);
    if (shards > 1 &&
        task_publish_shard(db_of(ctx), stage, thread->shard, stats->queue.paused, err) < 0) {
        return -1;
    }
    if (thread->shard != 0) {
        return 0;
    }
    whole.waiting *= shards;
    whole.out *= shards;
    whole.users *= shards;
    whole.credit *= shards;
    whole.rate = whole.rate < 0 ? -1 : whole.rate * shards;
    return task_publish(db_of(ctx), stage, &whole, err);
}

static void io_tell(void *ctx, int stage, const struct lead_news *news)
{
    char label[32];

    (void)ctx;
    snprintf(label, sizeof(label), "stage=\"%s\"", stage_name(stage));
    switch (news->note) {
    case LEAD_SENT:
        metrics_add("docfleet_dispatched_total", label, (double)news->n);
        metrics_observe("docfleet_dispatch_pick_seconds", label, (double)news->pick_ms / 1000);
        break;
    case LEAD_TAKEN_BACK:
        metrics_inc("docfleet_lease_takeovers_total", label);
        log_warn("lease was over, unit taken back", kv_str("file", news->out->key.file_id),
                 kv_str("stage", stage_name(stage)), kv_i64("unit", news->out->key.unit),
                 kv_i64("crashes", news->out->crashes));
        break;
    case LEAD_REEMITTED:
        metrics_inc("docfleet_sweeper_reemits_total", label);
        log_info("order was not claimed, sent again", kv_str("file", news->out->key.file_id),
                 kv_str("stage", stage_name(stage)), kv_i64("unit", news->out->key.unit));
        break;
    case LEAD_TROUBLE:
        log_err(LOG_WARN, news->what, news->err);
        break;
    }
}

static void io_notify(void *ctx, int stage, const char *user_id)
{
    const struct stage_thread *thread = ctx;

    notify_stage(thread->dispatcher->service.notifier, stage, user_id);
}

/* Kafka -----------------------------------------------------------------------------------------*/

/* A broker that came back without its topics: they are made as they were, by one thread at a time
 * and not at once again. Where they are made by somebody else (no number is kept), it is theirs. */
static void remake_topics(struct dispatcher *d)
{
    struct err err = ERR_INIT;
    int partitions = 0;

    pthread_mutex_lock(&d->broker_lock);
    if (d->topics_at == 0 || clock_mono_ms() - d->topics_at >= TOPICS_AGAIN_MS) {
        if (task_partitions(d->service.db, &partitions, &err) < 0 ||
            (partitions > 0 && topics_create(&d->service.bus, partitions, &err) < 0)) {
            log_err(LOG_WARN, "topics are missing and cannot be made", &err);
        } else if (partitions > 0) {
            log_warn("topics were missing and were made again", kv_i64("partitions", partitions));
        }
        d->topics_at = clock_mono_ms();
    }
    pthread_mutex_unlock(&d->broker_lock);
}

static int io_partitions(void *ctx, int stage, int *ret_n, struct err *err)
{
    struct stage_thread *thread = ctx;

    if (bus_partitions(thread->dispatcher->producer, stage_topic(stage), ret_n, err) == 0) {
        return 0;
    }
    if (strcmp(err->code, "no_topic") == 0) {
        remake_topics(thread->dispatcher);
    }
    return -1;
}

/* One question for all stages. */
static bool io_broker_alive(void *ctx)
{
    struct dispatcher *d = ((struct stage_thread *)ctx)->dispatcher;
    struct err err = ERR_INIT;

    pthread_mutex_lock(&d->broker_lock);
    if (d->broker_at == 0 || clock_mono_ms() - d->broker_at >= BROKER_FRESH_MS) {
        d->broker_alive = bus_producer_ping(d->producer, &err) == 0;
        d->broker_at = clock_mono_ms();
    }
    bool alive = d->broker_alive;
    pthread_mutex_unlock(&d->broker_lock);
    return alive;
}

/* An order's place in its trace: the waiting in the queue is a span, the work of the unit is below
 * it. What is in no sampled trace hands its context through. */
struct order_trace {
    struct trace_ctx parent, own;
    char header[TRACE_PARENT_SIZE];
};

static void trace_order(const struct lead_order *order, struct order_trace *ret)
{
    struct trace_span span;

    *ret = (struct order_trace){.own = {.valid = false}};
    if (trace_parse(order->trace.parent, &ret->parent)) {
        trace_open(&span, "", TRACE_PRODUCER, &ret->parent);
        ret->own = span.ctx;
        trace_format(&ret->own, ret->header);
    }
}

static void end_order_trace(const struct lead_order *order, const struct order_trace *trace)
{
    struct trace_span span;
    char name[32];

    if (!trace->parent.sampled) {
        return;
    }
    snprintf(name, sizeof(name), "queue %s", stage_name(order->key.stage));
    trace_open(&span, name, TRACE_PRODUCER, &trace->parent);
    span.ctx = trace->own;
    if (span.live) {
        span.start_ns -= (uint64_t)order->trace.wait_ms * 1000000U;
    }
    trace_attr_text(&span, "docfleet.file_id", order->key.file_id);
    trace_attr_text(&span, "docfleet.stage", stage_name(order->key.stage));
    trace_attr_i64(&span, "docfleet.unit", order->key.unit);
    trace_attr_i64(&span, "docfleet.generation", order->key.generation);
    trace_attr_i64(&span, "docfleet.dispatch_seq", order->dispatch_seq);
    trace_attr_text(&span, "messaging.system", "kafka");
    trace_attr_text(&span, "messaging.destination.name", stage_topic(order->key.stage));
    trace_attr_i64(&span, "messaging.destination.partition.id", order->partition);
    trace_close(&span);
}

static int encode(const struct lead_order *order, const char *topic,
                  const struct order_trace *trace, struct bus_message *message, char **ret_value,
                  struct err *err)
{
    CLEANUP(buf_done) struct buf buf;
    struct work_order work = {.key = order->key,
                              .dispatch_seq = order->dispatch_seq,
                              .cost = order->cost,
                              .sent_ms = clock_wall_ms()};

    snprintf(work.user_id, sizeof(work.user_id), "%s", order->user_id);
    buf_init(&buf, EVENT_WORK_MAX);
    if (event_encode_work(&work, &buf, err) < 0) {
        return -1;
    }
    size_t len = buf.len;
    *ret_value = buf_steal(&buf);
    *message = (struct bus_message){.topic = topic,
                                    .key = order->user_id,
                                    .value = *ret_value,
                                    .len = len,
                                    .partition = order->partition,
                                    .traceparent = trace->header[0] ? trace->header : NULL};
    return 0;
}

static int io_send(void *ctx, int stage, const struct lead_order *orders, size_t n, bool *ok,
                   struct err *err)
{
    const struct stage_thread *thread = ctx;
    struct bus_message messages[DISPATCH_BATCH_MAX] = {{.topic = NULL}};
    struct order_trace traces[DISPATCH_BATCH_MAX];
    char *values[DISPATCH_BATCH_MAX] = {NULL};
    int r = 0;

    for (size_t i = 0; i < n; i++) {
        ok[i] = false;
    }
    for (size_t i = 0; r == 0 && i < n; i++) {
        trace_order(&orders[i], &traces[i]);
        r = encode(&orders[i], stage_topic(stage), &traces[i], &messages[i], &values[i], err);
    }
    if (r == 0) {
        r = bus_send(thread->dispatcher->producer, messages, n, SEND_TIMEOUT_MS, ok, err);
    }
    for (size_t i = 0; i < n; i++) {
        if (ok[i]) {
            end_order_trace(&orders[i], &traces[i]);
        }
        free(values[i]);
    }
    return r;
}

void lead_io_of(struct stage_thread *thread, struct lead_io *ret_io)
{
    *ret_io = (struct lead_io){.ctx = thread,
                               .now_ms = io_now_ms,
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
}
