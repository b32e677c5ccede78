/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The option table of importer.
 */
#include "services/importer/importer.h"

#define OPT(field) offsetof(struct importer_options, field)

struct importer_options importer_options;

const struct option_def importer_option_defs[] = {
    {"IMPORT_SOURCES", OPTION_SECRET, OPT(sources), "", 0, 0, NULL,
     "other stores to import from, as JSON (docs/import.md); empty: only the fleet's own"},
    {"IMPORT_ALERT_URL", OPTION_SECRET, OPT(alert_url), "", 0, 0, NULL,
     "Slack-compatible webhook that is told when an import fails and when it works again; empty:"
     " nobody is"},
    {"IMPORT_ALERT_PRIVATE", OPTION_BOOL, OPT(alert_private), "false", 0, 0, NULL,
     "the webhook may be at a private, loopback or link-local address"},
    {"CLAMD", OPTION_STRING, OPT(clamd), "", 0, 0, NULL,
     "set as for scan-worker where files are to be scanned before anything else reads them"},
    {"IMPORT_WATCH", OPTION_DURATION, OPT(watch_ms), "0s", 0, 86400000, NULL,
     "go on and look for work this often; 0: do what is due, then end"},
    {"IMPORT_TRIES", OPTION_INT, OPT(tries), "3", 1, 10, NULL,
     "tries to read an object, and to list a source, in one run"},
    {"IMPORT_RETRY", OPTION_DURATION, OPT(retry_ms), "2s", 1, 600000, NULL,
     "wait before the second try; four times as long before each further one"},
    {"IMPORT_RUN_MAX", OPTION_DURATION, OPT(run_max_ms), "48h", 1000, 2592000000, NULL,
     "age at which a run that has not ended is given up"},
    {"IMPORT_MAX_OBJECTS", OPTION_INT, OPT(objects_max), "100000", 1, 10000000, NULL,
     "objects a source may have"},
    {"IMPORT_RUNS_KEPT", OPTION_INT, OPT(runs_kept), "100", 1, 100000, NULL,
     "runs of an import that are kept in its history"},
    {"MAX_FILE_SIZE", OPTION_SIZE, OPT(file_bytes_max), "5GiB", 1, 0x140000000, NULL,
     "largest file accepted"},
};
const size_t importer_option_count = ARRAY_LEN(importer_option_defs);
