/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeping units apart that must write files: LibreOfficeKit saves through its temporary folder.
 * Invariant: with namespaces, what a unit writes exists for that unit only and ends with it.
 * Without, the service runs one unit at a time and the folder is wiped between two.
 */
#include "libcommon/zygote_cage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEPT_MAX 16
#define WIPE_DEPTH_MAX 16
#define TMPFS_OPTIONS "size=1g,mode=0700,nr_inodes=10000"

/* Folders lu*.tmp, which the library made once and needs in every child. */
struct kept {
    char path[KEPT_MAX][PATH_MAX];
    size_t n;
};

static bool is_kept_name(const char *name)
{
    size_t len = strlen(name);

    return len > 6 && strncmp(name, "lu", 2) == 0 && strcmp(name + len - 4, ".tmp") == 0;
}

static void find_kept(struct kept *kept, const char *folder, int levels)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;

    while (dir && (entry = readdir(dir)) && kept->n < KEPT_MAX) {
        char *path = kept->path[kept->n];
        if (!is_kept_name(entry->d_name) ||
            snprintf(path, PATH_MAX, "%s/%s", folder, entry->d_name) >= PATH_MAX ||
            entry->d_type != DT_DIR) {
            continue;
        }
        kept->n++;
        if (levels > 1) {
            find_kept(kept, path, levels - 1);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

static int write_text(const char *path, const char *text)
{
    CLEANUP(fd_cleanup) int fd = open(path, O_WRONLY | O_CLOEXEC);
    size_t len = strlen(text);

    return fd >= 0 && write(fd, text, len) == (ssize_t)len ? 0 : -1;
}

/* Identity maps: unmapped ids could not create files. */
static int map_ids(uid_t uid, gid_t gid)
{
    char line[64];

    if (write_text("/proc/self/setgroups", "deny") < 0 && errno != ENOENT) {
        return -1;
    }
    snprintf(line, sizeof(line), "%u %u 1", uid, uid);
    if (write_text("/proc/self/uid_map", line) < 0) {
        return -1;
    }
    snprintf(line, sizeof(line), "%u %u 1", gid, gid);
    return write_text("/proc/self/gid_map", line);
}

int office_enter_namespace(const char *tmpdir, struct err *err)
{
    static struct kept kept;
    uid_t uid = geteuid();
    gid_t gid = getegid();

    kept.n = 0;
    find_kept(&kept, tmpdir, 2);
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC) < 0 ||
        map_ids(uid, gid) < 0) {
        return err_from_errno(err, errno, "namespaces");
    }
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", tmpdir, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, TMPFS_OPTIONS) < 0) {
        return err_from_errno(err, errno, "private temporary folder");
    }
    for (size_t i = 0; i < kept.n; i++) {
        if (mkdir(kept.path[i], 0700) < 0) {
            return err_from_errno(err, errno, "temporary folder");
        }
    }
    return 0;
}

bool office_namespace_works(const char *tmpdir)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        _exit(office_enter_namespace(tmpdir, NULL) == 0 ? 0 : 1);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

static void wipe_folder(int parent, const char *name, int depth)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;

    if (!dir) {
        fd_cleanup(&fd);
        return;
    }
    while ((entry = readdir(dir))) {
        const char *child = entry->d_name;
        if (strcmp(child, ".") == 0 || strcmp(child, "..") == 0) {
            continue;
        }
        if (unlinkat(fd, child, 0) == 0 || depth >= WIPE_DEPTH_MAX) {
            continue;
        }
        wipe_folder(fd, child, depth + 1);
        if (depth >= 2 || !is_kept_name(child)) {
            unlinkat(fd, child, AT_REMOVEDIR);
        }
    }
    closedir(dir);
}

void office_wipe(const char *tmpdir)
{
    wipe_folder(AT_FDCWD, tmpdir, 0);
}
