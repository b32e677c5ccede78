/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Closing the walls around a child.
 */
#include "libcommon/zygote_cage.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

bool cage_has_filter(void)
{
    return true;
}

int cage_prepare(unsigned flags, const char *const *read_paths, struct cage *ret_cage,
                 struct err *err)
{
    (void)err;
    *ret_cage = (struct cage){.flags = flags, .read_paths = read_paths, .ruleset_fd = -1};
    return 0;
}

static int set_limit(unsigned what, uint64_t soft, uint64_t hard)
{
    return setrlimit((__rlimit_resource_t)what, &(struct rlimit){soft, hard});
}

int cage_enter(const struct cage *cage, const struct cage_limits *limits, struct err *err)
{
    uint64_t cpu = limits->cpu_s + (limits->cpu_s + 3U) / 4U;

    (void)cage;
    syscall(SYS_close_range, CAGE_FD_AUX + 1, ~0U, 0);
    if (set_limit(RLIMIT_AS, limits->as_bytes, limits->as_bytes) < 0 ||
        set_limit(RLIMIT_CPU, cpu, cpu + 2) < 0 ||
        set_limit(RLIMIT_FSIZE, limits->out_bytes, limits->out_bytes) < 0 ||
        set_limit(RLIMIT_NOFILE, 16, 16) < 0 || set_limit(RLIMIT_CORE, 0, 0) < 0 ||
        prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        return err_from_errno(err, errno, "limits");
    }
    return 0;
}
