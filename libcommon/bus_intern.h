/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What bus.c, bus_consumer.c and bus_admin.c share. Nobody else includes it.
 */
#pragma once

#include "libcommon/bus.h"

#include <librdkafka/rdkafka.h>

int bus_conf_set(rd_kafka_conf_t *conf, const char *name, const char *value,
                 struct err *err) WARN_UNUSED;
/* Brokers, protocol, credentials and certificates: the first settings of every client. */
int bus_conf_access(rd_kafka_conf_t *conf, const struct bus_access *access,
                    struct err *err) WARN_UNUSED;
int err_from_kafka(struct err *err, rd_kafka_resp_err_t code, const char *what);
void bus_quiet(const rd_kafka_t *rk, int level, const char *facility, const char *text);
int bus_ping(rd_kafka_t *rk, struct err *err) WARN_UNUSED;
/* Runs fn in a thread of its own and waits for it, at most timeout_ms. false: it still runs, and
 * whatever it was given has to stay. */
bool bus_within(unsigned timeout_ms, void *(*fn)(void *arg), void *arg);
/* Ends a client. Where its threads do not end (2.0.2's do not once a broker went away while it had
 * partitions) the client is left behind after some seconds: its process is ending anyway. */
void bus_destroy(rd_kafka_t *rk);
/* A client that only asks: of a group, or without one (NULL). NULL on an error. */
rd_kafka_t *bus_admin_client(const struct bus_access *access, const char *group, struct err *err);
