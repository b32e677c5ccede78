/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Consumers: a member of a group, or a tail over all partitions. Offsets are stored by hand after
 * the claim and committed once a second by the frame.
 */
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/bus.h"
#include "libcommon/bus_intern.h"

#define LEAVE_MS 5000U
#define PARTITIONS_MAX 256

struct bus_consumer {
    rd_kafka_t *rk;
    char *topic;
    bus_rebalance_fn on_rebalance;
    void *arg;
    pthread_mutex_t lock;
    int32_t assigned[PARTITIONS_MAX];
    int64_t next[PARTITIONS_MAX]; /* handed in for assigned[i]; -1: nothing yet */
    size_t n_assigned;
    bool paused;
    bool tail;
    bool left;  /* the group; the handle lives on */
    bool stuck; /* leaving it has not come to an end */
};

static void set_assigned(struct bus_consumer *consumer, const rd_kafka_topic_partition_list_t *list)
{
    pthread_mutex_lock(&consumer->lock);
    consumer->n_assigned = 0;
    for (int i = 0; list && i < list->cnt && i < PARTITIONS_MAX; i++) {
        consumer->next[consumer->n_assigned] = -1;
        consumer->assigned[consumer->n_assigned++] = list->elems[i].partition;
    }
    pthread_mutex_unlock(&consumer->lock);
}

static void on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t code,
                         rd_kafka_topic_partition_list_t *list, void *opaque)
{
    struct bus_consumer *consumer = opaque;
    int32_t parts[PARTITIONS_MAX];
    size_t n = 0;
    bool assign = code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;

    for (int i = 0; i < list->cnt && n < PARTITIONS_MAX; i++) {
        parts[n++] = list->elems[i].partition;
    }
    if (!assign && consumer->on_rebalance) {
        consumer->on_rebalance(consumer->arg, false, parts, n);
    }
    rd_kafka_assign(rk, assign ? list : NULL);
    if (assign) {
        /* A partition that was paused when it was taken away is still paused when it comes back. */
        rd_kafka_resume_partitions(rk, list);
    }
    set_assigned(consumer, assign ? list : NULL);
    consumer->paused = false;
    if (assign && consumer->on_rebalance) {
        consumer->on_rebalance(consumer->arg, true, parts, n);
    }
}

static int base_conf(rd_kafka_conf_t *conf, const struct bus_access *access, const char *group,
                     const char *client_id, int64_t session_ms, struct err *err)
{
    char session[24], beat[24];

    snprintf(session, sizeof(session), "%lld", (long long)session_ms);
    snprintf(beat, sizeof(beat), "%lld", (long long)session_ms / 4);
    rd_kafka_conf_set_log_cb(conf, bus_quiet);
    return bus_conf_access(conf, access, err) < 0 ||
                   bus_conf_set(conf, "client.id", client_id, err) < 0 ||
                   bus_conf_set(conf, "group.id", group, err) < 0 ||
                   bus_conf_set(conf, "enable.auto.commit", "false", err) < 0 ||
                   bus_conf_set(conf, "enable.auto.offset.store", "false", err) < 0 ||
                   bus_conf_set(conf, "partition.assignment.strategy", "range", err) < 0 ||
                   bus_conf_set(conf, "session.timeout.ms", session, err) < 0 ||
                   bus_conf_set(conf, "heartbeat.interval.ms", beat, err) < 0 ||
                   bus_conf_set(conf, "max.poll.interval.ms", "300000", err) < 0 ||
                   bus_conf_set(conf, "fetch.wait.max.ms", "500", err) < 0 ||
                   bus_conf_set(conf, "fetch.error.backoff.ms", "200", err) < 0 ||
                   bus_conf_set(conf, "reconnect.backoff.max.ms", "2000", err) < 0 ||
                   bus_conf_set(conf, "socket.nagle.disable", "true", err) < 0 ||
                   /* a topic that was lost and made again is seen this soon, not in five minutes */
                   bus_conf_set(conf, "topic.metadata.refresh.interval.ms", "5000", err) < 0 ||
                   bus_conf_set(conf, "auto.offset.reset", "earliest", err) < 0
               ? -1
               : 0;
}

static struct bus_consumer *consumer_alloc(const char *topic)
{
    struct bus_consumer *consumer = calloc(1, sizeof(*consumer));

    if (!consumer) {
        return NULL;
    }
    pthread_mutex_init(&consumer->lock, NULL);
    consumer->topic = strdup(topic);
    if (!consumer->topic) {
        bus_consumer_free(consumer);
        return NULL;
    }
    return consumer;
}

