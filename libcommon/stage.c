/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads of a worker: one polls and never works, C slots each supervise one unit, one keeper
 * renews leases, commits offsets and says that the worker lives. main waits for the signal.
 *
 * Drain: stop polling, hand back what nobody claimed (under a second), leave the group, let running
 * units finish within the grace, put the rest back with their attempt refunded.
 */
#include "libcommon/stage.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "libcommon/fault.h"
#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "libcommon/stage_intern.h"

#define POLL_MS 100
#define HEARTBEAT_MS 2000U
#define COMMIT_MS 1000U
#define KEEPER_MS 200U
#define WORKER_STATEMENT_MS 15000U

/* Polling ---------------------------------------------------------------------------------------*/

static void on_rebalance(void *arg, bool assigned, const int32_t *partitions, size_t n)
{
    struct worker *worker = arg;

    for (size_t i = 0; i < n && !assigned; i++) {
        stage_queue_revoke(worker->queue, partitions[i]);
    }
    log_info(assigned ? "partitions assigned" : "partitions revoked", kv_u64("n", n));
}

static void take_record(struct worker *worker, const struct bus_record *record)
{
    struct work_item item = {.partition = record->partition, .offset = record->offset};
    struct err err = ERR_INIT;
    static uint64_t last_told;

    if (event_decode_work(record->value, record->len, record->key, record->key_len, &item.order,
                          &err) < 0 ||
        item.order.key.stage != (int)worker->stage->id) {
        stage_queue_skip(worker->queue, record->partition, record->offset);
        metrics_inc("docfleet_records_skipped_total", worker->label);
        if (clock_mono_ms() - last_told > 60000 || last_told == 0) {
            last_told = clock_mono_ms();
            log_err(LOG_WARN, "record skipped", &err);
        }
        return;
    }
    snprintf(item.traceparent, sizeof(item.traceparent), "%s", record->traceparent);
    if (stage_queue_push(worker->queue, &item, &err) < 0) {
        log_err(LOG_WARN, "work order dropped, the sweeper sends it again", &err);
        stage_queue_skip(worker->queue, record->partition, record->offset);
    }
}

static void *poll_loop(void *arg)
{
    struct worker *worker = arg;
    size_t high = (size_t)worker->slots * 2 + 4, low = (size_t)worker->slots;
    uint64_t last_told = 0;

    while (!atomic_load(&worker->service.stopping)) {
        struct bus_record record = {0};
        struct err err = ERR_INIT;
        size_t n = stage_queue_len(worker->queue);
        if (n >= high) {
            bus_pause(worker->consumer, true);
        } else if (n <= low) {
            bus_pause(worker->consumer, false);
        }
        int r = bus_poll(worker->consumer, POLL_MS, &record, &err);
        if (r > 0) {
            take_record(worker, &record);
            bus_record_done(&record);
        } else if (r < 0 && err.class == ERR_FATAL) {
            log_err(LOG_ERROR, "kafka client is dead", &err);
            atomic_store(&worker->fatal, true);
            break;
        } else if (r < 0 && clock_mono_ms() - last_told > 10000) {
            last_told = clock_mono_ms();
            log_err(LOG_WARN, "kafka trouble, polling on", &err);
        }
    }
    return NULL;
}

/* Slots -----------------------------------------------------------------------------------------*/

struct slot_arg {
    struct worker *worker;
    int slot;
};

static void *slot_loop(void *arg)
{
    struct slot_arg *slot = arg;
    struct worker *worker = slot->worker;
    struct work_item item;

    while (!atomic_load(&worker->service.stopping) && !atomic_load(&worker->fatal)) {
        if (stage_queue_pop(worker->queue, 500, &item)) {
            worker_run(worker, slot->slot, &item);
        }
    }
    return NULL;
}

/* Keeper ----------------------------------------------------------------------------------------*/

