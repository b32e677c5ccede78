/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One unit: its order, the wait for its end, and what that end means.
 * Invariant: nothing a child does decides more than its own unit, and no result is believed before
 * the child is gone. A run blocks on a socket of its own, so threads share nothing here.
 */
#include "libcommon/jail.h"

#include "libcommon/jail_intern.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KILLED_WAIT_MS 30000U /* a killed child is reaped by then, or the zygote hangs */
#define CANCEL_POLL_MS 100U

/* One unit on its way. */
struct run {
    const struct jail_request *request;
    struct jail_limits limits;
    int events; /* our end of the unit's socket */
    int output;
    int pidfd;
    pid_t pid;
    uint64_t generation;
    bool cancelled;
    bool timed_out;
    bool ended;
    bool lost; /* the zygote went away */
    struct jail_event event;
};

static void run_done(struct run *run)
{
    fd_cleanup(&run->events);
    fd_cleanup(&run->output);
    fd_cleanup(&run->pidfd);
}

/* A new read-only description of a regular file, with an offset of its own: the child can neither
 * write to the file nor move our offset. */
static int reopen_read_only(int fd, int *ret_fd, struct err *err)
{
    char path[40];
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return err_from_errno(err, errno, "the input");
    }
    if (!S_ISREG(st.st_mode)) {
        return err_set(err, ERR_UNKNOWN, "internal", "the input is not a regular file");
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int copy = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (copy < 0) {
        return err_from_errno(err, errno, "opening the input read-only");
    }
    *ret_fd = copy;
    return 0;
}

static int make_order(const struct run *run, char *params, struct jail_order *order,
                      struct err *err)
{
    const struct jail_request *request = run->request;
    size_t len = 0;

    *order = (struct jail_order){.magic = JAIL_MAGIC,
                                 .has_input = request->input_fd >= 0,
                                 .has_aux = request->aux_fd >= 0,
                                 .cpu_s = run->limits.cpu_s,
                                 .as_bytes = run->limits.as_bytes,
                                 .out_bytes = run->limits.out_bytes};
    if (request->params) {
        len = json_dumpb(request->params, params, JAIL_PARAMS_MAX, JSON_COMPACT);
        if (len == 0 || len > JAIL_PARAMS_MAX) {
            return err_set(err, ERR_UNKNOWN, "internal", "bad parameters for %s", request->op);
        }
    }
    order->params_len = (uint32_t)len;
    int n = snprintf(order->op, sizeof(order->op), "%s", request->op);
    if (n < 0 || (size_t)n >= sizeof(order->op)) {
        return err_set(err, ERR_UNKNOWN, "internal", "operation name too long");
    }
    return 0;
}

