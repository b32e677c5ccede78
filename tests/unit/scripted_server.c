/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See scripted_server.h. Fails the test at once when the system refuses a socket.
 */
#include "tests/unit/scripted_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct scripted_server server;
static pthread_t server_thread;

static size_t content_length(const char *head)
{
    const char *p = strcasestr(head, "\r\nContent-Length:");

    return p ? strtoul(p + 17, NULL, 10) : 0;
}

/* Reads one request whole; false when the connection ended. */
static bool read_request(int fd)
{
    server.in_len = 0;
    for (;;) {
        server.in[server.in_len] = '\0';
        const char *end = strstr(server.in, "\r\n\r\n");
        if (end) {
            size_t head = (size_t)(end - server.in) + 4;
            bool chunked = strcasestr(server.in, "Transfer-Encoding: chunked") != NULL;
            if (chunked ? strstr(end, "\r\n0\r\n\r\n") != NULL
                        : server.in_len >= head + content_length(server.in)) {
                memcpy(server.last, server.in, server.in_len + 1);
                return true;
            }
        }
        ssize_t n =
            recv(fd, server.in + server.in_len, SCRIPTED_REQUEST_MAX - 1 - server.in_len, 0);
        if (n <= 0) {
            return false;
        }
        server.in_len += (size_t)n;
    }
}

static void send_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n <= 0) {
            return;
        }
        data += n;
        len -= (size_t)n;
    }
}

/* True when the connection stays. */
static bool do_step(int fd, const struct step *step)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};

    usleep(step->silence_ms * 1000);
    if (step->answer) {
        send_all(fd, step->answer, strlen(step->answer));
    }
    if (step->reset) {
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    }
    return !step->reset && !step->close;
}

static void *serve(void *ctx)
{
    (void)ctx;
    for (;;) {
        int fd = accept(server.listener, NULL, NULL);
        if (fd < 0) {
            return NULL;
        }
        atomic_fetch_add(&server.connections, 1);
        bool stays = true;
        while (stays && read_request(fd)) {
            int i = atomic_fetch_add(&server.requests, 1);
            stays = i < server.n_steps && do_step(fd, &server.steps[i]);
        }
        close(fd);
    }
}

int server_start(const struct step *steps, int n_steps)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);

    server.steps = steps;
    server.n_steps = n_steps;
    server.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(server.listener >= 0);
    assert_int_equal(bind(server.listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(server.listener, 16), 0);
    assert_int_equal(getsockname(server.listener, (struct sockaddr *)&addr, &len), 0);
    atomic_store(&server.requests, 0);
    atomic_store(&server.connections, 0);
    assert_int_equal(pthread_create(&server_thread, NULL, serve, NULL), 0);
    return ntohs(addr.sin_port);
}

void server_stop(void)
{
    shutdown(server.listener, SHUT_RDWR);
    close(server.listener);
    pthread_join(server_thread, NULL);
}
