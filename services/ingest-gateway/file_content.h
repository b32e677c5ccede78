/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file's original as an answer, for its owner and for whoever has a share link.
 * Refuses files in quarantine; looks at no right but that the file is of the account it is told.
 */
#pragma once

#include "services/ingest-gateway/request.h"

/* 200 or 206 with the bytes, 304, 416. whole: a Range header is not looked at. ERR_PERMANENT
 * "not_found", "quarantined", "input_gone". */
int file_content_reply(struct request *req, const char *file_id, const char *user_id, bool whole,
                       struct reply *reply, struct err *err) WARN_UNUSED;
