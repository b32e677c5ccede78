/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hub. What a subscriber gets is always read from Postgres by (account, pos > last): a record
 * on the topic only says for whom there is something new, so a lost, doubled or late record can
 * neither lose nor repeat an event. Two threads: one listens to the topic, one feeds.
 */
#include "services/ingest-gateway/events.h"

#include "libcommon/bus.h"
#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "libcommon/states.h"
#include "services/ingest-gateway/exchange.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/sql.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SUBSCRIBERS_MAX 10000U
#define HEARTBEAT_MS 15000U
#define STUCK_MS 60000U
#define RECONCILE_MS 5000U /* everybody is looked at, though the topic says nothing */
#define POLL_MS 500U       /* the same, while the topic cannot be read */
#define TICK_MS 15U        /* what comes within it is fed together */
#define EVENT_TEXT_MAX 8192U
#define DIRTY_MAX 4096U

struct subscriber {
    struct subscriber *next;
    struct exchange *ex;
    char user_id[UUID_TEXT];
    int64_t last; /* what it has, or had before it came */
    enum events_start start;
    bool dirty;
    bool begun; /* the first bytes are written */
    uint64_t wrote_ms;
    uint64_t blocked_ms; /* since when nothing fits; 0: it does */
};

struct event_hub {
    struct gateway *gw;
    const struct bus_access *bus; /* NULL: no topic */
    char *topic;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct subscriber *fresh; /* added, not yet the feeder's */
    struct subscriber *subs;  /* the feeder's own */
    unsigned n_subs;
    char (*dirty)[UUID_TEXT]; /* accounts with news */
    unsigned n_dirty;
    bool all_dirty;
    bool tail_up;
    bool stop;
    bool drain;
    pthread_mutex_t consumer_lock;
    struct bus_consumer *consumer; /* the tail's, or NULL */
    pthread_t tail;
    pthread_t feeder;
    bool has_tail;
    bool has_feeder;
};

/* Topic -----------------------------------------------------------------------------------------*/

static void mark_user(struct event_hub *hub, const char *key, size_t len)
{
    char id[UUID_TEXT];

    if (len != UUID_TEXT - 1) {
        return; /* not one of ours: opaque bytes */
    }
    memcpy(id, key, len);
    id[len] = '\0';
    pthread_mutex_lock(&hub->lock);
    bool known = hub->all_dirty;
    for (unsigned i = 0; i < hub->n_dirty && !known; i++) {
        known = strcmp(hub->dirty[i], id) == 0;
    }
    if (!known && hub->n_dirty == DIRTY_MAX) {
        hub->all_dirty = true;
    } else if (!known) {
        memcpy(hub->dirty[hub->n_dirty++], id, UUID_TEXT);
    }
    if (!known) {
        pthread_cond_signal(&hub->wake);
    }
    pthread_mutex_unlock(&hub->lock);
}

static void mark_all(struct event_hub *hub, bool tail_up)
{
    pthread_mutex_lock(&hub->lock);
    hub->all_dirty = true;
    hub->tail_up = tail_up;
    pthread_cond_signal(&hub->wake);
    pthread_mutex_unlock(&hub->lock);
}

static bool stopping(struct event_hub *hub)
{
    pthread_mutex_lock(&hub->lock);
    bool stop = hub->stop;
    pthread_mutex_unlock(&hub->lock);
    return stop;
}

static void show_consumer(struct event_hub *hub, struct bus_consumer *consumer)
{
    pthread_mutex_lock(&hub->consumer_lock);
    hub->consumer = consumer;
    pthread_mutex_unlock(&hub->consumer_lock);
}

int event_hub_check(void *arg, struct err *err)
{
    struct event_hub *hub = arg;

    pthread_mutex_lock(&hub->consumer_lock);
    int r = hub->consumer
                ? bus_consumer_ping(hub->consumer, err)
                : err_set(err, ERR_TRANSIENT, "kafka_unavailable", "the events topic is not open");
    pthread_mutex_unlock(&hub->consumer_lock);
    return r;
}

