/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What bus.c, bus_consumer.c and bus_admin.c share. Nobody else includes it.
 */
#pragma once

#include "libcommon/err.h"

#include <librdkafka/rdkafka.h>

int bus_conf_set(rd_kafka_conf_t *conf, const char *name, const char *value,
                 struct err *err) WARN_UNUSED;
int err_from_kafka(struct err *err, rd_kafka_resp_err_t code, const char *what);
void bus_quiet(const rd_kafka_t *rk, int level, const char *facility, const char *text);
int bus_ping(rd_kafka_t *rk, struct err *err) WARN_UNUSED;
