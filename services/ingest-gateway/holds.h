/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Legal holds, for handlers that remove something: "legal_hold" (409) where one forbids it.
 */
#pragma once

#include "services/ingest-gateway/request.h"

int hold_check_dataset(struct request *req, const char *dataset_id, struct err *err) WARN_UNUSED;
int hold_check_file(struct request *req, const char *file_id, struct err *err) WARN_UNUSED;
