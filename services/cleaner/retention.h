/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What datasets no longer want to keep, in bounded steps: options retentionDays (days after a
 * file's last change; absent or null: never) and retentionRemoves ("content" or "file").
 * Invariant: nothing under a legal hold is touched.
 */
#pragma once

#include "libcommon/service.h"

/* One step: looks at up to 500 files of one dataset after the last ones it looked at. *ret_more:
 * the round is not over. */
int retention_step(struct service *service, bool *ret_more, struct err *err) WARN_UNUSED;
