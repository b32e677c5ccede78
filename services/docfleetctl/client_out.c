/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that commands write.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "services/docfleetctl/client.h"

void out_done(struct out_file *out)
{
    if (out->temp) {
        unlink(out->temp);
    }
    if (out->path) {
        fd_cleanup(&out->fd);
    }
    free(out->temp);
    free(out->path);
    *out = OUT_FILE_INIT;
}

int out_open(const char *path, struct out_file *ret_out, struct err *err)
{
    CLEANUP(out_done) struct out_file out = OUT_FILE_INIT;
    CLEANUP(buf_done) struct buf temp;
    struct stat st;

    if (!path || strcmp(path, "-") == 0) {
        *ret_out = (struct out_file){.fd = STDOUT_FILENO};
        return 0;
    }
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) { /* a pipe, /dev/null: no renaming over it */
        out.path = strdup(path);
        out.fd = S_ISDIR(st.st_mode) ? -1 : open(path, O_WRONLY | O_CLOEXEC);
        errno = S_ISDIR(st.st_mode) ? EISDIR : errno;
    } else {
        const char *slash = strrchr(path, '/');
        buf_init(&temp, 8192);
        if (buf_printf(&temp, err, "%.*s.%s.XXXXXX", slash ? (int)(slash - path + 1) : 0, path,
                       slash ? slash + 1 : path) < 0) {
            return -1;
        }
        out.path = strdup(path);
        out.temp = buf_steal(&temp);
        mode_t mask = umask(022);
        umask(mask);
        out.fd = mkostemp(out.temp, O_CLOEXEC);
        if (out.fd >= 0 && fchmod(out.fd, 0666 & ~mask) < 0) {
            return err_from_errno(err, errno, "%s", api_clean(path));
        }
        if (out.fd < 0) {
            free(STEAL(out.temp)); /* nothing to remove */
        }
    }
    if (out.fd < 0 || !out.path) {
        return out.path ? err_from_errno(err, errno, "%s", api_clean(path)) : err_nomem(err);
    }
    *ret_out = out;
    out = OUT_FILE_INIT;
    return 0;
}

int out_commit(struct out_file *out, struct err *err)
{
    if (!out->path) {
        return 0;
    }
    if ((out->temp && fsync(out->fd) < 0) || (out->temp && rename(out->temp, out->path) < 0)) {
        return err_from_errno(err, errno, "%s", api_clean(out->path));
    }
    free(STEAL(out->temp));
    return 0;
}
