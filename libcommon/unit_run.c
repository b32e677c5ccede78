/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One unit in one slot: claim, handle, end. The class of the handler's error decides what the end
 * is. A statement whose answer was lost is asked again; what cannot be told from a lost lease is
 * read back by the token, so that no end is counted twice and no object of a winner is deleted.
 */
#include "libcommon/unit_core.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/fault.h"
#include "libcommon/log.h"
#include "libcommon/metrics.h"

#define UNKNOWN_MAX 5
#define CHILD_MAX 3
#define CRASHES_ALONE 2 /* crashes after which a unit runs alone in its process */
#define TRANSIENT_MAX_AGE_S (24 * 3600)
#define RETRY_MS 500U
#define DELAY_FIRST_MS 2000
#define DELAY_MAX_MS 3600000

int64_t unit_backoff_ms(int n, double random01)
{
    int64_t delay = DELAY_FIRST_MS;

    for (int i = 0; i < n && delay < DELAY_MAX_MS; i++) {
        delay *= 4;
    }
    delay = delay > DELAY_MAX_MS ? DELAY_MAX_MS : delay;
    return delay / 2 + (int64_t)((double)delay * random01);
}

/* Claims until the database answers, in a drain too where it has not yet: a claim that came through
 * unseen would run out and count as a crash. False when there is nothing to run. */
static bool claim_item(struct unit_core *core, int slot, const struct work_item *item,
                       struct task_claim *ret_claim)
{
    const struct unit_io *io = core->io;
    bool unsure = false; /* a try had no answer: it may have been the claim */

    fault_point("claim.before");
    while (!atomic_load(&core->stopping) || (unsure && !atomic_load(&core->grace_over))) {
        struct err err = ERR_INIT;
        int r =
            io->claim(io->ctx, slot, &item->order.key, item->order.dispatch_seq, ret_claim, &err);
        if (r >= 0) {
            stage_queue_settle(core->queue, item->partition, item->offset);
            if (r == 0) {
                metrics_inc("docfleet_claims_stale_total", core->label);
            }
            return r > 0;
        }
        if (err.class != ERR_TRANSIENT) {
            /* The sweeper sends the order again; a row that cannot be claimed must not block. */
            log_err(LOG_ERROR, "claim failed", &err);
            stage_queue_settle(core->queue, item->partition, item->offset);
            return false;
        }
        if (!unsure) {
            log_err(LOG_WARN, "claim waits for postgres", &err);
            unsure = true;
        }
        io->pause_ms(io->ctx, RETRY_MS);
    }
    unit_give_back(core, item);
    return false;
}

static void set_running(struct unit_core *core, int slot, struct job *job)
{
    pthread_mutex_lock(&core->lock);
    struct running *running = &core->running[slot];
    if (job) {
        *running = (struct running){
            .active = true, .key = job->claim->key, .token = job->claim->token, .job = job};
    } else {
        running->active = false;
        running->job = NULL;
    }
    pthread_mutex_unlock(&core->lock);
}

static bool lease_lost(struct unit_core *core, int slot)
{
    pthread_mutex_lock(&core->lock);
    bool lost = core->running[slot].lost;
    pthread_mutex_unlock(&core->lock);
    return lost;
}

enum unit_end { UNIT_DONE, UNIT_DEAD, UNIT_BACK };

struct ending {
    enum unit_end end;
    enum task_back how; /* of UNIT_BACK */
    int64_t delay_ms;
    struct err why;
};

/* One try to write the end. 0 with ret_end->fenced, or -1. */
static int write_end(struct unit_core *core, struct job *job, const struct ending *ending,
                     const char *outcome, struct task_end *ret_end, struct err *err)
{
    const struct unit_io *io = core->io;
    char child[96];

    *ret_end = (struct task_end){.file_state = -1};
    switch (ending->end) {
    case UNIT_DONE:
        return io->complete(io->ctx, job->claim, outcome, ret_end, err);
    case UNIT_DEAD:
        snprintf(child, sizeof(child), "{\"signal\":%d,\"maxRss\":%llu,\"end\":\"%s\"}",
                 job->usage.signal, (unsigned long long)job->usage.max_rss,
                 job->usage.reason ? job->usage.reason : "none");
        return io->dead(io->ctx, job->claim, &ending->why, job->usage.reason ? child : NULL,
                        ret_end, err);
    case UNIT_BACK:
        return io->put_back(io->ctx, job->claim, ending->how, ending->delay_ms, &ending->why,
                            job->ext_job_id, &ret_end->fenced, err);
    }
    return err_set(err, ERR_FATAL, "internal", "no such end");
}

