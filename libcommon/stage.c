/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads of a worker around its core (unit_core.h): one polls and never works, C slots each
 * supervise one unit, one keeper renews leases, commits offsets and says that the worker lives.
 * main waits for the signal.
 *
 * Drain: nothing is claimed any more; what nobody claimed goes back within a second, also records
 * that Kafka had delivered already; the group is left at once; running units finish within the
 * grace; the rest is put back with their attempt refunded.
 */
#include "libcommon/stage.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "libcommon/stage_intern.h"

#define POLL_MS 100
#define LAST_POLL_MS 20    /* of the drain */
#define LAST_POLLS_MS 150U /* all of them */
#define BREAKER_LOOK_MS 500U
#define SHUT_BEFORE_PAUSE_MS 300U
#define KEEPER_MS 100U
#define LOOP_LIMIT_MS 180000U /* far beyond what the time limits of their calls add up to */
#define DEAF_MS 5000          /* for units to notice that the grace is over */
#define WORKER_STATEMENT_MS 15000U

/* Polling ---------------------------------------------------------------------------------------*/

static void on_rebalance(void *arg, bool assigned, const int32_t *partitions, size_t n)
{
    struct worker *worker = arg;

    if (!assigned) {
        unit_core_revoke(&worker->core, partitions, n);
    }
    log_info(assigned ? "partitions assigned" : "partitions revoked", kv_u64("n", n));
}

/* 1: a record was taken in; 0: none; -1: the client is dead. */
static int poll_once(struct worker *worker, int timeout_ms)
{
    struct bus_record record = {0};
    struct err err = ERR_INIT;
    static uint64_t last_told;

    int r = bus_poll(worker->consumer, timeout_ms, &record, &err);
    if (r > 0) {
        unit_core_take(&worker->core, record.value, record.len, record.key, record.key_len,
                       record.partition, record.offset, record.traceparent);
        bus_record_done(&record);
        return 1;
    }
    if (r < 0 && err.class == ERR_FATAL) {
        log_err(LOG_ERROR, "kafka client is dead", &err);
        atomic_store(&worker->kafka_dead, true);
        return -1;
    }
    if (r < 0 && clock_mono_ms() - last_told > 10000) {
        last_told = clock_mono_ms();
        log_err(LOG_WARN, "kafka trouble, polling on", &err);
    }
    return 0;
}

/* A pause throws away what was fetched ahead: while the intake is shut, polling goes on for a
 * moment first, so that the keeper can hand those orders back. */
static bool should_pause(struct worker *worker, uint64_t *shut_since)
{
    switch (unit_core_intake(&worker->core)) {
    case UNIT_INTAKE_SHUT:
        *shut_since = *shut_since ? *shut_since : clock_mono_ms();
        return clock_mono_ms() - *shut_since >= SHUT_BEFORE_PAUSE_MS;
    case UNIT_INTAKE_FULL:
        *shut_since = 0;
        return true;
    case UNIT_INTAKE_OPEN:
        break;
    }
    *shut_since = 0;
    return false;
}

static void *poll_loop(void *arg)
{
    struct worker *worker = arg;
    int pulse = health_pulse(worker->service.health, "the loop that polls kafka", LOOP_LIMIT_MS);
    uint64_t shut_since = 0;

    while (!atomic_load(&worker->service.stopping)) {
        health_beat(worker->service.health, pulse);
        bus_pause(worker->consumer, should_pause(worker, &shut_since));
        if (poll_once(worker, POLL_MS) < 0) {
            return NULL;
        }
    }
    /* What was delivered before the end would wait for the next owner to come to it. */
    for (uint64_t until = clock_mono_ms() + LAST_POLLS_MS; clock_mono_ms() < until;) {
        if (poll_once(worker, LAST_POLL_MS) <= 0) {
            break;
        }
    }
    unit_core_hand_back(&worker->core);
    unit_core_commit(&worker->core);
    bus_consumer_leave(worker->consumer);
    return NULL;
}

/* Slots and keeper ------------------------------------------------------------------------------*/

struct slot_arg {
    struct worker *worker;
    int slot;
};

static bool is_fatal(struct worker *worker)
{
    return atomic_load(&worker->core.fatal) || atomic_load(&worker->kafka_dead);
}

static void *slot_loop(void *arg)
{
    struct slot_arg *slot = arg;
    struct worker *worker = slot->worker;

    while (!atomic_load(&worker->service.stopping) && !is_fatal(worker)) {
        unit_core_turn(&worker->core, slot->slot, 500);
    }
    return NULL;
}

struct keeper {
    struct worker *worker;
    atomic_bool stop;
};

static void nap(long ms)
{
    struct timespec ts = {.tv_nsec = ms * 1000000L};

    nanosleep(&ts, NULL);
}