static int snapshot_running(struct worker *worker, struct task_key *keys, int64_t *tokens,
                            int *slots)
{
    int n = 0;

    pthread_mutex_lock(&worker->lock);
    for (int i = 0; i < worker->slots; i++) {
        if (worker->running[i].active && !worker->running[i].lost) {
            keys[n] = worker->running[i].key;
            tokens[n] = worker->running[i].token;
            slots[n++] = i;
        }
    }
    pthread_mutex_unlock(&worker->lock);
    return n;
}

/* True when it was done (nothing to do counts). A lease that could not be renewed in time is not
 * lost yet: renewal goes by token, and only the database's answer says that it is gone. */
static bool renew(struct worker *worker)
{
    struct task_key keys[STAGE_SLOTS_MAX];
    int64_t tokens[STAGE_SLOTS_MAX];
    int slots[STAGE_SLOTS_MAX];
    bool lost[STAGE_SLOTS_MAX];
    struct err err = ERR_INIT;
    int n = snapshot_running(worker, keys, tokens, slots);

    if (n == 0) {
        return true;
    }
    if (task_renew(worker->service.db, keys, tokens, (size_t)n, worker->service.core.lease_ms, lost,
                   &err) < 0) {
        log_err(LOG_WARN, "leases not renewed, trying again", &err);
        return false;
    }
    pthread_mutex_lock(&worker->lock);
    for (int i = 0; i < n; i++) {
        struct running *running = &worker->running[slots[i]];
        if (lost[i] && running->active && running->token == tokens[i] &&
            strcmp(running->key.file_id, keys[i].file_id) == 0) {
            running->lost = true;
            atomic_store(&running->job->cancel, true);
        }
    }
    pthread_mutex_unlock(&worker->lock);
    return true;
}

static void heartbeat(struct worker *worker)
{
    char partitions[1024] = "{";
    int32_t parts[128];
    struct err err = ERR_INIT;
    struct task_key keys[STAGE_SLOTS_MAX];
    int64_t tokens[STAGE_SLOTS_MAX];
    int slots[STAGE_SLOTS_MAX];
    size_t len = 1, n = bus_assigned(worker->consumer, parts, ARRAY_LEN(parts));

    for (size_t i = 0; i < n && len < sizeof(partitions) - 16; i++) {
        len += (size_t)snprintf(partitions + len, sizeof(partitions) - len, "%s%d", i ? "," : "",
                                (int)parts[i]);
    }
    snprintf(partitions + len, sizeof(partitions) - len, "}");
    if (task_heartbeat(worker->service.db, worker->service.id, (int)worker->stage->id,
                       worker->slots, snapshot_running(worker, keys, tokens, slots), partitions,
                       &err) < 0) {
        log_err(LOG_DEBUG, "no heartbeat", &err);
    }
}

static void commit_offsets(struct worker *worker)
{
    int32_t parts[256];
    size_t n = bus_assigned(worker->consumer, parts, ARRAY_LEN(parts));
    bool any = false;

    for (size_t i = 0; i < n; i++) {
        int64_t at = stage_queue_commit(worker->queue, parts[i]);
        if (at >= 0) {
            bus_store_offset(worker->consumer, parts[i], at);
            any = true;
        }
    }
    if (any) {
        fault_point("commit.before");
        bus_commit(worker->consumer);
    }
}

struct keeper {
    struct worker *worker;
    atomic_bool stop;
};

static void *keeper_loop(void *arg)
{
    struct keeper *keeper = arg;
    struct worker *worker = keeper->worker;
    uint64_t renew_at = 0, beat_at = 0, commit_at = 0, tick_at = 0;

    while (!atomic_load(&keeper->stop)) {
        uint64_t now = clock_mono_ms();
        if (now >= beat_at && !atomic_load(&worker->service.stopping)) {
            heartbeat(worker);
            beat_at = now + HEARTBEAT_MS;
        }
        if (now >= renew_at) {
            renew_at = now + (renew(worker) ? (uint64_t)worker->service.core.lease_ms / 3 : 500);
        }
        if (now >= commit_at && !atomic_load(&worker->service.stopping)) {
            commit_offsets(worker);
            commit_at = now + COMMIT_MS;
        }
        if (worker->stage->tick && now >= tick_at && !atomic_load(&worker->service.stopping)) {
            struct err err = ERR_INIT;
            if (worker->stage->tick(&worker->ctx, &err) < 0) {
                log_err(LOG_WARN, "periodic work failed", &err);
            }
            tick_at = now + worker->stage->tick_ms;
        }
        struct timespec ts = {.tv_nsec = KEEPER_MS * 1000000L};
        nanosleep(&ts, NULL);
    }
    return NULL;
}

