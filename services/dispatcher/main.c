/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dispatcher: the one place where order and fairness are decided, and the only producer.
 */
#include <stdio.h>
#include <string.h>

#include "libcommon/log.h"
#include "services/dispatcher/dispatcher.h"

#define OPT(field) offsetof(struct dispatcher_options, field)

static const struct option_def options[] = {
    {"SCHEDULING", OPTION_ENUM, OPT(scheduling), "fair", 0, 0, "fair|fifo",
     "order over users: start-time fair queuing, or first in first out (for comparison)"},
    {"PARTITIONING", OPTION_ENUM, OPT(partitioning), "fair", 0, 0, "fair|key",
     "partition of a work order: least busy worker, or hash of the user"},
    {"CREDIT_FLOOR", OPTION_INT, OPT(credit_floor), "4", 1, 1000, NULL,
     "work orders sent per stage while no worker lives, so that autoscalers see lag"},
    {"SWEEP_INTERVAL", OPTION_DURATION, OPT(sweep_ms), "1s", 100, 60000, NULL,
     "how often lost and expired work is looked for"},
    {"DISPATCH_TIMEOUT", OPTION_DURATION, OPT(dispatch_timeout_ms), "10s", 100, 3600000, NULL,
     "least time after which a work order that nobody claims is sent again"},
    {"SHARDS", OPTION_INT, OPT(shards), "1", 1, SHARDS_MAX, NULL,
     "parts of each stage's users, each with a leader of its own; the same in every replica"},
};

static int check_kafka(void *arg, struct err *err)
{
    return bus_producer_ping(arg, err);
}

struct threads {
    pthread_t ids[SHARDS_MAX * STAGE_MAX + 4];
    size_t n;
};

static int start(struct threads *threads, void *(*run)(void *), void *arg, struct err *err)
{
    if (pthread_create(&threads->ids[threads->n], NULL, run, arg) != 0) {
        return err_set(err, ERR_FATAL, "internal", "cannot start a thread");
    }
    threads->n++;
    return 0;
}

static int start_all(struct dispatcher *d, struct threads *threads,
                     struct stage_thread (*stages)[STAGE_MAX + 1], struct err *err)
{
    for (int shard = 0; shard < d->options.shards; shard++) {
        for (int i = 0; i <= STAGE_MAX; i++) {
            wake_init(&d->wakes[shard][i]);
            stages[shard][i] = (struct stage_thread){.dispatcher = d, .stage = i, .shard = shard};
        }
    }
    for (int shard = 0; shard < d->options.shards; shard++) {
        for (int i = 1; i <= STAGE_MAX; i++) {
            if (start(threads, stage_loop, &stages[shard][i], err) < 0) {
                return -1;
            }
        }
    }
    return start(threads, events_loop, d, err) < 0 || start(threads, due_loop, d, err) < 0 ||
                   start(threads, listen_loop, d, err) < 0 ||
                   start(threads, survey_loop, d->survey, err) < 0
               ? -1
               : 0;
}

static int serve(struct dispatcher *d, struct err *err)
{
    const struct health_dep kafka = {"kafka", check_kafka, d->producer, 0, true};
    struct threads threads = {.n = 0};
    struct stage_thread stages[SHARDS_MAX][STAGE_MAX + 1];

    if (service_probes(&d->service, false, &kafka, 1, err) < 0) {
        return -1;
    }
    int r = start_all(d, &threads, stages, err);
    if (r == 0) {
        log_info("ready", kv_str("scheduling", d->options.scheduling),
                 kv_str("partitioning", d->options.partitioning),
                 kv_i64("shards", d->options.shards));
        while (!service_wait(&d->service, 1000)) {
        }
        log_info("draining");
    }
    atomic_store(&d->service.stopping, true);
    for (int shard = 0; shard < d->options.shards; shard++) {
        for (int i = 0; i <= STAGE_MAX; i++) {
            wake_poke(&d->wakes[shard][i]);
        }
    }
    for (size_t i = 0; i < threads.n; i++) {
        pthread_join(threads.ids[i], NULL);
    }
    return r;
}

int main(int argc, char **argv)
{
    static struct dispatcher d;
    struct option_table own = {options, ARRAY_LEN(options), &d.options};
    enum config_action action;
    struct err err = ERR_INIT;

    int r = service_begin(&d.service, "dispatcher", argc, argv, &own, &action, &err);
    if (r == 0 && action == CONFIG_EXIT) {
        return 0;
    }
    d.service.generic_plans = true;
    /* What it writes about tasks and a crash of Postgres undoes, it finds undone and does again; an
     * order whose sending was undone claims nothing, and every claim is durable. Not so positions
     * of events, see task_events_assign. */
    d.service.lazy_commit = true;
    pthread_mutex_init(&d.broker_lock, NULL);
    /* a connection for each thread that asks, and some for the probes */
    unsigned conns = (unsigned)d.options.shards * STAGE_MAX + 5;
    if (r < 0 || service_connect(&d.service, conns, 15000, &err) < 0 ||
        bus_producer_open(&d.service.bus, d.service.id, &d.producer, &err) < 0 ||
        survey_new(&d, &d.survey, &err) < 0 || serve(&d, &err) < 0) {
        log_err(LOG_ERROR, "ending", &err);
        r = -1;
    }
    health_stop(d.service.health); /* the probes ask the producer: they end first */
    d.service.health = NULL;
    survey_free(d.survey);
    bus_producer_free(d.producer);
    service_end(&d.service);
    log_info("ended");
    return r < 0 ? 1 : 0;
}
