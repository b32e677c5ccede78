/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which system calls a child may make: one table per kind of cage, compiled once to BPF.
 * Invariant: what no table names ends the process. A forbidden call is never executed, it traps
 * into a handler that only notes its name and then makes the one call that kills; the handler
 * cannot be replaced or ignored, as changing SIGSYS is itself forbidden.
 */
#include "libcommon/zygote_cage.h"

#include "libcommon/jail_proto.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Answered by SCMP_ACT_KILL_PROCESS in every filter; nothing here ever needs it. */
#define KILLING_CALL SYS_reboot

/* Namespaces, which a thread may never bring along. */
#define CLONE_NAMESPACES                                                                           \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |  \
     CLONE_NEWNET)

#define TMPFILE_BIT (O_TMPFILE & ~O_DIRECTORY)

struct soft_call {
    int nr;
    int errnum;
};

/* Memory, own descriptors, time: every cage but office. */
static const int always[] = {
    SCMP_SYS(read),           SCMP_SYS(write),
    SCMP_SYS(readv),          SCMP_SYS(writev),
    SCMP_SYS(pread64),        SCMP_SYS(pwrite64),
    SCMP_SYS(preadv),         SCMP_SYS(pwritev),
    SCMP_SYS(lseek),          SCMP_SYS(fstat),
    SCMP_SYS(close),          SCMP_SYS(dup),
    SCMP_SYS(fadvise64),      SCMP_SYS(brk),
    SCMP_SYS(munmap),         SCMP_SYS(mremap),
    SCMP_SYS(madvise),        SCMP_SYS(futex),
    SCMP_SYS(clock_gettime),  SCMP_SYS(clock_getres),
    SCMP_SYS(gettimeofday),   SCMP_SYS(time),
    SCMP_SYS(times),          SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),      SCMP_SYS(getrusage),
    SCMP_SYS(getpid),         SCMP_SYS(gettid),
    SCMP_SYS(getuid),         SCMP_SYS(geteuid),
    SCMP_SYS(getgid),         SCMP_SYS(getegid),
    SCMP_SYS(getrandom),      SCMP_SYS(getcpu),
    SCMP_SYS(sched_yield),    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),    SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),           SCMP_SYS(exit_group),
};

/* Libraries ask for these in passing and live well with a refusal. */
static const struct soft_call soft[] = {
    {SCMP_SYS(readlink), EACCES},      {SCMP_SYS(readlinkat), EACCES},
    {SCMP_SYS(unlink), EACCES},        {SCMP_SYS(unlinkat), EACCES},
    {SCMP_SYS(mkdir), EACCES},         {SCMP_SYS(mkdirat), EACCES},
    {SCMP_SYS(creat), EACCES},         {SCMP_SYS(getcwd), EACCES},
    {SCMP_SYS(socket), EACCES},        {SCMP_SYS(connect), EACCES},
    {SCMP_SYS(getpeername), ENOTSOCK}, {SCMP_SYS(getsockname), ENOTSOCK},
    {SCMP_SYS(ioctl), ENOTTY},         {SCMP_SYS(uname), EPERM},
    {SCMP_SYS(sysinfo), EPERM},        {SCMP_SYS(prlimit64), EPERM},
    {SCMP_SYS(getrlimit), EPERM},      {SCMP_SYS(openat2), ENOSYS},
    {SCMP_SYS(clone3), ENOSYS},        {SCMP_SYS(sched_getattr), ENOSYS},
    {SCMP_SYS(membarrier), ENOSYS},
};

/* Looking at files: harmless with read access, refused without. cairo draws no font whose file it
 * may not ask about with access(). */
static const int looking[] = {
    SCMP_SYS(stat),      SCMP_SYS(lstat),      SCMP_SYS(newfstatat), SCMP_SYS(statx),
    SCMP_SYS(statfs),    SCMP_SYS(fstatfs),    SCMP_SYS(getdents64), SCMP_SYS(access),
    SCMP_SYS(faccessat), SCMP_SYS(faccessat2),
};

