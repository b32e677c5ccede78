/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walls around a child: limits, no capabilities, no privileges, Landlock, system calls.
 * Invariant: walls close from the outside in and the filter comes last, so nothing after it needs
 * a call that it forbids. Only Landlock may be missing (an old kernel); that is reported.
 *
 * A parser that runs out of memory aborts in many ways. The handler here tells that from a crash:
 * an allocation failed just before, or no address space is left.
 */
#include "libcommon/zygote_cage.h"

#include "libcommon/jail_proto.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PARSER_FILES 16
#define OFFICE_FILES 512
#define MEMORY_PROBE (8U << 20)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* Landlock, of which the C library's headers may know less than the kernel. */
struct ruleset_attr {
    uint64_t handled_fs;
    uint64_t handled_net; /* from ABI 4 */
    uint64_t scoped;      /* from ABI 6 */
};

struct path_beneath {
    uint64_t allowed;
    int32_t parent_fd;
} __attribute__((packed));

#define LANDLOCK_VERSION_FLAG 1U
#define LANDLOCK_PATH_BENEATH 1
#define FS_WRITE_FILE (1ULL << 1)
#define FS_READ_FILE (1ULL << 2)
#define FS_READ_DIR (1ULL << 3)
#define FS_REMOVE_DIR (1ULL << 4)
#define FS_REMOVE_FILE (1ULL << 5)
#define FS_MAKE_DIR (1ULL << 7)
#define FS_MAKE_REG (1ULL << 8)
#define FS_REFER (1ULL << 13)
#define FS_TRUNCATE (1ULL << 14)
#define NET_BOTH 3ULL   /* bind, connect over TCP */
#define SCOPE_BOTH 3ULL /* abstract sockets, signals */

bool cage_has_filter(void)
{
    return !SANITIZED;
}

/* --- Landlock ------------------------------------------------------------------------------- */

static int landlock_version(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_VERSION_FLAG);

    return abi > 0 ? (int)abi : 0;
}

static uint64_t handled_fs(int abi)
{
    /* ABI 1 knows 13 rights; 2 adds refer, 3 truncate, 5 ioctl on devices. */
    const unsigned bits = abi >= 5 ? 16 : abi >= 3 ? 15 : abi == 2 ? 14 : 13;

    return (1ULL << bits) - 1;
}

static int allow_path(int ruleset, const char *path, uint64_t allowed)
{
    CLEANUP(fd_cleanup) int fd = open(path, O_PATH | O_CLOEXEC);
    struct stat st;

    if (fd < 0) {
        return errno == ENOENT ? 0 : -1; /* an optional folder */
    }
    if (fstat(fd, &st) < 0) {
        return -1;
    }
    if (!S_ISDIR(st.st_mode)) {
        allowed &= FS_READ_FILE | FS_WRITE_FILE | FS_TRUNCATE;
    }
    const struct path_beneath rule = {.allowed = allowed, .parent_fd = fd};
    return (int)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_PATH_BENEATH, &rule, 0);
}

/* All rights are handled and none granted, except reading below read_paths and work in tmpdir. */
static int make_ruleset(int abi, const char *const *read_paths, const char *tmpdir, int *ret_fd)
{
    struct ruleset_attr attr = {.handled_fs = handled_fs(abi)};
    size_t size = sizeof(attr.handled_fs);

    if (abi >= 4) {
        attr.handled_net = NET_BOTH;
        size += sizeof(attr.handled_net);
    }
    if (abi >= 6) {
        attr.scoped = SCOPE_BOTH;
        size += sizeof(attr.scoped);
    }
    CLEANUP(fd_cleanup) int fd = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
    if (fd < 0) {
        return -1;
    }
    for (size_t i = 0; read_paths && read_paths[i]; i++) {
        if (allow_path(fd, read_paths[i], FS_READ_FILE | FS_READ_DIR) < 0) {
            return -1;
        }
    }
    if (tmpdir && allow_path(fd, tmpdir,
                             attr.handled_fs & (FS_WRITE_FILE | FS_READ_FILE | FS_READ_DIR |
                                                FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR |
                                                FS_MAKE_REG | FS_REFER | FS_TRUNCATE)) < 0) {
        return -1;
    }
    int high = fcntl(fd, F_DUPFD_CLOEXEC, CAGE_FD_BASE);
    if (high < 0) {
        return -1;
    }
    *ret_fd = high;
    return 0;
}

/* --- preparing ------------------------------------------------------------------------------ */

int cage_prepare(unsigned flags, const char *const *read_paths, struct cage *ret_cage,
                 struct err *err)
{
    bool reads = (flags & CAGE_READ_FILES) != 0;
    struct cage cage = {.flags = flags,
                        .zygote = getpid(),
                        .read_paths = read_paths,
                        .ruleset_fd = -1,
                        .landlock_abi = landlock_version()};

    if (cage_filter_compile(flags, &cage.filter, err) < 0) {
        return -1;
    }
    if (flags & CAGE_OFFICE) {
        const char *tmpdir = getenv("TMPDIR");
        if (!tmpdir) {
            return err_set(err, ERR_FATAL, "jail_start", "an office zygote needs TMPDIR");
        }
        cage.no_namespace = !office_namespace_works(tmpdir);
    } else if (cage.landlock_abi > 0 && make_ruleset(cage.landlock_abi, reads ? read_paths : NULL,
                                                     NULL, &cage.ruleset_fd) < 0) {
        return err_from_errno(err, errno, "Landlock");
    }
    *ret_cage = cage;
    return 0;
}