static void *tail_main(void *arg)
{
    struct event_hub *hub = arg;

    while (!stopping(hub)) {
        struct bus_consumer *consumer = NULL;
        struct err err = ERR_INIT;
        bool told = false;
        if (bus_tail_open(hub->bus, hub->topic, "ingest-gateway", &consumer, &err) < 0) {
            mark_all(hub, false);
            for (int i = 0; i < 20 && !stopping(hub); i++) {
                usleep(100000);
            }
            continue;
        }
        show_consumer(hub, consumer);
        mark_all(hub, true);
        while (!stopping(hub)) {
            struct bus_record record;
            err = ERR_INIT;
            int rc = bus_poll(consumer, 200, &record, &err);
            if (rc > 0) {
                mark_user(hub, record.key, record.key_len);
                bus_record_done(&record);
                told = false;
            } else if (rc < 0) {
                mark_all(hub, false);
                if (!told) {
                    log_err(LOG_WARN, "events topic cannot be read, polling postgres", &err);
                    told = true;
                }
                if (err.class == ERR_FATAL) {
                    break;
                }
                usleep(200000);
            }
        }
        show_consumer(hub, NULL);
        bus_consumer_free(consumer);
    }
    return NULL;
}

/* Feeding ---------------------------------------------------------------------------------------*/

static const char replay_sql[] =
    "SELECT pos, kind, file_id, stage, body FROM event WHERE user_id = $1::uuid"
    " AND pos > $2::bigint AND kind <> 'dead_letter' ORDER BY pos LIMIT 500";

/* One message of the stream; the members the client knows come first, the rest is `detail`. */
static int format_event(const PGresult *res, int row, char *out, size_t size)
{
    static const char *const top[] = {"datasetId", "batchId", "state"};
    CLEANUP(json_cleanup) json_t *body = sql_json_doc(res, row, 4);
    CLEANUP(json_cleanup) json_t *doc = json_object();

    if (!doc) {
        return -1;
    }
    if (db_str(res, row, 2)) {
        json_object_set_new(doc, "fileId", sql_json_str(res, row, 2));
    }
    if (stage_name((int)db_i64(res, row, 3))) {
        json_object_set_new(doc, "stage", json_string(stage_name((int)db_i64(res, row, 3))));
    }
    for (size_t i = 0; i < ARRAY_LEN(top); i++) {
        json_t *value = json_object_get(body, top[i]);
        if (json_is_string(value)) {
            json_object_set(doc, top[i], value);
            json_object_del(body, top[i]);
        }
    }
    if (json_object_size(body) > 0) {
        json_object_set(doc, "detail", body);
    }
    CLEANUP(free_cleanup) char *text = json_dumps(doc, JSON_COMPACT);
    if (text && strlen(text) > EVENT_TEXT_MAX - 200) {
        json_object_del(doc, "detail");
        free(text);
        text = json_dumps(doc, JSON_COMPACT);
    }
    return text ? snprintf(out, size, "id: %s\nevent: %s\ndata: %s\n\n", db_str(res, row, 0),
                           db_str(res, row, 1), text)
                : -1;
}

/* False: it does not fit now; it is tried again, since Postgres keeps it. */
static bool put(struct subscriber *sub, const char *text, size_t len)
{
    uint64_t now = clock_mono_ms();

    if (exchange_try_write(sub->ex, text, len, false)) {
        sub->wrote_ms = now;
        sub->blocked_ms = 0;
        return true;
    }
    if (sub->blocked_ms == 0) {
        sub->blocked_ms = now;
    }
    return false;
}

/* The first bytes: where the stream begins. False: they do not fit now. */
static bool begin_stream(struct subscriber *sub)
{
    char text[160];
    int n;

    if (sub->start == EVENTS_RESUMED) {
        n = snprintf(text, sizeof(text), "retry: 2000\n: resumed\n\n");
    } else {
        n = snprintf(text, sizeof(text), "retry: 2000\nid: %" PRId64 "\n%s\n", sub->last,
                     sub->start == EVENTS_RESET ? "event: reset\ndata: {}\n" : "");
    }
    sub->begun = put(sub, text, (size_t)n);
    return sub->begun;
}

static int feed_one(struct db_conn *conn, struct subscriber *sub, struct err *err)
{
    char text[EVENT_TEXT_MAX];

    if (!sub->begun && !begin_stream(sub)) {
        return 0; /* stays dirty */
    }
    for (;;) {
        CLEANUP(db_result_cleanup) PGresult *res = NULL;
        struct db_num num;
        const char *params[] = {sub->user_id, db_num(&num, sub->last)};
        if (db_query(conn, replay_sql, 2, params, &res, err) < 0) {
            return -1;
        }
        int n = PQntuples(res);
        for (int i = 0; i < n; i++) {
            int len = format_event(res, i, text, sizeof(text));
            if (len <= 0 || (size_t)len >= sizeof(text)) {
                sub->last = db_i64(res, i, 0);
                continue;
            }
            if (!put(sub, text, (size_t)len)) {
                exchange_poke(sub->ex);
                return 0; /* stays dirty */
            }
            sub->last = db_i64(res, i, 0);
        }
        exchange_poke(sub->ex);
        if (n < 500) {
            sub->dirty = false;
            return 0;
        }
    }
}

