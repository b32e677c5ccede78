/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The zygote's loop: takes an order, forks a child, reports how it ended.
 * Invariant: the zygote reads only what its service wrote, never a byte of a user, and has one
 * thread; a child is told from another by nothing but its own descriptors.
 * It ends when its service closes the socket, and its children with it.
 */
#include "libcommon/zygote.h"

#include "libcommon/jail_proto.h"
#include "libcommon/jget.h"
#include "libcommon/zygote_cage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct unit {
    pid_t pid; /* 0: the slot is free */
    int pidfd;
    int events;
    const struct cage *cage;
};

/* One per process, as the zygote is. */
struct loop {
    const struct zygote *zygote;
    int control;
    struct cage cages[CAGE_KINDS];
    bool prepared[CAGE_KINDS];
    struct unit units[JAIL_UNITS_MAX];
    char message[sizeof(struct jail_order) + JAIL_PARAMS_MAX];
};

/* --- the child ---------------------------------------------------------------------------- */

/* Descriptors of an order, as they arrived. */
struct order_fds {
    int fd[JAIL_FD_COUNT];
    size_t count;
};

static int place_fd(int fd, int target)
{
    if (fd < 0) {
        close(target);
        return 0;
    }
    return dup2(fd, target) < 0 ? -1 : 0;
}

/* Moves input, output and second input to where the cage expects them; 0, 1, 2 are /dev/null. */
static int place_fds(const struct jail_order *order, const struct order_fds *fds)
{
    int high[JAIL_FD_COUNT] = {-1, -1, -1, -1};

    for (size_t i = 0; i < fds->count; i++) {
        high[i] = fcntl(fds->fd[i], F_DUPFD_CLOEXEC, CAGE_FD_BASE);
        if (high[i] < 0) {
            return -1;
        }
        close(fds->fd[i]);
    }
    int output = high[JAIL_FD_OUTPUT];
    int input = order->has_input ? high[2] : -1;
    int aux = order->has_aux ? high[order->has_input ? 3 : 2] : -1;
    /* A sanitizer's report is the one thing worth reading there. */
    if (cage_has_filter() && dup2(STDIN_FILENO, STDERR_FILENO) < 0) {
        return -1;
    }
    if (place_fd(input, CAGE_FD_INPUT) < 0 || place_fd(output, CAGE_FD_OUTPUT) < 0 ||
        place_fd(aux, CAGE_FD_AUX) < 0) {
        return -1;
    }
    return 0;
}

static int run_op(const struct zygote_op *op, const struct jail_order *order, const char *params,
                  struct frame_writer *out, struct err *err)
{
    CLEANUP(json_cleanup) json_t *json = NULL;
    struct jail_unit unit = {.op = op->name,
                             .input_fd = order->has_input ? CAGE_FD_INPUT : -1,
                             .aux_fd = order->has_aux ? CAGE_FD_AUX : -1,
                             .out = out};

    if (order->params_len > 0) {
        if (jget_load(params, order->params_len, JAIL_PARAMS_MAX, &json, err) < 0) {
            return err_wrap(err, "parameters");
        }
    } else {
        json = json_object();
        if (!json) {
            return err_nomem(err);
        }
    }
    unit.params = json;
    if (order->has_input) {
        off_t size = lseek(CAGE_FD_INPUT, 0, SEEK_END);
        if (size < 0 || lseek(CAGE_FD_INPUT, 0, SEEK_SET) < 0) {
            return err_from_errno(err, errno, "size of the input");
        }
        unit.input_size = (uint64_t)size;
    }
    if (op->run(&unit, err) < 0) {
        return -1;
    }
    return out->ended ? 0 : frame_write(out, "end", NULL, NULL, 0, err);
}

