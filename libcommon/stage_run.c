/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One unit in one slot: claim, handle, end. The class of the handler's error decides what the end
 * is. A statement whose answer was lost is asked again until the lease itself is lost.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "libcommon/fault.h"
#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "libcommon/stage_intern.h"

#define UNKNOWN_MAX 5
#define CHILD_MAX 3
#define TRANSIENT_MAX_AGE_S (24 * 3600)
#define RETRY_MS 500U

static void pause_ms(unsigned ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000L};

    nanosleep(&ts, NULL);
}

/* Claims until Postgres answers; false when there is nothing to run. */
static bool claim_item(struct worker *worker, const struct work_item *item,
                       struct task_claim *ret_claim)
{
    bool told = false;

    fault_point("claim.before");
    while (!atomic_load(&worker->service.stopping)) {
        struct err err = ERR_INIT;
        int r = task_claim(worker->service.db, &item->order.key, item->order.dispatch_seq,
                           worker->service.id, worker->service.core.lease_ms, ret_claim, &err);
        if (r >= 0) {
            stage_queue_settle(worker->queue, item->partition, item->offset);
            if (r == 0) {
                metrics_inc("docfleet_claims_stale_total", worker->label);
            }
            return r > 0;
        }
        if (err.class != ERR_TRANSIENT) {
            /* The sweeper sends the order again; a row that cannot be claimed must not block. */
            log_err(LOG_ERROR, "claim failed", &err);
            stage_queue_settle(worker->queue, item->partition, item->offset);
            return false;
        }
        if (!told) {
            log_err(LOG_WARN, "claim waits for postgres", &err);
            told = true;
        }
        pause_ms(RETRY_MS);
    }
    return false; /* the sweeper finds it */
}

static void set_running(struct worker *worker, int slot, struct job *job)
{
    pthread_mutex_lock(&worker->lock);
    struct running *running = &worker->running[slot];
    if (job) {
        *running = (struct running){
            .active = true, .key = job->claim->key, .token = job->claim->token, .job = job};
    } else {
        running->active = false;
        running->job = NULL;
    }
    pthread_mutex_unlock(&worker->lock);
}

static bool lease_lost(struct worker *worker, int slot)
{
    pthread_mutex_lock(&worker->lock);
    bool lost = worker->running[slot].lost;
    pthread_mutex_unlock(&worker->lock);
    return lost;
}

enum unit_end { UNIT_DONE, UNIT_DEAD, UNIT_BACK };

struct ending {
    enum unit_end end;
    enum task_back how; /* of UNIT_BACK */
    int64_t delay_ms;
    struct err why;
};

/* One try to write the end. 0 with *ret_fenced, or -1. */
static int write_end(struct worker *worker, struct job *job, const struct ending *ending,
                     const char *outcome, struct task_end *ret_end, struct err *err)
{
    char child[96];

    *ret_end = (struct task_end){.file_state = -1};
    switch (ending->end) {
    case UNIT_DONE:
        return task_complete(worker->service.db, job->claim, outcome, ret_end, err);
    case UNIT_DEAD:
        snprintf(child, sizeof(child), "{\"signal\":%d,\"maxRss\":%llu,\"end\":\"%s\"}",
                 job->usage.signal, (unsigned long long)job->usage.max_rss,
                 job->usage.reason ? job->usage.reason : "none");
        return task_dead(worker->service.db, job->claim, &ending->why,
                         job->usage.reason ? child : NULL, ret_end, err);
    case UNIT_BACK:
        return task_put_back(worker->service.db, job->claim, ending->how, ending->delay_ms,
                             &ending->why, job->ext_job_id, &ret_end->fenced, err);
    }
    return err_set(err, ERR_FATAL, "internal", "no such end");
}

/* Writes the end until it is written or the lease is lost; true when it is ours. */
static bool persist_end(struct worker *worker, int slot, struct job *job, struct ending *ending,
                        const char *outcome, struct task_end *ret_end)
{
    bool unsure = false, told = false;

    fault_point("complete.before");
    while (!lease_lost(worker, slot)) {
        struct err err = ERR_INIT;
        if (write_end(worker, job, ending, outcome, ret_end, &err) == 0) {
            bool ours = !ret_end->fenced;
            if (!ours && unsure && task_ended_by(worker->service.db, job->claim, &ours, &err) < 0) {
                ours = true; /* keep the objects: the cleaner removes them if nobody names them */
            }
            fault_point("complete.after_commit");
            return ours;
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
        unsure = true;
        if (!told) {
            log_err(LOG_WARN, "end of unit waits for postgres", &err);
            told = true;
        }
        if (atomic_load(&worker->grace_over)) {
            return false;
        }
        pause_ms(RETRY_MS);
    }
    return false;
}

/* From the handler's answer to the unit's fate. */
static struct ending judge(struct worker *worker, struct job *job, int r, const struct err *err)
{
    const struct task_claim *claim = job->claim;
    struct ending ending = {.why = *err};
    bool child = strcmp(err->code, "child_crashed") == 0 || strcmp(err->code, "child_timeout") == 0;

    if (r == 0) {
        ending.end = UNIT_DONE;
        return ending;
    }
    ending.end = UNIT_BACK;
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
        ending.delay_ms = task_backoff_ms(claim->failures);
        if (claim->failures + 1 >= (child ? CHILD_MAX : UNKNOWN_MAX)) {
            ending.end = UNIT_DEAD;
        }
        break;
    case ERR_FATAL:
        atomic_store(&worker->fatal, true);
        ending.how = TASK_BACK_DRAIN;
        break;
    case ERR_NONE:
    case ERR_TRANSIENT:
        ending.how = atomic_load(&worker->grace_over) ? TASK_BACK_DRAIN : TASK_BACK_TRANSIENT;
        ending.delay_ms =
            job->retry_after_ms > 0 ? job->retry_after_ms : task_backoff_ms(claim->refunds);
        if (claim->age_s > TRANSIENT_MAX_AGE_S && !atomic_load(&worker->grace_over)) {
            ending.end = UNIT_DEAD;
        }
        break;
    }
    return ending;
}

