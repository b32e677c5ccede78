/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The probe server of every service, on a port of its own: /livez, /readyz and /metrics.
 * Invariant: /livez fails only where a restart helps: a loop of this process has not come round
 * for minutes. No outage of a dependency makes it fail. /readyz is 503 exactly when a dependency
 * the service cannot work without is down, or while it drains, and its body names all of them.
 */
#pragma once

#include "libcommon/err.h"

#define HEALTH_DEPS_MAX 12
#define HEALTH_PULSES_MAX 64U

struct health; /* opaque */

struct health_dep {
    const char *name;
    int (*check)(void *arg, struct err *err);
    void *arg;
    unsigned every_ms; /* 0: 2 s */
    bool required;     /* /readyz fails without it */
};

/* Starts the server and a thread for each dependency, so that one that hangs hides no other. A
 * dependency is down after two failed checks in a row (the second one comes at once), or when a
 * check has not come back for 15 s; up after one that succeeded. address "127.0.0.1" or "0.0.0.0";
 * port 0 takes a free one. */
int health_start(const char *address, int port, const struct health_dep *deps, size_t n,
                 struct health **ret_health, struct err *err) WARN_UNUSED;
void health_stop(struct health *health);
/* From now on /readyz is 503. */
void health_drain(struct health *health);
int health_port(const struct health *health);
/* A loop that has to come round: from its first beat on /livez fails when the last one is older
 * than limit_ms, which is to be far beyond anything that timeouts allow. name is borrowed. The
 * answer is for health_beat; -1 (which health_beat ignores) when there are too many. */
int health_pulse(struct health *health, const char *name, uint64_t limit_ms);
void health_beat(struct health *health, int pulse);
/* The loop has ended, as it should. */
void health_rest(struct health *health, int pulse);
/* True when every required dependency was up at its last check. */
bool health_ready(struct health *health);
/* Asks the /readyz of a process on this machine, as the health check of a container does: 0 when
 * it is ready, else -1 with its answer or the reason that there is none. Takes 3 s at most a step.
 * "0.0.0.0" is asked at 127.0.0.1. */
int health_ask(const char *address, int port, struct err *err) WARN_UNUSED;