static _Noreturn void child_main(const struct loop *loop, const struct zygote_op *op,
                                 const struct jail_order *order, const char *params,
                                 const struct order_fds *fds)
{
    const struct cage_limits limits = {
        .as_bytes = order->as_bytes, .out_bytes = order->out_bytes, .cpu_s = order->cpu_s};
    struct frame_writer out;
    struct err err = ERR_INIT;

    if (place_fds(order, fds) < 0) {
        _exit(JAIL_EXIT_CAGE);
    }
    if (cage_enter(&loop->cages[op->cage], &limits, &err) < 0) {
        _exit(JAIL_EXIT_CAGE);
    }
    frame_writer_init(&out, CAGE_FD_OUTPUT);
    if (run_op(op, order, params, &out, &err) == 0) {
        _exit(JAIL_EXIT_OK);
    }
    if (err.class == ERR_NONE) {
        err_set(&err, ERR_UNKNOWN, "internal", "%s failed without an error", op->name);
    }
    if (strcmp(err.code, "no_memory") == 0) {
        _exit(JAIL_EXIT_MEMORY);
    }
    if (!out.ended && frame_write_error(&out, &err, NULL) < 0) {
        _exit(JAIL_EXIT_MEMORY);
    }
    _exit(JAIL_EXIT_ERROR);
}

/* --- orders and events -------------------------------------------------------------------- */

static void close_fds(struct order_fds *fds)
{
    for (size_t i = 0; i < fds->count; i++) {
        fd_cleanup(&fds->fd[i]);
    }
    fds->count = 0;
}

/* Losing an event is harmless: a service that is gone needs none. */
static void send_event(int sock, const struct jail_event *event, int pidfd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct jail_event copy = *event;
    struct iovec iov = {&copy, sizeof(copy)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (pidfd >= 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(cmsg), &pidfd, sizeof(int));
    }
    sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void refuse(int sock, int errnum, const char *text)
{
    struct jail_event event = {.kind = JAIL_REFUSED, .errnum = errnum};

    snprintf(event.text, sizeof(event.text), "%s", text);
    send_event(sock, &event, -1);
}

/* 1: an order is in loop->message; 0: the service is gone; -1: not an order, ignored. */
static int receive_order(struct loop *loop, size_t *ret_len, struct order_fds *fds)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * JAIL_FD_COUNT)];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov = {loop->message, sizeof(loop->message)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    ssize_t n = recvmsg(loop->control, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

    if (n <= 0) {
        return (n == 0 || (errno != EAGAIN && errno != EINTR)) ? 0 : -1;
    }
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg); cmsg; cmsg = CMSG_NXTHDR(&msg, cmsg)) {
        if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS) {
            fds->count = min_size((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int), JAIL_FD_COUNT);
            memcpy(fds->fd, CMSG_DATA(cmsg), fds->count * sizeof(int));
        }
    }
    *ret_len = (size_t)n;
    return (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) ? -1 : 1;
}

static bool order_is_sound(const struct jail_order *order, size_t len, const struct order_fds *fds)
{
    return len >= sizeof(*order) && order->magic == JAIL_MAGIC &&
           order->params_len == len - sizeof(*order) && memchr(order->op, '\0', JAIL_OP_MAX) &&
           order->has_input <= 1 && order->has_aux <= 1 &&
           fds->count == 2U + order->has_input + order->has_aux;
}

static const struct zygote_op *find_op(const struct zygote *zygote, const char *name)
{
    for (size_t i = 0; i < zygote->n_ops; i++) {
        if (strcmp(zygote->ops[i].name, name) == 0) {
            return &zygote->ops[i];
        }
    }
    return NULL;
}

static struct unit *free_slot(struct loop *loop)
{
    for (size_t i = 0; i < JAIL_UNITS_MAX; i++) {
        if (loop->units[i].pid == 0) {
            return &loop->units[i];
        }
    }
    return NULL;
}

/* Moves a descriptor above those of libraries; the old one is closed. -1 with errno. */
static int raise_fd(int fd)
{
    int high = fcntl(fd, F_DUPFD_CLOEXEC, CAGE_FD_BASE);
    int errnum = errno;

    close(fd);
    errno = errnum;
    return high;
}

