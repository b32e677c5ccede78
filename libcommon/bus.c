/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Producer and topic administration over librdkafka. Debian's 2.0.2 has to do, so only what it
 * knows is used.
 */
#include "libcommon/bus.h"

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/bus_intern.h"

#define DESTROY_MS 5000U
#define TROUBLE_MS 30000U /* a reason is worth telling for so long */

struct bus_producer {
    rd_kafka_t *rk;
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
    bool *ok; /* owned copy, one per message */
};

struct delivery {
    struct sending *sending;
    size_t index;
};

int bus_conf_set(rd_kafka_conf_t *conf, const char *name, const char *value, struct err *err)
{
    char why[160];

    if (rd_kafka_conf_set(conf, name, value, why, sizeof(why)) != RD_KAFKA_CONF_OK) {
        return err_set(err, ERR_FATAL, "invalid_config", "kafka %s: %s", name, why);
    }
    return 0;
}

/* Why a connection could not be made is told to a callback alone; the calls only say that it was
 * not. The last such reason of the process is kept for those who look for it. */
static struct {
    pthread_mutex_t lock;
    char text[160];
    uint64_t at_ms;
} trouble = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    (void)rk;
    (void)opaque;
    if (code == RD_KAFKA_RESP_ERR__SSL || code == RD_KAFKA_RESP_ERR__AUTHENTICATION ||
        code == RD_KAFKA_RESP_ERR__RESOLVE) {
        pthread_mutex_lock(&trouble.lock);
        snprintf(trouble.text, sizeof(trouble.text), "%s", reason);
        trouble.at_ms = clock_mono_ms();
        pthread_mutex_unlock(&trouble.lock);
    }
}

static int set_if(rd_kafka_conf_t *conf, const char *name, const char *value, struct err *err)
{
    return value && *value ? bus_conf_set(conf, name, value, err) : 0;
}

const char *bus_access_trouble(const struct bus_access *access)
{
    bool scram = access->protocol && strncmp(access->protocol, "SASL_", 5) == 0 &&
                 access->mechanism && strncmp(access->mechanism, "SCRAM", 5) == 0;

    /* It repeats its nonce in the last message; Kafka checks that since 3.8.1 (CVE-2024-56128). */
    return scram && rd_kafka_version() < 0x020601ff
               ? "librdkafka before 2.6.1 cannot use SCRAM with Kafka 3.8.1 and newer: use PLAIN"
                 " over SASL_SSL, or client certificates"
               : NULL;
}

int bus_conf_access(rd_kafka_conf_t *conf, const struct bus_access *access, struct err *err)
{
    const char *protocol = access->protocol && *access->protocol ? access->protocol : "PLAINTEXT";
    bool sasl = strncmp(protocol, "SASL_", 5) == 0;
    bool ssl = strcmp(protocol, "SSL") == 0 || strcmp(protocol, "SASL_SSL") == 0;

    rd_kafka_conf_set_error_cb(conf, on_error);
    if (bus_conf_set(conf, "bootstrap.servers", access->brokers, err) < 0 ||
        bus_conf_set(conf, "security.protocol", protocol, err) < 0) {
        return -1;
    }
    if (sasl && (set_if(conf, "sasl.mechanism", access->mechanism, err) < 0 ||
                 set_if(conf, "sasl.username", access->username, err) < 0 ||
                 set_if(conf, "sasl.password", access->password, err) < 0)) {
        return -1;
    }
    /* The broker's name is checked against its certificate; before 2.0 that was no default. */
    if (ssl && (bus_conf_set(conf, "ssl.endpoint.identification.algorithm", "https", err) < 0 ||
                set_if(conf, "ssl.ca.location", access->ca_file, err) < 0 ||
                set_if(conf, "ssl.certificate.location", access->cert_file, err) < 0 ||
                set_if(conf, "ssl.key.location", access->key_file, err) < 0)) {
        return -1;
    }
    return 0;
}

int err_from_kafka(struct err *err, rd_kafka_resp_err_t code, const char *what)
{
    char why[sizeof(trouble.text)] = "";

    pthread_mutex_lock(&trouble.lock);
    if (trouble.at_ms != 0 && clock_mono_ms() - trouble.at_ms < TROUBLE_MS) {
        snprintf(why, sizeof(why), "%s", trouble.text);
    }
    pthread_mutex_unlock(&trouble.lock);
    return err_set(err, ERR_TRANSIENT, "kafka_unavailable", "%s: %s%s%s", what,
                   rd_kafka_err2str(code), *why ? ": " : "", why);
}

bool bus_within(unsigned timeout_ms, void *(*fn)(void *arg), void *arg)
{
    struct timespec until;
    pthread_t thread;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    if (pthread_create(&thread, NULL, fn, arg) != 0) {
        return false;
    }
    if (pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &until) == 0) {
        return true;
    }
    pthread_detach(thread);
    return false;
}