static int send_run(struct jail *jail, struct run *run, struct err *err)
{
    CLEANUP(free_cleanup) char *params = malloc(JAIL_PARAMS_MAX);
    CLEANUP(fd_cleanup) int theirs = -1;
    CLEANUP(fd_cleanup) int input = -1;
    CLEANUP(fd_cleanup) int aux = -1;
    struct jail_order order;
    int pair[2];

    if (!params) {
        return err_nomem(err);
    }
    if (make_order(run, params, &order, err) < 0) {
        return -1;
    }
    if (order.has_input && reopen_read_only(run->request->input_fd, &input, err) < 0) {
        return -1;
    }
    if (order.has_aux && reopen_read_only(run->request->aux_fd, &aux, err) < 0) {
        return -1;
    }
    run->output = memfd_create("docfleet-unit", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (run->output < 0) {
        return err_from_errno(err, errno, "memory for the result");
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return err_from_errno(err, errno, "socket for a unit");
    }
    run->events = pair[0];
    theirs = pair[1];
    int fds[JAIL_FD_COUNT] = {theirs, run->output};
    size_t n_fds = 2;
    if (input >= 0) {
        fds[n_fds++] = input;
    }
    if (aux >= 0) {
        fds[n_fds++] = aux;
    }
    return jail_deliver(jail, &order, params, fds, n_fds, &run->generation, err);
}

/* One event, with the pidfd that comes with JAIL_STARTED. */
static void receive_event(struct run *run)
{
    struct jail_event event = {0};
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov = {&event, sizeof(event)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    ssize_t n;

    do {
        n = recvmsg(run->events, &msg, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    const struct cmsghdr *cmsg = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    if (cmsg && cmsg->cmsg_type == SCM_RIGHTS && cmsg->cmsg_len == CMSG_LEN(sizeof(int))) {
        fd_cleanup(&run->pidfd);
        memcpy(&run->pidfd, CMSG_DATA(cmsg), sizeof(int));
    }
    if (n != (ssize_t)sizeof(event)) {
        run->lost = true;
        return;
    }
    if (event.kind == JAIL_STARTED) {
        run->pid = event.pid;
        return;
    }
    run->event = event;
    run->ended = true;
}

static void kill_child(const struct run *run)
{
    if (run->pidfd >= 0) {
        syscall(SYS_pidfd_send_signal, run->pidfd, SIGKILL, NULL, 0);
    }
}

static bool is_cancelled(const struct run *run)
{
    return run->request->cancel && atomic_load(run->request->cancel);
}

/* Waits for the end of the child; holds its deadline and the cancel flag. The wall clock starts
 * with the child. */
static void watch(struct run *run)
{
    uint64_t started = 0, killed = 0;

    while (!run->ended && !run->lost) {
        uint64_t now = clock_mono_ms();
        uint64_t wait = 1000;
        if (run->pid && !started) {
            started = now;
        }
        if (killed) {
            if (now - killed > KILLED_WAIT_MS) {
                run->lost = true; /* a zygote that does not reap is as good as dead */
                return;
            }
        } else if (is_cancelled(run)) {
            run->cancelled = true;
        } else if (started && now - started >= run->limits.wall_ms) {
            run->timed_out = true;
        } else if (started) {
            wait = min_u64(wait, run->limits.wall_ms - (now - started));
        }
        if (!killed && run->pid && (run->cancelled || run->timed_out)) {
            kill_child(run);
            killed = now;
        }
        wait = run->request->cancel ? min_u64(wait, CANCEL_POLL_MS) : wait;
        struct pollfd pfd = {.fd = run->events, .events = POLLIN};
        if (poll(&pfd, 1, (int)wait) > 0) {
            receive_event(run);
        }
    }
}

/* The zygote died under a unit. Its child dies with it and, when this service is process 1 of a
 * container, becomes ours to reap. */
static int zygote_lost(struct jail *jail, struct run *run, struct err *err)
{
    struct pollfd pfd = {.fd = run->pidfd, .events = POLLIN};
    siginfo_t info;
    struct err why = ERR_INIT;

    kill_child(run);
    int rc = jail_replace_zygote(jail, run->generation, &why);
    if (run->pidfd >= 0 && poll(&pfd, 1, 1000) > 0) {
        waitid(P_PIDFD, (id_t)run->pidfd, &info, WEXITED | WNOHANG);
    }
    if (rc < 0) {
        *err = why;
        return -1;
    }
    return err_set(err, ERR_TRANSIENT, "jail_restarted", "the zygote died and was started again");
}

/* The name of the syscall that a killed child left behind its stream, or "". */
static void read_sigsys(int output, char *name, size_t size)
{
    char tail[64];
    struct stat st;
    size_t n = 0;

    name[0] = '\0';
    if (fstat(output, &st) < 0 || st.st_size < (off_t)sizeof(tail) ||
        pread(output, tail, sizeof(tail), st.st_size - (off_t)sizeof(tail)) != sizeof(tail) ||
        memcmp(tail, JAIL_SIGSYS_MARK, strlen(JAIL_SIGSYS_MARK)) != 0) {
        return;
    }
    for (const char *p = tail + strlen(JAIL_SIGSYS_MARK); p < tail + sizeof(tail); p++) {
        if (n + 1 >= size || !((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || *p == '_')) {
            break;
        }
        name[n++] = *p;
    }
    name[n] = '\0';
}

static int judge_signal(const struct run *run, int sig, const char **ret_reason, struct err *err)
{
    char name[32];

    if (sig == SIGKILL && run->timed_out) {
        *ret_reason = "wall";
        return err_set(err, ERR_UNKNOWN, "child_timeout", "not done within %u ms",
                       run->limits.wall_ms);
    }
    if (sig == SIGXCPU || (sig == SIGKILL && run->event.cpu_us / 1000000U >= run->limits.cpu_s)) {
        *ret_reason = "cpu";
        return err_set(err, ERR_UNKNOWN, "child_timeout", "not done within %u s of computing",
                       run->limits.cpu_s);
    }
    switch (sig) {
    case SIGXFSZ:
        *ret_reason = "output";
        return err_set(err, ERR_PERMANENT, "expands_too_much",
                       "the result is larger than %llu bytes",
                       (unsigned long long)run->limits.out_bytes);
    case SIGSYS:
        *ret_reason = "sigsys";
        read_sigsys(run->output, name, sizeof(name));
        return err_set(err, ERR_PERMANENT, "child_crashed",
                       "stopped at a forbidden system call%s%s", name[0] ? ": " : "", name);
    default:
        *ret_reason = "crash";
        return err_set(err, ERR_UNKNOWN, "child_crashed", "%s crashed: %s", run->request->op,
                       sigdescr_np(sig) ? sigdescr_np(sig) : "unknown signal");
    }
}

static int judge_memory(const struct run *run, const char **ret_reason, struct err *err)
{
    *ret_reason = "memory";
    return err_set(err, ERR_PERMANENT, "expands_too_much",
                   "needs more memory than the %llu MB of a unit",
                   (unsigned long long)(run->limits.as_bytes >> 20));
}

/* The child reported an error itself: its last frame says which. */
static int judge_error(const struct run *run, const char **ret_reason, struct err *err)
{
    CLEANUP(frames_cleanup) struct frames *frames = NULL;
    struct frame frame;
    struct err why = ERR_INIT;
    int rc = -1;

    if (frames_open(run->output, run->limits.out_bytes, &frames, &why) == 0) {
        do {
            rc = frames_next(frames, &frame, &why);
        } while (rc > 0);
    }
    if (rc == 0) {
        err_set(&why, ERR_UNKNOWN, "child_crashed", "failed without saying why");
    }
    /* The child's memory limit, not a lack on this machine. */
    if (strcmp(why.code, "no_memory") == 0) {
        return judge_memory(run, ret_reason, err);
    }
    *ret_reason = "error";
    return err_set(err, why.class, why.code, "%s", why.msg);
}

static int judge(const struct run *run, struct frames **ret_frames, const char **ret_reason,
                 struct err *err)
{
    int status = run->event.status;

    if (run->cancelled) {
        *ret_reason = "cancelled";
        return err_set(err, ERR_TRANSIENT, "cancelled", "stopped before its end");
    }
    if (run->event.kind == JAIL_REFUSED) {
        *ret_reason = "error";
        if (run->event.errnum) {
            return err_from_errno(err, run->event.errnum, "starting a child");
        }
        return err_set(err, ERR_UNKNOWN, "internal", "the zygote refused %s: %.*s",
                       run->request->op, (int)JAIL_TEXT_MAX, run->event.text);
    }
    if (WIFSIGNALED(status)) {
        return judge_signal(run, WTERMSIG(status), ret_reason, err);
    }
    switch (WEXITSTATUS(status)) {
    case JAIL_EXIT_OK:
        if (frames_open(run->output, run->limits.out_bytes, ret_frames, err) < 0) {
            *ret_reason = "crash";
            return -1;
        }
        *ret_reason = "ok";
        return 0;
    case JAIL_EXIT_ERROR:
        return judge_error(run, ret_reason, err);
    case JAIL_EXIT_MEMORY:
        return judge_memory(run, ret_reason, err);
    case JAIL_EXIT_CAGE:
        *ret_reason = "error";
        return err_set(err, ERR_TRANSIENT, "internal", "the cage of a unit did not close");
    default:
        *ret_reason = "crash";
        return err_set(err, ERR_UNKNOWN, "child_crashed", "%s ended with status %d",
                       run->request->op, WEXITSTATUS(status));
    }
}

/* Where units share a folder they run one after the other; a waiting one can be cancelled. */
static bool lock_serial(struct jail *jail, const struct run *run)
{
    struct timespec until;

    do {
        if (is_cancelled(run)) {
            return false;
        }
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += (long)CANCEL_POLL_MS * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_nsec -= 1000000000L;
            until.tv_sec++;
        }
    } while (pthread_mutex_clocklock(&jail->serial, CLOCK_MONOTONIC, &until) != 0);
    return true;
}

static int run_unit(struct jail *jail, struct run *run, struct frames **ret_frames,
                    struct jail_usage *usage, struct err *err)
{
    if (send_run(jail, run, err) < 0) {
        return -1;
    }
    watch(run);
    if (run->lost) {
        return zygote_lost(jail, run, err);
    }
    if (run->event.kind == JAIL_ENDED) {
        usage->cpu_us = run->event.cpu_us;
        usage->max_rss = run->event.max_rss;
        usage->signal = WIFSIGNALED(run->event.status) ? WTERMSIG(run->event.status) : 0;
    }
    return judge(run, ret_frames, &usage->reason, err);
}

int jail_run(struct jail *jail, const struct jail_request *request, struct frames **ret_frames,
             struct jail_usage *ret_usage, struct err *err)
{
    CLEANUP(run_done)
    struct run run = {
        .request = request, .limits = request->limits, .events = -1, .output = -1, .pidfd = -1};
    struct jail_usage usage = {.reason = "error"};
    struct err why = ERR_INIT;

    if (run.limits.cpu_s && !run.limits.wall_ms) {
        run.limits.wall_ms = 3000U * run.limits.cpu_s;
    }
    jail_fill_limits(&run.limits, &jail->defaults);
    bool serial = (atomic_load(&jail->missing) & JAIL_NO_NAMESPACE) != 0;
    int rc;
    if (serial && !lock_serial(jail, &run)) {
        usage.reason = "cancelled";
        rc = err_set(&why, ERR_TRANSIENT, "cancelled", "stopped before its start");
    } else {
        rc = run_unit(jail, &run, ret_frames, &usage, &why);
        if (serial) {
            pthread_mutex_unlock(&jail->serial);
        }
    }
    if (ret_usage) {
        *ret_usage = usage;
    }
    if (rc < 0 && err) {
        *err = why;
    }
    return rc;
}
