/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jail against a zygote whose operations are hostile (jail_probe_zygote.c): every trial must
 * end in its class and code, cost nobody else anything, and leave no descriptor or process behind.
 */
#include "libcommon/jail.h"

#include "libcommon/jget.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static struct jail *jail;

/* A trial and what the service must be told about it. Class ERR_NONE: the unit succeeds and its
 * report has this value, a negative one meaning -errno. */
struct trial {
    const char *op;
    const char *params;
    struct jail_limits limits;
    enum err_class class;
    const char *code;
    const char *reason;
    int64_t value;
};

static const struct trial trials[] = {
    {"open", NULL, {0}, ERR_NONE, "", "ok", -EACCES},
    {"open_files", "{\"path\":\"/usr/share/doc\"}", {0}, ERR_NONE, "", "ok", 3},
    {"open_files", "{\"path\":\"/usr/share/x\",\"flags\":65}", {0}, ERR_NONE, "", "ok", -EACCES},
    {"socket", NULL, {0}, ERR_NONE, "", "ok", -EACCES},
    {"fork", NULL, {0}, ERR_NONE, "", "ok", -EAGAIN},
    {"fork_threads", NULL, {0}, ERR_NONE, "", "ok", -EAGAIN},
    {"thread", NULL, {0}, ERR_NONE, "", "ok", 1},
    {"thread_pure", NULL, {0}, ERR_NONE, "", "ok", -EAGAIN},
    {"exec_memory", NULL, {0}, ERR_NONE, "", "ok", -EACCES},
    {"exec", NULL, {0}, ERR_PERMANENT, "child_crashed", "sigsys", 0},
    {"catch_sigsys", NULL, {0}, ERR_PERMANENT, "child_crashed", "sigsys", 0},
    {"malloc", NULL, {0}, ERR_PERMANENT, "expands_too_much", "memory", 0},
    {"malloc_abort", NULL, {0}, ERR_PERMANENT, "expands_too_much", "memory", 0},
    {"malloc_abort", "{\"trap\":1}", {0}, ERR_PERMANENT, "expands_too_much", "memory", 0},
    {"malloc_pieces",
     NULL,
     {.as_bytes = 128U << 20},
     ERR_PERMANENT,
     "expands_too_much",
     "memory",
     0},
    {"flood", NULL, {.out_bytes = 4U << 20}, ERR_PERMANENT, "expands_too_much", "output", 0},
    {"segfault", NULL, {0}, ERR_UNKNOWN, "child_crashed", "crash", 0},
    {"abort", NULL, {0}, ERR_UNKNOWN, "child_crashed", "crash", 0},
    {"exit", "{\"status\":3}", {0}, ERR_UNKNOWN, "child_crashed", "crash", 0},
    {"exit", "{\"status\":0}", {0}, ERR_UNKNOWN, "child_crashed", "crash", 0},
    {"exit", "{\"status\":1}", {0}, ERR_UNKNOWN, "child_crashed", "error", 0},
    {"liar", NULL, {0}, ERR_UNKNOWN, "child_crashed", "crash", 0},
    {"loop", NULL, {.cpu_s = 60, .wall_ms = 300}, ERR_UNKNOWN, "child_timeout", "wall", 0},
    {"loop", NULL, {.cpu_s = 1, .wall_ms = 60000}, ERR_UNKNOWN, "child_timeout", "cpu", 0},
    {"sleep", NULL, {.wall_ms = 200}, ERR_UNKNOWN, "child_timeout", "wall", 0},
    {"fail", NULL, {0}, ERR_PERMANENT, "encrypted", "error", 0},
    {"fail", "{\"class\":\"transient\"}", {0}, ERR_TRANSIENT, "encrypted", "error", 0},
    {"fail", "{\"class\":\"fatal\"}", {0}, ERR_UNKNOWN, "encrypted", "error", 0},
    {"nobody_knows_it", NULL, {0}, ERR_UNKNOWN, "internal", "error", 0},
    /* 0, 1, 2 and the output; no secret in the environment */
    {"look", NULL, {0}, ERR_NONE, "", "ok", 0x17},
};

/* Without Landlock the filter alone lets files be read. */
static const struct trial landlock_trials[] = {
    {"open_files", NULL, {0}, ERR_NONE, "", "ok", -EACCES},
    {"open_files", "{\"path\":\"/proc/self/environ\"}", {0}, ERR_NONE, "", "ok", -EACCES},
};

static int run_op(const char *op, const json_t *params, struct jail_limits limits,
                  struct frames **ret_frames, struct jail_usage *usage, struct err *err)
{
    const struct jail_request request = {
        .op = op, .params = params, .input_fd = -1, .aux_fd = -1, .limits = limits};

    return jail_run(jail, &request, ret_frames, usage, err);
}

