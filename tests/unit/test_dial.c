/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which addresses are understood, and that a connection is made, or is told why not.
 */
#include "libcommon/dial.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void test_forms(void **state)
{
    static const struct {
        const char *text, *port, *host, *ret_port;
    } good[] = {
        {"kafka:9092", NULL, "kafka", "9092"},
        {"[::1]:3310", NULL, "::1", "3310"},
        {"127.0.0.1:1", "5", "127.0.0.1", "1"},
        {"store.example", "443", "store.example", "443"},
        {"[fe80::1%lo]", "80", "fe80::1%lo", "80"},
        {"a:65535", NULL, "a", "65535"},
    };
    static const char *const bad[] = {"",      ":1",   "a:",     "a:b",      "a:1x",   "[::1]",
                                      "[::1",  "[]:1", "::1",    "a:123456", "[::1]1", "a",
                                      "a:1:2", "/a:1", "unix:x", "[::1]:",   "[::1]:x"};
    char longest[300];
    struct dial_place place;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(dial_parse(good[i].text, strlen(good[i].text), good[i].port, &place));
        assert_string_equal(place.host, good[i].host);
        assert_string_equal(place.port, good[i].ret_port);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(dial_parse(bad[i], strlen(bad[i]), NULL, &place));
    }
    /* A part of a list. */
    assert_true(dial_parse("a:1,b:2", 3, NULL, &place));
    assert_string_equal(place.port, "1");
    memset(longest, 'a', sizeof(longest));
    assert_true(dial_parse(longest, 255, "1", &place));
    assert_false(dial_parse(longest, 256, "1", &place));
    assert_true(dial_is_unix("unix:/run/x"));
    assert_false(dial_is_unix("unix:run/x"));
    snprintf(longest, sizeof(longest), "unix:/%0150d", 0);
    assert_false(dial_is_unix(longest));
}

/* A server on a free port, or in a file; returns it and its address. */
static int serve(int family, const char *path, char address[200])
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(in);
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    if (family == AF_UNIX) {
        snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
        snprintf(address, 200, "unix:%s", path);
        assert_int_equal(bind(fd, (const struct sockaddr *)&un, sizeof(un)), 0);
    } else {
        assert_int_equal(bind(fd, (const struct sockaddr *)&in, sizeof(in)), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
        snprintf(address, 200, "localhost:%u", ntohs(in.sin_port));
    }
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static void test_connections(void **state)
{
    char dir[] = "/tmp/test_dial.XXXXXX";
    char path[64];
    char address[200];
    char byte;
    struct err err = ERR_INIT;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/s", dir);
    for (int family = AF_UNIX; family <= AF_INET; family++) {
        int server = serve(family, path, address);
        int fd = dial(address, 200, &err);
        assert_true(fd >= 0);
        /* Nobody answers: a read ends all the same. */
        assert_int_equal(recv(fd, &byte, 1, 0), -1);
        close(fd);
        close(server);
        unlink(path);
        assert_int_equal(dial(address, 200, &err), -1);
        assert_true(*err.msg != '\0');
    }
    rmdir(dir);
    assert_int_equal(dial("nonsense", 200, &err), -1);
    assert_string_equal(err.code, "usage");
    assert_int_equal(dial("no.such.host.invalid:1", 200, &err), -1);
    assert_string_equal(err.code, "dns");
    assert_int_equal(err.class, ERR_TRANSIENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms),
                                       cmocka_unit_test(test_connections)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