static void *keeper_loop(void *arg)
{
    struct keeper *keeper = arg;
    struct health *health = keeper->worker->service.health;
    int pulse = health_pulse(health, "the loop that renews leases", LOOP_LIMIT_MS);

    while (!atomic_load(&keeper->stop)) {
        health_beat(health, pulse);
        unit_core_keep(&keeper->worker->core);
        nap(KEEPER_MS);
    }
    return NULL;
}

/* Health calls and the stage's own periodic work, in a thread of its own: however long they take,
 * leases are renewed. */
static void *tick_loop(void *arg)
{
    struct worker *worker = arg;
    uint64_t tick_at = 0;

    while (!atomic_load(&worker->service.stopping) && !is_fatal(worker)) {
        uint64_t now = clock_mono_ms();
        unit_core_probe(&worker->core);
        if (worker->stage->tick && now >= tick_at) {
            struct err err = ERR_INIT;
            if (worker->stage->tick(&worker->ctx, &err) < 0) {
                log_err(LOG_WARN, "periodic work failed", &err);
            }
            tick_at = now + worker->stage->tick_ms;
        }
        nap(KEEPER_MS);
    }
    return NULL;
}

/* Drain -----------------------------------------------------------------------------------------*/

static bool wait_idle(struct worker *worker, int64_t ms)
{
    uint64_t until = clock_mono_ms() + (uint64_t)ms;

    while (unit_core_busy(&worker->core) && clock_mono_ms() < until) {
        nap(20);
    }
    return !unit_core_busy(&worker->core);
}

static void wait_running(struct worker *worker)
{
    if (wait_idle(worker, worker->service.core.drain_grace_ms)) {
        return;
    }
    log_warn("grace is over, running units are put back");
    atomic_store(&worker->service.store_abort, true);
    unit_core_grace_over(&worker->core);
    if (!wait_idle(worker, DEAF_MS)) {
        log_warn("a unit does not end, the process ends without it");
        unit_core_release(&worker->core);
        _exit(0); /* its thread cannot be joined */
    }
}

/* Start -----------------------------------------------------------------------------------------*/

static int check_kafka(void *arg, struct err *err)
{
    return bus_consumer_ping(arg, err);
}

/* For metrics_collect. */
static void show_lag(void *arg)
{
    const struct worker *worker = arg;

    metrics_set("docfleet_kafka_lag", worker->core.label, (double)bus_lag(worker->consumer));
}

/* A counter that begins with its first event hides it from rates: they begin with 0. */
static void begin_counters(const char *label)
{
    static const char *const plain[] = {"docfleet_handed_back_total", "docfleet_claims_stale_total",
                                        "docfleet_records_skipped_total",
                                        "docfleet_leases_lost_total"};
    static const char *const outcomes[] = {"done", "failed", "skipped"};
    char labels[80];

    for (size_t i = 0; i < ARRAY_LEN(plain); i++) {
        metrics_add(plain[i], label, 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(outcomes); i++) {
        snprintf(labels, sizeof(labels), "%s,outcome=\"%s\"", label, outcomes[i]);
        metrics_add("docfleet_files_total", labels, 0);
    }
}

struct breaker_check {
    struct guard *guard;
    enum guard_dep dep;
};

static int check_breaker(void *arg, struct err *err)
{
    const struct breaker_check *check = arg;

    return guard_state(check->guard, check->dep) == BREAKER_CLOSED
               ? 0
               : err_set(err, ERR_TRANSIENT, "dependency_open",
                         "the breaker is open: too many calls failed");
}

static int start_probes(struct worker *worker, struct err *err)
{
    static const char *const names[GUARD_DEPS] = {"breaker_store", "breaker_textract", "breaker_ai",
                                                  "breaker_scanner"};
    static struct breaker_check checks[GUARD_DEPS];
    struct health_dep deps[1 + GUARD_DEPS + 1] = {
        {"kafka", check_kafka, worker->consumer, 0, true}};
    size_t n = 1;

    for (int dep = 0; dep < GUARD_DEPS; dep++) {
        enum guard_need need = guard_need(&worker->guard, dep);
        if (need != GUARD_UNUSED) {
            checks[dep] = (struct breaker_check){&worker->guard, dep};
            deps[n++] = (struct health_dep){names[dep], check_breaker, &checks[dep],
                                            BREAKER_LOOK_MS, need != GUARD_HELPFUL};
        }
    }
    if (worker->ctx.provider.check) {
        deps[n++] = worker->ctx.provider;
    }
    metrics_set("docfleet_slots", worker->core.label, worker->core.slots);
    begin_counters(worker->core.label);
    metrics_collect(show_lag, worker);
    return service_probes(&worker->service, worker->stage->store_required, deps, n, err);
}

static int serve(struct worker *worker, struct err *err)
{
    struct keeper keeper = {.worker = worker};
    pthread_t poller, keeper_thread, ticker, slots[UNIT_SLOTS_MAX] = {0};
    struct slot_arg args[UNIT_SLOTS_MAX];

    if (start_probes(worker, err) < 0) {
        return -1;
    }
    pthread_create(&poller, NULL, poll_loop, worker);
    pthread_create(&keeper_thread, NULL, keeper_loop, &keeper);
    pthread_create(&ticker, NULL, tick_loop, worker);
    for (int i = 0; i < worker->core.slots; i++) {
        args[i] = (struct slot_arg){.worker = worker, .slot = i};
        pthread_create(&slots[i], NULL, slot_loop, &args[i]);
    }
    log_info("ready", kv_i64("slots", worker->core.slots), kv_str("worker", worker->service.id));
    while (!service_wait(&worker->service, 500) && !is_fatal(worker)) {
    }
    atomic_store(&worker->service.stopping, true);
    log_info("draining");
    unit_core_drain_begin(&worker->core);
    unit_core_hand_back(&worker->core);
    wait_running(worker);
    for (int i = 0; i < worker->core.slots; i++) {
        pthread_join(slots[i], NULL);
    }
    pthread_join(poller, NULL);
    pthread_join(ticker, NULL);
    atomic_store(&keeper.stop, true);
    pthread_join(keeper_thread, NULL);
    /* The probes ask the consumer: they end before it does. */
    health_stop(worker->service.health);
    worker->service.health = NULL;
    metrics_uncollect(show_lag, worker);
    bus_consumer_free(worker->consumer);
    worker->consumer = NULL;
    return is_fatal(worker) ? err_set(err, ERR_FATAL, "fatal", "a fatal error ended the worker")
                            : 0;
}

static void begin_kills(const char *label)
{
    static const char *const reasons[] = {"crash", "sigsys", "memory", "cpu", "wall", "output"};
    char labels[80];

    for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
        snprintf(labels, sizeof(labels), "%s,reason=\"%s\"", label, reasons[i]);
        metrics_add("docfleet_jail_kills_total", labels, 0);
    }
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
    metrics_set("docfleet_jail_degraded", worker->core.label, jail_degraded(*ret_jail) ? 1 : 0);
    begin_kills(worker->core.label);
    return 0;
}

