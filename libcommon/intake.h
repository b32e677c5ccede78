/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One file on its way in: its bytes become an object while they come, its kind is told from the
 * first of them. The gateway and the importer take files in here, so that both refuse the same.
 * Invariant: the object exists only after intake_end; no row names it yet, so whoever does not go
 * on to accept the file deletes it (or leaves it to the cleaner).
 */
#pragma once

#include "libcommon/filetype.h"
#include "libcommon/names.h"
#include "libcommon/store.h"
#include "libcommon/uuid.h"

struct intake {
    struct store *store; /* borrowed, as what follows */
    const char *user_id;
    const char *name; /* passed name_check() */
    uint64_t max;     /* bytes */
    /* what is known so far; all of it after intake_end */
    char id[UUID_TEXT];
    char key[256];
    const struct filetype *type;
    uint64_t size;
    char sha256[SHA256_HEX_SIZE];
    char etag[80];
    /* private */
    struct store_upload *up;
    char head[FILETYPE_HEAD];
    size_t head_len;
};

/* Fills *in; nothing is sent yet. */
void intake_begin(struct intake *in, struct store *store, const char *user_id, const char *name,
                  uint64_t max);
/* ERR_PERMANENT "file_too_large" when it becomes more than max; or what the store says. */
int intake_data(struct intake *in, const char *data, size_t len, struct err *err) WARN_UNUSED;
/* Makes the object visible. ERR_PERMANENT "empty_file" when nothing came. */
int intake_end(struct intake *in, struct err *err) WARN_UNUSED;
/* Takes back what was not ended. Works as CLEANUP(intake_done) on a zeroed struct. */
void intake_done(struct intake *in);
