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

bool bus_access_tls(const struct bus_access *access)
{
    return access->protocol &&
           (strcmp(access->protocol, "SSL") == 0 || strcmp(access->protocol, "SASL_SSL") == 0);
}

int bus_conf_access(rd_kafka_conf_t *conf, const struct bus_access *access, struct err *err)
{
    const char *protocol = access->protocol && *access->protocol ? access->protocol : "PLAINTEXT";
    bool sasl = strncmp(protocol, "SASL_", 5) == 0;
    bool ssl = bus_access_tls(access);

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

/* Librdkafka's own lines are noise at the levels we log; errors come back from the calls. */
void bus_quiet(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    (void)rk;
    (void)level;
    (void)facility;
    (void)text;
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
