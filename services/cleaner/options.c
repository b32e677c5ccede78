/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The option table of cleaner.
 */
#include "services/cleaner/options.h"

#define OPT(field) offsetof(struct cleaner_options, field)

struct cleaner_options cleaner_options;

const struct option_def cleaner_option_defs[] = {
    {"ORPHAN_GRACE", OPTION_DURATION, OPT(orphan_grace_ms), "24h", 0, 0, NULL,
     "age from which an object or unfinished upload that nothing names is removed"},
    {"CLEAN_INTERVAL", OPTION_DURATION, OPT(sweep_ms), "10m", 100, 86400000, NULL,
     "time between sweeps for orphans and old rows"},
    {"EVENT_DAYS", OPTION_INT, OPT(event_days), "90", 1, 3650, NULL,
     "days that events are kept for the timeline"},
    {"SECOND_PASS", OPTION_DURATION, OPT(second_pass_ms), "75s", 0, 3600000, NULL,
     "time after which a removed file's folders are emptied once more, longer than a lease and a"
     " late transfer of a lost worker"},
};