static void start_unit(struct loop *loop, size_t len, struct order_fds *fds)
{
    const char *params = loop->message + sizeof(struct jail_order);
    struct jail_order order = {0};

    memcpy(&order, loop->message, min_size(len, sizeof(order)));
    if (!order_is_sound(&order, len, fds)) {
        return;
    }
    const struct zygote_op *op = find_op(loop->zygote, order.op);
    struct unit *unit = free_slot(loop);
    int events = fds->fd[JAIL_FD_EVENTS];
    if (!op || !unit) {
        refuse(events, op ? EAGAIN : 0, "no such operation");
        return;
    }
    pid_t pid = fork();
    if (pid == 0) {
        child_main(loop, op, &order, params, fds);
    }
    if (pid < 0) {
        refuse(events, errno, "fork");
        return;
    }
    /* Only this process reaps, so the pid cannot be somebody else's yet. */
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    pidfd = pidfd >= 0 ? raise_fd(pidfd) : -1;
    int kept = pidfd >= 0 ? fcntl(events, F_DUPFD_CLOEXEC, CAGE_FD_BASE) : -1;
    if (kept < 0) {
        int errnum = errno;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        fd_cleanup(&pidfd);
        refuse(events, errnum, "pidfd");
        return;
    }
    *unit =
        (struct unit){.pid = pid, .pidfd = pidfd, .events = kept, .cage = &loop->cages[op->cage]};
    send_event(kept, &(struct jail_event){.kind = JAIL_STARTED, .pid = pid}, pidfd);
}

static uint64_t timeval_us(struct timeval tv)
{
    return (uint64_t)tv.tv_sec * 1000000U + (uint64_t)tv.tv_usec;
}

static void reap_unit(struct unit *unit)
{
    struct rusage usage = {0};
    int status = 0;

    if (wait4(unit->pid, &status, WNOHANG, &usage) != unit->pid) {
        return;
    }
    const struct jail_event event = {.kind = JAIL_ENDED,
                                     .pid = unit->pid,
                                     .status = status,
                                     .cpu_us =
                                         timeval_us(usage.ru_utime) + timeval_us(usage.ru_stime),
                                     .max_rss = (uint64_t)usage.ru_maxrss * 1024U};
    if (unit->cage->no_namespace) {
        office_wipe(getenv("TMPDIR"));
    }
    send_event(unit->events, &event, -1);
    fd_cleanup(&unit->pidfd);
    fd_cleanup(&unit->events);
    *unit = (struct unit){0};
}

/* False when the service is gone. */
static bool take_order(struct loop *loop)
{
    struct order_fds fds = {.count = 0};
    size_t len = 0;
    int rc = receive_order(loop, &len, &fds);

    if (rc > 0) {
        start_unit(loop, len, &fds);
    }
    /* The next child shall not find the last one's parameters. */
    memset(loop->message, 0, len);
    close_fds(&fds);
    return rc != 0;
}

/* The descriptors of one running unit: its end, and its client hanging up. */
static nfds_t watch_unit(const struct unit *unit, struct pollfd *pfds)
{
    pfds[0] = (struct pollfd){.fd = unit->pidfd, .events = POLLIN};
    pfds[1] = (struct pollfd){.fd = unit->events, .events = 0};
    return 2;
}

static void tend_unit(struct unit *unit, const struct pollfd *pfds)
{
    if (pfds[1].revents) {
        kill(unit->pid, SIGKILL); /* nobody waits for it any more */
    }
    if (pfds[0].revents) {
        reap_unit(unit);
    }
}

static int serve(struct loop *loop)
{
    struct pollfd pfds[1 + 2 * JAIL_UNITS_MAX];
    struct unit *polled[JAIL_UNITS_MAX];

    for (;;) {
        nfds_t n = 1;
        pfds[0] = (struct pollfd){.fd = loop->control, .events = POLLIN};
        for (size_t i = 0; i < JAIL_UNITS_MAX; i++) {
            if (loop->units[i].pid) {
                polled[n / 2] = &loop->units[i];
                n += watch_unit(&loop->units[i], &pfds[n]);
            }
        }
        if (poll(pfds, n, -1) < 0) {
            if (errno == EINTR) {
                continue;
            }
            return -1;
        }
        for (nfds_t i = 1; i < n; i += 2) {
            tend_unit(polled[i / 2], &pfds[i]);
        }
        if (pfds[0].revents && !take_order(loop)) {
            return 0;
        }
    }
}

/* --- start -------------------------------------------------------------------------------- */