static void *destroy_loop(void *arg)
{
    rd_kafka_destroy(arg);
    return NULL;
}

void bus_destroy(rd_kafka_t *rk)
{
    (void)bus_within(DESTROY_MS, destroy_loop, rk);
}

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
    if (--sending->left == 0) {
        pthread_cond_signal(&sending->done);
    }
    pthread_mutex_unlock(&sending->lock);
    free(delivery);
    sending_unref(sending);
}

/* Librdkafka's own lines are noise at the levels we log; errors come back from the calls. */
void bus_quiet(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    (void)rk;
    (void)level;
    (void)facility;
    (void)text;
}

static void *poll_loop(void *arg)
{
    struct bus_producer *producer = arg;

    while (!producer->stop) {
        rd_kafka_poll(producer->rk, 100);
    }
    return NULL;
}

static rd_kafka_conf_t *producer_conf(const struct bus_access *access, const char *client_id,
                                      struct err *err)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

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
        return NULL;
    }
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    return conf;
}

int bus_producer_open(const struct bus_access *access, const char *client_id,
                      struct bus_producer **ret, struct err *err)
{
    char why[160];
    struct bus_producer *producer = calloc(1, sizeof(*producer));
    rd_kafka_conf_t *conf = producer_conf(access, client_id, err);

    if (!producer || !conf) {
        free(producer);
        return conf ? err_nomem(err) : -1;
    }
    producer->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why)); /* takes conf */
    if (!producer->rk) {
        rd_kafka_conf_destroy(conf);
        free(producer);
        return err_set(err, ERR_FATAL, "invalid_config", "kafka producer: %s", why);
    }
    if (pthread_create(&producer->poller, NULL, poll_loop, producer) != 0) {
        bus_destroy(producer->rk);
        free(producer);
        return err_set(err, ERR_FATAL, "internal", "cannot start a thread");
    }
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
    rd_kafka_purge(producer->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    rd_kafka_flush(producer->rk, 500);
    bus_destroy(producer->rk);
    free(producer);
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

static bool send_one(struct bus_producer *producer, struct sending *sending,
                     const struct bus_message *m, size_t index)
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
            producer->rk, RD_KAFKA_V_TOPIC(m->topic),
            RD_KAFKA_V_PARTITION(m->partition >= 0 ? m->partition : RD_KAFKA_PARTITION_UA),
            RD_KAFKA_V_KEY(m->key, strlen(m->key)),
            RD_KAFKA_V_VALUE((void *)(uintptr_t)m->value, m->len),
            RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_HEADERS(headers),
            RD_KAFKA_V_OPAQUE(delivery), RD_KAFKA_V_END);
    }
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
        return true;
    }
    rd_kafka_headers_destroy(headers);
    if (delivery) {
        free(delivery);
        sending_unref(sending);
    }
    return false;
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
    for (size_t i = 0; i < n; i++) {
        if (!send_one(producer, sending, &messages[i], i)) {
            pthread_mutex_lock(&sending->lock);
            sending->left--;
            pthread_mutex_unlock(&sending->lock);
        }
    }
    pthread_mutex_lock(&sending->lock);
    sending_wait(sending, timeout_ms);
    for (size_t i = 0; i < n; i++) {
        ok[i] = sending->ok[i];
        failed += ok[i] ? 0 : 1;
    }
    pthread_mutex_unlock(&sending->lock);
    sending_unref(sending);
    if (failed > 0) {
        return err_set(err, ERR_TRANSIENT, "kafka_unavailable",
                       "%zu of %zu messages were not acknowledged", failed, n);
    }
    return 0;
}

int bus_ping(rd_kafka_t *rk, struct err *err)
{
    const struct rd_kafka_metadata *md = NULL;
    rd_kafka_resp_err_t code = rd_kafka_metadata(rk, 0, NULL, &md, 3000);

    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return err_from_kafka(err, code, "kafka metadata");
    }
    rd_kafka_metadata_destroy(md);
    return 0;
}

int bus_producer_ping(struct bus_producer *producer, struct err *err)
{
    return bus_ping(producer->rk, err);
}

int bus_partitions(struct bus_producer *producer, const char *topic, int *ret_n, struct err *err)
{
    const struct rd_kafka_metadata *md = NULL;
    rd_kafka_topic_t *rkt = rd_kafka_topic_new(producer->rk, topic, NULL);

    if (!rkt) {
        return err_set(err, ERR_TRANSIENT, "kafka_unavailable", "topic %s", topic);
    }
    rd_kafka_resp_err_t code = rd_kafka_metadata(producer->rk, 0, rkt, &md, 3000);
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
