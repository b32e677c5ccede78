/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/server.h"

#include "libcommon/fnv.h"
#include "libcommon/metrics.h"
#include "services/ingest-gateway/exchange.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/tls.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define REAP_EVERY_MS 500U
#define PRESSED_MS 2000U

static struct conn_entry **net_row(struct server *server, const char *net)
{
    return &server->nets[fnv32(net) % SERVER_NETS];
}

/* Has the network its number of connections already? Lock held. */
static bool net_full(struct server *server, const char *net)
{
    unsigned n = 0;

    for (const struct conn_entry *e = *net_row(server, net); e; e = e->net_next) {
        n += strcmp(e->net, net) == 0 ? 1 : 0;
    }
    return n >= server->config.max_conns_address;
}

/* Lock held. */
static void net_add(struct server *server, struct conn_entry *entry)
{
    struct conn_entry **row = net_row(server, entry->net);

    entry->net_next = *row;
    if (*row) {
        (*row)->net_prev = entry;
    }
    *row = entry;
}

/* Lock held. */
static void net_drop(struct server *server, struct conn_entry *entry)
{
    if (entry->net_prev) {
        entry->net_prev->net_next = entry->net_next;
    } else {
        *net_row(server, entry->net) = entry->net_next;
    }
    if (entry->net_next) {
        entry->net_next->net_prev = entry->net_prev;
    }
}

static void cut(const struct conn_entry *entry, const char *reason)
{
    char labels[40];

    snprintf(labels, sizeof(labels), "reason=\"%s\"", reason);
    metrics_inc("docfleet_http_connections_cut_total", labels);
    shutdown(entry->fd, SHUT_RDWR);
}

static void add_connection(struct server *server, struct conn_entry *entry)
{
    pthread_mutex_lock(&server->lock);
    entry->next = server->conns;
    if (entry->next) {
        entry->next->prev = entry;
    }
    server->conns = entry;
    server->n_conns++;
    if (entry->net[0] != '\0' && net_full(server, entry->net)) {
        entry->net[0] = '\0';
        entry->refused = true;
    } else if (entry->net[0] != '\0') {
        net_add(server, entry);
    }
    pthread_mutex_unlock(&server->lock);
    if (entry->refused) {
        cut(entry, "address"); /* the library finds it closed and lets it go */
    }
}

static void drop_connection(struct server *server, struct conn_entry *entry)
{
    pthread_mutex_lock(&server->lock);
    if (entry->prev) {
        entry->prev->next = entry->next;
    } else {
        server->conns = entry->next;
    }
    if (entry->next) {
        entry->next->prev = entry->prev;
    }
    server->n_conns--;
    if (entry->net[0] != '\0') {
        net_drop(server, entry);
    }
    struct exchange *left = entry->ex;
    pthread_mutex_unlock(&server->lock);
    free(entry);
    if (left) {
        exchange_abandon(left); /* the library gave it up before it called us at all */
    }
}

static void on_connection(void *cls, struct MHD_Connection *conn, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct server *server = cls;
    struct conn_entry *entry = *socket_context;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
        const union MHD_ConnectionInfo *peer =
            MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
        entry = calloc(1, sizeof(*entry));
        *socket_context = entry;
        if (!entry) {
            return;
        }
        entry->fd = info ? info->connect_fd : -1;
        entry->since_ms = clock_mono_ms();
        entry->limit_ms = server->config.header_timeout_ms;
        if (!origin_peer(&server->gw->proxies, peer ? peer->client_addr : NULL, entry->net)) {
            entry->net[0] = '\0';
        }
        add_connection(server, entry);
    } else if (entry) {
        *socket_context = NULL;
        drop_connection(server, entry);
    }
}

void server_attach(struct server *server, struct conn_entry *entry, struct exchange *ex)
{
    pthread_mutex_lock(&server->lock);
    if (ex) {
        server->n_active++;
    }
    if (entry) {
        entry->ex = ex;
        if (!ex) { /* the next request may come after an idle while */
            entry->since_ms = clock_mono_ms();
            entry->limit_ms =
                (uint64_t)server->config.idle_timeout_s * 1000 + server->config.header_timeout_ms;
        }
        entry->checked_ms = 0;
    }
    pthread_mutex_unlock(&server->lock);
}

