/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The producer. It is idempotent, so that retries neither double nor reorder what is sent; the
 * price is that the client may end itself for good, where a broker came back with other data than
 * it had (librdkafka "fatal error"; 2.0.2 does so also after a cut connection). Then it is made
 * anew: what was not acknowledged is the caller's to send again anyway.
 */
#include "libcommon/bus.h"

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/bus_intern.h"
#include "libcommon/metrics.h"

#define POLL_MS 100

struct bus_producer {
    pthread_rwlock_t lock; /* held for writing while rk is replaced */
    rd_kafka_t *rk;
    struct bus_access access;
    char client_id[128];
    pthread_t poller;
    volatile bool stop;
};

/* One bus_send: deliveries count down to the sender's wake-up. It is shared with callbacks that
 * may come after a time-out, hence the reference count. */
struct sending {
    pthread_mutex_t lock;
    pthread_cond_t done;
    size_t left;
    size_t refs;
    bool *ok;                /* owned copy, one per message */
    rd_kafka_resp_err_t why; /* of the first that failed */
};

struct delivery {
    struct sending *sending;
    size_t index;
};

static void sending_unref(struct sending *sending)
{
    pthread_mutex_lock(&sending->lock);
    bool last = --sending->refs == 0;
    pthread_mutex_unlock(&sending->lock);
    if (last) {
        pthread_mutex_destroy(&sending->lock);
        pthread_cond_destroy(&sending->done);
        free(sending->ok);
        free(sending);
    }
}

/* The lock of sending is held. */
static void one_less(struct sending *sending, rd_kafka_resp_err_t code)
{
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR && sending->why == RD_KAFKA_RESP_ERR_NO_ERROR) {
        sending->why = code;
    }
    if (--sending->left == 0) {
        pthread_cond_signal(&sending->done);
    }
}

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *msg, void *opaque)
{
    struct delivery *delivery = msg->_private;

    (void)rk;
    (void)opaque;
    if (!delivery) {
        return;
    }
    struct sending *sending = delivery->sending;
    pthread_mutex_lock(&sending->lock);
    sending->ok[delivery->index] = msg->err == RD_KAFKA_RESP_ERR_NO_ERROR;
    one_less(sending, msg->err);
    pthread_mutex_unlock(&sending->lock);
    free(delivery);
    sending_unref(sending);
}

static void *poll_loop(void *arg)
{
    struct bus_producer *producer = arg;

    while (!producer->stop) {
        pthread_rwlock_rdlock(&producer->lock);
        rd_kafka_poll(producer->rk, POLL_MS);
        pthread_rwlock_unlock(&producer->lock);
    }
    return NULL;
}

static int new_client(const struct bus_access *access, const char *client_id, rd_kafka_t **ret_rk,
                      struct err *err)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[160];

    rd_kafka_conf_set_log_cb(conf, bus_quiet);
    if (bus_conf_access(conf, access, err) < 0 ||
        bus_conf_set(conf, "client.id", client_id, err) < 0 ||
        bus_conf_set(conf, "enable.idempotence", "true", err) < 0 ||
        bus_conf_set(conf, "acks", "all", err) < 0 ||
        bus_conf_set(conf, "linger.ms", "0", err) < 0 ||
        bus_conf_set(conf, "message.timeout.ms", "10000", err) < 0 ||
        bus_conf_set(conf, "socket.nagle.disable", "true", err) < 0 ||
        bus_conf_set(conf, "reconnect.backoff.max.ms", "2000", err) < 0) {
        rd_kafka_conf_destroy(conf);
        return -1;
    }
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    *ret_rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why)); /* takes conf */
    if (!*ret_rk) {
        rd_kafka_conf_destroy(conf);
        return err_set(err, ERR_FATAL, "invalid_config", "kafka producer: %s", why);
    }
    return 0;
}

/* Its callbacks come here: what is still out has failed. */
static void end_client(rd_kafka_t *rk)
{
    rd_kafka_purge(rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    rd_kafka_flush(rk, 500);
    bus_destroy(rk);
}

int bus_producer_open(const struct bus_access *access, const char *client_id,
                      struct bus_producer **ret, struct err *err)
{
    struct bus_producer *producer = calloc(1, sizeof(*producer));
    pthread_rwlockattr_t attr;

    if (!producer) {
        return err_nomem(err);
    }
    producer->access = *access;
    snprintf(producer->client_id, sizeof(producer->client_id), "%s", client_id);
    if (new_client(access, client_id, &producer->rk, err) < 0) {
        free(producer);
        return -1;
    }
    /* The poller takes it again and again: it must not starve who replaces the client. */
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&producer->lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    if (pthread_create(&producer->poller, NULL, poll_loop, producer) != 0) {
        bus_destroy(producer->rk);
        pthread_rwlock_destroy(&producer->lock);
        free(producer);
        return err_set(err, ERR_FATAL, "internal", "cannot start a thread");
    }
    metrics_add("docfleet_producer_renewals_total", "", 0);
    *ret = producer;
    return 0;
}

void bus_producer_free(struct bus_producer *producer)
{
    if (!producer) {
        return;
    }
    rd_kafka_flush(producer->rk, 2000);
    producer->stop = true;
    pthread_join(producer->poller, NULL);
    end_client(producer->rk);
    pthread_rwlock_destroy(&producer->lock);
    free(producer);
}

/* A client that has ended itself is replaced, once, whoever sees it first. */
static void renew_if_dead(struct bus_producer *producer)
{
    rd_kafka_t *old = NULL, *rk = NULL;
    struct err err = ERR_INIT;
    char why[160];

    pthread_rwlock_wrlock(&producer->lock);
    if (rd_kafka_fatal_error(producer->rk, why, sizeof(why)) != RD_KAFKA_RESP_ERR_NO_ERROR &&
        new_client(&producer->access, producer->client_id, &rk, &err) == 0) {
        old = producer->rk;
        producer->rk = rk;
    }
    pthread_rwlock_unlock(&producer->lock);
    if (old) {
        metrics_inc("docfleet_producer_renewals_total", "");
        end_client(old);
    }
}

static struct sending *sending_new(size_t n)
{
    struct sending *sending = calloc(1, sizeof(*sending));
    pthread_condattr_t attr;

    if (!sending) {
        return NULL;
    }
    sending->ok = calloc(n ? n : 1, sizeof(bool));
    if (!sending->ok) {
        free(sending);
        return NULL;
    }
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&sending->lock, NULL);
    pthread_cond_init(&sending->done, &attr);
    pthread_condattr_destroy(&attr);
    sending->left = n;
    sending->refs = 1;
    return sending;
}

