/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kafka, as docfleet uses it: one idempotent producer that waits for acknowledgement, one group
 * consumer with eager range assignment and offsets stored by hand, one tailing consumer.
 * Invariant: nothing is taken as sent before the broker said so; no offset is committed that its
 * owner did not hand in. It refuses Kafka transactions and broker-side positions as a truth.
 */
#pragma once

#include "libcommon/err.h"

/* How the brokers are reached. All borrowed; they live as long as the process. Only brokers must be
 * set; NULL and "" are the same. */
struct bus_access {
    const char *brokers;   /* host:port, comma separated */
    const char *protocol;  /* PLAINTEXT (default), SSL, SASL_PLAINTEXT, SASL_SSL */
    const char *mechanism; /* of SASL_*: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 */
    const char *username;
    const char *password;
    const char *ca_file;   /* of *SSL: PEM; none: the system's */
    const char *cert_file; /* client certificate, PEM; may be none */
    const char *key_file;
};

/* Is it spoken to over TLS? */
bool bus_access_tls(const struct bus_access *access);
/* What is known not to work with the librdkafka of this process, as a constant text, or NULL. */
const char *bus_access_trouble(const struct bus_access *access);

/* Producer --------------------------------------------------------------------------------------*/

struct bus_producer; /* opaque, thread-safe */

struct bus_message {
    const char *topic;
    const char *key; /* the user id */
    const char *value;
    size_t len;
    int partition;           /* -1: by the key's hash */
    const char *traceparent; /* header; may be NULL */
};

int bus_producer_open(const struct bus_access *access, const char *client_id,
                      struct bus_producer **ret, struct err *err) WARN_UNUSED;
/* Waits up to timeout_ms for what is still out. Takes NULL. */
void bus_producer_free(struct bus_producer *producer);
/* Sends n messages and waits until each is acknowledged or failed, at most timeout_ms.
 * ok[i] says which were. -1 (ERR_TRANSIENT "kafka_unavailable") when any was not. */
int bus_send(struct bus_producer *producer, const struct bus_message *messages, size_t n,
             unsigned timeout_ms, bool *ok, struct err *err) WARN_UNUSED;
/* Asks the broker for its topics, at most 3 s: is it there? */
int bus_producer_ping(struct bus_producer *producer, struct err *err) WARN_UNUSED;
/* Number of partitions of a topic, or -1. */
int bus_partitions(struct bus_producer *producer, const char *topic, int *ret_n,
                   struct err *err) WARN_UNUSED;

/* Consumer of a group ---------------------------------------------------------------------------*/

struct bus_consumer; /* opaque; one polling thread */

struct bus_record {
    const char *key; /* not NUL-terminated; opaque bytes */
    size_t key_len;
    const char *value;
    size_t len;
    int32_t partition;
    int64_t offset;
    char traceparent[64]; /* "" when absent */
    void *handle;         /* library's message */
};

/* Called from bus_poll when partitions come and go; drop unclaimed work of the lost ones. */
typedef void (*bus_rebalance_fn)(void *arg, bool assigned, const int32_t *partitions, size_t n);

/* session_ms: silence after which the broker gives the partitions of a dead member away. */
int bus_consumer_open(const struct bus_access *access, const char *group, const char *topic,
                      const char *client_id, int64_t session_ms, bus_rebalance_fn on_rebalance,
                      void *arg, struct bus_consumer **ret, struct err *err) WARN_UNUSED;
/* Leaves the group after committing what was stored; nothing is polled any more, all else still
 * works. To be called when nobody polls; while no broker answers it gives up after 5 s. */
void bus_consumer_leave(struct bus_consumer *consumer);
/* Leaves the group if that is not done, and frees. Takes NULL. */
void bus_consumer_free(struct bus_consumer *consumer);
/* 1: *ret holds a record (free with bus_record_done); 0: nothing within timeout_ms; -1: error
 * (ERR_FATAL when the client is dead for good, else ERR_TRANSIENT). */
int bus_poll(struct bus_consumer *consumer, int timeout_ms, struct bus_record *ret,
             struct err *err) WARN_UNUSED;
void bus_record_done(struct bus_record *record);
/* The next offset to read of a partition may be committed; sent with the next bus_commit. */
void bus_store_offset(struct bus_consumer *consumer, int32_t partition, int64_t next_offset);
/* Commits what was stored, without waiting. */
void bus_commit(struct bus_consumer *consumer);
/* Stops and resumes fetching of everything assigned. */
void bus_pause(struct bus_consumer *consumer, bool paused);
/* Partitions assigned now; returns how many, at most max. */
size_t bus_assigned(struct bus_consumer *consumer, int32_t *ret_partitions, size_t max);
/* Records of the assigned partitions past the offsets that were handed in, as far as the broker has
 * told the client; asks nobody. */
int64_t bus_lag(struct bus_consumer *consumer);
/* Asks the broker for its topics, at most 3 s: is it there? */
int bus_consumer_ping(struct bus_consumer *consumer, struct err *err) WARN_UNUSED;

/* Tail: every partition of a topic from its end, no group, nothing committed
 * ---------------------*/

/* Same record and poll functions. err ERR_TRANSIENT from bus_poll means that records may have been
 * missed: the caller reads the truth again. */
int bus_tail_open(const struct bus_access *access, const char *topic, const char *client_id,
                  struct bus_consumer **ret, struct err *err) WARN_UNUSED;

/* Topics ----------------------------------------------------------------------------------------*/

struct bus_topic {
    const char *name;
    int partitions;
    int64_t retention_ms;
};
/* Creates what is missing; replicas and min.insync.replicas follow the number of brokers (3 or
 * more: 3 and 2; else 1 and 1). Existing topics are left alone. */
int bus_create_topics(const struct bus_access *access, const struct bus_topic *topics, size_t n,
                      struct err *err) WARN_UNUSED;
/* Commits offset 0 for every partition of the topic that has no committed offset in the group. */
int bus_seed_offsets(const struct bus_access *access, const char *group, const char *topic,
                     int partitions, struct err *err) WARN_UNUSED;

/* What an operator wants to know
 * ------------------------------------------------------------------*/

struct bus_topic_info {
    int partitions;         /* 0: there is no such topic */
    int replicas;           /* of the partition that has the fewest */
    int leaderless, behind; /* partitions without a leader; with replicas out of sync */
    int min_isr;
    char timestamp_type[24];
};
/* Asks for n topics; *ret_brokers is the number of brokers. */
int bus_describe(const struct bus_access *access, const char *const *names, size_t n,
                 struct bus_topic_info *ret_infos, int *ret_brokers, struct err *err) WARN_UNUSED;
struct bus_group_info {
    int members;
    int uncommitted; /* partitions without a committed offset */
    int64_t lag;     /* records behind the committed offsets, of all partitions */
};
int bus_group(const struct bus_access *access, const char *group, const char *topic, int partitions,
              struct bus_group_info *ret_info, struct err *err) WARN_UNUSED;
