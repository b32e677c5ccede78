/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What operations of a zygote share: the input as bytes and parameters with defaults.
 * Runs in the caged child only, where leaving cleans up: mappings are kept until exit.
 */
#include "libcommon/zygote.h"

#include "libcommon/jget.h"

#include <errno.h>
#include <sys/mman.h>

#define PARAM_STR_MAX (16U * 1024U)

int unit_map_input(struct jail_unit *unit, uint64_t max, const char **ret_data, size_t *ret_len,
                   struct err *err)
{
    if (unit->input_fd < 0) {
        return err_set(err, ERR_UNKNOWN, "internal", "%s was started without input", unit->op);
    }
    if (unit->input_size > max) {
        return err_set(err, ERR_PERMANENT, "file_too_large", "%llu bytes, more than %llu",
                       (unsigned long long)unit->input_size, (unsigned long long)max);
    }
    if (unit->input_size == 0) {
        *ret_data = "";
        *ret_len = 0;
        return 0;
    }
    void *data = mmap(NULL, (size_t)unit->input_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE,
                      unit->input_fd, 0);
    if (data == MAP_FAILED) {
        return errno == ENOMEM ? err_nomem(err) : err_from_errno(err, errno, "mapping the input");
    }
    *ret_data = data;
    *ret_len = (size_t)unit->input_size;
    return 0;
}

int64_t unit_param_int(const struct jail_unit *unit, const char *name, int64_t fallback)
{
    int64_t value = fallback;

    if (jget_opt_int(unit->params, name, INT64_MIN, INT64_MAX, fallback, &value, NULL) < 0) {
        return fallback;
    }
    return value;
}

const char *unit_param_str(const struct jail_unit *unit, const char *name, const char *fallback)
{
    const char *value = fallback;

    if (jget_opt_str(unit->params, name, PARAM_STR_MAX, fallback, &value, NULL) < 0) {
        return fallback;
    }
    return value;
}