static void drop_subscriber(struct event_hub *hub, struct subscriber **link)
{
    struct subscriber *sub = *link;

    *link = sub->next;
    exchange_finish(sub->ex, false);
    exchange_unref(sub->ex);
    free(sub);
    pthread_mutex_lock(&hub->lock);
    hub->n_subs--;
    metrics_set("docfleet_event_streams", "", hub->n_subs);
    pthread_mutex_unlock(&hub->lock);
}

static void heartbeat(struct subscriber *sub, uint64_t now)
{
    if (now >= sub->wrote_ms + HEARTBEAT_MS && put(sub, ": still here\n\n", 14)) {
        exchange_poke(sub->ex);
    }
}

/* Takes the news: which subscribers have to be looked at. */
static bool collect(struct event_hub *hub, uint64_t *last_all)
{
    uint64_t now = clock_mono_ms();
    struct timespec ts = {.tv_sec = (time_t)((now + 100) / 1000),
                          .tv_nsec = (long)((now + 100) % 1000) * 1000000L};

    pthread_mutex_lock(&hub->lock);
    if (hub->n_dirty == 0 && !hub->all_dirty && !hub->fresh && !hub->stop && !hub->drain) {
        pthread_cond_timedwait(&hub->wake, &hub->lock, &ts);
    }
    now = clock_mono_ms();
    bool all = hub->all_dirty || now - *last_all >= (hub->tail_up ? RECONCILE_MS : POLL_MS);
    if (all) {
        *last_all = now;
    }
    while (hub->fresh) {
        struct subscriber *sub = hub->fresh;
        hub->fresh = sub->next;
        sub->next = hub->subs;
        hub->subs = sub;
    }
    for (struct subscriber *s = hub->subs; s; s = s->next) {
        for (unsigned i = 0; i < hub->n_dirty && !s->dirty; i++) {
            s->dirty = strcmp(hub->dirty[i], s->user_id) == 0;
        }
        s->dirty = s->dirty || all;
    }
    hub->n_dirty = 0;
    hub->all_dirty = false;
    bool go_on = !hub->stop;
    pthread_mutex_unlock(&hub->lock);
    return go_on;
}

static void end_all(struct event_hub *hub)
{
    static const char bye[] = "retry: 1000\n: shutting down\n\n";

    while (hub->subs) {
        put(hub->subs, bye, sizeof(bye) - 1);
        drop_subscriber(hub, &hub->subs);
    }
}

static void feed_all(struct event_hub *hub)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    struct err err = ERR_INIT;
    uint64_t now = clock_mono_ms();
    bool down = false;

    for (struct subscriber **link = &hub->subs; *link;) {
        struct subscriber *sub = *link;
        bool stuck = sub->blocked_ms && now > sub->blocked_ms + STUCK_MS;
        if (stuck || exchange_gone(sub->ex)) {
            drop_subscriber(hub, link);
            continue;
        }
        if (sub->dirty && !down) {
            err = ERR_INIT;
            db_view_take(DB_VIEW_USER, sub->user_id);
            if ((!conn && db_acquire(hub->gw->db, &conn, &err) < 0) ||
                feed_one(conn, sub, &err) < 0) {
                down = true; /* stays dirty; the next round tries again */
                log_err(LOG_WARN, "events cannot be read", &err);
            }
        }
        heartbeat(sub, now);
        link = &sub->next;
    }
    if (down) {
        usleep(500000);
    }
}

static void *feeder_main(void *arg)
{
    struct event_hub *hub = arg;
    uint64_t last_all = 0;

    while (collect(hub, &last_all)) {
        pthread_mutex_lock(&hub->lock);
        bool drain = hub->drain;
        pthread_mutex_unlock(&hub->lock);
        if (drain) {
            end_all(hub);
            usleep(20000);
            continue;
        }
        feed_all(hub);
        usleep(TICK_MS * 1000);
    }
    end_all(hub);
    return NULL;
}

/* Outside ---------------------------------------------------------------------------------------*/

void event_hub_add(struct event_hub *hub, struct exchange *ex, enum events_start start,
                   int64_t last_pos)
{
    struct subscriber *sub = calloc(1, sizeof(*sub));

    exchange_ref(ex);
    pthread_mutex_lock(&hub->lock);
    bool ok = sub && !hub->drain && !hub->stop && hub->n_subs < SUBSCRIBERS_MAX;
    if (ok) {
        sub->ex = ex;
        sub->start = start;
        sub->last = last_pos;
        sub->dirty = true;
        sub->wrote_ms = clock_mono_ms();
        memcpy(sub->user_id, ex->req.who.user_id, UUID_TEXT);
        sub->next = hub->fresh;
        hub->fresh = sub;
        hub->n_subs++;
        metrics_set("docfleet_event_streams", "", hub->n_subs);
        pthread_cond_signal(&hub->wake);
    }
    pthread_mutex_unlock(&hub->lock);
    if (!ok) {
        free(sub);
        exchange_finish(ex, false);
        exchange_unref(ex);
    }
}

