/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SO_SNDTIMEO bounds connect(), too (socket(7)), so nothing here has to be non-blocking.
 */
#include "libcommon/dial.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

bool dial_parse(const char *text, size_t len, const char *port, struct dial_place *ret)
{
    const bool bracket = len > 0 && text[0] == '[';
    const char *host = bracket ? text + 1 : text;
    const char *end = memchr(host, bracket ? ']' : ':', len - (bracket ? 1 : 0));
    const char *rest = bracket && end ? end + 1 : end; /* NULL: to the end of the text */
    size_t n = end ? (size_t)(end - host) : len;
    size_t left = rest ? len - (size_t)(rest - text) : 0;

    if ((bracket && !end) || n == 0 || n >= sizeof(ret->host) || memchr(host, '/', n)) {
        return false;
    }
    if (left > 0) {
        if (rest[0] != ':' || left < 2 || left > sizeof(ret->port) ||
            strspn(rest + 1, "0123456789") < left - 1) {
            return false;
        }
        port = rest + 1;
    } else if (!port || strlen(port) >= sizeof(ret->port)) {
        return false;
    }
    memcpy(ret->host, host, n);
    ret->host[n] = '\0';
    snprintf(ret->port, sizeof(ret->port), "%.*s", left > 0 ? (int)(left - 1) : (int)strlen(port),
             port);
    return true;
}

bool dial_is_unix(const char *text)
{
    struct sockaddr_un un;

    return strncmp(text, "unix:/", 6) == 0 && strlen(text + 5) < sizeof(un.sun_path);
}

static int connect_to(const struct sockaddr *addr, socklen_t len, unsigned step_ms,
                      const char *what, struct err *err)
{
    const struct timeval step = {.tv_sec = step_ms / 1000, .tv_usec = step_ms % 1000 * 1000};
    CLEANUP(fd_cleanup) int fd = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &step, sizeof(step)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &step, sizeof(step)) < 0 ||
        connect(fd, addr, len) < 0) {
        return err_from_errno(err, errno, "%s", what);
    }
    const int connected = fd;
    fd = -1;
    return connected;
}

int dial_place(const struct dial_place *place, unsigned step_ms, struct err *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    char what[sizeof(place->host) + 16];
    int fd = -1;
    int rc = getaddrinfo(place->host, place->port, &hints, &list);

    if (rc != 0) {
        return err_set(err, ERR_TRANSIENT, "dns", "%s: %s", place->host, gai_strerror(rc));
    }
    snprintf(what, sizeof(what), strchr(place->host, ':') ? "[%s]:%s" : "%s:%s", place->host,
             place->port);
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = connect_to(a->ai_addr, a->ai_addrlen, step_ms, what, err);
    }
    freeaddrinfo(list);
    return fd;
}

int dial(const char *address, unsigned step_ms, struct err *err)
{
    struct dial_place place;

    if (dial_is_unix(address)) {
        struct sockaddr_un un = {.sun_family = AF_UNIX};
        snprintf(un.sun_path, sizeof(un.sun_path), "%s", address + 5);
        return connect_to((const struct sockaddr *)&un, sizeof(un), step_ms, address, err);
    }
    if (!dial_parse(address, strlen(address), NULL, &place)) {
        return err_set(err, ERR_PERMANENT, "usage", "%s is neither host:port nor unix:/path",
                       address);
    }
    return dial_place(&place, step_ms, err);
}
