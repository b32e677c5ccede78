/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers of the AI service that a unit may use again: those to the same question about the same
 * text, columns, model and settings, asked by the same user.
 * Invariant: an answer is in table effect before anything is made of it.
 * It refuses to share answers between users: that one was there would tell what others uploaded.
 */
#pragma once

#include "libcommon/doctext.h"
#include "libcommon/sha256.h"
#include "libcommon/stage.h"
#include "services/ai-extractor/extract.h"

struct memory {
    struct job *job;
    char base[SHA256_HEX_SIZE]; /* digest of what all questions of a unit have in common */
};

/* columns is the stored JSON text; backend the name that also stands in the record. Fills *ret and
 * *ret_memory, which points to it. */
int memory_open(struct job *job, const char *columns, const struct doctext *doc,
                const char *backend, struct memory *ret, struct extract_memory *ret_memory,
                struct err *err) WARN_UNUSED;
