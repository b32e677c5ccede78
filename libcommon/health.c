/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks run in a thread of their own and probes answer from its last results, so that a probe
 * never waits for a dependency.
 */
#include "libcommon/health.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/metrics.h"

#define CHECK_EVERY_MS 2000
#define METRICS_MAX (4U * 1024U * 1024U)

struct dep_state {
    struct health_dep dep;
    bool known, up;
    char reason[ERR_MSG_MAX];
};

struct health {
    struct MHD_Daemon *daemon;
    pthread_t checker;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop, draining;
    struct dep_state deps[HEALTH_DEPS_MAX];
    size_t n;
};

static void check_one(struct health *health, struct dep_state *state)
{
    struct err err = ERR_INIT;
    char labels[64];
    bool up = state->dep.check(state->dep.arg, &err) == 0;

    snprintf(labels, sizeof(labels), "dependency=\"%s\"", state->dep.name);
    metrics_set("docfleet_dependency_up", labels, up ? 1 : 0);
    pthread_mutex_lock(&health->lock);
    state->known = true;
    state->up = up;
    snprintf(state->reason, sizeof(state->reason), "%s", up ? "" : err.msg);
    pthread_mutex_unlock(&health->lock);
}

static void *check_loop(void *arg)
{
    struct health *health = arg;

    pthread_mutex_lock(&health->lock);
    while (!health->stop) {
        pthread_mutex_unlock(&health->lock);
        for (size_t i = 0; i < health->n; i++) {
            check_one(health, &health->deps[i]);
        }
        uint64_t until = clock_mono_ms() + CHECK_EVERY_MS;
        struct timespec ts = {.tv_sec = (time_t)(until / 1000),
                              .tv_nsec = (long)(until % 1000) * 1000000L};
        pthread_mutex_lock(&health->lock);
        if (!health->stop) {
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
        if (health->deps[i].dep.required && !health->deps[i].up) {
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
                       i ? "," : "", s->dep.name, s->up ? "true" : "false",
                       s->dep.required ? "true" : "false",
                       s->known ? s->reason : "not checked yet");
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
        r = buf_puts(&buf, "ok\n", NULL);
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

int health_start(const char *address, int port, const struct health_dep *deps, size_t n,
                 struct health **ret_health, struct err *err)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct health *health = calloc(1, sizeof(*health));
    pthread_condattr_t attr;

    if (!health) {
        return err_nomem(err);
    }
    if (inet_pton(AF_INET, address, &addr.sin_addr) != 1 || n > HEALTH_DEPS_MAX) {
        free(health);
        return err_set(err, ERR_FATAL, "invalid_config", "probe address %s", address);
    }
    health->n = n;
    for (size_t i = 0; i < n; i++) {
        health->deps[i].dep = deps[i];
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
    if (!health->daemon || pthread_create(&health->checker, NULL, check_loop, health) != 0) {
        if (health->daemon) {
            MHD_stop_daemon(health->daemon);
        }
        free(health);
        return err_set(err, ERR_FATAL, "port_taken", "cannot serve probes on %s:%d", address, port);
    }
    *ret_health = health;
    return 0;
}

void health_stop(struct health *health)
{
    if (!health) {
        return;
    }
    pthread_mutex_lock(&health->lock);
    health->stop = true;
    pthread_cond_signal(&health->wake);
    pthread_mutex_unlock(&health->lock);
    pthread_join(health->checker, NULL);
    MHD_stop_daemon(health->daemon);
    pthread_mutex_destroy(&health->lock);
    pthread_cond_destroy(&health->wake);
    free(health);
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
