/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gateway's own settings; names and defaults are in options.c, the only place.
 */
#pragma once

#include "libcommon/config.h"

struct gateway_options {
    char *listen;
    int64_t stream_port; /* 0: streams answer on the same port */
    char *console_dir;
    char *openapi_file;
    int64_t idle_timeout_ms;
    int64_t max_file_size;
};

extern struct gateway_options gateway_options;
extern const struct option_table gateway_option_table;