/* --- entering, in the child ----------------------------------------------------------------- */

static int set_limit(unsigned what, uint64_t soft, uint64_t hard)
{
    struct rlimit now;

    if (getrlimit((__rlimit_resource_t)what, &now) < 0) {
        return -1;
    }
    hard = min_u64(hard, now.rlim_max); /* only root could raise it */
    now = (struct rlimit){.rlim_cur = min_u64(soft, hard), .rlim_max = hard};
    return setrlimit((__rlimit_resource_t)what, &now);
}

static int set_limits(const struct cage *cage, const struct cage_limits *limits)
{
    uint64_t cpu = limits->cpu_s + (limits->cpu_s + 3U) / 4U;
    uint64_t files = (cage->flags & CAGE_OFFICE) ? OFFICE_FILES : PARSER_FILES;

    if (!SANITIZED && set_limit(RLIMIT_AS, limits->as_bytes, limits->as_bytes) < 0) {
        return -1;
    }
    /* Two more seconds for one that ignores SIGXCPU. */
    if (set_limit(RLIMIT_CPU, cpu, cpu + 2) < 0 ||
        set_limit(RLIMIT_FSIZE, limits->out_bytes, limits->out_bytes) < 0 ||
        set_limit(RLIMIT_NOFILE, files, files) < 0) {
        return -1;
    }
    return set_limit(RLIMIT_CORE, 0, 0);
}

static int drop_capabilities(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[2] = {{0}};

    return (int)syscall(SYS_capset, &head, none);
}

/* Out of memory, or a crash? Only the innocent need this to be right: a hostile child can have
 * either name for its end. */
static void on_crash(int sig)
{
    /* Both are safe here on Linux: errno is a thread's own word and mmap a bare system call.
     * NOLINTBEGIN(bugprone-signal-handler,cert-sig30-c) */
    bool memory = errno == ENOMEM;

    if (!memory) {
        void *p = mmap(NULL, MEMORY_PROBE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memory = p == MAP_FAILED;
    }
    /* NOLINTEND(bugprone-signal-handler,cert-sig30-c) */
    if (memory) {
        _exit(JAIL_EXIT_MEMORY);
    }
    signal(sig, SIG_DFL);
    raise(sig);
}

static void set_handlers(void)
{
    static const int plain[] = {SIGBUS, SIGILL, SIGFPE, SIGTERM, SIGINT, SIGHUP, SIGXCPU, SIGXFSZ};
    static const int maybe_memory[] = {SIGABRT, SIGTRAP, SIGSEGV};

    for (size_t i = 0; i < ARRAY_LEN(plain); i++) {
        signal(plain[i], SIG_DFL);
    }
    for (size_t i = 0; i < ARRAY_LEN(maybe_memory); i++) {
        signal(maybe_memory[i], on_crash);
    }
    cage_filter_watch();
}

/* The filter was compiled before this process had a pid: put it in. */
static int load_filter(const struct cage *cage)
{
    const uint32_t pid = (uint32_t)getpid();

    for (size_t i = 0; i < cage->filter.len; i++) {
        struct sock_filter *code = &cage->filter.filter[i]; /* our copy: this is the child */
        if (BPF_CLASS(code->code) == BPF_JMP && code->k == CAGE_PID_MARK) {
            code->k = pid;
        }
    }
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &cage->filter);
}

static int restrict_files(const struct cage *cage)
{
    int ruleset = cage->ruleset_fd;

    if (cage->landlock_abi == 0) {
        return 0;
    }
    /* Rules follow inodes: those of a private TMPDIR exist only now. */
    if (ruleset < 0 &&
        make_ruleset(cage->landlock_abi, cage->read_paths, getenv("TMPDIR"), &ruleset) < 0) {
        return -1;
    }
    return (int)syscall(SYS_landlock_restrict_self, ruleset, 0);
}

/* LibreOfficeKit keeps descriptors of its own open, so only ours are closed for it. */
static int close_others(const struct cage *cage)
{
    unsigned first = (cage->flags & CAGE_OFFICE) ? CAGE_FD_BASE : CAGE_FD_AUX + 1;

    return (int)syscall(SYS_close_range, first, ~0U, 0);
}

int cage_enter(const struct cage *cage, const struct cage_limits *limits, struct err *err)
{
    if ((cage->flags & CAGE_OFFICE) && !cage->no_namespace &&
        office_enter_namespace(getenv("TMPDIR"), err) < 0) {
        return -1;
    }
    /* After the namespaces, as gaining capabilities there clears the death signal. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != cage->zygote) {
        return err_set(err, ERR_TRANSIENT, "internal", "the zygote is gone");
    }
    if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        return err_from_errno(err, errno, "privileges");
    }
    if (restrict_files(cage) < 0) {
        return err_from_errno(err, errno, "Landlock");
    }
    if (close_others(cage) < 0 || set_limits(cage, limits) < 0 || drop_capabilities() < 0) {
        return err_from_errno(err, errno, "limits");
    }
    if (!SANITIZED) {
        set_handlers();
        if (load_filter(cage) < 0) {
            return err_from_errno(err, errno, "seccomp");
        }
    }
    errno = 0; /* on_crash looks at it */
    return 0;
}
