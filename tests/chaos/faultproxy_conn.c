/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections of the fault proxy: reading, waiting until due, writing, and dying on purpose.
 * A side that nothing is wanted of leaves epoll altogether: a blackholed peer that hung up would
 * wake the loop for ever.
 */
#include "tests/chaos/faultproxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ORPHAN_US 3000000U
#define READ_SIZE 65536U

static int epoll_fd = -1;
static struct conn *conns, *graveyard;

void conns_init(int fd)
{
    epoll_fd = fd;
}

static struct side *other(struct side *side)
{
    return side == &side->conn->client ? &side->conn->server : &side->conn->client;
}

static bool not_written(const struct side *side)
{
    return side->conn->link->faults.mode == MODE_BLACKHOLE;
}

static bool not_read(const struct side *side)
{
    enum link_mode mode = side->conn->link->faults.mode;

    return mode == MODE_BLACKHOLE || (mode == MODE_MUTE && side == &side->conn->server);
}

/* Watches what is wanted of a side now. */
static void arm(struct side *side)
{
    uint32_t want = 0;

    if (side->fd < 0 || side->conn->dead) {
        return;
    }
    if (side->connecting) {
        want = EPOLLOUT;
    } else {
        if (!not_read(side) && !side->eof && other(side)->queued < QUEUE_MAX) {
            want |= EPOLLIN;
        }
        if (!not_written(side) && side->head && side->head->due_us <= now_us()) {
            want |= EPOLLOUT;
        }
    }
    if (want != side->armed) {
        struct epoll_event event = {.events = want, .data.ptr = side};
        int op = want == 0 ? EPOLL_CTL_DEL : side->armed == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
        epoll_ctl(epoll_fd, op, side->fd, &event);
        side->armed = want;
    }
}

static void side_close(struct side *side, bool reset)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};

    if (side->fd >= 0) {
        if (reset) {
            setsockopt(side->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
        }
        close(side->fd);
        side->fd = -1;
        side->armed = 0;
    }
    while (side->head) {
        struct chunk *next = side->head->next;
        free(side->head);
        side->head = next;
    }
    side->tail = NULL;
    side->queued = 0;
}

/* Takes the connection out; its memory lives until the end of the turn. */
static void bury(struct conn *conn, bool reset)
{
    if (conn->dead) {
        return;
    }
    conn->dead = true;
    conn->link->open--;
    side_close(&conn->client, reset);
    side_close(&conn->server, reset);
    if (conn->prev) {
        conn->prev->next = conn->next;
    } else {
        conns = conn->next;
    }
    if (conn->next) {
        conn->next->prev = conn->prev;
    }
    conn->next = graveyard;
    graveyard = conn;
}

void conn_cut(struct conn *conn)
{
    if (!conn->dead) {
        conn->link->stats.cut++;
        bury(conn, true);
    }
}

void conn_orphan(struct conn *conn)
{
    if (!conn->dead) {
        conn->link->stats.cut++;
        side_close(&conn->client, true);
        conn->orphan = true;
        conn->orphan_until_us = now_us() + ORPHAN_US;
    }
}

unsigned conns_cut(struct link *link)
{
    unsigned n = 0;

    for (struct conn *conn = conns, *next; conn; conn = next) {
        next = conn->next;
        if (conn->link == link) {
            conn_cut(conn);
            n++;
        }
    }
    return n;
}

/* Writing ---------------------------------------------------------------------------------------*/

static void after_write(struct side *side)
{
    if (side->head || side->connecting) {
        return;
    }
    if (side->close_when_empty) {
        bury(side->conn, false);
    } else if (other(side)->eof && !side->shut) {
        side->shut = true;
        shutdown(side->fd, SHUT_WR);
        if (side->eof || side == &side->conn->client) {
            bury(side->conn, false);
        }
    }
}

/* Writes what is due, as far as the socket takes it. */
static void flush(struct side *side)
{
    uint64_t now = now_us();

    if (side->fd < 0 || side->connecting || not_written(side)) {
        return;
    }
    while (side->head && side->head->due_us <= now) {
        struct chunk *c = side->head;
        ssize_t n = send(side->fd, c->data + c->at, c->len - c->at, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR) {
                bury(side->conn, true);
            }
            return;
        }
        c->at += (size_t)n;
        side->queued -= (size_t)n;
        if (c->at == c->len) {
            side->head = c->next;
            side->tail = side->head ? side->tail : NULL;
            free(c);
        }
    }
    after_write(side);
}