int event_hub_start(struct gateway *gw, const struct bus_access *bus, const char *topic,
                    struct event_hub **ret_hub, struct err *err)
{
    struct event_hub *hub = calloc(1, sizeof(*hub));
    pthread_condattr_t attr;

    if (!hub) {
        return err_nomem(err);
    }
    hub->gw = gw;
    hub->bus = bus;
    hub->topic = strdup(topic);
    hub->dirty = calloc(DIRTY_MAX, sizeof(*hub->dirty));
    pthread_mutex_init(&hub->lock, NULL);
    pthread_mutex_init(&hub->consumer_lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&hub->wake, &attr);
    pthread_condattr_destroy(&attr);
    if (!hub->topic || !hub->dirty) {
        event_hub_stop(hub);
        return err_nomem(err);
    }
    hub->has_feeder = pthread_create(&hub->feeder, NULL, feeder_main, hub) == 0;
    hub->has_tail = hub->bus && pthread_create(&hub->tail, NULL, tail_main, hub) == 0;
    if (!hub->has_feeder) {
        event_hub_stop(hub);
        return err_set(err, ERR_FATAL, "io", "no thread for events");
    }
    *ret_hub = hub;
    return 0;
}

void event_hub_drain(struct event_hub *hub)
{
    pthread_mutex_lock(&hub->lock);
    hub->drain = true;
    pthread_cond_signal(&hub->wake);
    pthread_mutex_unlock(&hub->lock);
}

void event_hub_stop(struct event_hub *hub)
{
    if (!hub) {
        return;
    }
    pthread_mutex_lock(&hub->lock);
    hub->stop = true;
    pthread_cond_signal(&hub->wake);
    pthread_mutex_unlock(&hub->lock);
    if (hub->has_tail) {
        pthread_join(hub->tail, NULL);
    }
    if (hub->has_feeder) {
        pthread_join(hub->feeder, NULL);
    }
    pthread_mutex_destroy(&hub->lock);
    pthread_mutex_destroy(&hub->consumer_lock);
    pthread_cond_destroy(&hub->wake);
    free(hub->dirty);
    free(hub->topic);
    free(hub);
}

static const char start_sql[] =
    "SELECT coalesce((SELECT pos FROM event WHERE user_id = $1::uuid AND pos IS NOT NULL"
    "   ORDER BY pos DESC LIMIT 1), 0),"
    " $2::bigint <= 0 OR EXISTS (SELECT 1 FROM event WHERE user_id = $1::uuid AND pos = "
    "$2::bigint)";

/*
 * Where a stream begins is settled before its headers leave: what a client does once it has the
 * answer is an event it gets.
 */
static int choose_start(struct request *req, int64_t asked, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num num;
    const char *params[] = {req->who.user_id, db_num(&num, asked)};

    if (db_run(req->gw->db, start_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    int64_t newest = db_i64(res, 0, 0);
    if (asked < 0) {
        reply->events_start = EVENTS_NEW;
    } else if (db_bool(res, 0, 1) && asked <= newest) {
        reply->events_start = EVENTS_RESUMED;
    } else { /* older than what is kept */
        reply->events_start = EVENTS_RESET;
    }
    reply->last_pos = reply->events_start == EVENTS_RESUMED ? asked : newest;
    return 0;
}

int events_get(struct request *req, struct reply *reply, struct err *err)
{
    const char *ids[] = {uri_arg(&req->uri, "lastEventId"), req->headers[H_LAST_EVENT_ID]};
    int64_t pos = -1;

    for (size_t i = 0; i < ARRAY_LEN(ids); i++) { /* the header, which a browser adds, wins */
        if (ids[i] && ids[i][0] != '\0' && !decimal_parse(ids[i], 0, INT64_MAX, &pos)) {
            return err_set(err, ERR_PERMANENT, "bad_request", "Last-Event-ID is a number");
        }
    }
    if (choose_start(req, pos, reply, err) < 0) {
        return -1;
    }
    reply->status = 200;
    reply->content_type = "text/event-stream";
    reply->events = true;
    return reply_header(reply, "X-Accel-Buffering", "no", err);
}
