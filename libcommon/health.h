/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The probe server of every service, on a port of its own: /livez, /readyz and /metrics.
 * Invariant: /livez says only that the process serves; /readyz is 503 exactly when a dependency
 * the service cannot work without is down, or while it drains, and its body names all of them.
 */
#pragma once

#include "libcommon/err.h"

#define HEALTH_DEPS_MAX 8

struct health; /* opaque */

struct health_dep {
    const char *name;
    bool required; /* /readyz fails without it */
    int (*check)(void *arg, struct err *err);
    void *arg;
};

/* Starts the server and a thread that checks each dependency every 2 s. address "127.0.0.1" or
 * "0.0.0.0"; port 0 takes a free one. */
int health_start(const char *address, int port, const struct health_dep *deps, size_t n,
                 struct health **ret_health, struct err *err) WARN_UNUSED;
void health_stop(struct health *health);
/* From now on /readyz is 503. */
void health_drain(struct health *health);
int health_port(const struct health *health);
/* True when every required dependency was up at its last check. */
bool health_ready(struct health *health);