/* Renewals must come through while slots hold every connection of the pool, and must give up on a
 * dead connection while the lease still holds. */
static int open_keeper_db(struct worker *worker, struct err *err)
{
    unsigned limit = (unsigned)(worker->service.core.lease_ms / 4);

    limit = limit < 1000 ? 1000 : limit > 5000 ? 5000 : limit;
    return db_open(&(struct db_config){.url = worker->service.core.database_url,
                                       .application_name = worker->service.id,
                                       .pool = "keeper",
                                       .max_conns = 2,
                                       .generic_plans = true,
                                       .connect_timeout_ms = limit,
                                       .acquire_timeout_ms = limit,
                                       .statement_timeout_ms = limit},
                   &worker->keeper_db, err);
}

static int open_worker(struct worker *worker, struct err *err)
{
    const struct stage *stage = worker->stage;
    char group[48];
    int slots = service_slots(&worker->service);

    slots = slots < UNIT_SLOTS_MAX ? slots : UNIT_SLOTS_MAX;
    guard_init(&worker->guard);
    worker->ctx = (struct stage_ctx){
        .service = &worker->service, .options = stage->options_target, .guard = &worker->guard};
    unit_io_of(worker, &worker->io);
    worker->service.generic_plans = stage->id != STAGE_CLEAN; /* its sweeps join whole tables */
    if (unit_core_init(&worker->core, &worker->io, stage, &worker->ctx, slots,
                       worker->service.core.lease_ms, err) < 0) {
        return -1;
    }
    /* Before any thread: the zygotes. */
    if ((stage->zygote &&
         start_jail(worker, stage->zygote, &stage->limits, &worker->ctx.jail, err) < 0) ||
        (stage->zygote2 &&
         start_jail(worker, stage->zygote2, &stage->limits2, &worker->ctx.jail2, err) < 0) ||
        service_connect(&worker->service, (unsigned)slots + 2, WORKER_STATEMENT_MS, err) < 0 ||
        open_keeper_db(worker, err) < 0) {
        return -1;
    }
    worker->core.probes_apart = true;
    guard_use(&worker->guard, GUARD_STORE, stage->store_required ? GUARD_BY_CALL : GUARD_HELPFUL);
    if (stage->setup && stage->setup(&worker->ctx, err) < 0) {
        return -1;
    }
    snprintf(group, sizeof(group), "docfleet.%s", stage_name((int)stage->id));
    return bus_consumer_open(&worker->service.bus, group, stage_topic((int)stage->id),
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
    if (worker.core.queue) {
        unit_core_done(&worker.core);
    }
    db_free(worker.keeper_db);
    service_end(&worker.service);
    log_info("ended");
    return r < 0 ? 1 : 0;
}