/* A try without an answer may have been the end. Asks until there is one; when the grace ends
 * first, the objects are kept: the cleaner removes them if nobody names them. */
static bool was_ours(struct unit_core *core, const struct job *job, struct task_end *ret_end)
{
    const struct unit_io *io = core->io;
    struct err err = ERR_INIT;
    bool ours = true;

    while (io->ended_by(io->ctx, job->claim, &ours, &err) < 0 && err.class == ERR_TRANSIENT) {
        if (atomic_load(&core->grace_over)) {
            return true;
        }
        io->pause_ms(io->ctx, RETRY_MS);
    }
    /* What came next was in the lost answer: wake them all. */
    for (int s = 1; ours && s <= STAGE_MAX; s++) {
        ret_end->wake[s] = true;
    }
    return ours;
}

/* Writes the end until it is written or the lease is lost; true when it is ours. */
static bool persist_end(struct unit_core *core, int slot, struct job *job, struct ending *ending,
                        const char *outcome, struct task_end *ret_end)
{
    bool unsure = false; /* a try had no answer: it may have been the end */

    *ret_end = (struct task_end){.file_state = -1};
    fault_point("complete.before");
    /* A renewal finds no lease after an end that was written unseen: unsure looks behind it. */
    while (!lease_lost(core, slot)) {
        struct err err = ERR_INIT;
        if (write_end(core, job, ending, outcome, ret_end, &err) == 0) {
            if (!ret_end->fenced) {
                fault_point("complete.after_commit");
                return true;
            }
            break;
        }
        if (err.class != ERR_TRANSIENT) {
            /* The outcome itself does not fit the schema: the unit cannot end that way. */
            log_err(LOG_ERROR, "end of unit refused", &err);
            if (ending->end != UNIT_DONE) {
                return false; /* the lease runs out and the sweeper counts a crash */
            }
            *ending = (struct ending){.end = UNIT_DEAD, .why = err};
            continue;
        }
        if (!unsure) {
            log_err(LOG_WARN, "end of unit waits for postgres", &err);
            unsure = true;
        }
        if (atomic_load(&core->grace_over)) {
            break;
        }
        core->io->pause_ms(core->io->ctx, RETRY_MS);
    }
    return unsure && was_ours(core, job, ret_end);
}

static struct ending judge_transient(struct unit_core *core, const struct job *job,
                                     struct ending ending)
{
    const struct task_claim *claim = job->claim;
    bool drain = atomic_load(&core->grace_over);

    ending.how = drain ? TASK_BACK_DRAIN : TASK_BACK_TRANSIENT;
    ending.delay_ms =
        job->retry_after_ms > 0
            ? (job->retry_after_ms < DELAY_MAX_MS ? job->retry_after_ms : DELAY_MAX_MS)
            : unit_backoff_ms(claim->outage_retries, core->io->random01(core->io->ctx));
    if (claim->age_s > TRANSIENT_MAX_AGE_S && !drain) {
        ending.end = UNIT_DEAD;
    }
    return ending;
}

/* From the handler's answer to the unit's fate. */
static struct ending judge(struct unit_core *core, const struct job *job, int r,
                           const struct err *err)
{
    const struct task_claim *claim = job->claim;
    struct ending ending = {.end = UNIT_BACK, .why = *err};
    bool child = strcmp(err->code, "child_crashed") == 0 || strcmp(err->code, "child_timeout") == 0;

    if (r == 0) {
        ending.end = UNIT_DONE;
        return ending;
    }
    if (r == STAGE_WAIT) {
        ending.how = TASK_BACK_WAIT_EXT;
        ending.delay_ms = job->retry_after_ms;
        return ending;
    }
    switch (err->class) {
    case ERR_PERMANENT:
        ending.end = UNIT_DEAD;
        break;
    case ERR_UNKNOWN:
        ending.how = TASK_BACK_UNKNOWN;
        ending.delay_ms = unit_backoff_ms(claim->failures, core->io->random01(core->io->ctx));
        if (claim->failures + 1 >= (child ? CHILD_MAX : UNKNOWN_MAX)) {
            ending.end = UNIT_DEAD;
        }
        break;
    case ERR_FATAL:
        atomic_store(&core->fatal, true);
        ending.how = TASK_BACK_DRAIN;
        break;
    case ERR_NONE:
    case ERR_TRANSIENT:
        return judge_transient(core, job, ending);
    }
    return ending;
}

