/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LibreOffice reads its profile at $HOME/.config/libreoffice/4/user when it is pre-initialised;
 * one given later comes too late. Without ooSetupLastVersion each child would take itself for a
 * fresh upgrade and test the graphics for most of a second.
 * The settings refuse macros, Java and whatever a document links to.
 */
#include "services/preview-worker/office.h"

#include "libcommon/buf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIX "docfleet-office-"

static const struct {
    const char *path; /* below org.openoffice. */
    const char *name;
    const char *value;
} settings[] = {
    {"Setup/Product", "ooSetupLastVersion", "7.4"},
    {"Office.Common/Security/Scripting", "DisableMacrosExecution", "true"},
    {"Office.Common/Security/Scripting", "MacroSecurityLevel", "3"},
    {"Office.Common/Security/Scripting", "BlockUntrustedRefererLinks", "true"},
    {"Office.Writer/Content/Update", "Link", "0"},
    {"Office.Calc/Content/Update", "Link", "2"},
    {"Office.Java/VirtualMachine", "Enable", "false"},
    {"Office.Common/Misc", "UseOpenCL", "false"},
    {"Office.Recovery/RecoveryInfo", "Enabled", "false"},
};

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    if (remove(path) != 0) {
        errno = 0; /* the rest goes anyway */
    }
    return 0;
}

void office_folder_remove(const struct office_folder *folder)
{
    if (folder->root[0] != '\0') {
        nftw(folder->root, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    }
}

/* A living process holds a lock on its folder, above the descriptors that children keep. */
#define LOCK_FD_BASE 600

/* A descriptor that holds the lock, or -1: somebody else has it, or there is no such folder. */
static int lock_folder(const char *root)
{
    CLEANUP(fd_cleanup) int fd = open(root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0) {
        return -1;
    }
    return fcntl(fd, F_DUPFD_CLOEXEC, LOCK_FD_BASE);
}

/* The number in a folder's name is that of no process we can see. */
static bool is_orphan(const char *name)
{
    char *end = NULL;
    const long pid = strtol(name + strlen(PREFIX), &end, 10);

    return pid > 1 && end && *end == '-' && kill((pid_t)pid, 0) != 0 && errno == ESRCH;
}

static void remove_stale(const char *parent)
{
    DIR *dir = opendir(parent);
    const struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        struct office_folder folder = {0};

        if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) != 0 || !is_orphan(entry->d_name) ||
            snprintf(folder.root, sizeof(folder.root), "%s/%s", parent, entry->d_name) >=
                (int)sizeof(folder.root)) {
            continue;
        }
        CLEANUP(fd_cleanup) int lock = lock_folder(folder.root);

        if (lock >= 0) {
            office_folder_remove(&folder);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

static int profile_text(struct buf *text, struct err *err)
{
    if (buf_puts(text,
                 "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                 "<oor:items xmlns:oor=\"http://openoffice.org/2001/registry\">\n",
                 err) != 0) {
        return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        if (buf_printf(text, err,
                       "<item oor:path=\"/org.openoffice.%s\"><prop oor:name=\"%s\" "
                       "oor:op=\"fuse\"><value>%s</value></prop></item>\n",
                       settings[i].path, settings[i].name, settings[i].value) != 0) {
            return -1;
        }
    }
    return buf_puts(text, "</oor:items>\n", err);
}

static int write_profile(const char *home, struct err *err)
{
    static const char *const steps[] = {"/.config", "/.config/libreoffice",
                                        "/.config/libreoffice/4", "/.config/libreoffice/4/user"};
    CLEANUP(buf_done) struct buf text;
    char path[400];

    buf_init(&text, 16384);
    if (profile_text(&text, err) != 0) {
        return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        snprintf(path, sizeof(path), "%s%s", home, steps[i]);
        if (mkdir(path, 0700) != 0) {
            return err_from_errno(err, errno, "making %s", path);
        }
    }
    snprintf(path, sizeof(path), "%s%s/registrymodifications.xcu", home,
             steps[ARRAY_LEN(steps) - 1]);
    CLEANUP(fd_cleanup) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0 || write(fd, text.data, text.len) != (ssize_t)text.len) {
        return err_from_errno(err, errno, "writing %s", path);
    }
    return 0;
}

int office_folder_make(struct office_folder *folder, struct err *err)
{
    const char *parent = getenv("TMPDIR");

    parent = parent && *parent == '/' ? parent : "/tmp";
    remove_stale(parent);
    if (snprintf(folder->root, sizeof(folder->root), "%s/" PREFIX "%d-XXXXXX", parent,
                 (int)getpid()) >= (int)sizeof(folder->root)) {
        folder->root[0] = '\0';
        return err_set(err, ERR_FATAL, "internal", "TMPDIR is too long");
    }
    if (!mkdtemp(folder->root)) {
        const int errnum = errno;

        folder->root[0] = '\0';
        return err_from_errno(err, errnum, "making a folder in %s", parent);
    }
    if (lock_folder(folder->root) < 0) { /* held until this process ends */
        return err_from_errno(err, errno, "locking %s", folder->root);
    }
    snprintf(folder->home, sizeof(folder->home), "%s/home", folder->root);
    snprintf(folder->tmp, sizeof(folder->tmp), "%s/tmp", folder->root);
    /* One thread so far: NOLINTBEGIN(concurrency-mt-unsafe) */
    if (mkdir(folder->home, 0700) != 0 || mkdir(folder->tmp, 0700) != 0 ||
        setenv("HOME", folder->home, 1) != 0 || setenv("TMPDIR", folder->tmp, 1) != 0 ||
        setenv("SAL_LOK_OPTIONS", "unipoll", 1) != 0) {
        /* NOLINTEND(concurrency-mt-unsafe) */
        return err_from_errno(err, errno, "preparing %s", folder->root);
    }
    return write_profile(folder->home, err);
}