void server_exchange_freed(struct server *server)
{
    pthread_mutex_lock(&server->lock);
    server->n_active--;
    pthread_mutex_unlock(&server->lock);
}

unsigned server_active(struct server *server)
{
    pthread_mutex_lock(&server->lock);
    unsigned n = server->n_active;
    pthread_mutex_unlock(&server->lock);
    return n;
}

/* How long it may wait for headers; near the end of all connections not long. */
static uint64_t header_limit(const struct server *server, const struct conn_entry *entry)
{
    return server->n_conns > server->max_conns / 4 * 3 ? min_u64(entry->limit_ms, PRESSED_MS)
                                                       : entry->limit_ms;
}

/* Why the client is too slow, or NULL. Registry lock held, so that ex and fd are what they seem. */
static const char *entry_late(struct server *server, struct conn_entry *entry, uint64_t now)
{
    struct exchange *ex = entry->ex;
    enum phase phase = EX_NEW;
    bool ours = false;

    if (ex) {
        pthread_mutex_lock(&ex->lock);
        phase = ex->phase;
        ours = ex->suspended || (phase == EX_SENT && (!ex->reply.stream || ex->reply.events));
        pthread_mutex_unlock(&ex->lock);
    }
    if (phase == EX_NEW) {
        return now - entry->since_ms > header_limit(server, entry) ? "headers" : NULL;
    }
    uint64_t bytes = atomic_load(&ex->progress);
    if (ours || phase == EX_AUTH || phase == EX_HANDLE || entry->checked_ms == 0) {
        entry->checked_ms = now;
        entry->checked_bytes = bytes;
        return NULL;
    }
    if (now - entry->checked_ms < server->config.slow_timeout_ms) {
        return NULL;
    }
    bool late = bytes - entry->checked_bytes < server->config.min_bytes;
    entry->checked_ms = now;
    entry->checked_bytes = bytes;
    return late ? "slow" : NULL;
}

static void *reaper_main(void *arg)
{
    struct server *server = arg;

    pthread_mutex_lock(&server->lock);
    while (!server->stop) {
        uint64_t now = clock_mono_ms();
        for (struct conn_entry *e = server->conns; e; e = e->next) {
            const char *reason = e->fd >= 0 && !e->refused ? entry_late(server, e, now) : NULL;
            if (reason) {
                e->refused = true; /* told and counted once */
                cut(e, reason);
            }
        }
        pthread_mutex_unlock(&server->lock);
        usleep(REAP_EVERY_MS * 1000);
        pthread_mutex_lock(&server->lock);
    }
    pthread_mutex_unlock(&server->lock);
    return NULL;
}

/* For metrics_collect. */
static void show_connections(void *arg)
{
    struct server *server = arg;
    char labels[32];

    snprintf(labels, sizeof(labels), "listener=\"%s\"", server->config.name);
    pthread_mutex_lock(&server->lock);
    metrics_set("docfleet_http_connections", labels, server->n_conns);
    metrics_set("docfleet_http_connections_max", labels, server->max_conns);
    pthread_mutex_unlock(&server->lock);
}

static int make_address(const char *host, unsigned port, struct sockaddr_storage *ret, bool *ret_v6,
                        struct err *err)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};

    memset(ret, 0, sizeof(*ret));
    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        memcpy(ret, &v4, sizeof(v4));
        *ret_v6 = false;
        return 0;
    }
    if (inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
        memcpy(ret, &v6, sizeof(v6));
        *ret_v6 = true;
        return 0;
    }
    return err_set(err, ERR_FATAL, "config", "%s is no numeric address to listen on", host);
}

/* What descriptors allow: each request may need some of its own. */
static unsigned descriptor_limit(void)
{
    struct rlimit lim;

    if (getrlimit(RLIMIT_NOFILE, &lim) != 0) {
        return 800;
    }
    if (lim.rlim_cur < lim.rlim_max) {
        lim.rlim_cur = lim.rlim_max < 65536 ? lim.rlim_max : 65536;
        (void)setrlimit(RLIMIT_NOFILE, &lim);
    }
    return lim.rlim_cur > 400 ? (unsigned)min_u64(lim.rlim_cur - 300, 20000) : 100;
}

