/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a zygote: starting it, handing it orders, replacing it when it dies.
 * Invariant: between fork and exec only async-signal-safe calls run, so a zygote can be replaced
 * while other threads hold any lock; its environment is a list of ours and has no secret.
 */
#include "libcommon/jail.h"

#include "libcommon/jail_intern.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HELLO_WAIT_MS 120000U /* LibreOffice takes 4 s, and many times that on a busy node */
#define SEND_WAIT_S 30
#define RESTART_PAUSE_MS 1000U
#define STOP_GRACE_MS 1000U
#define ENV_MAX 24

static const struct jail_limits builtin_limits = {
    .as_bytes = 512U << 20, .cpu_s = 30, .wall_ms = 0, .out_bytes = 64U << 20};

/* --- starting ----------------------------------------------------------------------------- */

/* The whole environment of a zygote: no secret of the service gets in. */
static const char *const fixed_env[] = {
    "OMP_THREAD_LIMIT=1", "MALLOC_ARENA_MAX=1", "VIPS_NOVECTOR=1",
    "LD_BIND_NOW=1",      "LC_CTYPE=C.UTF-8",   "HOME=/nonexistent",
    "PATH=/usr/bin:/bin", "GIO_USE_VFS=local",  "TZ=UTC",
};
static const char *const passed_env[] = {"TMPDIR",          "TESSDATA_PREFIX", "FONTCONFIG_FILE",
                                         "FONTCONFIG_PATH", "ASAN_OPTIONS",    "UBSAN_OPTIONS",
                                         "LSAN_OPTIONS",    "TSAN_OPTIONS"};

static char *env_entry(const char *name, const char *value)
{
    char *entry = NULL;

    return asprintf(&entry, "%s=%s", name, value) < 0 ? NULL : entry;
}

struct env {
    const char *list[ENV_MAX];
    char *owned[ARRAY_LEN(passed_env)];
};

static void env_done(struct env *env)
{
    for (size_t i = 0; i < ARRAY_LEN(env->owned); i++) {
        free(env->owned[i]);
    }
}

static int env_init(struct env *env, struct err *err)
{
    size_t n = 0;

    *env = (struct env){0};
    for (size_t i = 0; i < ARRAY_LEN(fixed_env); i++) {
        env->list[n++] = fixed_env[i];
    }
    for (size_t i = 0; i < ARRAY_LEN(passed_env); i++) {
        const char *value = getenv(passed_env[i]);
        if (!value) {
            continue;
        }
        env->owned[i] = env_entry(passed_env[i], value);
        if (!env->owned[i]) {
            return err_nomem(err);
        }
        env->list[n++] = env->owned[i];
    }
    return 0;
}

/* Between fork and exec: other threads may hold any lock, so only async-signal-safe calls. */
static _Noreturn void exec_zygote(const char *path, int sock, bool tied, const char *const *env)
{
    const char *const argv[] = {path, JAIL_CONTROL_ARG, NULL};
    union {
        const char *const *from;
        char *const *to;
    } args = {argv}, envp = {env};

    if (sock == JAIL_CONTROL_FD ? fcntl(sock, F_SETFD, 0) < 0 : dup2(sock, JAIL_CONTROL_FD) < 0) {
        _exit(127);
    }
    syscall(SYS_close_range, JAIL_CONTROL_FD + 1, ~0U, 0);
    if (tied) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
    execve(path, args.to, envp.to);
    int errnum = errno;
    send(JAIL_CONTROL_FD, &errnum, sizeof(errnum), MSG_NOSIGNAL);
    _exit(127);
}

static int wait_hello(int sock, const char *path, struct jail_hello *ret_hello, struct err *err)
{
    struct pollfd pfd = {.fd = sock, .events = POLLIN};
    struct jail_hello hello = {0};
    uint64_t deadline = clock_mono_ms() + HELLO_WAIT_MS;
    int rc;

    do {
        uint64_t now = clock_mono_ms();
        rc = poll(&pfd, 1, now < deadline ? (int)(deadline - now) : 0);
    } while (rc < 0 && errno == EINTR);
    if (rc == 0) {
        return err_set(err, ERR_TRANSIENT, "jail_start", "%s was not ready within %u s", path,
                       HELLO_WAIT_MS / 1000);
    }
    ssize_t n = recv(sock, &hello, sizeof(hello), 0);
    if (n == (ssize_t)sizeof(int)) {
        int errnum;
        memcpy(&errnum, &hello, sizeof(errnum));
        return err_set(err, ERR_FATAL, "jail_start", "%s: %s", path, strerrordesc_np(errnum));
    }
    if (n != (ssize_t)sizeof(hello) || hello.magic != JAIL_MAGIC) {
        return err_set(err, ERR_FATAL, "jail_start", "%s ended before it was ready", path);
    }
    if (!hello.ok) {
        return err_set(err, ERR_FATAL, "jail_start", "%s: %.*s", path, (int)sizeof(hello.text),
                       hello.text);
    }
    *ret_hello = hello;
    return 0;
}

