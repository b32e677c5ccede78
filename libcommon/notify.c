/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small set of (stage, user) pairs and a thread that sends it. A pair that does not fit is
 * dropped: reconciliation finds its tasks. Pairs and mere events keep their distance from their own
 * kind only: the news of a claim must not hold up the task that its end makes known.
 */
#include "libcommon/notify.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/db.h"
#include "libcommon/states.h"
#include "libcommon/uuid.h"

#define PAIRS_MAX 150U /* 150 * 39 bytes stay below NOTIFY's 8000 */
#define MIN_GAP_MS 50U

struct notifier {
    char *url, *app;
    PGconn *pg;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct {
        int stage;
        char user[UUID_TEXT];
    } pairs[PAIRS_MAX];
    size_t n;
    bool events, stop;
};

static int send_payload(struct notifier *notifier, const char *payload, struct err *err)
{
    const char *params[] = {NOTIFY_CHANNEL, payload};

    if (!notifier->pg &&
        db_connect_raw(notifier->url, notifier->app, 3000, &notifier->pg, err) < 0) {
        return -1;
    }
    PGresult *res =
        PQexecParams(notifier->pg, "SELECT pg_notify($1, $2)", 2, NULL, params, NULL, NULL, 0);
    int r = PQresultStatus(res) == PGRES_TUPLES_OK ? 0 : err_from_pg(err, notifier->pg, res);
    PQclear(res);
    if (r < 0) {
        PQfinish(notifier->pg);
        notifier->pg = NULL;
    }
    return r;
}

/* Takes the set out as a payload; the lock is held. */
static void take(struct notifier *notifier, char *payload, size_t size)
{
    size_t len = 0;

    for (size_t i = 0; i < notifier->n; i++) {
        len += (size_t)snprintf(payload + len, size - len, "%s%d:%s", i ? "," : "",
                                notifier->pairs[i].stage, notifier->pairs[i].user);
    }
    if (notifier->n == 0) {
        snprintf(payload, size, "events");
    }
    notifier->n = 0;
    notifier->events = false;
}

static void *send_loop(void *arg)
{
    struct notifier *notifier = arg;
    char payload[7800];
    uint64_t last = 0, last_pairs = 0;

    pthread_mutex_lock(&notifier->lock);
    for (;;) {
        while (!notifier->stop && notifier->n == 0 && !notifier->events) {
            pthread_cond_wait(&notifier->wake, &notifier->lock);
        }
        if (notifier->n == 0 && !notifier->events) {
            break;
        }
        uint64_t now = clock_mono_ms();
        uint64_t until = (notifier->n > 0 ? last_pairs : last) + MIN_GAP_MS;
        if (!notifier->stop && now < until) {
            struct timespec ts = {.tv_sec = (time_t)(until / 1000),
                                  .tv_nsec = (long)(until % 1000) * 1000000L};
            pthread_cond_timedwait(&notifier->wake, &notifier->lock, &ts);
            continue;
        }
        last_pairs = notifier->n > 0 ? now : last_pairs;
        last = now;
        take(notifier, payload, sizeof(payload));
        pthread_mutex_unlock(&notifier->lock);
        struct err err = ERR_INIT;
        if (send_payload(notifier, payload, &err) < 0) {
            /* Dropped on purpose: the dispatcher reconciles. */
        }
        pthread_mutex_lock(&notifier->lock);
    }
    pthread_mutex_unlock(&notifier->lock);
    return NULL;
}

int notifier_start(const char *database_url, const char *application_name,
                   struct notifier **ret_notifier, struct err *err)
{
    struct notifier *notifier = calloc(1, sizeof(*notifier));
    pthread_condattr_t attr;

    if (!notifier) {
        return err_nomem(err);
    }
    notifier->url = strdup(database_url);
    notifier->app = strdup(application_name);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&notifier->lock, NULL);
    pthread_cond_init(&notifier->wake, &attr);
    pthread_condattr_destroy(&attr);
    if (!notifier->url || !notifier->app ||
        pthread_create(&notifier->thread, NULL, send_loop, notifier) != 0) {
        free(notifier->url);
        free(notifier->app);
        free(notifier);
        return err_set(err, ERR_FATAL, "internal", "cannot start a thread");
    }
    *ret_notifier = notifier;
    return 0;
}

void notifier_stop(struct notifier *notifier)
{
    if (!notifier) {
        return;
    }
    pthread_mutex_lock(&notifier->lock);
    notifier->stop = true;
    pthread_cond_signal(&notifier->wake);
    pthread_mutex_unlock(&notifier->lock);
    pthread_join(notifier->thread, NULL);
    PQfinish(notifier->pg);
    free(notifier->url);
    free(notifier->app);
    free(notifier);
}

void notify_stage(struct notifier *notifier, int stage, const char *user_id)
{
    pthread_mutex_lock(&notifier->lock);
    for (size_t i = 0; i < notifier->n; i++) {
        if (notifier->pairs[i].stage == stage && strcmp(notifier->pairs[i].user, user_id) == 0) {
            pthread_mutex_unlock(&notifier->lock);
            return;
        }
    }
    if (notifier->n < PAIRS_MAX) {
        notifier->pairs[notifier->n].stage = stage;
        snprintf(notifier->pairs[notifier->n].user, UUID_TEXT, "%s", user_id);
        notifier->n++;
    }
    pthread_cond_signal(&notifier->wake);
    pthread_mutex_unlock(&notifier->lock);
}

void notify_events(struct notifier *notifier)
{
    pthread_mutex_lock(&notifier->lock);
    notifier->events = true;
    pthread_cond_signal(&notifier->wake);
    pthread_mutex_unlock(&notifier->lock);
}
