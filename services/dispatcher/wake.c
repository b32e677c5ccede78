/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mailboxes, leader locks, and the listener that turns notifications into pokes. A notification
 * that gets lost costs latency only: every loop also looks by itself.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "libcommon/notify.h"
#include "services/dispatcher/dispatcher.h"

#define LEADER_CHECK_MS 1000U
#define LEADER_ANSWER_MS 5000U

void wake_init(struct wake *wake)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&wake->lock, NULL);
    pthread_cond_init(&wake->cond, &attr);
    pthread_condattr_destroy(&attr);
    wake->users = calloc(WAKE_USERS_MAX, UUID_TEXT);
}

void wake_user(struct wake *wake, const char *user_id)
{
    pthread_mutex_lock(&wake->lock);
    size_t i = 0;
    while (i < wake->n_users && strcmp(wake->users[i], user_id) != 0) {
        i++;
    }
    if (i == wake->n_users) {
        if (wake->users && wake->n_users < WAKE_USERS_MAX) {
            snprintf(wake->users[wake->n_users++], UUID_TEXT, "%s", user_id);
        } else {
            wake->overflow = true;
        }
    }
    wake->poked = true;
    pthread_cond_signal(&wake->cond);
    pthread_mutex_unlock(&wake->lock);
}

void wake_look(struct wake *wake)
{
    pthread_mutex_lock(&wake->lock);
    wake->overflow = true;
    wake->poked = true;
    pthread_cond_signal(&wake->cond);
    pthread_mutex_unlock(&wake->lock);
}

void wake_poke(struct wake *wake)
{
    pthread_mutex_lock(&wake->lock);
    wake->poked = true;
    pthread_cond_signal(&wake->cond);
    pthread_mutex_unlock(&wake->lock);
}

size_t wake_wait(struct wake *wake, unsigned timeout_ms, char (*users)[UUID_TEXT],
                 bool *ret_overflow)
{
    uint64_t until = clock_mono_ms() + timeout_ms;
    struct timespec ts = {.tv_sec = (time_t)(until / 1000),
                          .tv_nsec = (long)(until % 1000) * 1000000L};

    pthread_mutex_lock(&wake->lock);
    while (!wake->poked) {
        if (pthread_cond_timedwait(&wake->cond, &wake->lock, &ts) != 0) {
            break;
        }
    }
    size_t n = wake->n_users;
    if (users && n > 0) {
        memcpy(users, wake->users, n * UUID_TEXT);
    }
    *ret_overflow = wake->overflow;
    wake->n_users = 0;
    wake->overflow = false;
    wake->poked = false;
    pthread_mutex_unlock(&wake->lock);
    return n;
}

/* Leader ----------------------------------------------------------------------------------------*/

void leader_release(struct leader *leader)
{
    PQfinish(leader->pg); /* ends the session and with it the lock */
    leader->pg = NULL;
}

/* With a deadline: a silent server must not hold a stage for ever. 1, 0, or -1: no answer. */
static int query_true(PGconn *pg, const char *sql)
{
    uint64_t until = clock_mono_ms() + LEADER_ANSWER_MS;
    int yes = -1;

    if (PQsendQuery(pg, sql) == 0) {
        return -1;
    }
    while (PQisBusy(pg)) {
        struct pollfd p = {.fd = PQsocket(pg), .events = POLLIN};
        uint64_t now = clock_mono_ms();
        if (now >= until || (poll(&p, 1, (int)(until - now)) < 0 && errno != EINTR) ||
            (p.revents && PQconsumeInput(pg) == 0)) {
            return -1;
        }
    }
    for (PGresult *res = PQgetResult(pg); res; res = PQgetResult(pg)) {
        if (PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) == 1) {
            yes = PQgetvalue(res, 0, 0)[0] == 't';
        }
        PQclear(res);
    }
    return yes;
}

static void show_leader(const struct leader *leader, bool leads, bool tell)
{
    char label[48];
    int shard = leader->key / LEADER_SHARD;
    const char *name = leader->key == LEADER_EVENTS ? "events"
                       : leader->key == LEADER_DUE  ? "due"
                                                    : stage_name(leader->key % LEADER_SHARD);

    snprintf(label, sizeof(label), "stage=\"%s\",shard=\"%d\"", name, shard);
    metrics_set("docfleet_leader", label, leads ? 1 : 0);
    if (tell) {
        log_info(leads ? "leads" : "leads no more", kv_str("what", name), kv_i64("shard", shard));
    }
}

