/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A zygote in an office suite's cage, without the suite: its operations write to the temporary
 * folder and look for what others left there.
 */
#include "libcommon/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int tmp_path(char *path, size_t size, const char *name)
{
    return snprintf(path, size, "%s/%s", getenv("TMPDIR"), name) < (int)size ? 0 : -1;
}

/* Leaves files in TMPDIR and in a folder of the "library"; says what was there before. */
static int op_work(struct jail_unit *unit, struct err *err)
{
    static const char *const names[] = {"left-over", "luabc.tmp/luxyz.tmp/work"};
    char path[4096];
    int found = 0, wrote = 0;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (tmp_path(path, sizeof(path), names[i]) < 0) {
            return err_set(err, ERR_UNKNOWN, "internal", "TMPDIR is too long");
        }
        found += access(path, F_OK) == 0;
        CLEANUP(fd_cleanup) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        wrote += fd >= 0 && write(fd, "x", 1) == 1;
    }
    CLEANUP(fd_cleanup) int outside = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    CLEANUP(fd_cleanup) int shared = open("/usr/share", O_RDONLY | O_CLOEXEC);
    CLEANUP(fd_cleanup) int net = socket(AF_INET, SOCK_STREAM, 0);
    if (unit_param_int(unit, "ms", 0) > 0) {
        usleep((useconds_t)unit_param_int(unit, "ms", 0) * 1000U);
    }
    json_t *meta = json_object();
    if (!meta) {
        return err_nomem(err);
    }
    json_object_set_new(meta, "found", json_integer(found));
    json_object_set_new(meta, "wrote", json_integer(wrote));
    json_object_set_new(meta, "outside", json_integer(outside >= 0));
    json_object_set_new(meta, "shared", json_integer(shared >= 0));
    json_object_set_new(meta, "net", json_integer(net >= 0));
    return frame_write(unit->out, "report", meta, NULL, 0, err);
}

static int op_abort(struct jail_unit *unit, struct err *err)
{
    (void)unit;
    (void)err;
    abort();
}

static int warm(struct err *err)
{
    static const char *const folders[] = {"luabc.tmp", "luabc.tmp/luxyz.tmp"};
    char path[4096];

    for (size_t i = 0; getenv("TMPDIR") && i < ARRAY_LEN(folders); i++) {
        if (tmp_path(path, sizeof(path), folders[i]) < 0 ||
            (mkdir(path, 0700) < 0 && errno != EEXIST)) {
            return err_from_errno(err, errno, "folder %s", folders[i]);
        }
    }
    return 0;
}

/* Like a library that owns the main loop. */
static int enter(int (*loop)(void *arg), void *arg, struct err *err)
{
    return loop(arg) < 0 ? err_set(err, ERR_FATAL, "internal", "the loop failed") : 0;
}

int main(int argc, char **argv)
{
    static const char *const read_paths[] = {"/usr/share", NULL};
    static const struct zygote_op ops[] = {{"work", CAGE_OFFICE, op_work},
                                           {"abort", CAGE_OFFICE, op_abort}};
    static const struct zygote zygote = {.name = "jail-office",
                                         .warm = warm,
                                         .ops = ops,
                                         .n_ops = ARRAY_LEN(ops),
                                         .read_paths = read_paths,
                                         .enter = enter};

    return zygote_main(argc, argv, &zygote);
}
