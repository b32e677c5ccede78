/* SPDX-License-Identifier: Apache-2.0 */
/*
 * O_TMPFILE where the file system has it, else a file whose name is removed at once.
 */
#include "libcommon/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int scratch_open(const char *dir, int *ret_fd, struct err *err)
{
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT)) {
        char path[4096];
        int n = snprintf(path, sizeof(path), "%s/docfleet-XXXXXX", dir);
        if (n < 0 || (size_t)n >= sizeof(path)) {
            return err_set(err, ERR_FATAL, "config", "the scratch directory's name is too long");
        }
        fd = mkostemp(path, O_CLOEXEC);
        if (fd >= 0) {
            unlink(path);
        }
    }
    if (fd < 0) {
        return err_from_errno(err, errno, "making a file in %s", dir);
    }
    *ret_fd = fd;
    return 0;
}
