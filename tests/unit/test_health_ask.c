/* SPDX-License-Identifier: Apache-2.0 */
/* The probe server, asked as the health check of a container asks it. */
#include "libcommon/health.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static int check_flag(void *arg, struct err *err)
{
    return atomic_load((atomic_bool *)arg)
               ? 0
               : err_set(err, ERR_TRANSIENT, "away", "the server went fishing");
}

static void test_ask_says_what_readyz_says(void **state)
{
    atomic_bool up = true;
    const struct health_dep dep = {
        .name = "pond", .required = true, .check = check_flag, .arg = &up};
    struct health *health = NULL;
    const struct err none = ERR_INIT;
    struct err err = none;

    (void)state;
    assert_int_equal(health_start("127.0.0.1", 0, &dep, 1, &health, &err), 0);
    const int port = health_port(health);

    for (int i = 0; i < 1000 && health_ask("0.0.0.0", port, &err) != 0; i++) {
        usleep(10000);
    }
    assert_int_equal(health_ask("127.0.0.1", port, &err), 0);

    atomic_store(&up, false);
    for (int i = 0; i < 1000 && health_ask("127.0.0.1", port, &err) == 0; i++) {
        usleep(10000);
    }
    err = none;
    assert_int_equal(health_ask("127.0.0.1", port, &err), -1);
    assert_string_equal(err.code, "not_ready");
    assert_non_null(strstr(err.msg, "pond"));
    health_stop(health);

    err = none;
    assert_int_equal(health_ask("127.0.0.1", port, &err), -1);
    assert_non_null(strstr(err.msg, "asking the probe port"));
}

/* Something else listens there: bytes that are no HTTP, and an answer without an end. */
static void test_ask_believes_http_only(void **state)
{
    static const char *const answers[] = {"SSH-2.0-x\r\n", "", "HTTP/1.1"};
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    const int listener = socket(AF_INET, SOCK_STREAM, 0);

    (void)state;
    assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(listener, 4), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct err err = ERR_INIT;
        const pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
            char request[256];
            const int fd = accept(listener, NULL, NULL);

            if (recv(fd, request, sizeof(request), 0) <= 0 ||
                send(fd, answers[i], strlen(answers[i]), 0) < 0) {
                _exit(1);
            }
            _exit(0);
        }
        assert_int_equal(health_ask("127.0.0.1", ntohs(addr.sin_port), &err), -1);
    }
    close(listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ask_says_what_readyz_says),
        cmocka_unit_test(test_ask_believes_http_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
