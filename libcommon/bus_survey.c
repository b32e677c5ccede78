/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions about topics and groups, for `docfleetctl doctor`. Nothing is changed.
 */
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/bus.h"
#include "libcommon/bus_intern.h"

#define ASK_MS 5000
#define TOPICS_MAX 32U

static void of_metadata(const struct rd_kafka_metadata_topic *topic, struct bus_topic_info *info)
{
    info->partitions = topic->err ? 0 : topic->partition_cnt;
    for (int p = 0; p < info->partitions; p++) {
        const struct rd_kafka_metadata_partition *part = &topic->partitions[p];
        info->leaderless += part->leader < 0;
        info->behind += part->isr_cnt < part->replica_cnt;
        if (p == 0 || part->replica_cnt < info->replicas) {
            info->replicas = part->replica_cnt;
        }
    }
}

static void of_config(const rd_kafka_ConfigEntry_t *entry, struct bus_topic_info *info)
{
    const char *name = rd_kafka_ConfigEntry_name(entry);
    const char *value = rd_kafka_ConfigEntry_value(entry);

    if (value && strcmp(name, "message.timestamp.type") == 0) {
        snprintf(info->timestamp_type, sizeof(info->timestamp_type), "%s", value);
    } else if (value && strcmp(name, "min.insync.replicas") == 0) {
        info->min_isr = (int)strtol(value, NULL, 10);
    }
}

static void of_event(rd_kafka_event_t *event, const char *const *names, size_t n,
                     struct bus_topic_info *infos)
{
    const rd_kafka_DescribeConfigs_result_t *result = rd_kafka_event_DescribeConfigs_result(event);
    size_t resources = 0;
    const rd_kafka_ConfigResource_t **list =
        result ? rd_kafka_DescribeConfigs_result_resources(result, &resources) : NULL;

    for (size_t r = 0; r < resources; r++) {
        size_t entries = 0;
        const rd_kafka_ConfigEntry_t **entry = rd_kafka_ConfigResource_configs(list[r], &entries);
        for (size_t i = 0; i < n; i++) {
            bool mine = strcmp(rd_kafka_ConfigResource_name(list[r]), names[i]) == 0;
            for (size_t e = 0; mine && e < entries; e++) {
                of_config(entry[e], &infos[i]);
            }
        }
    }
}

static int ask_configs(rd_kafka_t *rk, const char *const *names, size_t n,
                       struct bus_topic_info *infos, struct err *err)
{
    rd_kafka_ConfigResource_t *resources[TOPICS_MAX];
    size_t asked = 0;
    int rc = 0;

    for (size_t i = 0; i < n; i++) {
        if (infos[i].partitions > 0) {
            resources[asked++] = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, names[i]);
        }
    }
    if (asked == 0) {
        return 0;
    }
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_DescribeConfigs(rk, resources, asked, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, ASK_MS);
    if (!event || rd_kafka_event_error(event)) {
        rc = err_from_kafka(err, event ? rd_kafka_event_error(event) : RD_KAFKA_RESP_ERR__TIMED_OUT,
                            "settings of topics");
    } else {
        of_event(event, names, n, infos);
    }
    if (event) {
        rd_kafka_event_destroy(event);
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_ConfigResource_destroy_array(resources, asked);
    return rc;
}

int bus_describe(const struct bus_access *access, const char *const *names, size_t n,
                 struct bus_topic_info *ret_infos, int *ret_brokers, struct err *err)
{
    const struct rd_kafka_metadata *md = NULL;

    if (n > TOPICS_MAX) {
        return err_set(err, ERR_FATAL, "internal", "too many topics");
    }
    rd_kafka_t *rk = bus_admin_client(access, NULL, err);
    if (!rk) {
        return -1;
    }
    rd_kafka_resp_err_t code = rd_kafka_metadata(rk, 1, NULL, &md, ASK_MS);
    if (code) {
        bus_destroy(rk);
        return err_from_kafka(err, code, "kafka metadata");
    }
    *ret_brokers = md->broker_cnt;
    for (size_t i = 0; i < n; i++) {
        ret_infos[i] = (struct bus_topic_info){.partitions = 0};
        for (int t = 0; t < md->topic_cnt; t++) {
            if (strcmp(md->topics[t].topic, names[i]) == 0) {
                of_metadata(&md->topics[t], &ret_infos[i]);
            }
        }
    }
    rd_kafka_metadata_destroy(md);
    int rc = ask_configs(rk, names, n, ret_infos, err);
    bus_destroy(rk);
    return rc;
}

static int add_lag(rd_kafka_t *rk, const rd_kafka_topic_partition_t *part,
                   struct bus_group_info *info, struct err *err)
{
    int64_t low = 0, high = 0;
    rd_kafka_resp_err_t code =
        rd_kafka_query_watermark_offsets(rk, part->topic, part->partition, &low, &high, ASK_MS);

    if (code) {
        return err_from_kafka(err, code, part->topic);
    }
    info->uncommitted += part->offset < 0;
    int64_t from = part->offset < low ? low : part->offset;
    info->lag += high > from ? high - from : 0;
    return 0;
}

int bus_group(const struct bus_access *access, const char *group, const char *topic, int partitions,
              struct bus_group_info *ret_info, struct err *err)
{
    const struct rd_kafka_group_list *groups = NULL;
    struct bus_group_info info = {.members = 0};
    rd_kafka_t *rk = bus_admin_client(access, group, err);
    int rc = 0;

    if (!rk) {
        return -1;
    }
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
    for (int i = 0; i < partitions; i++) {
        rd_kafka_topic_partition_list_add(list, topic, i);
    }
    rd_kafka_resp_err_t code = rd_kafka_committed(rk, list, ASK_MS);
    if (!code) {
        code = rd_kafka_list_groups(rk, group, &groups, ASK_MS);
    }
    for (int i = 0; !code && rc == 0 && i < list->cnt; i++) {
        rc = add_lag(rk, &list->elems[i], &info, err);
    }
    for (int g = 0; groups && g < groups->group_cnt; g++) {
        info.members += groups->groups[g].member_cnt;
    }
    if (groups) {
        rd_kafka_group_list_destroy(groups);
    }
    rd_kafka_topic_partition_list_destroy(list);
    bus_destroy(rk);
    if (code) {
        return err_from_kafka(err, code, group);
    }
    *ret_info = info;
    return rc;
}
