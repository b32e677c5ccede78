/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives events their positions and sends them: first the commit, then the broker. What was
 * positioned but perhaps not sent is sent again at take-over.
 */
#include <stdio.h>
#include <string.h>

#include "libcommon/event.h"
#include "libcommon/fault.h"
#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "services/dispatcher/dispatcher.h"

#define EVENTS_BATCH 500
#define EVENTS_POLL_MS 500U
#define SAVE_MS 1000U
#define LETTERS_MS 10000U
#define SEND_TIMEOUT_MS 10000U

struct outgoing {
    struct bus_message messages[EVENTS_BATCH * 2];
    char *values[EVENTS_BATCH * 2]; /* owned */
    char users[EVENTS_BATCH * 2][UUID_TEXT];
    size_t n;
    int64_t last_pos; /* positioned */
    int64_t sent_pos; /* acknowledged by the broker */
};

static int add_message(struct outgoing *out, const char *topic, const struct event_row *row,
                       struct err *err)
{
    CLEANUP(buf_done) struct buf buf;

    buf_init(&buf, EVENT_MAX * 2);
    if (event_encode(row, &buf, err) < 0) {
        return -1;
    }
    size_t len = buf.len, i = out->n++;
    out->values[i] = buf_steal(&buf);
    snprintf(out->users[i], UUID_TEXT, "%s", row->user_id);
    out->messages[i] = (struct bus_message){
        .topic = topic, .key = out->users[i], .value = out->values[i], .len = len, .partition = -1};
    return 0;
}

static int take_event(void *ctx, const struct task_event *event, struct err *err)
{
    struct outgoing *out = ctx;
    struct event_row row = {.pos = event->pos,
                            .at = event->at,
                            .user_id = event->user_id,
                            .file_id = event->file_id,
                            .kind = event->kind,
                            .stage = event->stage,
                            .body = event->body};

    out->last_pos = event->pos;
    if (out->n >= ARRAY_LEN(out->messages)) {
        return err_set(err, ERR_FATAL, "internal", "too many events at once");
    }
    return add_message(
        out, strcmp(event->kind, "dead_letter") == 0 ? "docfleet.dlq.v1" : "docfleet.events.v1",
        &row, err);
}

/* Sends until it is sent: an event has its position and must not be lost. After a failure all of
 * them go again, so that a reader that goes by position sees none of them too late for good. False
 * when the process stops first. */
static bool send_all(struct dispatcher *d, struct outgoing *out)
{
    bool ok[EVENTS_BATCH * 2];
    struct timespec pause = {.tv_nsec = 250000000L};
    uint64_t told_ms = 0;

    while (out->n > 0) {
        struct err err = ERR_INIT;
        if (bus_send(d->producer, out->messages, out->n, SEND_TIMEOUT_MS, ok, &err) == 0) {
            metrics_add("docfleet_events_published_total", "", (double)out->n);
            break;
        }
        health_beat(d->service.health, d->events_pulse); /* it waits for the broker, as it should */
        if (clock_mono_ms() - told_ms >= 10000 || told_ms == 0) {
            told_ms = clock_mono_ms();
            log_err(LOG_WARN, "events not sent, trying again", &err);
        }
        if (atomic_load(&d->service.stopping)) {
            return false;
        }
        nanosleep(&pause, NULL); /* a topic that is gone refuses at once */
    }
    return true;
}

static void clear_out(struct outgoing *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(out->values[i]);
        out->values[i] = NULL;
    }
    out->n = 0;
}

static int publish_batch(struct dispatcher *d, struct outgoing *out, bool again, int64_t after,
                         int *ret_n, struct err *err)
{
    int r = again
                ? task_events_since(d->service.db, after, EVENTS_BATCH, take_event, out, ret_n, err)
                : task_events_assign(d->service.db, EVENTS_BATCH, take_event, out, ret_n, err);
    size_t n = out->n;

    if (r == 0) {
        fault_point("events.after_commit");
        if (send_all(d, out)) {
            out->sent_pos = out->last_pos;
        }
    }
    clear_out(out, n);
    return r;
}

