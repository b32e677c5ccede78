/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The office cage: units write to a temporary folder and still never meet, with namespaces or,
 * where the kernel refuses those, one after the other.
 */
#include "libcommon/jail.h"

#include "libcommon/jget.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct jail *jail;
static char tmpdir[64] = "/tmp/test_jail_office.XXXXXX";

static int64_t member(const struct frame *frame, const char *name)
{
    int64_t value = -1;

    assert_int_equal(jget_int(frame->meta, name, 0, 9, &value, NULL), 0);
    return value;
}

/* Runs in threads too, so it returns what it saw instead of asserting. */
static int work(int ms, struct frames **ret_frames, struct err *err)
{
    CLEANUP(json_cleanup) json_t *params = json_pack("{s:i}", "ms", ms);
    const struct jail_request request = {.op = "work",
                                         .params = params,
                                         .input_fd = -1,
                                         .aux_fd = -1,
                                         .limits = {.as_bytes = 2ULL << 30, .wall_ms = 30000}};

    return jail_run(jail, &request, ret_frames, NULL, err);
}

static void assert_clean(struct frames *frames)
{
    struct frame frame;

    assert_int_equal(frames_next(frames, &frame, NULL), 1);
    assert_int_equal(member(&frame, "found"), 0);
    assert_int_equal(member(&frame, "wrote"), 2);
    assert_int_equal(member(&frame, "outside"), 0);
    assert_int_equal(member(&frame, "shared"), 1);
    assert_int_equal(member(&frame, "net"), 0);
}

static void test_apart(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        CLEANUP(frames_cleanup) struct frames *frames = NULL;
        struct err err = ERR_INIT;
        if (work(0, &frames, &err) < 0) {
            fail_msg("%s: %s", err.code, err.msg);
        }
        assert_clean(frames);
    }
}

static void test_abort(void **state)
{
    const struct jail_request request = {.op = "abort", .input_fd = -1, .aux_fd = -1};
    struct frames *frames = NULL;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(jail_run(jail, &request, &frames, NULL, &err), -1);
    assert_int_equal(err.class, ERR_UNKNOWN);
    assert_string_equal(err.code, "child_crashed");
}

struct worker {
    pthread_t thread;
    struct frames *frames;
    int rc;
};

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    struct err err = ERR_INIT;

    worker->rc = work(100, &worker->frames, &err);
    return NULL;
}

static void test_apart_at_once(void **state)
{
    struct worker workers[4] = {{0}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(workers); i++) {
        assert_int_equal(pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(workers); i++) {
        pthread_join(workers[i].thread, NULL);
        assert_int_equal(workers[i].rc, 0);
        assert_clean(workers[i].frames);
        frames_free(workers[i].frames);
    }
}

static int start(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    if (!mkdtemp(tmpdir)) {
        return -1;
    }
    setenv("TMPDIR", tmpdir, 1);
    if (jail_start("jail_office_zygote", NULL, &jail, &err) < 0) {
        print_error("%s: %s\n", err.code, err.msg);
        return -1;
    }
    print_message("office units %s\n", jail_degraded(jail) ? "one by one" : "in namespaces");
    return 0;
}

static int stop(void **state)
{
    char path[128];

    (void)state;
    jail_free(STEAL(jail));
    snprintf(path, sizeof(path), "%s/luabc.tmp/luxyz.tmp", tmpdir);
    rmdir(path);
    snprintf(path, sizeof(path), "%s/luabc.tmp", tmpdir);
    rmdir(path);
    return rmdir(tmpdir); /* fails when a unit left something */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_apart),
        cmocka_unit_test(test_abort),
        cmocka_unit_test(test_apart_at_once),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