static void assert_good_unit(void)
{
    CLEANUP(frames_cleanup) struct frames *frames = NULL;
    struct jail_usage usage;
    struct frame frame;
    struct err err = ERR_INIT;

    int rc = run_op("empty", NULL, (struct jail_limits){0}, &frames, &usage, &err);
    if (rc < 0) {
        fail_msg("a good unit failed: %s: %s", err.code, err.msg);
    }
    assert_string_equal(usage.reason, "ok");
    assert_int_equal(frames_next(frames, &frame, &err), 1);
    assert_string_equal(frame.type, "end");
    assert_int_equal(frames_next(frames, &frame, &err), 0);
}

static int64_t reported(struct frames *frames)
{
    struct frame frame = {0};
    int64_t value = 0, errnum = 0;

    assert_int_equal(frames_next(frames, &frame, NULL), 1);
    assert_string_equal(frame.type, "report");
    assert_int_equal(jget_int(frame.meta, "value", INT64_MIN, INT64_MAX, &value, NULL), 0);
    assert_int_equal(jget_int(frame.meta, "errno", 0, 4096, &errnum, NULL), 0);
    assert_int_equal(frames_next(frames, &frame, NULL), 1);
    assert_int_equal(frames_next(frames, &frame, NULL), 0);
    return value < 0 ? -errnum : value;
}

static void run_trials(const struct trial *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct trial *trial = &list[i];
        CLEANUP(frames_cleanup) struct frames *frames = NULL;
        CLEANUP(json_cleanup)
        json_t *params = trial->params ? json_loads(trial->params, 0, NULL) : NULL;
        struct jail_usage usage = {0};
        struct err err = ERR_INIT;

        int pid = jail_pid(jail);
        int rc = run_op(trial->op, params, trial->limits, &frames, &usage, &err);
        bool right = (rc == 0) == (trial->class == ERR_NONE) && err.class == trial->class &&
                     strcmp(err.code, trial->code) == 0 && strcmp(usage.reason, trial->reason) == 0;
        if (!right) {
            fail_msg("trial %zu %s: %d %s %s %s (%s)", i, trial->op, rc, err_class_name(err.class),
                     err.code, usage.reason, err.msg);
        }
        if (rc == 0) {
            int64_t value = reported(frames);
            if (value != trial->value) {
                fail_msg("trial %zu %s reports %lld", i, trial->op, (long long)value);
            }
        }
        if (strcmp(trial->op, "exec") == 0) {
            assert_non_null(strstr(err.msg, "execve"));
        }
        assert_good_unit();
        assert_int_equal(jail_pid(jail), pid);
    }
}

static void test_trials(void **state)
{
    (void)state;
    run_trials(trials, ARRAY_LEN(trials));
}

static void test_landlock(void **state)
{
    (void)state;
    if (jail_degraded(jail)) {
        skip();
    }
    run_trials(landlock_trials, ARRAY_LEN(landlock_trials));
}

/* The zygote is one of us to the kernel: only the filter keeps children from killing it. */
static void test_kill_zygote(void **state)
{
    (void)state;
    for (int tgkill = 0; tgkill < 2; tgkill++) {
        CLEANUP(frames_cleanup) struct frames *frames = NULL;
        int pid = jail_pid(jail);
        CLEANUP(json_cleanup)
        json_t *params = json_pack("{s:i,s:i}", "pid", pid, "tgkill", tgkill);
        struct jail_usage usage = {0};
        struct err err = ERR_INIT;

        assert_int_equal(
            run_op("kill_parent", params, (struct jail_limits){0}, &frames, &usage, &err), -1);
        assert_int_equal(err.class, ERR_PERMANENT);
        assert_string_equal(usage.reason, "sigsys");
        assert_non_null(strstr(err.msg, tgkill ? "tgkill" : "kill"));
        assert_good_unit();
        assert_int_equal(jail_pid(jail), pid);
    }
}

static int scratch_file(const char *text)
{
    char path[] = "/tmp/test_jail.XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);

    assert_true(fd >= 0);
    unlink(path);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    return fd;
}