static int consumer_start(struct bus_consumer *consumer, rd_kafka_conf_t *conf, struct err *err)
{
    char why[160];

    consumer->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof(why)); /* takes conf */
    if (!consumer->rk) {
        rd_kafka_conf_destroy(conf);
        return err_set(err, ERR_FATAL, "invalid_config", "kafka consumer: %s", why);
    }
    rd_kafka_poll_set_consumer(consumer->rk);
    return 0;
}

int bus_consumer_open(const struct bus_access *access, const char *group, const char *topic,
                      const char *client_id, int64_t session_ms, bus_rebalance_fn rebalance,
                      void *arg, struct bus_consumer **ret, struct err *err)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    struct bus_consumer *consumer = consumer_alloc(topic);

    if (!consumer || base_conf(conf, access, group, client_id, session_ms, err) < 0) {
        rd_kafka_conf_destroy(conf);
        bus_consumer_free(consumer);
        return consumer ? -1 : err_nomem(err);
    }
    consumer->on_rebalance = rebalance;
    consumer->arg = arg;
    rd_kafka_conf_set_opaque(conf, consumer);
    rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
    if (consumer_start(consumer, conf, err) < 0) {
        bus_consumer_free(consumer);
        return -1;
    }
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(topics, topic, RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t code = rd_kafka_subscribe(consumer->rk, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        bus_consumer_free(consumer);
        return err_from_kafka(err, code, "subscribe");
    }
    *ret = consumer;
    return 0;
}

/* Assigns every partition of the topic from its end. */
static int tail_assign(struct bus_consumer *consumer, struct err *err)
{
    const struct rd_kafka_metadata *md = NULL;
    rd_kafka_topic_t *rkt = rd_kafka_topic_new(consumer->rk, consumer->topic, NULL);
    rd_kafka_resp_err_t code = rd_kafka_metadata(consumer->rk, 0, rkt, &md, 5000);

    rd_kafka_topic_destroy(rkt);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return err_from_kafka(err, code, "kafka metadata");
    }
    int n = md->topic_cnt == 1 ? md->topics[0].partition_cnt : 0;
    rd_kafka_metadata_destroy(md);
    if (n < 1) {
        return err_set(err, ERR_TRANSIENT, "kafka_unavailable", "no topic %s", consumer->topic);
    }
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(n);
    for (int i = 0; i < n; i++) {
        rd_kafka_topic_partition_list_add(list, consumer->topic, i)->offset = RD_KAFKA_OFFSET_END;
    }
    code = rd_kafka_assign(consumer->rk, list);
    set_assigned(consumer, list);
    rd_kafka_topic_partition_list_destroy(list);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR ? 0 : err_from_kafka(err, code, "assign");
}

int bus_tail_open(const struct bus_access *access, const char *topic, const char *client_id,
                  struct bus_consumer **ret, struct err *err)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    struct bus_consumer *consumer = consumer_alloc(topic);

    /* The library wants a group name even where no group is joined. */
    if (!consumer || base_conf(conf, access, "docfleet.tail", client_id, 45000, err) < 0 ||
        bus_conf_set(conf, "fetch.wait.max.ms", "100", err) < 0) {
        rd_kafka_conf_destroy(conf);
        bus_consumer_free(consumer);
        return consumer ? -1 : err_nomem(err);
    }
    consumer->tail = true;
    if (consumer_start(consumer, conf, err) < 0 || tail_assign(consumer, err) < 0) {
        bus_consumer_free(consumer);
        return -1;
    }
    *ret = consumer;
    return 0;
}

static void *leave_group(void *arg)
{
    struct bus_consumer *consumer = arg;

    if (!consumer->tail) {
        rd_kafka_commit(consumer->rk, NULL, 0);
    }
    rd_kafka_consumer_close(consumer->rk);
    return NULL;
}

void bus_consumer_leave(struct bus_consumer *consumer)
{
    if (!consumer->left) {
        consumer->left = true;
        consumer->stuck = !bus_within(LEAVE_MS, leave_group, consumer);
    }
}

void bus_consumer_free(struct bus_consumer *consumer)
{
    if (!consumer) {
        return;
    }
    if (consumer->rk) {
        bus_consumer_leave(consumer);
        if (consumer->stuck) {
            return; /* a thread still uses it; the process is ending */
        }
        bus_destroy(consumer->rk);
    }
    pthread_mutex_destroy(&consumer->lock);
    free(consumer->topic);
    free(consumer);
}

