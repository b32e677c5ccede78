/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings of ai-extractor beside the core ones.
 */
#pragma once

#include "libcommon/config.h"

struct ai_options {
    char *backend;
    char *url;
    char *model;
    char *key;
    char *schema_mode;
    char *max_tokens_field;
    int64_t timeout_ms;
};

extern struct ai_options ai_options;
extern const struct option_def ai_option_defs[];
extern const size_t ai_option_count;
