/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wakes the dispatcher after a commit: NOTIFY from a connection of its own, the first at once, then
 * at most 20 a second with what has come together.
 * Invariant: only a hint. What is lost is found by the dispatcher's reconciliation.
 */
#pragma once

#include "libcommon/err.h"

struct notifier; /* opaque, thread-safe */

/* payload: "stage:user,stage:user", "events", or "stage:control" where stage_control changed */
#define NOTIFY_CHANNEL "docfleet_task"
#define NOTIFY_CONTROL "control"

/* Starts the sending thread; connects when there is something to say. */
int notifier_start(const char *database_url, const char *application_name,
                   struct notifier **ret_notifier, struct err *err) WARN_UNUSED;
/* Sends what is left (at most 1 s), stops. Takes NULL. */
void notifier_stop(struct notifier *notifier);
/* Tasks of this stage were committed for this user. Never blocks on the network. */
void notify_stage(struct notifier *notifier, int stage, const char *user_id);
/* Events were committed. Implied by notify_stage. */
void notify_events(struct notifier *notifier);
