/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings of scan-worker beside the core ones.
 */
#pragma once

#include "libcommon/config.h"

#define SCAN_OPTIONS 3

struct scan_options {
    char *clamd;        /* host:port or unix:/path */
    char *too_large;    /* refuse, pass */
    int64_t timeout_ms; /* for one file */
};

extern struct scan_options scan_options;
extern const struct option_def scan_option_defs[SCAN_OPTIONS];
