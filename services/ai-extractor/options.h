/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings of ai-extractor beside the core ones.
 */
#pragma once

#include "libcommon/config.h"

#define AI_OPTIONS 17U

struct ai_options {
    char *backend;
    char *url;
    char *model;
    char *key;
    char *key_header;
    char *ca_file;
    char *schema_mode;
    char *max_tokens_field;
    int64_t max_tokens;
    int64_t context_tokens;
    int64_t timeout_ms;
    int64_t unit_tokens, file_tokens;
    int64_t prompt_price, completion_price;
    int64_t unit_cost, file_cost;
};

extern struct ai_options ai_options;
extern const struct option_def ai_option_defs[AI_OPTIONS];

/* What one option alone cannot say. ERR_FATAL "invalid_config". */
int ai_options_check(const struct ai_options *options, struct err *err) WARN_UNUSED;