/* Start and drain -------------------------------------------------------------------------------*/

static void hand_back(struct worker *worker)
{
    struct work_item *items = calloc(STAGE_QUEUE_MAX, sizeof(*items));
    struct task_key keys[64];
    int seqs[64];
    struct err err = ERR_INIT;

    if (!items) {
        return;
    }
    size_t n = stage_queue_close(worker->queue, items, STAGE_QUEUE_MAX);
    for (size_t i = 0; i < n; i += ARRAY_LEN(keys)) {
        size_t k = min_size(n - i, ARRAY_LEN(keys));
        for (size_t j = 0; j < k; j++) {
            keys[j] = items[i + j].order.key;
            seqs[j] = items[i + j].order.dispatch_seq;
        }
        if (task_hand_back(worker->service.db, keys, seqs, k, &err) < 0) {
            log_err(LOG_WARN, "work not handed back, the sweeper will", &err);
            break;
        }
        for (size_t j = 0; j < k; j++) {
            notify_stage(worker->service.notifier, (int)worker->stage->id,
                         items[i + j].order.user_id);
        }
    }
    if (n > 0) {
        log_info("unclaimed work handed back", kv_u64("n", n));
    }
    free(items);
}

static bool any_running(struct worker *worker)
{
    bool any = false;

    pthread_mutex_lock(&worker->lock);
    for (int i = 0; i < worker->slots; i++) {
        any = any || worker->running[i].active;
    }
    pthread_mutex_unlock(&worker->lock);
    return any;
}

static void wait_running(struct worker *worker)
{
    uint64_t until = clock_mono_ms() + (uint64_t)worker->service.core.drain_grace_ms;
    struct timespec ts = {.tv_nsec = 20000000L};

    while (any_running(worker) && clock_mono_ms() < until) {
        nanosleep(&ts, NULL);
    }
    if (!any_running(worker)) {
        return;
    }
    log_warn("grace is over, running units are put back");
    atomic_store(&worker->grace_over, true);
    atomic_store(&worker->service.store_abort, true);
    pthread_mutex_lock(&worker->lock);
    for (int i = 0; i < worker->slots; i++) {
        if (worker->running[i].active) {
            atomic_store(&worker->running[i].job->cancel, true);
        }
    }
    pthread_mutex_unlock(&worker->lock);
}

static int check_kafka(void *arg, struct err *err)
{
    return bus_consumer_ping(arg, err);
}

static int serve(struct worker *worker, struct err *err)
{
    struct keeper keeper = {.worker = worker};
    pthread_t poller, keeper_thread, slots[STAGE_SLOTS_MAX] = {0};
    struct slot_arg args[STAGE_SLOTS_MAX];
    const struct health_dep kafka = {"kafka", true, check_kafka, worker->consumer};

    if (service_probes(&worker->service, worker->stage->store_required, &kafka, 1, err) < 0) {
        return -1;
    }
    pthread_create(&poller, NULL, poll_loop, worker);
    pthread_create(&keeper_thread, NULL, keeper_loop, &keeper);
    for (int i = 0; i < worker->slots; i++) {
        args[i] = (struct slot_arg){.worker = worker, .slot = i};
        pthread_create(&slots[i], NULL, slot_loop, &args[i]);
    }
    log_info("ready", kv_i64("slots", worker->slots), kv_str("worker", worker->service.id));
    while (!service_wait(&worker->service, 500) && !atomic_load(&worker->fatal)) {
    }
    atomic_store(&worker->service.stopping, true);
    log_info("draining");
    hand_back(worker);
    pthread_join(poller, NULL);
    wait_running(worker);
    for (int i = 0; i < worker->slots; i++) {
        pthread_join(slots[i], NULL);
    }
    atomic_store(&keeper.stop, true);
    pthread_join(keeper_thread, NULL);
    commit_offsets(worker);
    /* The probes ask the consumer: they end before it does. */
    health_stop(worker->service.health);
    worker->service.health = NULL;
    bus_consumer_free(worker->consumer);
    worker->consumer = NULL;
    struct err bye = ERR_INIT;
    if (task_goodbye(worker->service.db, worker->service.id, &bye) < 0) {
        log_err(LOG_WARN, "worker row stays until it is stale", &bye);
    }
    return atomic_load(&worker->fatal)
               ? err_set(err, ERR_FATAL, "fatal", "a fatal error ended the worker")
               : 0;
}

