/* SPDX-License-Identifier: Apache-2.0 */
/* PKGS: libcurl */
/*
 * Probes: when a dependency counts as down and up again, what a check that hangs does not hide, and
 * that only a loop that is stuck makes /livez fail.
 */
#include "libcommon/health.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "libcommon/http.h"
#include "libcommon/metrics.h"

#define QUICK_MS 20U

static struct http_client *client;

/* A dependency as the test wants it. */
struct fake {
    atomic_bool up;
    atomic_int checks, fail_once;
    atomic_bool hold; /* the check does not come back */
};

static int check_fake(void *arg, struct err *err)
{
    struct fake *fake = arg;

    atomic_fetch_add(&fake->checks, 1);
    while (atomic_load(&fake->hold)) {
        usleep(1000);
    }
    if (atomic_load(&fake->fail_once) > 0) {
        atomic_fetch_sub(&fake->fail_once, 1);
        return err_set(err, ERR_TRANSIENT, "x", "hiccup");
    }
    return atomic_load(&fake->up) ? 0 : err_set(err, ERR_TRANSIENT, "x", "it is \"away\"");
}

static int get(struct health *health, const char *path, char *body, size_t size)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    struct err err = ERR_INIT;
    char url[80];

    snprintf(url, sizeof(url), "http://127.0.0.1:%d%s", health_port(health), path);
    if (http_call(client, &(struct http_request){.url = url}, &resp, &err) < 0) {
        fail_msg("%s: %s", url, err.msg);
    }
    snprintf(body, size, "%.*s", (int)resp.body.len, resp.body.data ? resp.body.data : "");
    return resp.status;
}

static void wait_body(struct health *health, const char *path, int status, const char *want)
{
    char body[65536];
    int got = 0;

    for (int i = 0; i < 3000; i++) {
        got = get(health, path, body, sizeof(body));
        if (got == status && strstr(body, want)) {
            return;
        }
        usleep(10000);
    }
    fail_msg("%s: %d, %.2000s", path, got, body);
}

static struct health *start(struct fake *needed, struct fake *other)
{
    const struct health_dep deps[] = {{"needed", check_fake, needed, QUICK_MS, true},
                                      {"other", check_fake, other, QUICK_MS, false}};
    struct health *health = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(health_start("127.0.0.1", 0, deps, 2, &health, &err), 0);
    return health;
}

static void test_down_and_up_again(void **state)
{
    struct fake needed = {.up = true}, other = {.up = true};
    struct health *health = start(&needed, &other);

    (void)state;
    wait_body(health, "/readyz", 200, "\"needed\":{\"up\":true,\"required\":true,\"reason\":\"\"}");
    atomic_store(&other.up, false);
    wait_body(health, "/readyz", 200, "\"other\":{\"up\":false,\"required\":false");
    wait_body(health, "/metrics", 200, "docfleet_dependency_up{dependency=\"other\"} 0\n");
    wait_body(health, "/metrics", 200, "docfleet_dependency_up{dependency=\"needed\"} 1\n");
    atomic_store(&needed.up, false);
    wait_body(health, "/readyz", 503, "\"reason\":\"it is  away \"");
    wait_body(health, "/livez", 200, "ok");
    atomic_store(&needed.up, true);
    atomic_store(&other.up, true);
    wait_body(health, "/readyz", 200, "\"needed\":{\"up\":true");
    wait_body(health, "/metrics", 200, "docfleet_dependency_up{dependency=\"other\"} 1\n");
    health_drain(health);
    wait_body(health, "/readyz", 503, "\"draining\":true");
    health_stop(health);
}

/* One failed check is a hiccup; of the first check ever nobody knows better. */
static void test_one_failure_is_no_outage(void **state)
{
    struct fake needed = {.up = true}, other = {.up = false};
    struct health *health = start(&needed, &other);
    char body[4096];

    (void)state;
    wait_body(health, "/readyz", 200, "\"other\":{\"up\":false");
    wait_body(health, "/readyz", 200, "\"needed\":{\"up\":true");
    for (int round = 0; round < 5; round++) {
        atomic_store(&needed.fail_once, 1);
        for (int before = atomic_load(&needed.checks); atomic_load(&needed.checks) < before + 3;) {
            assert_int_equal(get(health, "/readyz", body, sizeof(body)), 200);
        }
    }
    health_stop(health);
}

/* The others are checked all the same. */
static void test_a_check_that_hangs(void **state)
{
    struct fake needed = {.up = true}, other = {.up = true, .hold = true};
    struct health *health = start(&needed, &other);

    (void)state;
    wait_body(health, "/readyz", 200,
              "\"other\":{\"up\":false,\"required\":false,\"reason\":\"not "
              "checked yet\"}");
    atomic_store(&needed.up, false);
    wait_body(health, "/readyz", 503, "\"needed\":{\"up\":false");
    atomic_store(&needed.up, true);
    wait_body(health, "/readyz", 200, "\"needed\":{\"up\":true");
    wait_body(health, "/readyz", 200, "no answer for a long time"); /* after 15 s */
    wait_body(health, "/metrics", 200, "docfleet_dependency_up{dependency=\"other\"} 0\n");
    atomic_store(&other.hold, false);
    wait_body(health, "/readyz", 200, "\"other\":{\"up\":true");
    health_stop(health);
}

static void test_only_a_stuck_loop_fails_livez(void **state)
{
    struct fake needed = {.up = false}, other = {.up = false};
    struct health *health = start(&needed, &other);
    int quick = health_pulse(health, "a quick loop", 50),
        slow = health_pulse(health, "slow", 60000);

    (void)state;
    wait_body(health, "/readyz", 503, "\"needed\":{\"up\":false");
    wait_body(health, "/livez", 200, "ok"); /* neither has begun */
    health_beat(health, slow);
    health_beat(health, quick);
    wait_body(health, "/livez", 503, "a quick loop has not come round for 0 s\n");
    health_beat(health, quick);
    health_rest(health, quick);
    usleep(100000);
    wait_body(health, "/livez", 200, "ok"); /* it has ended */
    health_beat(health, quick);
    wait_body(health, "/livez", 503, "a quick loop");
    health_drain(health);
    wait_body(health, "/livez", 200, "ok"); /* its end has a limit of its own */
    health_beat(health, -1);
    health_stop(health);
}

static int open_client(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    return http_client_new(NULL, &client, &err);
}

static int close_client(void **state)
{
    (void)state;
    http_client_free(client);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_down_and_up_again),
        cmocka_unit_test(test_one_failure_is_no_outage),
        cmocka_unit_test(test_a_check_that_hangs),
        cmocka_unit_test(test_only_a_stuck_loop_fails_livez),
    };
    return cmocka_run_group_tests(tests, open_client, close_client);
}
