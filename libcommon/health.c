/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each dependency is checked by a thread of its own and probes answer from the last results, so
 * that a probe never waits for a dependency.
 */
#include "libcommon/health.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/metrics.h"
#include "libcommon/process.h"

#define CHECK_EVERY_MS 2000U
#define CHECK_AGAIN_MS 500U   /* after a first failure: was it one? */
#define CHECK_HANGS_MS 15000U /* longer than any check's own time limits */
#define FAILURES_DOWN 2U
#define METRICS_MAX (4U * 1024U * 1024U)

struct dep_state {
    struct health_dep dep;
    struct health *health;
    pthread_t thread;
    bool started;
    bool known, up;
    unsigned failures;   /* in a row */
    uint64_t checked_at; /* the check that runs began then; 0: none runs */
    char reason[ERR_MSG_MAX];
};

struct pulse {
    const char *name;
    uint64_t limit_ms;
    _Atomic uint64_t at; /* 0: not begun, or ended */
};

struct health {
    struct MHD_Daemon *daemon;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop, draining;
    struct dep_state deps[HEALTH_DEPS_MAX];
    size_t n;
    struct pulse pulses[HEALTH_PULSES_MAX];
    size_t n_pulses;
};

/* Dependencies ----------------------------------------------------------------------------------*/

/* The lock is held. */
static bool hangs(const struct dep_state *state)
{
    return state->checked_at && clock_mono_ms() - state->checked_at > CHECK_HANGS_MS;
}

/* The lock is held. */
static bool is_up(const struct dep_state *state)
{
    return state->up && !hangs(state);
}

/* Gives the time until the next check. */
static unsigned check_one(struct dep_state *state)
{
    struct health *health = state->health;
    unsigned every = state->dep.every_ms ? state->dep.every_ms : CHECK_EVERY_MS;
    struct err err = ERR_INIT;

    pthread_mutex_lock(&health->lock);
    state->checked_at = clock_mono_ms();
    pthread_mutex_unlock(&health->lock);
    bool ok = state->dep.check(state->dep.arg, &err) == 0;
    pthread_mutex_lock(&health->lock);
    state->checked_at = 0;
    state->failures = ok ? 0 : state->failures + 1;
    bool doubt = !ok && state->known && state->up && state->failures < FAILURES_DOWN;
    if (!doubt) {
        state->known = true;
        state->up = ok;
        snprintf(state->reason, sizeof(state->reason), "%s", ok ? "" : err.msg);
    }
    pthread_mutex_unlock(&health->lock);
    return doubt && every > CHECK_AGAIN_MS ? CHECK_AGAIN_MS : every;
}

static void *check_loop(void *arg)
{
    struct dep_state *state = arg;
    struct health *health = state->health;

    pthread_mutex_lock(&health->lock);
    while (!health->stop) {
        pthread_mutex_unlock(&health->lock);
        uint64_t until = clock_mono_ms() + check_one(state);
        struct timespec ts = {.tv_sec = (time_t)(until / 1000),
                              .tv_nsec = (long)(until % 1000) * 1000000L};
        pthread_mutex_lock(&health->lock);
        while (!health->stop && clock_mono_ms() < until) {
            pthread_cond_timedwait(&health->wake, &health->lock, &ts);
        }
    }
    pthread_mutex_unlock(&health->lock);
    return NULL;
}

static bool ready_locked(const struct health *health)
{
    if (health->draining) {
        return false;
    }
    for (size_t i = 0; i < health->n; i++) {
        if (health->deps[i].dep.required && !is_up(&health->deps[i])) {
            return false;
        }
    }
    return true;
}

bool health_ready(struct health *health)
{
    pthread_mutex_lock(&health->lock);
    bool ready = ready_locked(health);
    pthread_mutex_unlock(&health->lock);
    return ready;
}

