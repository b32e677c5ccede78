/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fault proxy's types. A link is a listener with one upstream and one set of faults; a
 * connection is a pair of sides. Bytes that were read from one side wait in the queue of the other
 * until they are due, in order: delay and bandwidth never reorder.
 * Invariant: one thread; a connection that dies is freed only at the end of the loop's turn.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINKS_MAX 128U
#define NAME_SIZE 64U
#define MATCH_MAX 64U
#define HTTP_HEAD_MAX 65536U
#define QUEUE_MAX (1U << 20)

enum link_mode { MODE_PASS, MODE_REFUSE, MODE_BLACKHOLE, MODE_MUTE };
/* What happens when the match is met: forward and cut, cut only, cut at the reply, one of them. */
enum match_do { DO_FORWARD, DO_DROP, DO_REPLY, DO_ANY };
enum http_fault { HTTP_NONE, HTTP_ERROR, HTTP_HANG, HTTP_TRUNCATE, HTTP_FLIP, HTTP_SWALLOW };

struct faults {
    enum link_mode mode;
    uint64_t delay_us, jitter_us; /* each way */
    uint64_t bandwidth;           /* bytes a second each way, 0: any */
    uint64_t cut_after;           /* bytes of a connection, 0: never */
    unsigned char match[MATCH_MAX];
    size_t match_len;
    double match_p;
    enum match_do match_do;
    char method[8]; /* empty: any */
    char path[64];  /* part of the request's path, empty: any */
    int error_code;
    double error_p, hang_p, truncate_p, flip_p, swallow_p;
};

struct link_stats {
    uint64_t accepted, cut, matched, up, down, requests, errors, hangs, truncated, flipped,
        swallowed, unreachable;
};

struct link {
    char name[NAME_SIZE], host[NAME_SIZE];
    uint16_t port, upstream;
    int listen_fd;
    bool http;
    struct faults faults;
    struct link_stats stats;
    uint64_t rng;
    unsigned open;
};

struct chunk {
    struct chunk *next;
    uint64_t due_us;
    size_t len, at;
    unsigned char data[];
};

struct conn;

struct side {
    struct conn *conn;
    int fd;
    bool connecting, eof, shut, close_when_empty;
    uint32_t armed;            /* what epoll watches, 0: not in it */
    struct chunk *head, *tail; /* to be written to this side */
    size_t queued;
    uint64_t last_due_us;
};

struct http_state {
    char *head; /* of the request that is being read */
    size_t head_len;
    bool in_body, until_reply; /* a chunked body ends where the reply begins */
    uint64_t body_left;
    enum http_fault fault;
    bool replied, reply_in_body;
    unsigned char reply_end[4];
    char reply_head[4096];
    size_t reply_head_len;
    uint64_t reply_left; /* of what is let through, for truncation and flipping */
};

struct conn {
    struct conn *next, *prev;
    struct link *link;
    struct side client, server;
    struct http_state http;
    uint64_t passed;
    unsigned char carry[MATCH_MAX]; /* the end of what was read, for matches over two reads */
    size_t carry_len;
    bool cut_at_reply, orphan, dead;
    uint64_t orphan_until_us;
};

uint64_t now_us(void);
/* In [0, 1). */
double link_random(struct link *link);

/* --- faultproxy_conn.c --- */
void conns_init(int epoll_fd);
void conn_accept(struct link *link);
void conn_event(struct side *side, uint32_t events);
/* Resets every connection of the link; gives how many. */
unsigned conns_cut(struct link *link);
/* After a change of faults: watches what is to be watched now. */
void conns_rearm(struct link *link);
/* Writes what has become due, frees the dead; gives the milliseconds until something is due. */
int conns_turn(void);
void conn_cut(struct conn *conn);
/* Queues bytes for a side, after the link's delay. */
void conn_send(struct side *to, const unsigned char *data, size_t len);
/* Resets the client now, lets the server finish what it was given, and drops its answer. */
void conn_orphan(struct conn *conn);

/* --- faultproxy_http.c --- */
void http_from_client(struct conn *conn, const unsigned char *data, size_t len);
void http_from_server(struct conn *conn, unsigned char *data, size_t len);
void http_done(struct http_state *http);
