/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A zygote whose operations behave as hostile files make a parser behave. Built as a plain program
 * (never with a sanitizer): memory limits and the syscall filter are what is tried here.
 * Each operation reports in its frames what it got away with; only the parent judges.
 */
#include "libcommon/zygote.h"

#include "libcommon/jget.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* A frame {value, errno} that the test can read. */
static int report(struct jail_unit *unit, long value, struct err *err)
{
    int errnum = errno;
    json_t *meta = json_object();

    if (!meta) {
        return err_nomem(err);
    }
    json_object_set_new(meta, "value", json_integer(value));
    json_object_set_new(meta, "errno", json_integer(value < 0 ? errnum : 0));
    return frame_write(unit->out, "report", meta, NULL, 0, err);
}

static int op_empty(struct jail_unit *unit, struct err *err)
{
    (void)unit;
    (void)err;
    return 0;
}

static int op_echo(struct jail_unit *unit, struct err *err)
{
    const char *data = NULL;
    size_t len = 0;

    if (unit_map_input(unit, 1U << 20, &data, &len, err) < 0) {
        return -1;
    }
    json_t *meta = json_object();
    if (!meta) {
        return err_nomem(err);
    }
    json_object_set_new(meta, "number", json_integer(unit_param_int(unit, "number", -1)));
    json_object_set_new(meta, "text", json_string(unit_param_str(unit, "text", "none")));
    return frame_write(unit->out, "echo", meta, data, len, err);
}

static int op_open(struct jail_unit *unit, struct err *err)
{
    return report(unit,
                  open(unit_param_str(unit, "path", "/etc/passwd"),
                       (int)unit_param_int(unit, "flags", O_RDONLY), 0600),
                  err);
}

static int op_socket(struct jail_unit *unit, struct err *err)
{
    return report(unit, socket(AF_INET, SOCK_STREAM, 0), err);
}

static int op_malloc(struct jail_unit *unit, struct err *err)
{
    void *volatile p = malloc((size_t)unit_param_int(unit, "bytes", 10LL << 30));

    if (!p) {
        return err_nomem(err);
    }
    free(p);
    return report(unit, 1, err);
}

/* As g_malloc and operator new do. */
static int op_malloc_abort(struct jail_unit *unit, struct err *err)
{
    void *volatile p = malloc((size_t)unit_param_int(unit, "bytes", 10LL << 30));

    if (!p) {
        raise(unit_param_int(unit, "trap", 0) ? SIGTRAP : SIGABRT);
    }
    return report(unit, 1, err);
}

/* Small pieces until the limit; then writes through NULL. */
static int op_malloc_pieces(struct jail_unit *unit, struct err *err)
{
    for (;;) {
        char *volatile p = malloc(1U << 20);
        p[0] = 1;
        if (!unit->out) {
            return report(unit, 1, err);
        }
    }
}

static int op_fork(struct jail_unit *unit, struct err *err)
{
    pid_t pid = fork();

    if (pid == 0) {
        _exit(0);
    }
    return report(unit, pid, err);
}

static int op_exec(struct jail_unit *unit, struct err *err)
{
    char *const none[] = {NULL};

    execve("/bin/true", none, none);
    return report(unit, -1, err);
}

static int op_loop(struct jail_unit *unit, struct err *err)
{
    volatile unsigned long n = 0;

    while (unit->out) {
        n++;
    }
    return report(unit, (long)n, err);
}

static int op_sleep(struct jail_unit *unit, struct err *err)
{
    struct timespec ts = {.tv_sec = 0, .tv_nsec = 20000000};
    int64_t ms = unit_param_int(unit, "ms", 60000);

    for (int64_t i = 0; i < ms; i += 20) {
        clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
    }
    return report(unit, 0, err);
}

static int op_flood(struct jail_unit *unit, struct err *err)
{
    static const char block[65536];

    while (frame_write(unit->out, "flood", NULL, block, sizeof(block), err) == 0) {
    }
    return -1;
}

static int op_segfault(struct jail_unit *unit, struct err *err)
{
    volatile char *p = (volatile char *)(uintptr_t)unit_param_int(unit, "address", 8);

    p[0] = 1;
    return report(unit, 1, err);
}

static int op_abort(struct jail_unit *unit, struct err *err)
{
    (void)unit;
    (void)err;
    abort();
}

static int op_exit(struct jail_unit *unit, struct err *err)
{
    (void)err;
    _exit((int)unit_param_int(unit, "status", 0));
}

static int op_fail(struct jail_unit *unit, struct err *err)
{
    return err_set(err, err_class_parse(unit_param_str(unit, "class", "permanent")), "encrypted",
                   "needs a password");
}