static void after_end(struct worker *worker, const struct job *job, const struct ending *ending,
                      const struct task_end *end)
{
    static const char *const classes[] = {"transient", "unknown", "drain", "waiting"};
    char labels[80];

    for (int s = 1; s <= STAGE_MAX; s++) {
        if (end->wake[s]) {
            notify_stage(worker->service.notifier, s, job->claim->user_id);
        }
    }
    if (ending->end == UNIT_BACK) {
        snprintf(labels, sizeof(labels), "%s,class=\"%s\"", worker->label, classes[ending->how]);
        metrics_inc("docfleet_retries_total", labels);
        if (ending->how == TASK_BACK_DRAIN) {
            notify_stage(worker->service.notifier, job->claim->key.stage, job->claim->user_id);
        }
    } else if (end->stage_over || ending->end == UNIT_DEAD) {
        snprintf(labels, sizeof(labels), "%s,outcome=\"%s\"", worker->label,
                 ending->end == UNIT_DEAD ? "failed" : "done");
        metrics_inc("docfleet_files_total", labels);
    }
    notify_events(worker->service.notifier);
}

static void finish_unit(struct worker *worker, int slot, struct job *job, int r,
                        const struct err *handle_err)
{
    static const char *const ends[] = {"done", "dead", "put back"};
    CLEANUP(free_cleanup) char *outcome = NULL;
    struct ending ending = judge(worker, job, r, handle_err);
    struct task_end end;

    if (ending.end == UNIT_DONE && !(outcome = outcome_dump(job->out))) {
        ending = (struct ending){.end = UNIT_BACK, .how = TASK_BACK_TRANSIENT, .delay_ms = 2000};
        err_nomem(&ending.why);
    }
    bool ours = persist_end(worker, slot, job, &ending, outcome, &end);
    job_puts_free(job->puts, worker->service.store, ours && ending.end == UNIT_DONE);
    job->puts = NULL;
    if (!ours) {
        metrics_inc("docfleet_leases_lost_total", worker->label);
        log_warn("unit dropped, its lease was lost");
        return;
    }
    after_end(worker, job, &ending, &end);
    if (ending.end == UNIT_DONE) {
        log_debug("unit done", kv_i64("attempt", job->claim->attempts));
    } else {
        log_write(
            ending.end == UNIT_DEAD ? LOG_WARN : LOG_INFO, "unit did not end well",
            kv_str("end", ends[ending.end]), kv_str("class", err_class_name(ending.why.class)),
            kv_str("code", ending.why.code), kv_str("reason", ending.why.msg),
            kv_i64("attempt", job->claim->attempts), kv_i64("delayMs", ending.delay_ms), KV_END);
    }
}

static void run_claimed(struct worker *worker, int slot, struct task_claim *claim)
{
    struct err err = ERR_INIT;
    struct job job = {.ctx = &worker->ctx, .claim = claim, .puts = job_puts_new()};
    uint64_t start = clock_mono_us();
    int r = -1;

    fault_point("claim.after_commit");
    notify_events(worker->service.notifier);
    set_running(worker, slot, &job);
    metrics_add("docfleet_inflight", worker->label, 1);
    if (!job.puts || outcome_new(claim->version, &job.out, &err) < 0) {
        err_nomem(&err);
    } else {
        fault_point("work.begin");
        r = worker->stage->handle(&job, &err);
        fault_point("work.end");
    }
    finish_unit(worker, slot, &job, r, &err);
    set_running(worker, slot, NULL);
    metrics_add("docfleet_inflight", worker->label, -1);
    metrics_observe("docfleet_stage_duration_seconds", worker->label,
                    (double)(clock_mono_us() - start) / 1e6);
    outcome_free(job.out);
    free(job.ext_job_id);
}

void worker_run(struct worker *worker, int slot, const struct work_item *item)
{
    struct task_claim claim = {0};
    char unit[16];

    log_context_set("file", item->order.key.file_id);
    log_context_set("stage", stage_name(item->order.key.stage));
    snprintf(unit, sizeof(unit), "%d", item->order.key.unit);
    log_context_set("unit", unit);
    if (claim_item(worker, item, &claim)) {
        if (item->order.sent_ms > 0) {
            int64_t hop = clock_wall_ms() - item->order.sent_ms;
            metrics_observe("docfleet_stage_hop_seconds", worker->label,
                            hop > 0 ? (double)hop / 1000 : 0);
        }
        run_claimed(worker, slot, &claim);
        task_claim_done(&claim);
    }
    log_context_clear();
}