/* For metrics_collect. */
static void collect(void *arg)
{
    struct health *health = arg;
    char labels[64];

    pthread_mutex_lock(&health->lock);
    for (size_t i = 0; i < health->n; i++) {
        const struct dep_state *state = &health->deps[i];
        snprintf(labels, sizeof(labels), "dependency=\"%s\"", state->dep.name);
        if (state->known || hangs(state)) {
            metrics_set("docfleet_dependency_up", labels, is_up(state) ? 1 : 0);
        }
    }
    pthread_mutex_unlock(&health->lock);
}

/* Pulses ----------------------------------------------------------------------------------------*/

int health_pulse(struct health *health, const char *name, uint64_t limit_ms)
{
    int pulse = -1;

    pthread_mutex_lock(&health->lock);
    if (health->n_pulses < HEALTH_PULSES_MAX) {
        pulse = (int)health->n_pulses;
        health->pulses[pulse].name = name;
        health->pulses[pulse].limit_ms = limit_ms;
        health->n_pulses++;
    }
    pthread_mutex_unlock(&health->lock);
    return pulse;
}

void health_beat(struct health *health, int pulse)
{
    if (pulse >= 0) {
        atomic_store(&health->pulses[pulse].at, clock_mono_ms());
    }
}

void health_rest(struct health *health, int pulse)
{
    if (pulse >= 0) {
        atomic_store(&health->pulses[pulse].at, 0);
    }
}

/* A process that drains is ended by others where its grace is over. */
static bool render_live(struct health *health, struct buf *buf)
{
    uint64_t now = clock_mono_ms();
    bool live = true;

    pthread_mutex_lock(&health->lock);
    for (size_t i = 0; !health->draining && i < health->n_pulses; i++) {
        const struct pulse *pulse = &health->pulses[i];
        uint64_t at = atomic_load(&pulse->at);
        if (at != 0 && now > at && now - at > pulse->limit_ms) {
            live = false;
            if (buf_printf(buf, NULL, "%s has not come round for %llu s\n", pulse->name,
                           (unsigned long long)(now - at) / 1000) < 0) {
                break; /* the status says it all the same */
            }
        }
    }
    pthread_mutex_unlock(&health->lock);
    return live && buf_puts(buf, "ok\n", NULL) == 0;
}

/* Server ----------------------------------------------------------------------------------------*/

/* Reasons come from libraries: keep what JSON takes as it is. */
static void plain(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == '"' || *text == '\\') {
            *text = ' ';
        }
    }
}

static bool render_ready(struct health *health, struct buf *buf)
{
    pthread_mutex_lock(&health->lock);
    bool ready = ready_locked(health);
    int r = buf_printf(buf, NULL, "{\"ready\":%s,\"draining\":%s,\"dependencies\":{",
                       ready ? "true" : "false", health->draining ? "true" : "false");
    for (size_t i = 0; r == 0 && i < health->n; i++) {
        struct dep_state *s = &health->deps[i];
        plain(s->reason);
        r = buf_printf(buf, NULL, "%s\"%s\":{\"up\":%s,\"required\":%s,\"reason\":\"%s\"}",
                       i ? "," : "", s->dep.name, is_up(s) ? "true" : "false",
                       s->dep.required ? "true" : "false",
                       hangs(s)   ? "no answer for a long time"
                       : s->known ? s->reason
                                  : "not checked yet");
    }
    pthread_mutex_unlock(&health->lock);
    return r == 0 && buf_puts(buf, "}}\n", NULL) == 0 && ready;
}

static enum MHD_Result answer(void *cls, struct MHD_Connection *conn, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_size, void **con_cls)
{
    static int seen;
    struct health *health = cls;
    CLEANUP(buf_done) struct buf buf = {0};
    unsigned status = MHD_HTTP_OK;
    const char *type = "text/plain; charset=utf-8";