static void find_limits(struct server *server)
{
    static const char *const reasons[] = {"address", "headers", "slow"};
    const unsigned all = descriptor_limit();
    char labels[40];

    server->max_conns = server->config.max_conns > 0 && server->config.max_conns < all
                            ? server->config.max_conns
                            : all;
    if (server->config.max_conns_address > server->max_conns / 2) {
        server->config.max_conns_address = server->max_conns / 2;
    }
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
        snprintf(labels, sizeof(labels), "reason=\"%s\"", reasons[i]);
        metrics_add("docfleet_http_connections_cut_total", labels, 0);
    }
}

int server_start(struct server *server, struct gateway *gw, const struct server_config *config,
                 struct err *err)
{
    struct sockaddr_storage addr;
    bool v6 = false;

    *server = (struct server){.gw = gw, .config = *config};
    pthread_mutex_init(&server->lock, NULL);
    if (make_address(config->host, config->port, &addr, &v6, err) < 0) {
        return -1;
    }
    find_limits(server);
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_SUSPEND_RESUME |
                     (v6 ? (unsigned)MHD_USE_DUAL_STACK : 0U) |
                     (config->tls ? (unsigned)MHD_USE_TLS : 0U);
    server->daemon = MHD_start_daemon(
        flags, (uint16_t)config->port, NULL, NULL, exchange_call, server, MHD_OPTION_SOCK_ADDR,
        (struct sockaddr *)&addr, MHD_OPTION_THREAD_POOL_SIZE, config->threads,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, config->memory, MHD_OPTION_CONNECTION_LIMIT,
        server->max_conns, MHD_OPTION_CONNECTION_TIMEOUT, config->idle_timeout_s,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_NOTIFY_COMPLETED, exchange_completed, server,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, server, MHD_OPTION_URI_LOG_CALLBACK,
        exchange_start, server, config->tls ? MHD_OPTION_HTTPS_CERT_CALLBACK : MHD_OPTION_END,
        tls_certificate, MHD_OPTION_HTTPS_PRIORITIES, TLS_PRIORITIES, MHD_OPTION_END);
    if (!server->daemon) {
        return err_set(err, ERR_FATAL, "listen", "cannot listen on %s port %u", config->host,
                       config->port);
    }
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_BIND_PORT);
    server->port = info ? info->port : config->port;
    metrics_collect(show_connections, server);
    server->has_reaper = pthread_create(&server->reaper, NULL, reaper_main, server) == 0;
    return 0;
}

void server_quiesce(struct server *server)
{
    if (!server->daemon || server->draining) {
        return;
    }
    server->draining = true;
    int fd = MHD_quiesce_daemon(server->daemon);
    if (fd >= 0) {
        close(fd);
    }
}

bool server_cut(struct server *server, unsigned wait_ms)
{
    uint64_t until = clock_mono_ms() + wait_ms;

    do {
        bool held = false;
        pthread_mutex_lock(&server->lock);
        for (struct conn_entry *e = server->conns; e; e = e->next) {
            if (e->fd >= 0) {
                shutdown(e->fd, SHUT_RDWR);
            }
            if (e->ex) {
                pthread_mutex_lock(&e->ex->lock);
                held = held || (e->ex->suspended && e->ex->phase != EX_SENT);
                if (e->ex->phase == EX_SENT) { /* answers: the producer finds the client gone */
                    e->ex->ring_eof = true;
                    exchange_wake(e->ex);
                }
                pthread_mutex_unlock(&e->ex->lock);
            }
        }
        held = held || server->n_active > 0;
        pthread_mutex_unlock(&server->lock);
        if (!held) {
            return true;
        }
        usleep(20000);
    } while (clock_mono_ms() < until);
    return false;
}

void server_stop(struct server *server)
{
    pthread_mutex_lock(&server->lock);
    server->stop = true;
    pthread_mutex_unlock(&server->lock);
    if (server->has_reaper) {
        pthread_join(server->reaper, NULL);
        server->has_reaper = false;
    }
    if (server->daemon) {
        metrics_uncollect(show_connections, server);
        MHD_stop_daemon(server->daemon);
        server->daemon = NULL;
    }
}