static const int threads[] = {SCMP_SYS(set_robust_list), SCMP_SYS(rseq)};

/* LibreOfficeKit: found with a corpus; all else is answered with ENOSYS, which it copes with. */
static const int office[] = {
    SCMP_SYS(newfstatat),
    SCMP_SYS(fstat),
    SCMP_SYS(access),
    SCMP_SYS(faccessat2),
    SCMP_SYS(openat),
    SCMP_SYS(close),
    SCMP_SYS(read),
    SCMP_SYS(pread64),
    SCMP_SYS(write),
    SCMP_SYS(pwrite64),
    SCMP_SYS(writev),
    SCMP_SYS(lseek),
    SCMP_SYS(fcntl),
    SCMP_SYS(ioctl),
    SCMP_SYS(dup),
    SCMP_SYS(getdents64),
    SCMP_SYS(readlink),
    SCMP_SYS(statfs),
    SCMP_SYS(fstatfs),
    SCMP_SYS(mkdir),
    SCMP_SYS(rmdir),
    SCMP_SYS(rename),
    SCMP_SYS(link),
    SCMP_SYS(unlink),
    SCMP_SYS(unlinkat),
    SCMP_SYS(chmod),
    SCMP_SYS(fchmod),
    SCMP_SYS(fchown),
    SCMP_SYS(ftruncate),
    SCMP_SYS(fsync),
    SCMP_SYS(fdatasync),
    SCMP_SYS(fadvise64),
    SCMP_SYS(getcwd),
    SCMP_SYS(mmap),
    SCMP_SYS(munmap),
    SCMP_SYS(mprotect),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(mlock),
    SCMP_SYS(brk),
    SCMP_SYS(futex),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(getrandom),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(getppid),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(sysinfo),
    SCMP_SYS(uname),
    SCMP_SYS(poll),
    SCMP_SYS(pipe2),
    SCMP_SYS(wait4),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(restart_syscall),
};

static const int fcntl_commands[] = {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD,    F_SETFD,
                                     F_GETFL, F_SETFL,         F_GET_SEALS};

/* --- rules -------------------------------------------------------------------------------- */

/* Adds rules until the first failure, which `rc` keeps: the caller looks once. */
struct rules {
    scmp_filter_ctx ctx;
    int rc;
};

static void add(struct rules *rules, uint32_t action, int nr, unsigned n,
                const struct scmp_arg_cmp *args)
{
    if (rules->rc == 0) {
        rules->rc = seccomp_rule_add_array(rules->ctx, action, nr, n, args);
    }
}

static void allow_list(struct rules *rules, const int *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        add(rules, SCMP_ACT_ALLOW, list[i], 0, NULL);
    }
}

static void rule_masked(struct rules *rules, uint32_t action, int nr, unsigned arg, uint64_t mask,
                        uint64_t value)
{
    const struct scmp_arg_cmp cmp = {
        .arg = arg, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = value};

    add(rules, action, nr, 1, &cmp);
}

static void rule_compare(struct rules *rules, uint32_t action, int nr, unsigned arg,
                         enum scmp_compare op, uint64_t value)
{
    const struct scmp_arg_cmp cmp = {.arg = arg, .op = op, .datum_a = value};

    add(rules, action, nr, 1, &cmp);
}

/* Opening to read is allowed; each bit that means more is refused by name, not by death. */
static void allow_reading(struct rules *rules, int nr, unsigned flags_arg)
{
    static const uint64_t more[] = {O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND, TMPFILE_BIT};
    uint64_t mask = 0;

    for (size_t i = 0; i < ARRAY_LEN(more); i++) {
        mask |= more[i];
        rule_masked(rules, SCMP_ACT_ERRNO(EACCES), nr, flags_arg, more[i], more[i]);
    }
    rule_masked(rules, SCMP_ACT_ALLOW, nr, flags_arg, mask, 0);
}