/* Ends and reaps the zygote, if any. Lock held. The end of its socket tells it to leave, which may
 * take grace_ms (it has temporary folders to remove); then it is killed. */
static void stop_zygote(struct jail *jail, uint64_t grace_ms)
{
    const struct timespec nap = {.tv_nsec = 5000000};
    uint64_t start = clock_mono_ms();
    pid_t rc = 0;

    fd_cleanup(&jail->sock);
    if (jail->pid > 0) {
        while ((rc = waitpid(jail->pid, NULL, WNOHANG)) == 0 &&
               clock_mono_ms() - start < grace_ms) {
            nanosleep(&nap, NULL);
        }
        if (rc == 0) {
            kill(jail->pid, SIGKILL);
            while (waitpid(jail->pid, NULL, 0) < 0 && errno == EINTR) {
            }
        }
    }
    jail->pid = 0;
    atomic_store(&jail->shown_pid, 0);
}

/* Lock held. `tied`: the zygote also dies with the calling thread, so only main may ask for it;
 * otherwise the end of its socket tells it. */
static int start_zygote(struct jail *jail, bool tied, struct err *err)
{
    CLEANUP(fd_cleanup) int ours = -1;
    CLEANUP(fd_cleanup) int theirs = -1;
    CLEANUP(env_done) struct env env;
    struct jail_hello hello = {0};
    struct timeval patience = {.tv_sec = SEND_WAIT_S};
    sigset_t all, before;
    int pair[2];

    if (env_init(&env, err) < 0) {
        return -1;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return err_from_errno(err, errno, "socket to the zygote");
    }
    ours = pair[0];
    theirs = pair[1];
    setsockopt(ours, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    /* No handler of ours may run in the child; the zygote opens its mask itself. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = _Fork(); /* no atfork handlers of other libraries */
    if (pid == 0) {
        exec_zygote(jail->path, theirs, tied, env.list);
    }
    int fork_errno = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid < 0) {
        return err_from_errno(err, fork_errno, "starting %s", jail->path);
    }
    fd_cleanup(&theirs);
    jail->pid = pid;
    if (wait_hello(ours, jail->path, &hello, err) < 0) {
        stop_zygote(jail, 0);
        return -1;
    }
    jail->sock = ours;
    ours = -1;
    jail->generation++;
    atomic_store(&jail->missing, hello.missing);
    atomic_store(&jail->shown_pid, pid);
    return 0;
}

/* Replaces the zygote that `generation` knew, unless somebody did already. Lock held. */
static int restart_zygote(struct jail *jail, uint64_t generation, struct err *err)
{
    struct err why = ERR_INIT;

    if (jail->generation != generation && jail->sock >= 0) {
        return 0;
    }
    if (jail->failed_at_ms && clock_mono_ms() - jail->failed_at_ms < RESTART_PAUSE_MS) {
        return err_set(err, ERR_TRANSIENT, "jail_restarted", "the zygote does not start");
    }
    stop_zygote(jail, 0);
    if (start_zygote(jail, false, &why) < 0) {
        jail->failed_at_ms = clock_mono_ms();
        return err_set(err, ERR_TRANSIENT, "jail_restarted", "%s", why.msg);
    }
    jail->failed_at_ms = 0;
    return 0;
}

int jail_replace_zygote(struct jail *jail, uint64_t generation, struct err *err)
{
    pthread_mutex_lock(&jail->lock);
    int rc = restart_zygote(jail, generation, err);
    pthread_mutex_unlock(&jail->lock);
    return rc;
}

