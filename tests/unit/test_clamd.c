/* SPDX-License-Identifier: Apache-2.0 */
/* SRCS: services/scan-worker/clamd.c */
/*
 * What the scanner's client makes of answers, of silence and of connections that end.
 */
#include "services/scan-worker/clamd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BYTES_MAX (4U << 20)

/* A daemon for one connection. */
static struct daemon {
    const char *answer;
    size_t answer_len;
    size_t enough; /* answers after so many bytes; 0: at the end */
    bool silent;
    int listener;
    pthread_t thread;
    char *got; /* the file as it arrived */
    size_t got_len;
    bool ended; /* the chunk of length zero came */
} d;

static bool take(int sock, void *to, size_t len)
{
    return recv(sock, to, len, MSG_WAITALL) == (ssize_t)len;
}

static void read_file(int sock)
{
    char command[sizeof("zINSTREAM")];
    uint32_t len;

    if (!take(sock, command, sizeof(command)) || memcmp(command, "zINSTREAM", 10) != 0) {
        return;
    }
    while (take(sock, &len, sizeof(len))) {
        len = ntohl(len);
        if (len == 0) {
            d.ended = true;
            return;
        }
        if (d.got_len + len > BYTES_MAX || !take(sock, d.got + d.got_len, len)) {
            return;
        }
        d.got_len += len;
        if (d.enough > 0 && d.got_len >= d.enough) {
            return;
        }
    }
}

static void *serve(void *arg)
{
    int sock = accept(d.listener, NULL, NULL);

    (void)arg;
    read_file(sock);
    if (d.silent) {
        char c;
        (void)!recv(sock, &c, 1, 0); /* until the client has had enough */
    } else {
        (void)!send(sock, d.answer, d.answer_len, MSG_NOSIGNAL);
    }
    close(sock);
    return NULL;
}

static void start(const char *answer, size_t len, char address[32])
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(in);

    d = (struct daemon){.answer = answer, .answer_len = len, .got = malloc(BYTES_MAX)};
    assert_non_null(d.got);
    d.listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(d.listener, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(listen(d.listener, 1), 0);
    assert_int_equal(getsockname(d.listener, (struct sockaddr *)&in, &size), 0);
    snprintf(address, 32, "127.0.0.1:%d", ntohs(in.sin_port));
}

static void stop(void)
{
    pthread_join(d.thread, NULL);
    close(d.listener);
    free(d.got);
}

static int file_of(const char *bytes, size_t len)
{
    int fd = fileno(tmpfile()); /* closed with the process */

    assert_int_equal(write(fd, bytes, len), (ssize_t)len);
    return fd;
}

static int scan(const char *address, int fd, unsigned timeout_ms, enum clamd_verdict *verdict,
                char name[CLAMD_NAME_MAX], struct err *err)
{
    const struct clamd clamd = {.address = address, .timeout_ms = timeout_ms, .connect_ms = 5000};

    assert_int_equal(pthread_create(&d.thread, NULL, serve, NULL), 0);
    return clamd_scan(&clamd, fd, NULL, verdict, name, err);
}

static void test_answers(void **state)
{
    static const struct {
        const char *answer;
        int r;
        enum clamd_verdict verdict;
        const char *name;
    } cases[] = {
        {"stream: OK", 0, CLAMD_CLEAN, ""},
        {"stream: OK\n", 0, CLAMD_CLEAN, ""},
        {"stream: Win.Test.EICAR_HDB-1 FOUND", 0, CLAMD_FOUND, "Win.Test.EICAR_HDB-1"},
        {"stream: a\"b\\c\x01 FOUND", 0, CLAMD_FOUND, "a?b?c?"},
        {"INSTREAM size limit exceeded. ERROR", 0, CLAMD_TOO_LARGE, ""},
        {"stream: Can't allocate memory ERROR", -1, CLAMD_CLEAN, ""},
        {"stream: ", -1, CLAMD_CLEAN, ""},
        {"UNKNOWN COMMAND", -1, CLAMD_CLEAN, ""},
        {"HTTP/1.1 200 OK\r\n", -1, CLAMD_CLEAN, ""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char address[32], name[CLAMD_NAME_MAX] = "-";
        enum clamd_verdict verdict = CLAMD_FOUND;
        struct err err = ERR_INIT;
        int fd = file_of("words", 5);

        start(cases[i].answer, strlen(cases[i].answer) + 1, address);
        assert_int_equal(scan(address, fd, 10000, &verdict, name, &err), cases[i].r);
        stop();
        assert_true(d.ended);
        assert_int_equal(d.got_len, 5);
        if (cases[i].r == 0) {
            assert_int_equal(verdict, cases[i].verdict);
            assert_string_equal(name, cases[i].name);
        } else {
            assert_string_equal(err.code, "scan_failed");
            assert_int_equal(err.class, ERR_UNKNOWN);
        }
        close(fd);
    }
}

/* A name longer than there is room for is cut, and no answer overflows. */
static void test_long_name(void **state)
{
    char answer[1100], address[32], name[CLAMD_NAME_MAX];
    enum clamd_verdict verdict;
    struct err err = ERR_INIT;
    int fd = file_of("words", 5);

    (void)state;
    snprintf(answer, sizeof(answer), "stream: %0*d FOUND", 900, 7);
    start(answer, strlen(answer) + 1, address);
    assert_int_equal(scan(address, fd, 10000, &verdict, name, &err), 0);
    stop();
    assert_int_equal(verdict, CLAMD_FOUND);
    assert_int_equal(strlen(name), CLAMD_NAME_MAX - 1);
    memset(answer, 'x', sizeof(answer));
    start(answer, sizeof(answer), address);
    assert_int_equal(scan(address, fd, 10000, &verdict, name, &err), -1);
    stop();
    assert_string_equal(err.code, "scan_failed");
    close(fd);
}

/* All bytes arrive in their order, over many chunks; also none at all. */
static void test_bytes(void **state)
{
    size_t len = (1U << 20) + 12345;
    char *bytes = malloc(len), address[32], name[CLAMD_NAME_MAX];
    enum clamd_verdict verdict;
    struct err err = ERR_INIT;

    (void)state;
    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (char)(i * 2654435761U >> 13);
    }
    int fd = file_of(bytes, len);
    start("stream: OK", 11, address);
    assert_int_equal(scan(address, fd, 10000, &verdict, name, &err), 0);
    pthread_join(d.thread, NULL);
    assert_int_equal(d.got_len, len);
    assert_memory_equal(d.got, bytes, len);
    close(d.listener);
    free(d.got);
    free(bytes);
    close(fd);

    fd = file_of("", 0);
    start("stream: OK", 11, address);
    assert_int_equal(scan(address, fd, 10000, &verdict, name, &err), 0);
    stop();
    assert_true(d.ended);
    close(fd);
}

