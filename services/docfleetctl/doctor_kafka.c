/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kafka: brokers, topics, groups.
 */
#include <stdio.h>
#include <string.h>

#include "services/docfleetctl/doctor.h"

#define LAG_MANY 10000

static const char *const more[] = {"docfleet.events.v1", "docfleet.dlq.v1", "docfleet.s3.v1"};
#define TOPICS (STAGE_MAX + ARRAY_LEN(more))

/* Those of the stages in the order of their numbers, then the others. */
static const char *topic(size_t i)
{
    return i < STAGE_MAX ? stage_topic((int)i + 1) : more[i - STAGE_MAX];
}

void check_kafka_reach(struct doctor *d)
{
    struct err err = ERR_INIT;
    const struct bus_access *bus = &d->ctl->service.bus;

    const char *names[TOPICS];

    for (size_t i = 0; i < TOPICS; i++) {
        names[i] = topic(i);
    }
    if (bus_describe(bus, names, TOPICS, d->topics, &d->brokers, &err) < 0) {
        d->brokers = 0;
        found(d, FOUND_PROBLEM, NULL, "%s: %s", bus->brokers, err.msg);
        return;
    }
    found(d, FOUND_OK, NULL, "%d broker%s", d->brokers, d->brokers == 1 ? "" : "s");
}

void check_kafka_topics(struct doctor *d)
{
    bool good = true;

    if (needs_kafka(d)) {
        return;
    }
    for (size_t i = 0; i < TOPICS; i++) {
        int wanted = i < STAGE_MAX && d->partitions > 0 ? d->partitions : 1;
        if (d->topics[i].partitions == 0) {
            found(d, FOUND_PROBLEM, NULL, "there is no %s", topic(i));
            good = false;
        } else if (d->topics[i].partitions < wanted) {
            found(d, FOUND_WARNING, NULL, "%s has %d partitions of %d", topic(i),
                  d->topics[i].partitions, wanted);
            good = false;
        }
    }
    if (good) {
        found(d, FOUND_OK, NULL, "%zu topics, %d partitions of work", TOPICS,
              d->topics[0].partitions);
    }
}

void check_kafka_replicas(struct doctor *d)
{
    bool good = true;

    if (needs_kafka(d)) {
        return;
    }
    for (size_t i = 0; i < TOPICS; i++) {
        const struct bus_topic_info *t = &d->topics[i];
        if (t->partitions == 0) {
            continue;
        }
        if (t->leaderless > 0) {
            found(d, FOUND_PROBLEM, NULL, "%s: %d partitions have no leader", topic(i),
                  t->leaderless);
        } else if (t->behind > 0) {
            found(d, FOUND_WARNING, NULL, "%s: %d partitions lack a replica", topic(i), t->behind);
        } else if (d->brokers >= 3 && (t->replicas < 3 || t->min_isr < 2)) {
            found(d, FOUND_WARNING, NULL, "%s has %d replicas and min.insync.replicas %d", topic(i),
                  t->replicas, t->min_isr);
        } else {
            continue;
        }
        good = false;
    }
    if (good) {
        found(d, FOUND_OK, NULL, "%d replicas, all in sync", d->topics[0].replicas);
    }
}

void check_kafka_timestamps(struct doctor *d)
{
    bool good = true;

    if (needs_kafka(d)) {
        return;
    }
    for (size_t i = 0; i < STAGE_MAX + 2; i++) { /* the store's own topic is not ours */
        const struct bus_topic_info *t = &d->topics[i];
        if (t->partitions > 0 && strcmp(t->timestamp_type, "LogAppendTime") != 0) {
            found(d, FOUND_WARNING, NULL, "%s has message.timestamp.type=%s", topic(i),
                  t->timestamp_type);
            good = false;
        }
    }
    if (good) {
        found(d, FOUND_OK, NULL, "they are");
    }
}

void check_kafka_groups(struct doctor *d)
{
    int64_t lag = 0;
    int members = 0;
    bool good = true;

    if (needs_kafka(d)) {
        return;
    }
    for (int s = 1; s <= STAGE_MAX; s++) {
        struct bus_group_info info;
        struct err err = ERR_INIT;
        char group[48];
        int partitions = d->topics[s - 1].partitions;
        snprintf(group, sizeof(group), "docfleet.%s", stage_name(s));
        if (partitions == 0) {
            continue;
        }
        if (bus_group(&d->ctl->service.bus, group, stage_topic(s), partitions, &info, &err) < 0) {
            found(d, FOUND_WARNING, NULL, "%s: %s", group, err.msg);
            good = false;
            continue;
        }
        members += info.members;
        lag += info.lag;
        if (info.uncommitted > 0 && info.members == 0) {
            found(d, FOUND_WARNING, NULL, "%s has no offsets for %d partitions", group,
                  info.uncommitted);
            good = false;
        } else if (info.lag > LAG_MANY) {
            found(d, FOUND_WARNING, NULL, "%s is %lld records behind", group, (long long)info.lag);
            good = false;
        }
    }
    if (good) {
        found(d, FOUND_OK, NULL, "%d members, %lld records behind", members, (long long)lag);
    }
}
