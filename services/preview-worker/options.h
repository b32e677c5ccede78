/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings of preview-worker beside the core ones.
 */
#pragma once

#include "libcommon/config.h"

struct preview_options {
    int64_t max_pages;
};

extern struct preview_options preview_options;
extern const struct option_def preview_option_defs[];
extern const size_t preview_option_count;
