/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Live events (SSE): one hub reads the events topic and gives each subscriber what is theirs.
 * Invariant: a subscriber gets every event of its account with a position above the one it named,
 * in order and once: first from Postgres, then from the topic, which only tells what Postgres
 * already holds. A subscriber that reads too slowly is ended; it comes back with Last-Event-ID.
 */
#pragma once

#include "libcommon/err.h"
#include "services/ingest-gateway/reply.h"

struct bus_access;
struct event_hub;
struct exchange;
struct gateway;

/* Starts the hub's threads. bus (borrowed) NULL: no topic; the hub then polls Postgres. */
int event_hub_start(struct gateway *gw, const struct bus_access *bus, const char *topic,
                    struct event_hub **ret_hub, struct err *err) WARN_UNUSED;
/* For health_dep.check; arg: the hub. Is the broker there that streams are fed from? */
int event_hub_check(void *arg, struct err *err) WARN_UNUSED;
/* Takes over an answer whose headers were sent; it gets what comes after last_pos. */
void event_hub_add(struct event_hub *hub, struct exchange *ex, enum events_start start,
                   int64_t last_pos);
/* Ends every subscriber with a `retry:` line, and takes no more. */
void event_hub_drain(struct event_hub *hub);
void event_hub_stop(struct event_hub *hub);
