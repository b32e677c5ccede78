/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Topics and their first committed offsets, made by `docfleetctl migrate --topics`.
 */
#include <librdkafka/rdkafka.h>
#include <stdio.h>

#include "libcommon/bus.h"
#include "libcommon/bus_intern.h"

#define ADMIN_TIMEOUT_MS 15000

rd_kafka_t *bus_admin_client(const struct bus_access *access, const char *group, struct err *err)
{
    char why[160];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    rd_kafka_conf_set_log_cb(conf, bus_quiet);
    if (bus_conf_access(conf, access, err) < 0 ||
        (group && (bus_conf_set(conf, "group.id", group, err) < 0 ||
                   bus_conf_set(conf, "enable.auto.commit", "false", err) < 0))) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    rd_kafka_t *rk =
        rd_kafka_new(group ? RD_KAFKA_CONSUMER : RD_KAFKA_PRODUCER, conf, why, sizeof(why));
    if (!rk) {
        rd_kafka_conf_destroy(conf);
        err_set(err, ERR_FATAL, "invalid_config", "kafka admin: %s", why);
    }
    return rk;
}

static rd_kafka_NewTopic_t *new_topic(const struct bus_topic *topic, int brokers)
{
    char why[160];
    char retention[32];
    int replicas = brokers >= 3 ? 3 : 1;
    rd_kafka_NewTopic_t *nt =
        rd_kafka_NewTopic_new(topic->name, topic->partitions, replicas, why, sizeof(why));

    if (nt) {
        snprintf(retention, sizeof(retention), "%lld", (long long)topic->retention_ms);
        rd_kafka_NewTopic_set_config(nt, "retention.ms", retention);
        /* A broker refuses records that are dated an hour ahead of it: its own clock dates them,
         * and the sender's may be wrong. */
        rd_kafka_NewTopic_set_config(nt, "message.timestamp.type", "LogAppendTime");
        rd_kafka_NewTopic_set_config(nt, "min.insync.replicas", replicas == 3 ? "2" : "1");
    }
    return nt;
}

static int check_created(rd_kafka_event_t *event, struct err *err)
{
    size_t n = 0;
    const rd_kafka_CreateTopics_result_t *result = rd_kafka_event_CreateTopics_result(event);
    const rd_kafka_topic_result_t **topics =
        result ? rd_kafka_CreateTopics_result_topics(result, &n) : NULL;

    if (!result) {
        return err_from_kafka(err, rd_kafka_event_error(event), "create topics");
    }
    for (size_t i = 0; i < n; i++) {
        rd_kafka_resp_err_t code = rd_kafka_topic_result_error(topics[i]);
        if (code && code != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS) {
            return err_from_kafka(err, code, rd_kafka_topic_result_name(topics[i]));
        }
    }
    return 0;
}

int bus_create_topics(const struct bus_access *access, const struct bus_topic *topics, size_t n,
                      struct err *err)
{
    rd_kafka_NewTopic_t *list[32];
    const struct rd_kafka_metadata *md = NULL;
    size_t made = 0;
    int r = -1;

    if (n > ARRAY_LEN(list)) {
        return err_set(err, ERR_FATAL, "internal", "too many topics");
    }
    rd_kafka_t *rk = bus_admin_client(access, NULL, err);
    if (!rk) {
        return -1;
    }
    rd_kafka_resp_err_t code = rd_kafka_metadata(rk, 0, NULL, &md, ADMIN_TIMEOUT_MS);
    if (code) {
        rd_kafka_poll(rk, 0); /* why: err_from_kafka knows it then */
        bus_destroy(rk);
        return err_from_kafka(err, code, "kafka metadata");
    }
    int n_brokers = md->broker_cnt;
    rd_kafka_metadata_destroy(md);
    for (; made < n; made++) {
        list[made] = new_topic(&topics[made], n_brokers);
        if (!list[made]) {
            break;
        }
    }
    if (made < n) {
        err_set(err, ERR_FATAL, "internal", "bad topic definition %s", topics[made].name);
    } else {
        rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
        rd_kafka_CreateTopics(rk, list, n, NULL, queue);
        rd_kafka_event_t *event = rd_kafka_queue_poll(queue, ADMIN_TIMEOUT_MS);
        if (!event) {
            err_set(err, ERR_TRANSIENT, "kafka_unavailable", "create topics: no answer");
        } else {
            r = check_created(event, err);
            rd_kafka_event_destroy(event);
        }
        rd_kafka_queue_destroy(queue);
    }
    rd_kafka_NewTopic_destroy_array(list, made);
    bus_destroy(rk);
    return r;
}

int bus_seed_offsets(const struct bus_access *access, const char *group, const char *topic,
                     int partitions, struct err *err)
{
    rd_kafka_t *rk = bus_admin_client(access, group, err);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
    rd_kafka_topic_partition_list_t *seed = rd_kafka_topic_partition_list_new(partitions);
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR__FAIL;

    if (!rk) {
        rd_kafka_topic_partition_list_destroy(list);
        rd_kafka_topic_partition_list_destroy(seed);
        return -1;
    }
    for (int i = 0; i < partitions; i++) {
        rd_kafka_topic_partition_list_add(list, topic, i);
    }
    /* A fresh broker makes the offsets topic on first use: try for a while. */
    uint64_t until = clock_mono_ms() + 30000;
    do {
        code = rd_kafka_committed(rk, list, 5000);
    } while (code && clock_mono_ms() < until);
    for (int i = 0; !code && i < list->cnt; i++) {
        if (list->elems[i].offset < 0) {
            rd_kafka_topic_partition_list_add(seed, topic, list->elems[i].partition)->offset = 0;
        }
    }
    if (!code && seed->cnt > 0) {
        code = rd_kafka_commit(rk, seed, 0);
        if (code == RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID ||
            code == RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION ||
            code == RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS) {
            code =
                RD_KAFKA_RESP_ERR_NO_ERROR; /* the group has members: they commit by themselves */
        }
    }
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_topic_partition_list_destroy(seed);
    bus_destroy(rk);
    return code ? err_from_kafka(err, code, group) : 0;
}
