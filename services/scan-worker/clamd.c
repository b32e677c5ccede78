/* SPDX-License-Identifier: Apache-2.0 */
/*
 * INSTREAM: the bytes go in chunks of a length in network order and as many bytes; a chunk of
 * length zero ends them. The answer is one line that ends with the separator of the command (z:
 * NUL). The daemon answers before the end when it has had enough, and closes: an answer is looked
 * for whenever sending fails.
 */
#include "services/scan-worker/clamd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "libcommon/dial.h"

#define CHUNK 65536U
#define REPLY_MAX 1024U
#define TICK_MS 500

struct exchange {
    const struct clamd *clamd;
    const atomic_bool *cancel;
    uint64_t until_ms; /* the whole */
    int sock;
};

static int unavailable(struct err *err, const char *what, int code)
{
    return err_set(err, ERR_TRANSIENT, "scanner_unavailable", "virus scanner: %s%s%s", what,
                   code ? ": " : "", code ? strerrordesc_np(code) : "");
}

/* Waits until the socket is ready, the exchange or this wait is over, or the unit is taken back. */
static int wait_for(const struct exchange *x, short events, unsigned most_ms, struct err *err)
{
    uint64_t until = clock_mono_ms() + most_ms;

    until = until < x->until_ms ? until : x->until_ms;
    for (;;) {
        struct pollfd p = {.fd = x->sock, .events = events};
        uint64_t now = clock_mono_ms();
        if (x->cancel && atomic_load(x->cancel)) {
            return err_set(err, ERR_TRANSIENT, "aborted", "taken back");
        }
        if (now >= until) {
            return unavailable(err, "no answer in time", 0);
        }
        uint64_t left = until - now;
        int r = poll(&p, 1, left < TICK_MS ? (int)left : TICK_MS);
        if (r > 0) {
            return 0;
        }
        if (r < 0 && errno != EINTR) {
            return unavailable(err, "poll", errno);
        }
    }
}

/* Address ---------------------------------------------------------------------------------------*/

int clamd_check_address(const char *address, struct err *err)
{
    struct dial_place place;

    if (dial_is_unix(address) || dial_parse(address, strlen(address), NULL, &place)) {
        return 0;
    }
    return err_set(err, ERR_FATAL, "invalid_config",
                   "DOCFLEET_CLAMD: %s is neither host:port nor unix:/path", address);
}

static int connect_to(struct exchange *x, const struct sockaddr *addr, socklen_t len,
                      struct err *err)
{
    int code = 0;
    socklen_t size = sizeof(code);

    x->sock = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (x->sock < 0) {
        return unavailable(err, "socket", errno);
    }
    if (connect(x->sock, addr, len) == 0) {
        return 0;
    }
    if (errno != EINPROGRESS && errno != EAGAIN) {
        return unavailable(err, "connect", errno);
    }
    if (wait_for(x, POLLOUT, x->clamd->connect_ms, err) < 0) {
        return -1;
    }
    if (getsockopt(x->sock, SOL_SOCKET, SO_ERROR, &code, &size) < 0 || code != 0) {
        return unavailable(err, "connect", code);
    }
    return 0;
}

static int reach(struct exchange *x, struct err *err)
{
    const char *address = x->clamd->address;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *list = NULL;
    struct dial_place place;
    int r = -1;

    if (dial_is_unix(address)) {
        struct sockaddr_un un = {.sun_family = AF_UNIX};
        snprintf(un.sun_path, sizeof(un.sun_path), "%s", address + 5);
        return connect_to(x, (const struct sockaddr *)&un, sizeof(un), err);
    }
    if (!dial_parse(address, strlen(address), NULL, &place)) {
        return clamd_check_address(address, err);
    }
    int code = getaddrinfo(place.host, place.port, &hints, &list);
    if (code != 0) {
        return unavailable(err, gai_strerror(code), 0);
    }
    for (struct addrinfo *a = list; a && r < 0; a = a->ai_next) {
        fd_cleanup(&x->sock);
        x->sock = -1;
        r = connect_to(x, a->ai_addr, a->ai_addrlen, err);
        if (r < 0 && strcmp(err->code, "aborted") == 0) {
            break;
        }
    }
    freeaddrinfo(list);
    return r;
}

/* Bytes -----------------------------------------------------------------------------------------*/

