/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP daemons: libmicrohttpd with epoll, its own threads and suspended requests, and a reaper
 * for connections that are slow on purpose.
 * Invariant: no worker's blocking call runs in a daemon thread, and every suspended request is
 * resumed before a daemon stops. One address never has more than its number of connections; a
 * trusted proxy has as many as it likes. When three quarters of all are taken, those that wait for
 * headers wait no longer than a short time.
 */
#pragma once

#include "libcommon/err.h"
#include "services/ingest-gateway/origin.h"

#include <pthread.h>

struct exchange;
struct gateway;
struct MHD_Daemon;

#define SERVER_NETS 1024U /* a power of two */

struct server_config {
    const char *name; /* api, stream: for metrics; static text */
    const char *host; /* numeric address */
    unsigned port;    /* 0: any */
    unsigned threads;
    unsigned header_timeout_ms;
    unsigned idle_timeout_s;
    unsigned slow_timeout_ms;
    unsigned min_bytes; /* a body or an answer that moves fewer in slow_timeout_ms is cut off */
    unsigned max_conns; /* 0: what descriptors allow */
    unsigned max_conns_address;
    size_t memory; /* of a connection */
    bool tls;      /* after tls_open() */
};

/* One TCP connection, from accept to close. */
struct conn_entry {
    struct conn_entry *next;
    struct conn_entry *prev;
    struct conn_entry *net_next; /* of those whose network has the same hash */
    struct conn_entry *net_prev;
    char net[ORIGIN_ADDRESS_SIZE]; /* "" : not counted */
    int fd;
    bool refused;
    struct exchange *ex; /* the request in work, or NULL */
    uint64_t since_ms;   /* the last change of ex */
    uint64_t limit_ms;   /* time the next complete headers may take */
    uint64_t checked_ms;
    uint64_t checked_bytes;
};

struct server {
    struct gateway *gw;
    struct server_config config;
    struct MHD_Daemon *daemon;
    unsigned port;
    pthread_mutex_t lock; /* of the registry; taken before an exchange's lock */
    struct conn_entry *conns;
    struct conn_entry *nets[SERVER_NETS];
    unsigned n_conns;
    unsigned max_conns;
    unsigned n_active; /* exchanges that are not freed */
    bool draining;
    bool stop;
    pthread_t reaper;
    bool has_reaper;
};

int server_start(struct server *server, struct gateway *gw, const struct server_config *config,
                 struct err *err) WARN_UNUSED;
/* Takes no further connection; answers say Connection: close. */
void server_quiesce(struct server *server);
/* Requests that are not finished. */
unsigned server_active(struct server *server);
/* Cuts what is left. Returns false when workers still hold requests: then the process must end
 * without server_stop. */
bool server_cut(struct server *server, unsigned wait_ms);
void server_stop(struct server *server);

/* Called by exchange.c. */
void server_attach(struct server *server, struct conn_entry *entry, struct exchange *ex);
void server_exchange_freed(struct server *server);