/* The daemon has had enough before the end, says so and closes. */
static void test_enough(void **state)
{
    size_t len = 3U << 20;
    char *bytes = calloc(1, len), address[32], name[CLAMD_NAME_MAX];
    enum clamd_verdict verdict;
    struct err err = ERR_INIT;
    int fd = file_of(bytes, len);

    (void)state;
    start("INSTREAM size limit exceeded. ERROR", 36, address);
    d.enough = 65536;
    int r = scan(address, fd, 10000, &verdict, name, &err);
    /* What it said may be lost with the connection it resets: then the unit comes back later. */
    if (r == 0) {
        assert_int_equal(verdict, CLAMD_TOO_LARGE);
    } else {
        assert_string_equal(err.code, "scanner_unavailable");
    }
    stop();
    free(bytes);
    close(fd);
}

static void check_away(int r, const struct err *err)
{
    assert_int_equal(r, -1);
    assert_int_equal(err->class, ERR_TRANSIENT);
    assert_string_equal(err->code, "scanner_unavailable");
}

static void test_away(void **state)
{
    char address[32], name[CLAMD_NAME_MAX];
    enum clamd_verdict verdict;
    struct err err = ERR_INIT;
    int fd = file_of("words", 5);

    (void)state;
    start("", 0, address); /* closes without a word */
    check_away(scan(address, fd, 10000, &verdict, name, &err), &err);
    stop();
    start("", 0, address);
    d.silent = true;
    check_away(scan(address, fd, 300, &verdict, name, &err), &err);
    stop();
    const struct clamd nobody = {.address = "127.0.0.1:1", .timeout_ms = 5000, .connect_ms = 5000};
    check_away(clamd_scan(&nobody, fd, NULL, &verdict, name, &err), &err);
    const struct clamd no_socket = {
        .address = "unix:/nonexistent/clamd.sock", .timeout_ms = 5000, .connect_ms = 5000};
    check_away(clamd_scan(&no_socket, fd, NULL, &verdict, name, &err), &err);
    atomic_bool cancel = true;
    start("stream: OK", 11, address);
    const struct clamd clamd = {.address = address, .timeout_ms = 5000, .connect_ms = 5000};
    assert_int_equal(pthread_create(&d.thread, NULL, serve, NULL), 0);
    assert_int_equal(clamd_scan(&clamd, fd, &cancel, &verdict, name, &err), -1);
    assert_string_equal(err.code, "aborted");
    stop();
    close(fd);
}

static void test_addresses(void **state)
{
    static const char *const good[] = {"clamd:3310", "127.0.0.1:3310", "[::1]:3310",
                                       "unix:/run/clamav/clamd.ctl"};
    static const char *const bad[] = {
        "",        "clamd",        "clamd:",         ":3310",
        "clamd:x", "clamd:123456", "unix:clamd.ctl", "/run/clamd.ctl"};
    struct err err = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(clamd_check_address(good[i], &err), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(clamd_check_address(bad[i], &err), -1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers), cmocka_unit_test(test_long_name),
        cmocka_unit_test(test_bytes),   cmocka_unit_test(test_enough),
        cmocka_unit_test(test_away),    cmocka_unit_test(test_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
