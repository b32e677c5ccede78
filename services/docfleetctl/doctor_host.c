/* SPDX-License-Identifier: Apache-2.0 */
/*
 * This machine, or this pod: room to write, and the walls that the jail can have here.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "services/docfleetctl/doctor.h"

#define ROOM_WARN (10ULL << 30)
#define ROOM_BAD (1ULL << 30)
#define FILES_MIN 4096U
#define LANDLOCK_VERSION_FLAG 1U

void check_scratch(struct doctor *d)
{
    const char *folder = d->ctl->service.core.scratch_dir;
    CLEANUP(fd_cleanup) int fd = -1;
    struct statfs fs;

    fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EOPNOTSUPP) { /* a file system that knows no unnamed files */
        char path[4096];
        snprintf(path, sizeof(path), "%s/doctor-XXXXXX", folder);
        fd = mkostemp(path, O_CLOEXEC);
        if (fd >= 0) {
            unlink(path);
        }
    }
    if (fd < 0 || write(fd, "x", 1) != 1 || fstatfs(fd, &fs) < 0) {
        struct err err = ERR_INIT;
        err_from_errno(&err, errno, "%s", folder);
        found_err(d, FOUND_PROBLEM, &err);
        return;
    }
    uint64_t room = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
    double gib = (double)room / (double)(1ULL << 30);
    bool memory = fs.f_type == TMPFS_MAGIC;
    if (fs.f_files > 0 && fs.f_ffree < 1000) {
        found(d, FOUND_PROBLEM, NULL, "%s has no inodes left", folder);
    } else if (room < ROOM_WARN) {
        found(d, room < ROOM_BAD ? FOUND_PROBLEM : FOUND_WARNING, NULL, "%s has %.1f GiB left",
              folder, gib);
    } else {
        found(d, FOUND_OK, NULL, "%s has %.0f GiB left%s%s", folder, gib,
              memory ? "; it is memory, and counts as the pod's" : "",
              fs.f_flags & ST_NOEXEC ? "; noexec, which is fine" : "");
    }
}

/* What fn answers in a child: 0 it can, else an errno. */
static int in_child(int (*fn)(void))
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        _exit(fn());
    }
    if (pid < 0) {
        return errno;
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : EPERM;
}

static int try_namespace(void)
{
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 ? errno : 0;
}

static int try_filter(void)
{
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = 1, .filter = &allow};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        return errno;
    }
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0 ? errno : 0;
}

void check_namespaces(struct doctor *d)
{
    int error = in_child(try_namespace);
    char text[96];

    found(d, error ? FOUND_WARNING : FOUND_OK, NULL, "%s",
          error ? strerror_r(error, text, sizeof(text)) : "they may");
}

void check_landlock(struct doctor *d)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_VERSION_FLAG);

    if (abi < 1) {
        found(d, FOUND_WARNING, NULL, "the kernel has none");
    } else {
        found(d, FOUND_OK, NULL, "version %ld", abi);
    }
}

void check_seccomp(struct doctor *d)
{
    int error = in_child(try_filter);
    char text[96];

    found(d, error ? FOUND_PROBLEM : FOUND_OK, NULL, "%s",
          error ? strerror_r(error, text, sizeof(text)) : "it can");
}

void check_limits(struct doctor *d)
{
    struct rlimit limit = {0};

    getrlimit(RLIMIT_NOFILE, &limit);
    found(d, limit.rlim_max < FILES_MIN ? FOUND_WARNING : FOUND_OK, NULL, "%llu files",
          (unsigned long long)limit.rlim_max);
}