static void file_rules(struct rules *rules, bool read_files)
{
    if (read_files) {
        allow_reading(rules, SCMP_SYS(openat), 2);
        allow_reading(rules, SCMP_SYS(open), 1);
        allow_list(rules, looking, ARRAY_LEN(looking));
        return;
    }
    add(rules, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(openat), 0, NULL);
    add(rules, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(open), 0, NULL);
    for (size_t i = 0; i < ARRAY_LEN(looking); i++) {
        if (looking[i] == SCMP_SYS(newfstatat)) { /* also what fstat() is made of */
            rule_masked(rules, SCMP_ACT_ALLOW, looking[i], 3, AT_EMPTY_PATH, AT_EMPTY_PATH);
            rule_masked(rules, SCMP_ACT_ERRNO(EACCES), looking[i], 3, AT_EMPTY_PATH, 0);
        } else {
            add(rules, SCMP_ACT_ERRNO(EACCES), looking[i], 0, NULL);
        }
    }
}

static void thread_rules(struct rules *rules, bool allowed)
{
    if (!allowed) {
        add(rules, SCMP_ACT_ERRNO(EAGAIN), SCMP_SYS(clone), 0, NULL);
        return;
    }
    rule_masked(rules, SCMP_ACT_ALLOW, SCMP_SYS(clone), 0, CLONE_THREAD | CLONE_NAMESPACES,
                CLONE_THREAD);
    rule_masked(rules, SCMP_ACT_ERRNO(EAGAIN), SCMP_SYS(clone), 0, CLONE_THREAD, 0);
    allow_list(rules, threads, ARRAY_LEN(threads));
}

/* In every cage: signals only to itself, and no way around the SIGSYS handler. */
static void common_rules(struct rules *rules)
{
    add(rules, SCMP_ACT_KILL_PROCESS, KILLING_CALL, 0, NULL);
    rule_compare(rules, SCMP_ACT_ALLOW, SCMP_SYS(rt_sigaction), 0, SCMP_CMP_NE, SIGSYS);
    rule_compare(rules, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 0, SCMP_CMP_EQ, CAGE_PID_MARK);
    rule_compare(rules, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 0, SCMP_CMP_EQ, PR_SET_NAME);
    rule_compare(rules, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 0, SCMP_CMP_EQ, PR_GET_NAME);
}