static void test_input(void **state)
{
    CLEANUP(fd_cleanup) int fd = scratch_file("hello");
    CLEANUP(frames_cleanup) struct frames *frames = NULL;
    CLEANUP(json_cleanup) json_t *params = json_pack("{s:i,s:s}", "number", 42, "text", "ä");
    struct jail_request request = {.op = "echo", .params = params, .input_fd = fd, .aux_fd = fd};
    struct err err = ERR_INIT;
    struct frame frame;
    const char *text = NULL;
    int64_t number = 0;
    char back[8] = "";

    (void)state;
    assert_int_equal(jail_run(jail, &request, &frames, NULL, &err), 0);
    assert_int_equal(frames_next(frames, &frame, &err), 1);
    assert_int_equal(frame.len, 5);
    assert_memory_equal(frame.payload, "hello", 5);
    assert_int_equal(jget_int(frame.meta, "number", 0, 99, &number, &err), 0);
    assert_int_equal(number, 42);
    assert_int_equal(jget_str(frame.meta, "text", 9, &text, &err), 0);
    assert_string_equal(text, "ä");
    /* our own offset did not move, and the child could not write */
    assert_int_equal(lseek(fd, 0, SEEK_CUR), 5);
    frames_free(STEAL(frames));
    request.op = "write_input";
    assert_int_equal(jail_run(jail, &request, &frames, NULL, &err), 0);
    assert_int_equal(reported(frames), -EACCES);
    assert_int_equal(pread(fd, back, sizeof(back), 0), 5);
    assert_string_equal(back, "hello");
    /* an operation that needs input says so; a pipe is refused */
    frames_free(STEAL(frames));
    request = (struct jail_request){.op = "echo", .input_fd = -1, .aux_fd = -1};
    assert_int_equal(jail_run(jail, &request, &frames, NULL, &err), -1);
    assert_string_equal(err.code, "internal");
    int pipe_fds[2];
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    request.input_fd = pipe_fds[0];
    assert_int_equal(jail_run(jail, &request, &frames, NULL, &err), -1);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static size_t count_entries(const char *path)
{
    DIR *dir = opendir(path);
    size_t n = 0;

    assert_non_null(dir);
    while (readdir(dir)) {
        n++;
    }
    closedir(dir);
    return n;
}

/* Pids of a process's children, as the kernel lists them. */
static void read_children(int pid, char *text, size_t size)
{
    char path[64];
    ssize_t n = -1;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        n = read(fd, text, size - 1);
        close(fd);
    }
    text[n > 0 ? n : 0] = '\0';
}

static void nap_ms(long ms)
{
    const struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    nanosleep(&ts, NULL);
}

static void test_no_leaks(void **state)
{
    char zygote_fds[64], children[256];

    (void)state;
    assert_good_unit();
    int pid = jail_pid(jail);
    snprintf(zygote_fds, sizeof(zygote_fds), "/proc/%d/fd", pid);
    nap_ms(200); /* the zygote tidies up after it has reported */
    size_t ours = count_entries("/proc/self/fd");
    size_t theirs = count_entries(zygote_fds);
    for (int i = 0; i < 500; i++) {
        const char *const ops[] = {"empty", "segfault", "exec", "fail", "nobody_knows_it"};
        CLEANUP(frames_cleanup) struct frames *frames = NULL;
        struct err err = ERR_INIT;
        int rc = run_op(ops[i % 5], NULL, (struct jail_limits){0}, &frames, NULL, &err);
        assert_int_equal(rc, i % 5 == 0 ? 0 : -1);
    }
    nap_ms(200);
    assert_int_equal(count_entries("/proc/self/fd"), ours);
    assert_int_equal(count_entries(zygote_fds), theirs);
    assert_int_equal(jail_pid(jail), pid);
    read_children(pid, children, sizeof(children));
    assert_string_equal(children, "");
}

/* A unit in a thread of its own. */
struct worker {
    pthread_t thread;
    const char *op;
    int rounds;
    const atomic_bool *cancel;
    int rc; /* of the last round; good: rounds that succeeded */
    int good;
    struct err err;
    struct jail_usage usage;
    uint64_t took_ms;
};

static void *worker_main(void *arg)
{
    struct worker *worker = arg;

    for (int i = 0; i < worker->rounds; i++) {
        CLEANUP(frames_cleanup) struct frames *frames = NULL;
        CLEANUP(json_cleanup) json_t *params = json_pack("{s:i}", "ms", 3600000);
        const struct jail_request request = {.op = worker->op,
                                             .params = params,
                                             .input_fd = -1,
                                             .aux_fd = -1,
                                             .cancel = worker->cancel,
                                             .limits = {.wall_ms = 60000}};
        uint64_t start = clock_mono_ms();
        worker->rc = jail_run(jail, &request, &frames, &worker->usage, &worker->err);
        worker->took_ms = clock_mono_ms() - start;
        worker->good += worker->rc == 0;
    }
    return NULL;
}

static void worker_start(struct worker *worker)
{
    assert_int_equal(pthread_create(&worker->thread, NULL, worker_main, worker), 0);
}