/* The lock of the producer is held. */
static void send_one(rd_kafka_t *rk, struct sending *sending, const struct bus_message *m,
                     size_t index)
{
    struct delivery *delivery = calloc(1, sizeof(*delivery));
    rd_kafka_headers_t *headers = rd_kafka_headers_new(2);
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR__FAIL;

    if (delivery) {
        *delivery = (struct delivery){.sending = sending, .index = index};
        pthread_mutex_lock(&sending->lock);
        sending->refs++;
        pthread_mutex_unlock(&sending->lock);
        rd_kafka_header_add(headers, "content-type", -1,
                            "application/cloudevents+json; charset=utf-8", -1);
        if (m->traceparent) {
            rd_kafka_header_add(headers, "traceparent", -1, m->traceparent, -1);
        }
        code = rd_kafka_producev(
            rk, RD_KAFKA_V_TOPIC(m->topic),
            RD_KAFKA_V_PARTITION(m->partition >= 0 ? m->partition : RD_KAFKA_PARTITION_UA),
            RD_KAFKA_V_KEY(m->key, strlen(m->key)),
            RD_KAFKA_V_VALUE((void *)(uintptr_t)m->value, m->len),
            RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_HEADERS(headers),
            RD_KAFKA_V_OPAQUE(delivery), RD_KAFKA_V_END);
    }
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
        return;
    }
    rd_kafka_headers_destroy(headers);
    pthread_mutex_lock(&sending->lock);
    one_less(sending, code);
    pthread_mutex_unlock(&sending->lock);
    if (delivery) {
        free(delivery);
        sending_unref(sending);
    }
}

static void sending_wait(struct sending *sending, unsigned timeout_ms)
{
    uint64_t until = clock_mono_ms() + timeout_ms;
    struct timespec ts = {.tv_sec = (time_t)(until / 1000),
                          .tv_nsec = (long)(until % 1000) * 1000000L};

    while (sending->left > 0) {
        if (pthread_cond_timedwait(&sending->done, &sending->lock, &ts) != 0) {
            break;
        }
    }
}

int bus_send(struct bus_producer *producer, const struct bus_message *messages, size_t n,
             unsigned timeout_ms, bool *ok, struct err *err)
{
    size_t failed = 0;
    struct sending *sending = sending_new(n);

    if (!sending) {
        return err_nomem(err);
    }
    pthread_rwlock_rdlock(&producer->lock);
    for (size_t i = 0; i < n; i++) {
        send_one(producer->rk, sending, &messages[i], i);
    }
    pthread_rwlock_unlock(&producer->lock);
    pthread_mutex_lock(&sending->lock);
    sending_wait(sending, timeout_ms);
    for (size_t i = 0; i < n; i++) {
        ok[i] = sending->ok[i];
        failed += ok[i] ? 0 : 1;
    }
    rd_kafka_resp_err_t why = sending->why;
    pthread_mutex_unlock(&sending->lock);
    sending_unref(sending);
    if (failed == 0) {
        return 0;
    }
    renew_if_dead(producer);
    return err_set(err, ERR_TRANSIENT, "kafka_unavailable",
                   "%zu of %zu messages were not acknowledged: %s", failed, n,
                   why ? rd_kafka_err2str(why) : "no answer in time");
}

int bus_producer_ping(struct bus_producer *producer, struct err *err)
{
    pthread_rwlock_rdlock(&producer->lock);
    int r = bus_ping(producer->rk, err);
    pthread_rwlock_unlock(&producer->lock);
    return r;
}

static int partitions_of(rd_kafka_t *rk, const char *topic, int *ret_n, struct err *err)
{
    const struct rd_kafka_metadata *md = NULL;
    rd_kafka_topic_t *rkt = rd_kafka_topic_new(rk, topic, NULL);

    if (!rkt) {
        return err_set(err, ERR_TRANSIENT, "kafka_unavailable", "topic %s", topic);
    }
    rd_kafka_resp_err_t code = rd_kafka_metadata(rk, 0, rkt, &md, 3000);
    rd_kafka_topic_destroy(rkt);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return err_from_kafka(err, code, "kafka metadata");
    }
    int n = md->topic_cnt == 1 ? md->topics[0].partition_cnt : 0;
    rd_kafka_metadata_destroy(md);
    if (n < 1) {
        return err_set(err, ERR_TRANSIENT, "no_topic", "no topic %s", topic);
    }
    *ret_n = n;
    return 0;
}

int bus_partitions(struct bus_producer *producer, const char *topic, int *ret_n, struct err *err)
{
    pthread_rwlock_rdlock(&producer->lock);
    int r = partitions_of(producer->rk, topic, ret_n, err);
    pthread_rwlock_unlock(&producer->lock);
    return r;
}