static void read_traceparent(const rd_kafka_message_t *msg, char *ret, size_t size)
{
    rd_kafka_headers_t *headers = NULL;
    const void *value = NULL;
    size_t len = 0;

    ret[0] = '\0';
    if (rd_kafka_message_headers(msg, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR &&
        rd_kafka_header_get_last(headers, "traceparent", &value, &len) ==
            RD_KAFKA_RESP_ERR_NO_ERROR &&
        value && len < size) {
        memcpy(ret, value, len);
        ret[len] = '\0';
    }
}

int bus_poll(struct bus_consumer *consumer, int timeout_ms, struct bus_record *ret, struct err *err)
{
    rd_kafka_message_t *msg = rd_kafka_consumer_poll(consumer->rk, timeout_ms);
    char why[160];

    if (!msg) {
        rd_kafka_resp_err_t fatal = rd_kafka_fatal_error(consumer->rk, why, sizeof(why));
        return fatal ? err_set(err, ERR_FATAL, "kafka_fatal", "kafka: %s", why) : 0;
    }
    if (msg->err) {
        rd_kafka_resp_err_t code = msg->err;
        rd_kafka_message_destroy(msg);
        if (code == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
            return 0;
        }
        return err_from_kafka(err, code, "kafka poll");
    }
    *ret = (struct bus_record){
        .key = msg->key,
        .key_len = msg->key_len,
        .value = msg->payload,
        .len = msg->len,
        .partition = msg->partition,
        .offset = msg->offset,
        .handle = msg,
    };
    read_traceparent(msg, ret->traceparent, sizeof(ret->traceparent));
    return 1;
}

void bus_record_done(struct bus_record *record)
{
    if (record->handle) {
        rd_kafka_message_destroy(record->handle);
    }
    *record = (struct bus_record){0};
}

void bus_store_offset(struct bus_consumer *consumer, int32_t partition, int64_t next_offset)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);

    rd_kafka_topic_partition_list_add(list, consumer->topic, partition)->offset = next_offset;
    /* Refused for a partition that was taken away meanwhile: its new owner reads on. */
    rd_kafka_offsets_store(consumer->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    pthread_mutex_lock(&consumer->lock);
    for (size_t i = 0; i < consumer->n_assigned; i++) {
        if (consumer->assigned[i] == partition) {
            consumer->next[i] = next_offset;
        }
    }
    pthread_mutex_unlock(&consumer->lock);
}

int64_t bus_lag(struct bus_consumer *consumer)
{
    int64_t lag = 0, low = 0, high = 0;

    pthread_mutex_lock(&consumer->lock);
    for (size_t i = 0; i < consumer->n_assigned; i++) {
        /* What was read but handed in nowhere yet is seen by the next look. */
        if (consumer->next[i] >= 0 &&
            rd_kafka_get_watermark_offsets(consumer->rk, consumer->topic, consumer->assigned[i],
                                           &low, &high) == RD_KAFKA_RESP_ERR_NO_ERROR &&
            high > consumer->next[i]) {
            lag += high - consumer->next[i];
        }
    }
    pthread_mutex_unlock(&consumer->lock);
    return lag;
}

void bus_commit(struct bus_consumer *consumer)
{
    rd_kafka_commit(consumer->rk, NULL, 1);
}

void bus_pause(struct bus_consumer *consumer, bool paused)
{
    rd_kafka_topic_partition_list_t *list = NULL;

    if (consumer->paused == paused ||
        rd_kafka_assignment(consumer->rk, &list) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return;
    }
    if (paused) {
        rd_kafka_pause_partitions(consumer->rk, list);
    } else {
        rd_kafka_resume_partitions(consumer->rk, list);
    }
    consumer->paused = paused;
    rd_kafka_topic_partition_list_destroy(list);
}

size_t bus_assigned(struct bus_consumer *consumer, int32_t *ret_partitions, size_t max)
{
    pthread_mutex_lock(&consumer->lock);
    size_t n = min_size(consumer->n_assigned, max);
    memcpy(ret_partitions, consumer->assigned, n * sizeof(int32_t));
    pthread_mutex_unlock(&consumer->lock);
    return n;
}

int bus_consumer_ping(struct bus_consumer *consumer, struct err *err)
{
    return bus_ping(consumer->rk, err);
}