void conn_send(struct side *to, const unsigned char *data, size_t len)
{
    struct conn *conn = to->conn;
    const struct faults *faults = &conn->link->faults;
    struct chunk *c = len > 0 && !conn->dead && to->fd >= 0 ? malloc(sizeof(*c) + len) : NULL;

    if (!c) {
        return;
    }
    uint64_t due = now_us() + faults->delay_us;
    if (faults->jitter_us) {
        due += (uint64_t)((double)faults->jitter_us * link_random(conn->link));
    }
    if (faults->bandwidth) {
        uint64_t start = to->last_due_us > now_us() ? to->last_due_us : now_us();
        uint64_t paced = start + (uint64_t)len * 1000000U / faults->bandwidth;
        due = paced > due ? paced : due;
    }
    due = due < to->last_due_us ? to->last_due_us : due;
    *c = (struct chunk){.due_us = due, .len = len};
    memcpy(c->data, data, len);
    to->last_due_us = due;
    to->queued += len;
    if (to->tail) {
        to->tail->next = c;
    } else {
        to->head = c;
    }
    to->tail = c;
}

/* Reading ---------------------------------------------------------------------------------------*/

/* True when the match ends in these bytes; keeps their end for the next look. */
static bool matches(struct conn *conn, const unsigned char *data, size_t len)
{
    const struct faults *f = &conn->link->faults;
    unsigned char joined[2 * MATCH_MAX];
    bool found;

    if (f->match_len == 0 || f->match_p <= 0) {
        conn->carry_len = 0;
        return false;
    }
    size_t keep = f->match_len - 1, head = len < keep ? len : keep;
    memcpy(joined, conn->carry, conn->carry_len);
    memcpy(joined + conn->carry_len, data, head);
    found = memmem(joined, conn->carry_len + head, f->match, f->match_len) ||
            memmem(data, len, f->match, f->match_len);
    size_t total = conn->carry_len + head;
    if (len >= keep) {
        memcpy(conn->carry, data + len - keep, keep);
        conn->carry_len = keep;
    } else {
        size_t from = total > keep ? total - keep : 0;
        memmove(conn->carry, joined + from, total - from);
        conn->carry_len = total - from;
    }
    return found && link_random(conn->link) < f->match_p;
}

static void from_client(struct conn *conn, const unsigned char *data, size_t len)
{
    enum match_do what = conn->link->faults.match_do;

    if (conn->link->http) {
        http_from_client(conn, data, len);
        return;
    }
    if (!matches(conn, data, len)) {
        conn_send(&conn->server, data, len);
        return;
    }
    conn->link->stats.matched++;
    if (what == DO_ANY) {
        double r = link_random(conn->link);
        what = r < 1.0 / 3 ? DO_FORWARD : r < 2.0 / 3 ? DO_DROP : DO_REPLY;
    }
    if (what == DO_DROP) {
        conn_cut(conn);
        return;
    }
    conn_send(&conn->server, data, len);
    if (what == DO_REPLY) {
        conn->cut_at_reply = true;
    } else {
        conn_orphan(conn);
    }
}

static void from_server(struct conn *conn, unsigned char *data, size_t len)
{
    if (conn->orphan) {
        bury(conn, false); /* it has answered: what was asked is done */
    } else if (conn->cut_at_reply) {
        conn_cut(conn);
    } else if (conn->link->http) {
        http_from_server(conn, data, len);
    } else {
        conn_send(&conn->client, data, len);
    }
}

static void side_read(struct side *side)
{
    static unsigned char data[READ_SIZE];
    struct conn *conn = side->conn;
    const struct faults *faults = &conn->link->faults;
    ssize_t n = recv(side->fd, data, sizeof(data), 0);

    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            bury(conn, true);
        }
        return;
    }
    if (n == 0) {
        side->eof = true;
        if (conn->orphan) {
            bury(conn, false);
        } else {
            after_write(other(side));
        }
        return;
    }
    conn->passed += (size_t)n;
    *(side == &conn->client ? &conn->link->stats.up : &conn->link->stats.down) += (size_t)n;
    if (faults->cut_after && conn->passed >= faults->cut_after) {
        conn_cut(conn);
    } else if (side == &conn->client) {
        from_client(conn, data, (size_t)n);
    } else {
        from_server(conn, data, (size_t)n);
    }
}

