/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings of cleaner beside the core ones.
 */
#pragma once

#include "libcommon/config.h"

struct cleaner_options {
    int64_t orphan_grace_ms;
    int64_t sweep_ms;
    int64_t event_days;
    int64_t second_pass_ms;
};

extern struct cleaner_options cleaner_options;
extern const struct option_def cleaner_option_defs[];