static void say_hello(const struct loop *loop, const struct err *why)
{
    struct jail_hello hello = {.magic = JAIL_MAGIC, .ok = why ? 0 : 1};

    if (why) {
        snprintf(hello.text, sizeof(hello.text), "%.*s", (int)sizeof(hello.text) - 1, why->msg);
    }
    if (!cage_has_filter()) {
        hello.missing |= JAIL_NO_FILTER;
    }
    for (size_t i = 0; i < CAGE_KINDS; i++) {
        const struct cage *cage = &loop->cages[i];
        if (!loop->prepared[i]) {
            continue;
        }
        hello.landlock_abi = (uint32_t)cage->landlock_abi;
        hello.missing |= cage->landlock_abi ? 0U : JAIL_NO_LANDLOCK;
        hello.missing |= cage->no_namespace ? JAIL_NO_NAMESPACE : 0U;
    }
    send(loop->control, &hello, sizeof(hello), MSG_NOSIGNAL);
}

static int count_threads(void)
{
    DIR *dir = opendir("/proc/self/task");
    const struct dirent *entry;
    int n = 0;

    if (!dir) {
        return -1;
    }
    while ((entry = readdir(dir))) {
        n += entry->d_name[0] != '.';
    }
    closedir(dir);
    return n;
}

/* A child that only enters its cage: a wall that does not stand is found now, not by a user. */
static int try_cage(const struct loop *loop, const struct cage *cage, struct err *err)
{
    const struct cage_limits limits = {.as_bytes = 8ULL << 30, .out_bytes = 1U << 20, .cpu_s = 10};
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        _exit(cage_enter(cage, &limits, NULL) == 0 ? 0 : JAIL_EXIT_CAGE);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        return err_from_errno(err, errno, "trying the cage");
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        return err_set(err, ERR_FATAL, "jail_start",
                       "%s: the cage %u does not close on this kernel (status %d)",
                       loop->zygote->name, cage->flags, status);
    }
    return 0;
}

static int prepare(struct loop *loop, struct err *err)
{
    const struct zygote *zygote = loop->zygote;

    for (size_t i = 0; i < zygote->n_ops; i++) {
        unsigned flags = zygote->ops[i].cage;
        if (flags >= CAGE_KINDS) {
            return err_set(err, ERR_FATAL, "jail_start", "unknown cage %u", flags);
        }
        if (loop->prepared[flags]) {
            continue;
        }
        struct cage *cage = &loop->cages[flags];
        if (cage_prepare(flags, zygote->read_paths, cage, err) < 0 ||
            try_cage(loop, cage, err) < 0) {
            return -1;
        }
        loop->prepared[flags] = true;
    }
    int threads = count_threads();
    if (threads != 1 && cage_has_filter()) {
        return err_set(err, ERR_FATAL, "jail_start", "%s has %d threads instead of one",
                       zygote->name, threads);
    }
    return 0;
}

static int enter_loop(void *arg)
{
    struct loop *loop = arg;
    struct err err = ERR_INIT;

    if (prepare(loop, &err) < 0) {
        say_hello(loop, &err);
        return -1;
    }
    say_hello(loop, NULL);
    return serve(loop);
}

/* First to be killed when memory runs out: children inherit it. */
static void offer_to_oom_killer(void)
{
    CLEANUP(fd_cleanup) int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd >= 0 && write(fd, "1000", 4) < 0) {
        return; /* a wish, not a wall */
    }
}

static int set_up_process(struct loop *loop)
{
    sigset_t none;
    struct rlimit limit;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    for (int sig = 1; sig < SIGRTMIN; sig++) {
        signal(sig, SIG_DFL);
    }
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0) {
        return -1;
    }
    close(null);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max < 4096 ? limit.rlim_max : 4096;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    offer_to_oom_killer();
    loop->control = raise_fd(JAIL_CONTROL_FD);
    return loop->control < 0 ? -1 : 0;
}

int zygote_main(int argc, char **argv, const struct zygote *zygote)
{
    static struct loop loop;
    struct err err = ERR_INIT;

    if (argc != 2 || strcmp(argv[1], JAIL_CONTROL_ARG) != 0) {
        fprintf(stderr, "%s: started by its service only\n", zygote->name);
        return 2;
    }
    loop.zygote = zygote;
    if (set_up_process(&loop) < 0) {
        return 1;
    }
    if (zygote->warm && zygote->warm(&err) < 0) {
        say_hello(&loop, &err);
        return 1;
    }
    if (!zygote->enter) {
        _exit(enter_loop(&loop) < 0 ? 1 : 0);
    }
    if (zygote->enter(enter_loop, &loop, &err) < 0) {
        say_hello(&loop, &err);
        _exit(1);
    }
    _exit(0);
}
