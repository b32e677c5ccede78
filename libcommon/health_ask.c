/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other end of the probe server: one process asks another whether it is ready. Plain sockets,
 * since it is a program of its own that runs every few seconds and has to start in no time.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libcommon/buf.h"
#include "libcommon/health.h"

#define ASK_TIMEOUT_S 3
#define ASK_ANSWER_MAX 8192U

/* Sends the whole request and reads to the end of the answer, each step within ASK_TIMEOUT_S. */
static int exchange(int fd, const struct sockaddr_in *addr, struct buf *answer, struct err *err)
{
    static const char request[] = "GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n";
    const struct timeval limit = {.tv_sec = ASK_TIMEOUT_S};
    char chunk[1024];
    ssize_t n;

    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
        connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 ||
        send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(request) - 1) {
        return err_from_errno(err, errno, "asking the probe port");
    }
    while ((n = recv(fd, chunk, sizeof(chunk), 0)) > 0) {
        if (buf_append(answer, chunk, (size_t)n, err) < 0) {
            return -1;
        }
    }
    return n < 0 ? err_from_errno(err, errno, "no answer from the probe port") : 0;
}

int health_ask(const char *address, int port, struct err *err)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    CLEANUP(fd_cleanup) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CLEANUP(buf_done) struct buf answer;

    buf_init(&answer, ASK_ANSWER_MAX);
    if (fd < 0) {
        return err_from_errno(err, errno, "socket");
    }
    if (inet_pton(AF_INET, address, &addr.sin_addr) != 1) {
        return err_set(err, ERR_FATAL, "invalid_config", "probe address %s", address);
    }
    if (addr.sin_addr.s_addr == htonl(INADDR_ANY)) {
        addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    }
    if (exchange(fd, &addr, &answer, err) < 0) {
        return -1;
    }
    const char *body = answer.data ? strstr(answer.data, "\r\n\r\n") : NULL;
    const char *status = answer.data ? strchr(answer.data, ' ') : NULL;

    if (!status || strncmp(answer.data, "HTTP/1.", 7) != 0) {
        return err_set(err, ERR_TRANSIENT, "not_ready", "the probe port does not speak HTTP");
    }
    if (strncmp(status, " 200", 4) != 0) {
        return err_set(err, ERR_TRANSIENT, "not_ready", "%s", body ? body + 4 : status);
    }
    return 0;
}