/* kill() and tgkill() of the zygote, found by trying: getppid is as good as any. */
static int op_kill_parent(struct jail_unit *unit, struct err *err)
{
    pid_t parent = (pid_t)unit_param_int(unit, "pid", 1);

    if (unit_param_int(unit, "tgkill", 0)) {
        return report(unit, syscall(SYS_tgkill, parent, parent, SIGKILL), err);
    }
    return report(unit, kill(parent, SIGKILL), err);
}

static int op_write_input(struct jail_unit *unit, struct err *err)
{
    if (write(unit->input_fd, "x", 1) >= 0 || errno != EBADF) {
        return report(unit, 1, err);
    }
    return report(
        unit,
        mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, unit->input_fd, 0) == MAP_FAILED ? -1 : 2,
        err);
}

static int op_exec_memory(struct jail_unit *unit, struct err *err)
{
    void *p =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p != MAP_FAILED) {
        return report(unit, 1, err);
    }
    p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return report(unit, mprotect(p, 4096, PROT_READ | PROT_EXEC), err);
}

static void *thread_main(void *arg)
{
    *(volatile int *)arg = 1;
    return NULL;
}

static int op_thread(struct jail_unit *unit, struct err *err)
{
    pthread_t thread;
    volatile int ran = 0;
    int rc = pthread_create(&thread, NULL, thread_main, (void *)(uintptr_t)&ran);

    if (rc != 0) {
        errno = rc;
        return report(unit, -1, err);
    }
    pthread_join(thread, NULL);
    return report(unit, ran, err);
}

/* Which descriptors a child sees, as a bit mask, and whether a secret came along. */
static int op_look(struct jail_unit *unit, struct err *err)
{
    long mask = 0;

    for (int fd = 0; fd < 1024; fd++) {
        if (fcntl(fd, F_GETFD) >= 0) {
            mask |= 1L << (fd < 62 ? fd : 62);
        }
    }
    if (getenv("DOCFLEET_SECRET")) {
        mask |= 1L << 61;
    }
    return report(unit, mask, err);
}

/* A stream that never ends properly, though the exit status says success. */
static int op_liar(struct jail_unit *unit, struct err *err)
{
    if (frame_write(unit->out, "page", NULL, "x", 1, err) < 0) {
        return -1;
    }
    _exit(0);
}

/* Tries to outlive a forbidden call by catching its signal. */
static int op_catch_sigsys(struct jail_unit *unit, struct err *err)
{
    signal(SIGSYS, SIG_IGN);
    return op_exec(unit, err);
}

static const struct zygote_op ops[] = {
    {"empty", CAGE_PURE, op_empty},
    {"empty_files", CAGE_READ_FILES, op_empty},
    {"empty_threads", CAGE_READ_FILES | CAGE_THREADS, op_empty},
    {"echo", CAGE_PURE, op_echo},
    {"open", CAGE_PURE, op_open},
    {"open_files", CAGE_READ_FILES, op_open},
    {"socket", CAGE_PURE, op_socket},
    {"malloc", CAGE_PURE, op_malloc},
    {"malloc_abort", CAGE_PURE, op_malloc_abort},
    {"malloc_pieces", CAGE_PURE, op_malloc_pieces},
    {"fork", CAGE_PURE, op_fork},
    {"fork_threads", CAGE_THREADS, op_fork},
    {"exec", CAGE_PURE, op_exec},
    {"loop", CAGE_PURE, op_loop},
    {"sleep", CAGE_PURE, op_sleep},
    {"flood", CAGE_PURE, op_flood},
    {"segfault", CAGE_PURE, op_segfault},
    {"abort", CAGE_PURE, op_abort},
    {"exit", CAGE_PURE, op_exit},
    {"fail", CAGE_PURE, op_fail},
    {"kill_parent", CAGE_PURE, op_kill_parent},
    {"write_input", CAGE_PURE, op_write_input},
    {"exec_memory", CAGE_PURE, op_exec_memory},
    {"thread", CAGE_THREADS, op_thread},
    {"thread_pure", CAGE_PURE, op_thread},
    {"look", CAGE_PURE, op_look},
    {"liar", CAGE_PURE, op_liar},
    {"catch_sigsys", CAGE_PURE, op_catch_sigsys},
};

int main(int argc, char **argv)
{
    static const char *const read_paths[] = {"/usr/share", NULL};
    static const struct zygote zygote = {
        .name = "jail-probe",
        .ops = ops,
        .n_ops = ARRAY_LEN(ops),
        .read_paths = read_paths,
    };

    return zygote_main(argc, argv, &zygote);
}