/* Refuses to run with threads: a start must not depend on what they hold. */
static bool single_threaded(void)
{
#ifdef __SANITIZE_THREAD__
    return true; /* the sanitizer itself has one */
#else
    struct stat st;

    /* A directory's link count is 2 plus one for each thread in it. */
    return stat("/proc/self/task", &st) < 0 || st.st_nlink <= 3;
#endif
}

static int find_program(const char *path, char **ret_path, struct err *err)
{
    char self[PATH_MAX];
    char *full = NULL;
    int n;

    if (strchr(path, '/')) {
        n = asprintf(&full, "%s", path);
    } else {
        ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
        if (len <= 0) {
            return err_from_errno(err, errno, "/proc/self/exe");
        }
        self[len] = '\0';
        char *slash = strrchr(self, '/');
        n = asprintf(&full, "%.*s/%s", (int)(slash ? slash - self : 0), self, path);
    }
    if (n < 0) {
        return err_nomem(err);
    }
    *ret_path = full;
    return 0;
}

void jail_fill_limits(struct jail_limits *limits, const struct jail_limits *from)
{
    limits->as_bytes = limits->as_bytes ? limits->as_bytes : from->as_bytes;
    limits->cpu_s = limits->cpu_s ? limits->cpu_s : from->cpu_s;
    limits->wall_ms = limits->wall_ms ? limits->wall_ms : from->wall_ms;
    limits->out_bytes = limits->out_bytes ? limits->out_bytes : from->out_bytes;
}

int jail_start(const char *path, const struct jail_limits *defaults, struct jail **ret_jail,
               struct err *err)
{
    if (!single_threaded()) {
        return err_set(err, ERR_FATAL, "jail_start", "the jail must start before any thread");
    }
    CLEANUP(jail_cleanup) struct jail *jail = calloc(1, sizeof(*jail));
    if (!jail) {
        return err_nomem(err);
    }
    jail->sock = -1;
    pthread_mutex_init(&jail->lock, NULL);
    pthread_mutex_init(&jail->serial, NULL);
    if (defaults) {
        jail->defaults = *defaults;
    }
    jail_fill_limits(&jail->defaults, &builtin_limits);
    if (!jail->defaults.wall_ms) {
        jail->defaults.wall_ms = 3000U * jail->defaults.cpu_s;
    }
    if (find_program(path, &jail->path, err) < 0 || start_zygote(jail, true, err) < 0) {
        return -1;
    }
    *ret_jail = STEAL(jail);
    return 0;
}

void jail_free(struct jail *jail)
{
    if (!jail) {
        return;
    }
    stop_zygote(jail, STOP_GRACE_MS);
    pthread_mutex_destroy(&jail->lock);
    pthread_mutex_destroy(&jail->serial);
    free(jail->path);
    free(jail);
}

bool jail_degraded(const struct jail *jail)
{
    return atomic_load(&jail->missing) != 0;
}

int jail_pid(const struct jail *jail)
{
    return atomic_load(&jail->shown_pid);
}

static int send_order(int sock, const struct jail_order *order, const char *params, const int *fds,
                      size_t n_fds)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * JAIL_FD_COUNT)];
        struct cmsghdr align;
    } control = {0};
    union {
        const void *from;
        void *to;
    } head = {order}, tail = {params};
    struct iovec iov[] = {{head.to, sizeof(*order)}, {tail.to, order->params_len}};
    struct msghdr msg = {.msg_iov = iov,
                         .msg_iovlen = ARRAY_LEN(iov),
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
    ssize_t n;

    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
    memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * n_fds);
    msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
    do {
        n = sendmsg(sock, &msg, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -1 : 0;
}

int jail_deliver(struct jail *jail, const struct jail_order *order, const char *params,
                 const int *fds, size_t n_fds, uint64_t *ret_generation, struct err *err)
{
    int rc = -1;

    pthread_mutex_lock(&jail->lock);
    for (int attempt = 0; attempt < 2 && rc < 0; attempt++) {
        if (jail->sock < 0 && restart_zygote(jail, jail->generation, err) < 0) {
            break;
        }
        *ret_generation = jail->generation;
        rc = send_order(jail->sock, order, params, fds, n_fds);
        if (rc < 0) {
            int errnum = errno;
            err_from_errno(err, errnum, "sending an order to the zygote");
            if (errnum != EPIPE && errnum != ECONNRESET && errnum != EAGAIN) {
                break;
            }
            stop_zygote(jail, 0);
        }
    }
    pthread_mutex_unlock(&jail->lock);
    return rc;
}