/* 1: the daemon has closed its side or refuses more; its answer may be there. */
static int send_all(const struct exchange *x, const void *data, size_t len, struct err *err)
{
    const char *p = data;

    while (len > 0) {
        if (wait_for(x, POLLOUT, x->clamd->connect_ms, err) < 0) {
            return -1;
        }
        ssize_t n = send(x->sock, p, len, MSG_NOSIGNAL);
        if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) {
            return 1;
        }
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            return unavailable(err, "send", errno);
        }
        p += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int send_file(const struct exchange *x, int fd, struct err *err)
{
    struct {
        uint32_t len;
        char bytes[CHUNK];
    } chunk;
    off_t at = 0;
    int r = send_all(x, "zINSTREAM", sizeof("zINSTREAM"), err);

    while (r == 0) {
        ssize_t n = pread(fd, chunk.bytes, sizeof(chunk.bytes), at);
        if (n < 0) {
            return err_from_errno(err, errno, "read");
        }
        at += n;
        chunk.len = htonl((uint32_t)n);
        r = send_all(x, &chunk, sizeof(chunk.len) + (size_t)n, err);
        if (n == 0) {
            break;
        }
    }
    return r < 0 ? -1 : 0;
}

/* The answer without its separator, at most REPLY_MAX - 1 bytes. Scanning may take all the time. */
static int read_reply(const struct exchange *x, char reply[REPLY_MAX], struct err *err)
{
    size_t len = 0;

    while (len < REPLY_MAX - 1) {
        if (wait_for(x, POLLIN, x->clamd->timeout_ms, err) < 0) {
            return -1;
        }
        ssize_t n = recv(x->sock, reply + len, REPLY_MAX - 1 - len, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            continue;
        }
        if (n < 0) {
            return unavailable(err, "receive", errno);
        }
        if (n == 0) {
            break;
        }
        len += (size_t)n;
        if (memchr(reply, '\0', len)) {
            break;
        }
    }
    reply[len] = '\0';
    return len > 0 ? 0 : unavailable(err, "the connection ended without an answer", 0);
}

static void printable(char *text)
{
    for (; *text; text++) {
        if (*text < 0x20 || *text > 0x7e || *text == '"' || *text == '\\') {
            *text = '?';
        }
    }
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);

    return n >= m && strcmp(text + n - m, end) == 0;
}

/* "stream: OK", "stream: NAME FOUND", "INSTREAM size limit exceeded. ERROR", "... ERROR". */
static int read_verdict(char *reply, enum clamd_verdict *ret_verdict, char ret_name[CLAMD_NAME_MAX],
                        struct err *err)
{
    static const char begin[] = "stream: ";
    size_t n = strcspn(reply, "\r\n");

    reply[n] = '\0';
    printable(reply);
    ret_name[0] = '\0';
    if (strcmp(reply, "stream: OK") == 0) {
        *ret_verdict = CLAMD_CLEAN;
        return 0;
    }
    if (strncmp(reply, begin, sizeof(begin) - 1) == 0 && ends_with(reply, " FOUND")) {
        reply[n - strlen(" FOUND")] = '\0';
        snprintf(ret_name, CLAMD_NAME_MAX, "%.*s", CLAMD_NAME_MAX - 1, reply + sizeof(begin) - 1);
        *ret_verdict = CLAMD_FOUND;
        return 0;
    }
    if (strstr(reply, "size limit exceeded")) {
        *ret_verdict = CLAMD_TOO_LARGE;
        return 0;
    }
    return err_set(err, ERR_UNKNOWN, "scan_failed", "virus scanner: %.200s", reply);
}

int clamd_scan(const struct clamd *clamd, int fd, const atomic_bool *cancel,
               enum clamd_verdict *ret_verdict, char ret_name[CLAMD_NAME_MAX], struct err *err)
{
    struct exchange x = {.clamd = clamd,
                         .cancel = cancel,
                         .until_ms = clock_mono_ms() + clamd->timeout_ms,
                         .sock = -1};
    char reply[REPLY_MAX];
    int r = reach(&x, err);

    r = r == 0 ? send_file(&x, fd, err) : r;
    r = r == 0 ? read_reply(&x, reply, err) : r;
    r = r == 0 ? read_verdict(reply, ret_verdict, ret_name, err) : r;
    fd_cleanup(&x.sock);
    return r;
}
