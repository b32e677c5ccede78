/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The option table of scan-worker.
 */
#include "services/scan-worker/options.h"

#define OPT(field) offsetof(struct scan_options, field)

struct scan_options scan_options;

const struct option_def scan_option_defs[SCAN_OPTIONS] = {
    {"CLAMD", OPTION_STRING, OPT(clamd), "", 0, 0, NULL,
     "Address of ClamAV's daemon, host:port or unix:/path. Set for scan-worker and for the gateway:"
     " then every file is scanned before anything else reads it"},
    {"SCAN_TOO_LARGE", OPTION_ENUM, OPT(too_large), "refuse", 0, 0, "refuse|pass",
     "What becomes of a file that is larger than the daemon's StreamMaxLength"},
    {"SCAN_TIMEOUT", OPTION_DURATION, OPT(timeout_ms), "5m", 1000, 3600000, NULL,
     "Longest time for one file"},
};