static void after_end(struct unit_core *core, const struct job *job, const struct ending *ending,
                      const struct task_end *end)
{
    static const char *const classes[] = {"transient", "unknown", "drain", "waiting"};
    const struct unit_io *io = core->io;
    char labels[80];

    for (int s = 1; s <= STAGE_MAX; s++) {
        if (end->wake[s]) {
            io->notify(io->ctx, s, job->claim->user_id);
        }
    }
    if (ending->end == UNIT_BACK) {
        snprintf(labels, sizeof(labels), "%s,class=\"%s\"", core->label, classes[ending->how]);
        metrics_inc("docfleet_retries_total", labels);
        if (ending->how == TASK_BACK_DRAIN) {
            io->notify(io->ctx, job->claim->key.stage, job->claim->user_id);
        }
    } else if (end->stage_over || ending->end == UNIT_DEAD) {
        snprintf(labels, sizeof(labels), "%s,outcome=\"%s\"", core->label,
                 ending->end == UNIT_DEAD    ? "failed"
                 : outcome_skipped(job->out) ? "skipped"
                                             : "done");
        metrics_inc("docfleet_files_total", labels);
    }
    io->notify_events(io->ctx);
}

/* What the unit's span says of its end. */
static void trace_unit_end(struct trace_span *span, const struct ending *ending)
{
    static const char *const ends[] = {"done", "dead", "put back"};

    trace_attr_text(span, "docfleet.outcome", ends[ending->end]);
    if (ending->end != UNIT_DONE && ending->why.class != ERR_NONE) {
        trace_attr_text(span, "docfleet.error_class", err_class_name(ending->why.class));
        trace_fail(span, ending->why.code);
    }
}

static void tell_end(const struct ending *ending)
{
    static const char *const ends[] = {"done", "dead", "put back"};

    if (ending->end == UNIT_DONE) {
        log_debug("unit done");
        return;
    }
    log_write(ending->end == UNIT_DEAD ? LOG_WARN : LOG_INFO, "unit did not end well",
              kv_str("end", ends[ending->end]), kv_str("class", err_class_name(ending->why.class)),
              kv_str("code", ending->why.code), kv_str("reason", ending->why.msg),
              kv_i64("delayMs", ending->delay_ms), KV_END);
}

static void finish_unit(struct unit_core *core, int slot, struct job *job, struct ending ending)
{
    CLEANUP(free_cleanup) char *outcome = NULL;
    struct task_end end;

    if (ending.end == UNIT_DONE && !(outcome = outcome_dump(job->out))) {
        ending = (struct ending){.end = UNIT_BACK, .how = TASK_BACK_TRANSIENT, .delay_ms = 2000};
        err_nomem(&ending.why);
    }
    struct trace_span span;
    trace_begin(&span, "end of unit", TRACE_CLIENT);
    bool ours = persist_end(core, slot, job, &ending, outcome, &end);
    trace_end(&span);
    trace_unit_end(job->span, &ending);
    core->io->end_puts(core->io->ctx, STEAL(job->puts), ours && ending.end == UNIT_DONE);
    if (!ours) {
        metrics_inc("docfleet_leases_lost_total", core->label);
        trace_fail(job->span, "lease_lost");
        log_warn("unit dropped, its lease was lost");
        return;
    }
    after_end(core, job, &ending, &end);
    tell_end(&ending);
}

/* The handler, alone where the unit has brought its process down before. *ret_begun false: it was
 * not called. */
static int handle(struct unit_core *core, struct job *job, bool *ret_begun, struct err *err)
{
    const struct task_claim *claim = job->claim;
    bool alone = claim->attempts - 1 - claim->failures - claim->refunds >= CRASHES_ALONE;
    int r = -1;

    *ret_begun = !atomic_load(&core->stopping) && (!alone || unit_alone_begin(core, job));
    if (!*ret_begun) {
        return err_set(err, ERR_TRANSIENT, "not_begun", "the worker ends");
    }
    if (alone) {
        log_warn("unit runs alone, it may have ended its process before");
    }
    if (job->puts && outcome_new(claim->version, &job->out, err) == 0) {
        fault_point("work.begin");
        r = core->stage->handle(job, err);
        fault_point("work.end");
    } else {
        err_nomem(err);
    }
    if (alone) {
        unit_alone_end(core);
    }
    return r;
}

static void run_claimed(struct unit_core *core, int slot, const struct task_claim *claim,
                        struct trace_span *span)
{
    const struct unit_io *io = core->io;
    struct err err = ERR_INIT;
    struct job job = {.ctx = core->ctx, .claim = claim, .puts = job_puts_new(), .span = span};
    uint64_t start = io->now_ms(io->ctx);
    bool begun = false;

