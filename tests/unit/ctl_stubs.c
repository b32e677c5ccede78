/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In the place of the commands, where only their tables are tried.
 */
#include "services/docfleetctl/ctl.h"

#define COMMAND(name)                                                                              \
    int name(struct ctl *ctl, struct err *err)                                                     \
    {                                                                                              \
        (void)ctl, (void)err;                                                                      \
        abort();                                                                                   \
    }

CTL_COMMANDS(COMMAND)

const struct option_def ctl_option_defs[] = {
    {"URL", OPTION_STRING, 0, "", 0, 0, NULL, "address of the gateway"},
    {"API_KEY", OPTION_SECRET, 0, "", 0, 0, NULL, "key"},
};
const size_t ctl_option_count = ARRAY_LEN(ctl_option_defs);