/* At take-over: from the last saved position on. */
static int republish(struct dispatcher *d, struct outgoing *out, struct err *err)
{
    int n = 0;

    if (task_events_state(d->service.db, "published_pos", &out->last_pos, err) < 0) {
        return -1;
    }
    do {
        if (publish_batch(d, out, true, out->last_pos, &n, err) < 0) {
            return -1;
        }
    } while (n == EVENTS_BATCH && !atomic_load(&d->service.stopping));
    return 0;
}

static void save_position(struct dispatcher *d, int64_t pos, int64_t *saved)
{
    struct err err = ERR_INIT;

    if (pos > *saved && task_events_published(d->service.db, pos, &err) == 0) {
        *saved = pos;
    }
}

void *events_loop(void *arg)
{
    struct dispatcher *d = arg;
    struct outgoing *out = calloc(1, sizeof(*out));
    struct leader leader = {.key = LEADER_EVENTS};
    bool leads = false, overflow;
    uint64_t saved_ms = 0;
    int64_t saved = 0;
    int n = 0;

    d->events_pulse = health_pulse(d->service.health, "events", LOOP_LIMIT_MS);
    while (out && !atomic_load(&d->service.stopping)) {
        struct err err = ERR_INIT;
        health_beat(d->service.health, d->events_pulse);
        if (leader_hold(&leader, d) != LEADS_YES) {
            leads = false;
            wake_wait(&d->wakes[0][0], 1000, NULL, &overflow);
            continue;
        }
        if (!leads) {
            leads = republish(d, out, &err) == 0;
        }
        if (leads && publish_batch(d, out, false, 0, &n, &err) < 0) {
            leads = err.class == ERR_TRANSIENT;
        }
        if (err.class != ERR_NONE) {
            log_err(LOG_WARN, "events wait", &err);
            wake_wait(&d->wakes[0][0], 500, NULL, &overflow);
            continue;
        }
        if (clock_mono_ms() - saved_ms > SAVE_MS) {
            save_position(d, out->sent_pos, &saved);
            saved_ms = clock_mono_ms();
        }
        if (n < EVENTS_BATCH) {
            wake_wait(&d->wakes[0][0], EVENTS_POLL_MS, NULL, &overflow);
        }
    }
    if (out) {
        save_position(d, out->sent_pos, &saved);
    }
    health_rest(d->service.health, d->events_pulse);
    leader_release(&leader);
    free(out);
    return NULL;
}

/* What is due -----------------------------------------------------------------------------------*/

static void letter_metric(void *ctx, int stage, const char *reason, int64_t n)
{
    char labels[96];

    (void)ctx;
    snprintf(labels, sizeof(labels), "stage=\"%s\",reason=\"%.40s\"", stage_name(stage), reason);
    metrics_set("docfleet_dead_letters", labels, (double)n);
}

/* What could not be counted stays as it was last seen. */
static void count_letters(struct dispatcher *d)
{
    struct err err = ERR_INIT;

    metrics_begin("docfleet_dead_letters");
    if (task_letters(d->service.db, letter_metric, d, &err) < 0) {
        log_err(LOG_DEBUG, "dead letters not counted", &err);
        return;
    }
    metrics_end("docfleet_dead_letters");
}

void *due_loop(void *arg)
{
    struct dispatcher *d = arg;
    struct leader leader = {.key = LEADER_DUE};
    struct stage_thread thread = {.dispatcher = d};
    struct lead_io io;
    struct timespec ts = {.tv_nsec = 250000000L};
    uint64_t letters_at = 0;
    int pulse = health_pulse(d->service.health, "due tasks", LOOP_LIMIT_MS);

    lead_io_of(&thread, &io);
    while (!atomic_load(&d->service.stopping)) {
        struct err err = ERR_INIT;
        bool leads = leader_hold(&leader, d) == LEADS_YES;
        if (leads && stage_promote(&io, &err) < 0) {
            log_err(LOG_DEBUG, "due tasks wait", &err);
        }
        health_beat(d->service.health, pulse);
        if (leads && clock_mono_ms() >= letters_at) {
            letters_at = clock_mono_ms() + LETTERS_MS;
            count_letters(d);
        } else if (!leads && letters_at > 0) {
            letters_at = 0; /* the next leader tells */
            metrics_begin("docfleet_dead_letters");
            metrics_end("docfleet_dead_letters");
        }
        nanosleep(&ts, NULL);
    }
    health_rest(d->service.health, pulse);
    leader_release(&leader);
    return NULL;
}