/* Life ------------------------------------------------------------------------------------------*/

static void nodelay(int fd)
{
    int one = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void conn_connect(struct conn *conn)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(conn->link->upstream)};

    inet_pton(AF_INET, conn->link->host, &addr.sin_addr);
    conn->server.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    conn->server.connecting = true;
    if (conn->server.fd < 0 ||
        (connect(conn->server.fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 &&
         errno != EINPROGRESS)) {
        conn->link->stats.unreachable++;
        bury(conn, true);
        return;
    }
    nodelay(conn->server.fd);
}

void conn_accept(struct link *link)
{
    int fd = accept4(link->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct conn *conn = fd >= 0 ? calloc(1, sizeof(*conn)) : NULL;

    if (!conn) {
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    nodelay(fd);
    link->stats.accepted++;
    link->open++;
    conn->link = link;
    conn->client = (struct side){.conn = conn, .fd = fd};
    conn->server = (struct side){.conn = conn, .fd = -1};
    conn->next = conns;
    if (conns) {
        conns->prev = conn;
    }
    conns = conn;
    if (link->faults.mode != MODE_BLACKHOLE) {
        conn_connect(conn);
    }
    arm(&conn->client);
    arm(&conn->server);
}

static void connected(struct side *side)
{
    int problem = 0;
    socklen_t len = sizeof(problem);

    if (getsockopt(side->fd, SOL_SOCKET, SO_ERROR, &problem, &len) < 0 || problem) {
        side->conn->link->stats.unreachable++;
        bury(side->conn, true);
        return;
    }
    side->connecting = false;
}

void conn_event(struct side *side, uint32_t events)
{
    struct conn *conn = side->conn;

    if (conn->dead || side->fd < 0) {
        return;
    }
    if (side->connecting) {
        connected(side);
    } else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        if (!(side->armed & EPOLLIN)) {
            bury(conn, true); /* only the peer's death wakes a side that is not read */
        } else {
            side_read(side);
        }
    }
    if (!conn->dead) {
        flush(&conn->server);
    }
    if (!conn->dead) {
        flush(&conn->client);
    }
    arm(&conn->client);
    arm(&conn->server);
}

void conns_rearm(struct link *link)
{
    for (struct conn *conn = conns, *next; conn; conn = next) {
        next = conn->next;
        if (conn->link != link) {
            continue;
        }
        if (conn->server.fd < 0 && link->faults.mode != MODE_BLACKHOLE && !conn->orphan) {
            conn_connect(conn);
        }
        arm(&conn->client);
        arm(&conn->server);
    }
}

static uint64_t turn_one(struct conn *conn, uint64_t now, uint64_t next_due)
{
    struct side *sides[2] = {&conn->client, &conn->server};

    if (conn->orphan) {
        if (now >= conn->orphan_until_us) {
            bury(conn, false);
            return next_due;
        }
        next_due = conn->orphan_until_us < next_due ? conn->orphan_until_us : next_due;
    }
    for (size_t i = 0; i < 2 && !conn->dead; i++) {
        if (sides[i]->head && !not_written(sides[i])) {
            if (sides[i]->head->due_us <= now) {
                flush(sides[i]);
            } else if (sides[i]->head->due_us < next_due) {
                next_due = sides[i]->head->due_us;
            }
        }
    }
    for (size_t i = 0; i < 2 && !conn->dead; i++) {
        arm(sides[i]);
    }
    return next_due;
}

int conns_turn(void)
{
    uint64_t now = now_us(), next_due = UINT64_MAX;

    for (struct conn *conn = conns, *next; conn; conn = next) {
        next = conn->next;
        if (conn->orphan || conn->client.head || conn->server.head) {
            next_due = turn_one(conn, now, next_due);
        }
    }
    while (graveyard) {
        struct conn *next = graveyard->next;
        http_done(&graveyard->http);
        free(graveyard);
        graveyard = next;
    }
    if (next_due == UINT64_MAX) {
        return -1;
    }
    return next_due <= now ? 1 : (int)((next_due - now + 999) / 1000);
}