static void test_concurrent(void **state)
{
    struct worker workers[4] = {{.op = "empty", .rounds = 50},
                                {.op = "thread", .rounds = 50},
                                {.op = "segfault", .rounds = 50},
                                {.op = "empty_files", .rounds = 50}};

    (void)state;
    int pid = jail_pid(jail);
    for (size_t i = 0; i < ARRAY_LEN(workers); i++) {
        worker_start(&workers[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(workers); i++) {
        pthread_join(workers[i].thread, NULL);
        assert_int_equal(workers[i].good, i == 2 ? 0 : 50);
    }
    assert_string_equal(workers[2].err.code, "child_crashed");
    assert_int_equal(jail_pid(jail), pid);
}

static void test_cancel(void **state)
{
    atomic_bool cancel = false;
    struct worker worker = {.op = "sleep", .rounds = 1, .cancel = &cancel};

    (void)state;
    worker_start(&worker);
    nap_ms(150);
    atomic_store(&cancel, true);
    pthread_join(worker.thread, NULL);
    assert_int_equal(worker.rc, -1);
    assert_int_equal(worker.err.class, ERR_TRANSIENT);
    assert_string_equal(worker.err.code, "cancelled");
    assert_string_equal(worker.usage.reason, "cancelled");
    assert_true(worker.took_ms < 5000);
    assert_good_unit();
}

/* Whether the process is gone, or waits as a zombie for somebody else's init. */
static bool process_ended(int pid)
{
    char path[64], text[256] = "";

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return true;
    }
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    const char *state = n > 0 ? strrchr(text, ')') : NULL;
    return !state || state[2] == 'Z' || state[2] == 'X';
}

static void test_zygote_killed(void **state)
{
    struct worker workers[2] = {{.op = "sleep", .rounds = 1}, {.op = "sleep", .rounds = 1}};
    int pid = jail_pid(jail);
    char children[256] = "";

    (void)state;
    worker_start(&workers[0]);
    worker_start(&workers[1]);
    for (int i = 0; i < 100 && !strchr(children, ' '); i++) {
        nap_ms(20);
        read_children(pid, children, sizeof(children));
    }
    nap_ms(50);
    int child = (int)strtol(children, NULL, 10);
    assert_int_equal(kill(pid, SIGKILL), 0);
    for (size_t i = 0; i < ARRAY_LEN(workers); i++) {
        pthread_join(workers[i].thread, NULL);
        assert_int_equal(workers[i].rc, -1);
        assert_int_equal(workers[i].err.class, ERR_TRANSIENT);
        assert_string_equal(workers[i].err.code, "jail_restarted");
        assert_true(workers[i].took_ms < 20000);
    }
    assert_int_not_equal(jail_pid(jail), pid);
    assert_true(process_ended(pid));
    for (int i = 0; i < 100 && !process_ended(child); i++) {
        nap_ms(20);
    }
    assert_true(child > 0 && process_ended(child));
    assert_good_unit();
}

/* A zygote that dies idle costs nobody a unit. */
static void test_zygote_killed_idle(void **state)
{
    int pid = jail_pid(jail);

    (void)state;
    assert_int_equal(kill(pid, SIGKILL), 0);
    for (int i = 0; i < 100 && !process_ended(pid); i++) {
        nap_ms(10);
    }
    assert_good_unit();
    assert_int_not_equal(jail_pid(jail), pid);
}

static void *idle_thread(void *arg)
{
    nap_ms(300);
    return arg;
}

static void test_start_refused(void **state)
{
    CLEANUP(jail_cleanup) struct jail *other = NULL;
    struct err err = ERR_INIT;
    pthread_t thread;

    (void)state;
    assert_int_equal(jail_start("/nonexistent/zygote", NULL, &other, &err), -1);
    assert_int_equal(err.class, ERR_FATAL);
    assert_non_null(strstr(err.msg, "No such file"));
    assert_int_equal(jail_start("/bin/true", NULL, &other, &err), -1);
    assert_int_equal(err.class, ERR_FATAL);
    assert_null(other);
#ifndef __SANITIZE_THREAD__
    assert_int_equal(pthread_create(&thread, NULL, idle_thread, NULL), 0);
    assert_int_equal(jail_start("jail_probe_zygote", NULL, &other, &err), -1);
    assert_int_equal(err.class, ERR_FATAL);
    pthread_join(thread, NULL);
#endif
}

static int start(void **state)
{
    const char *probe = getenv("JAIL_PROBE");
    struct err err = ERR_INIT;

    (void)state;
    setenv("DOCFLEET_SECRET", "must not get in", 1);
    if (jail_start(probe ? probe : "jail_probe_zygote", NULL, &jail, &err) < 0) {
        print_error("%s: %s\n", err.code, err.msg);
        return -1;
    }
    if (jail_degraded(jail)) {
        print_message("this kernel lacks a wall of the jail\n");
    }
    return 0;
}

static int stop(void **state)
{
    (void)state;
    jail_free(STEAL(jail));
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trials),        cmocka_unit_test(test_landlock),
        cmocka_unit_test(test_kill_zygote),   cmocka_unit_test(test_input),
        cmocka_unit_test(test_no_leaks),      cmocka_unit_test(test_start_refused),
        cmocka_unit_test(test_concurrent),    cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_zygote_killed), cmocka_unit_test(test_zygote_killed_idle),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