static void parser_rules(struct rules *rules, unsigned flags)
{
    static const int exec_calls[] = {SCMP_SYS(mmap), SCMP_SYS(mprotect)};

    allow_list(rules, always, ARRAY_LEN(always));
    for (size_t i = 0; i < ARRAY_LEN(soft); i++) {
        add(rules, SCMP_ACT_ERRNO((uint32_t)soft[i].errnum), soft[i].nr, 0, NULL);
    }
    for (size_t i = 0; i < ARRAY_LEN(fcntl_commands); i++) {
        rule_compare(rules, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1, SCMP_CMP_EQ,
                     (uint64_t)fcntl_commands[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(exec_calls); i++) {
        rule_masked(rules, SCMP_ACT_ALLOW, exec_calls[i], 2, PROT_EXEC, 0);
        rule_masked(rules, SCMP_ACT_ERRNO(EACCES), exec_calls[i], 2, PROT_EXEC, PROT_EXEC);
    }
    rule_compare(rules, SCMP_ACT_ERRNO(EINVAL), SCMP_SYS(prctl), 0, SCMP_CMP_EQ, PR_SET_VMA);
    file_rules(rules, (flags & CAGE_READ_FILES) != 0);
    thread_rules(rules, (flags & CAGE_THREADS) != 0);
}

static void office_rules(struct rules *rules)
{
    const struct scmp_arg_cmp own[] = {{.arg = 0, .op = SCMP_CMP_EQ, .datum_a = 0},
                                       {.arg = 2, .op = SCMP_CMP_EQ, .datum_a = 0}};

    allow_list(rules, office, ARRAY_LEN(office));
    add(rules, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), ARRAY_LEN(own), own);
    rule_masked(rules, SCMP_ACT_ALLOW, SCMP_SYS(clone), 0, CLONE_THREAD | CLONE_NAMESPACES,
                CLONE_THREAD);
}

/* --- compiling ---------------------------------------------------------------------------- */

static int export_filter(scmp_filter_ctx ctx, struct sock_fprog *ret_filter, struct err *err)
{
    CLEANUP(fd_cleanup) int fd = memfd_create("filter", MFD_CLOEXEC);
    CLEANUP(free_cleanup) struct sock_filter *code = NULL;

    if (fd < 0) {
        return err_from_errno(err, errno, "seccomp filter");
    }
    int rc = seccomp_export_bpf(ctx, fd);
    off_t size = lseek(fd, 0, SEEK_END);
    if (rc < 0 || size <= 0 || (size_t)size / sizeof(*code) > BPF_MAXINSNS) {
        return err_set(err, ERR_FATAL, "jail_start", "the seccomp filter does not compile");
    }
    code = malloc((size_t)size);
    if (!code) {
        return err_nomem(err);
    }
    if (pread(fd, code, (size_t)size, 0) != size) {
        return err_from_errno(err, errno, "seccomp filter");
    }
    ret_filter->len = (unsigned short)((size_t)size / sizeof(*code));
    ret_filter->filter = STEAL(code);
    return 0;
}

#define NAMED_CALLS 512
static char call_names[NAMED_CALLS][24];

static void load_names(void)
{
    if (call_names[0][0]) {
        return;
    }
    for (int nr = 0; nr < NAMED_CALLS; nr++) {
        char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, nr);
        snprintf(call_names[nr], sizeof(call_names[nr]), "%s", name ? name : "");
        free(name);
    }
}

int cage_filter_compile(unsigned flags, struct sock_fprog *ret_filter, struct err *err)
{
    bool for_office = (flags & CAGE_OFFICE) != 0;
    struct rules rules = {.ctx = seccomp_init(for_office ? SCMP_ACT_ERRNO(ENOSYS) : SCMP_ACT_TRAP)};

    if (!rules.ctx) {
        return err_nomem(err);
    }
    load_names();
    common_rules(&rules);
    if (for_office) {
        office_rules(&rules);
    } else {
        parser_rules(&rules, flags);
    }
    int rc = rules.rc;
    if (rc < 0) {
        err_set(err, ERR_FATAL, "jail_start", "the seccomp filter %u is refused: %s", flags,
                strerrordesc_np(-rc));
    } else {
        rc = export_filter(rules.ctx, ret_filter, err);
    }
    seccomp_release(rules.ctx);
    return rc < 0 ? -1 : 0;
}

/* --- the handler, in the child -------------------------------------------------------------- */

static void on_forbidden(int sig, siginfo_t *info, void *context)
{
    char note[64] = JAIL_SIGSYS_MARK;
    size_t at = strlen(JAIL_SIGSYS_MARK);
    int nr = info->si_syscall;

    (void)sig;
    (void)context;
    if (nr >= 0 && nr < NAMED_CALLS) {
        memcpy(note + at, call_names[nr], sizeof(call_names[nr]));
    }
    if (write(CAGE_FD_OUTPUT, note, sizeof(note)) < 0) {
        note[0] = '\0'; /* dying matters more than the note */
    }
    syscall(KILLING_CALL, 0, 0, 0, 0);
    _exit(JAIL_EXIT_CAGE);
}

void cage_filter_watch(void)
{
    struct sigaction action = {.sa_flags = SA_SIGINFO};

    action.sa_sigaction = on_forbidden;
    sigfillset(&action.sa_mask);
    sigaction(SIGSYS, &action, NULL);
}
