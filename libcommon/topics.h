/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of Kafka topics, made by `docfleetctl migrate --topics` and made again by the dispatcher
 * where a broker has lost them. Postgres is the truth: an empty topic costs nothing but a sending.
 */
#pragma once

#include "libcommon/bus.h"

#define TOPICS_PARTITIONS_MAX 200

/* Creates the topics that are missing, those of work with `partitions` partitions; from 24 on
 * events and dead letters get more, too. Existing ones are left alone. */
int topics_create(const struct bus_access *access, int partitions, struct err *err) WARN_UNUSED;
/* Commits offset 0 for the groups of the workers where nothing was committed, so that an autoscaler
 * sees lag from the first order on. */
int topics_seed(const struct bus_access *access, int partitions, struct err *err) WARN_UNUSED;