    (void)version;
    (void)upload;
    *upload_size = 0;
    if (!*con_cls) { /* a reply in the first call would close the connection */
        *con_cls = &seen;
        return MHD_YES;
    }
    buf_init(&buf, METRICS_MAX);
    int r = 0;
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        status = MHD_HTTP_METHOD_NOT_ALLOWED;
        r = buf_puts(&buf, "only GET\n", NULL);
    } else if (strcmp(url, "/livez") == 0) {
        status = render_live(health, &buf) ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
    } else if (strcmp(url, "/readyz") == 0) {
        type = "application/json";
        status = render_ready(health, &buf) ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
    } else if (strcmp(url, "/metrics") == 0) {
        type = "text/plain; version=0.0.4; charset=utf-8";
        r = metrics_render(&buf, NULL);
    } else {
        status = MHD_HTTP_NOT_FOUND;
        r = buf_puts(&buf, "livez, readyz or metrics\n", NULL);
    }
    if (r < 0) {
        status = MHD_HTTP_INTERNAL_SERVER_ERROR;
    }
    size_t len = buf.len;
    char *body = buf_steal(&buf);
    struct MHD_Response *response =
        MHD_create_response_from_buffer(len, body, MHD_RESPMEM_MUST_FREE);
    if (!response) {
        free(body);
        return MHD_NO;
    }
    MHD_add_response_header(response, "Content-Type", type);
    enum MHD_Result queued = MHD_queue_response(conn, status, response);
    MHD_destroy_response(response);
    return queued;
}

static void stop_checks(struct health *health)
{
    pthread_mutex_lock(&health->lock);
    health->stop = true;
    pthread_cond_broadcast(&health->wake);
    pthread_mutex_unlock(&health->lock);
    for (size_t i = 0; i < health->n; i++) {
        if (health->deps[i].started) {
            pthread_join(health->deps[i].thread, NULL);
        }
    }
}

static bool start_checks(struct health *health)
{
    for (size_t i = 0; i < health->n; i++) {
        struct dep_state *state = &health->deps[i];
        state->started = pthread_create(&state->thread, NULL, check_loop, state) == 0;
        if (!state->started) {
            return false;
        }
    }
    return true;
}

static void health_free(struct health *health)
{
    if (health->daemon) {
        MHD_stop_daemon(health->daemon);
    }
    stop_checks(health);
    pthread_mutex_destroy(&health->lock);
    pthread_cond_destroy(&health->wake);
    free(health);
}

int health_start(const char *address, int port, const struct health_dep *deps, size_t n,
                 struct health **ret_health, struct err *err)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct health *health = NULL;
    pthread_condattr_t attr;

    if (inet_pton(AF_INET, address, &addr.sin_addr) != 1 || n > HEALTH_DEPS_MAX) {
        return err_set(err, ERR_FATAL, "invalid_config", "probe address %s", address);
    }
    health = calloc(1, sizeof(*health));
    if (!health) {
        return err_nomem(err);
    }
    health->n = n;
    for (size_t i = 0; i < n; i++) {
        health->deps[i] = (struct dep_state){.dep = deps[i], .health = health};
    }
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&health->lock, NULL);
    pthread_cond_init(&health->wake, &attr);
    pthread_condattr_destroy(&attr);
    health->daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, (uint16_t)port, NULL, NULL, answer, health,
        MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&addr, MHD_OPTION_CONNECTION_TIMEOUT, 10U,
        MHD_OPTION_CONNECTION_LIMIT, 64U, MHD_OPTION_END);
    if (!health->daemon || !start_checks(health)) {
        health_free(health);
        return err_set(err, ERR_FATAL, "port_taken", "cannot serve probes on %s:%d", address, port);
    }
    metrics_collect(collect, health);
    metrics_collect(process_collect, NULL);
    *ret_health = health;
    return 0;
}

void health_stop(struct health *health)
{
    if (health) {
        metrics_uncollect(collect, health);
        metrics_uncollect(process_collect, NULL);
        health_free(health);
    }
}

void health_drain(struct health *health)
{
    pthread_mutex_lock(&health->lock);
    health->draining = true;
    pthread_mutex_unlock(&health->lock);
}

int health_port(const struct health *health)
{
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(health->daemon, MHD_DAEMON_INFO_BIND_PORT);

    return info ? info->port : 0;
}