    fault_point("claim.after_commit");
    io->notify_events(io->ctx);
    set_running(core, slot, &job);
    metrics_add("docfleet_inflight", core->label, 1);
    int r = handle(core, &job, &begun, &err);
    finish_unit(core, slot, &job,
                begun ? judge(core, &job, r, &err)
                      : (struct ending){.end = UNIT_BACK, .how = TASK_BACK_DRAIN, .why = err});
    set_running(core, slot, NULL);
    metrics_add("docfleet_inflight", core->label, -1);
    metrics_observe("docfleet_stage_duration_seconds", core->label,
                    (double)(io->now_ms(io->ctx) - start) / 1e3);
    outcome_free(job.out);
    free(job.ext_job_id);
}

/* The id of an attempt's span can be told from its token: so the next attempt can name it, also
 * where it was lost with its worker. */
static void attempt_id(struct trace_ctx *ctx, const struct task_claim *claim, int64_t token)
{
    char text[128];

    snprintf(text, sizeof(text), "%s/%d/%d/%d/%" PRId64, claim->key.file_id, claim->key.stage,
             claim->key.unit, claim->key.generation, token);
    trace_derive(ctx, text);
}

/* The unit's span, below the waiting in the queue, or below what made the task. */
static void open_unit_span(struct trace_span *span, const struct work_item *item,
                           const struct task_claim *claim, uint64_t began_ns)
{
    struct trace_ctx parent = {.valid = false};
    struct trace_ctx before;
    char name[32];

    if (!trace_parse(item->traceparent, &parent) && claim->traceparent) {
        (void)trace_parse(claim->traceparent, &parent);
    }
    snprintf(name, sizeof(name), "unit %s", stage_name(claim->key.stage));
    trace_open(span, name, TRACE_CONSUMER, &parent);
    if (!span->live) {
        return;
    }
    attempt_id(&span->ctx, claim, claim->token);
    span->start_ns = began_ns ? began_ns : span->start_ns;
    trace_attr_text(span, "docfleet.file_id", claim->key.file_id);
    trace_attr_text(span, "docfleet.stage", stage_name(claim->key.stage));
    trace_attr_i64(span, "docfleet.unit", claim->key.unit);
    trace_attr_i64(span, "docfleet.generation", claim->key.generation);
    trace_attr_i64(span, "docfleet.attempt", claim->attempts);
    trace_attr_text(span, "messaging.system", "kafka");
    trace_attr_text(span, "messaging.destination.name", stage_topic(claim->key.stage));
    trace_attr_i64(span, "messaging.kafka.offset", item->offset);
    if (claim->token > 1) {
        before = span->ctx;
        attempt_id(&before, claim, claim->token - 1);
        trace_link(span, &before);
    }
}

/* What every line of the unit says beside file, stage and unit. */
static void log_claim(const struct task_claim *claim, const struct trace_ctx *ctx)
{
    char text[33];

    snprintf(text, sizeof(text), "%d", claim->attempts);
    log_context_set("attempt", text);
    if (claim->batch_id[0]) {
        log_context_set("batch", claim->batch_id);
    }
    trace_id_text(ctx, text);
    if (text[0]) {
        log_context_set("trace", text);
    }
}

static void run_traced(struct unit_core *core, int slot, const struct work_item *item,
                       const struct task_claim *claim, uint64_t began_ns)
{
    struct trace_span unit, span;

    open_unit_span(&unit, item, claim, began_ns);
    log_claim(claim, &unit.ctx);
    struct trace_ctx outer = trace_switch(&unit.ctx);
    trace_begin(&span, "claim", TRACE_CLIENT);
    if (span.live) {
        span.start_ns = began_ns ? began_ns : span.start_ns;
    }
    trace_end(&span);
    run_claimed(core, slot, claim, &unit);
    trace_switch(&outer);
    trace_close(&unit);
}

void unit_run(struct unit_core *core, int slot, const struct work_item *item)
{
    uint64_t began_ns = trace_on() ? trace_now_ns() : 0;
    const struct unit_io *io = core->io;
    struct task_claim claim = {0};
    char unit[16];

    log_context_set("file", item->order.key.file_id);
    log_context_set("stage", stage_name(item->order.key.stage));
    snprintf(unit, sizeof(unit), "%d", item->order.key.unit);
    log_context_set("unit", unit);
    if (claim_item(core, slot, item, &claim)) {
        if (item->order.sent_ms > 0) {
            int64_t hop = io->wall_ms(io->ctx) - item->order.sent_ms;
            metrics_observe("docfleet_stage_hop_seconds", core->label,
                            hop > 0 ? (double)hop / 1000 : 0);
        }
        run_traced(core, slot, item, &claim, began_ns);
        task_claim_done(&claim);
    }
    log_context_clear();
}
