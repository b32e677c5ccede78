/* SPDX-License-Identifier: Apache-2.0 */
#include "libcommon/topics.h"

#include <stdio.h>

#include "libcommon/states.h"

#define DAY_MS (24LL * 3600 * 1000)
#define MANY 24 /* partitions of a fleet that is more than one machine's */

int topics_create(const struct bus_access *access, int partitions, struct err *err)
{
    struct bus_topic topics[STAGE_MAX + 3];
    bool many = partitions >= MANY;
    size_t n = 0;

    for (int s = 1; s <= STAGE_MAX; s++) {
        topics[n++] = (struct bus_topic){stage_topic(s), partitions, 3 * DAY_MS};
    }
    topics[n++] = (struct bus_topic){"docfleet.events.v1", many ? 12 : 3, 7 * DAY_MS};
    topics[n++] = (struct bus_topic){"docfleet.dlq.v1", many ? 6 : 1, 30 * DAY_MS};
    topics[n++] = (struct bus_topic){"docfleet.s3.v1", many ? 6 : 1, 3 * DAY_MS};
    return bus_create_topics(access, topics, n, err);
}

int topics_seed(const struct bus_access *access, int partitions, struct err *err)
{
    for (int s = 1; s <= STAGE_MAX; s++) {
        char group[48];
        snprintf(group, sizeof(group), "docfleet.%s", stage_name(s));
        if (bus_seed_offsets(access, group, stage_topic(s), partitions, err) < 0) {
            return -1;
        }
    }
    return 0;
}