static int start_jail(struct worker *worker, const char *program, const struct jail_limits *limits,
                      struct jail **ret_jail, struct err *err)
{
    char path[512];
    const char *dir = worker->service.core.zygote_dir;

    snprintf(path, sizeof(path), "%s%s%s", dir, *dir ? "/" : "", program);
    if (jail_start(path, limits, ret_jail, err) < 0) {
        return err_wrap(err, "starting %s", program);
    }
    metrics_set("docfleet_jail_degraded", worker->label, jail_degraded(*ret_jail) ? 1 : 0);
    return 0;
}

static int open_worker(struct worker *worker, struct err *err)
{
    const struct stage *stage = worker->stage;
    char group[48];

    worker->slots = service_slots(&worker->service);
    if (worker->slots > STAGE_SLOTS_MAX) {
        worker->slots = STAGE_SLOTS_MAX;
    }
    pthread_mutex_init(&worker->lock, NULL);
    snprintf(worker->label, sizeof(worker->label), "stage=\"%s\"", stage_name((int)stage->id));
    worker->service.generic_plans = true;
    /* Before any thread: the zygotes. */
    if ((stage->zygote &&
         start_jail(worker, stage->zygote, &stage->limits, &worker->ctx.jail, err) < 0) ||
        (stage->zygote2 &&
         start_jail(worker, stage->zygote2, &stage->limits2, &worker->ctx.jail2, err) < 0) ||
        service_connect(&worker->service, (unsigned)worker->slots + 2, WORKER_STATEMENT_MS, err) <
            0 ||
        stage_queue_new(&worker->queue, err) < 0) {
        return -1;
    }
    worker->ctx.service = &worker->service;
    worker->ctx.options = stage->options_target;
    if (stage->setup && stage->setup(&worker->ctx, err) < 0) {
        return -1;
    }
    snprintf(group, sizeof(group), "docfleet.%s", stage_name((int)stage->id));
    return bus_consumer_open(worker->service.core.kafka_brokers, group, stage_topic((int)stage->id),
                             worker->service.id, worker->service.core.kafka_session_ms,
                             on_rebalance, worker, &worker->consumer, err);
}

int stage_main(int argc, char **argv, const struct stage *stage)
{
    static struct worker worker; /* outlives every thread */
    struct option_table own = {stage->options, stage->n_options, stage->options_target};
    enum config_action action;
    struct err err = ERR_INIT;

    worker.stage = stage;
    int r = service_begin(&worker.service, stage->service, argc, argv, stage->options ? &own : NULL,
                          &action, &err);
    if (r == 0 && action == CONFIG_EXIT) {
        return 0;
    }
    if (r == 0) {
        r = open_worker(&worker, &err) < 0 || serve(&worker, &err) < 0 ? -1 : 0;
    }
    if (r < 0) {
        log_err(LOG_ERROR, "ending", &err);
    }
    if (stage->teardown && worker.ctx.service) {
        stage->teardown(&worker.ctx);
    }
    bus_consumer_free(worker.consumer);
    jail_free(worker.ctx.jail);
    jail_free(worker.ctx.jail2);
    stage_queue_free(worker.queue);
    service_end(&worker.service);
    log_info("ended");
    return r < 0 ? 1 : 0;
}