static enum leads try_lead(struct leader *leader, struct dispatcher *dispatcher)
{
    char sql[96];
    struct err err = ERR_INIT;

    if (db_connect_raw(service_direct_url(&dispatcher->service), dispatcher->service.id, 3000,
                       &leader->pg, &err) < 0) {
        log_err(LOG_DEBUG, "no leader lock", &err);
        return LEADS_AWAY;
    }
    snprintf(sql, sizeof(sql), "SELECT pg_try_advisory_lock(%d, %d)", LEADER_CLASS, leader->key);
    int yes = query_true(leader->pg, sql);
    if (yes <= 0) {
        leader_release(leader);
        return yes == 0 ? LEADS_NO : LEADS_AWAY;
    }
    show_leader(leader, true, true);
    return LEADS_YES;
}

enum leads leader_hold(struct leader *leader, struct dispatcher *dispatcher)
{
    uint64_t now = clock_mono_ms();

    if (leader->checked_ms && now - leader->checked_ms < LEADER_CHECK_MS) {
        return leader->last;
    }
    if (leader->checked_ms == 0) {
        show_leader(leader, false, false); /* nobody leads: that has to be seen, too */
    }
    leader->checked_ms = now;
    if (!leader->pg) {
        leader->last = try_lead(leader, dispatcher);
    } else if (query_true(leader->pg, "SELECT true") <= 0) {
        leader_release(leader);
        show_leader(leader, false, true);
        leader->last = LEADS_AWAY;
    }
    return leader->last;
}

/* Listener --------------------------------------------------------------------------------------*/

static void poke_all(struct dispatcher *d)
{
    for (int shard = 0; shard < d->options.shards; shard++) {
        for (int i = 0; i <= STAGE_MAX; i++) {
            wake_poke(&d->wakes[shard][i]);
        }
    }
}

static void look_all(struct dispatcher *d, int stage)
{
    for (int shard = 0; shard < d->options.shards; shard++) {
        wake_look(&d->wakes[shard][stage]);
    }
}

/* See NOTIFY_CHANNEL. */
static void take_payload(struct dispatcher *d, const char *payload)
{
    for (const char *p = payload; p && *p; p = strchr(p, ','), p = p ? p + 1 : NULL) {
        char user[UUID_TEXT];
        if (*p >= '1' && *p <= '0' + STAGE_MAX && p[1] == ':') {
            snprintf(user, sizeof(user), "%.36s", p + 2);
            if (uuid_valid(user)) {
                wake_user(&d->wakes[user_shard(user, (int)d->options.shards)][*p - '0'], user);
            } else {
                look_all(d, *p - '0'); /* NOTIFY_CONTROL */
            }
        }
    }
    /* Every commit of a unit frees credit and leaves events. */
    poke_all(d);
}

static PGconn *listen_connect(struct dispatcher *d)
{
    PGconn *pg = NULL;
    struct err err = ERR_INIT;

    if (db_connect_raw(service_direct_url(&d->service), d->service.id, 3000, &pg, &err) < 0) {
        log_err(LOG_WARN, "cannot listen, trying again", &err);
        return NULL;
    }
    PGresult *res = PQexec(pg, "LISTEN " NOTIFY_CHANNEL);
    bool ok = PQresultStatus(res) == PGRES_COMMAND_OK;
    PQclear(res);
    if (!ok) {
        PQfinish(pg);
        return NULL;
    }
    poke_all(d); /* what was said meanwhile is lost: everyone looks */
    return pg;
}

void *listen_loop(void *arg)
{
    struct dispatcher *d = arg;
    PGconn *pg = NULL;

    while (!atomic_load(&d->service.stopping)) {
        if (!pg && !(pg = listen_connect(d))) {
            struct timespec ts = {.tv_sec = 1};
            nanosleep(&ts, NULL);
            continue;
        }
        struct pollfd p = {.fd = PQsocket(pg), .events = POLLIN};
        int n = poll(&p, 1, 500);
        if (n == 0 || (n < 0 && errno == EINTR)) {
            continue;
        }
        if (n < 0 || PQconsumeInput(pg) == 0) {
            PQfinish(pg);
            pg = NULL;
            continue;
        }
        for (PGnotify *note = PQnotifies(pg); note; note = PQnotifies(pg)) {
            take_payload(d, note->extra);
            PQfreemem(note);
        }
    }
    PQfinish(pg);
    return NULL;
}
