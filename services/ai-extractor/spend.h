/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ceilings on tokens and money, for one unit and for one file's run through the stage.
 * Invariant: a call is booked in table spend with the most it can use before it is made; what it
 * used takes that place when the answer is in.
 * It refuses to lock: units of one file that book at the same moment may pass a ceiling by one call
 * each.
 */
#pragma once

#include "libcommon/stage.h"
#include "services/ai-extractor/extract.h"

struct spend {
    struct job *job;
    int64_t tokens, micros; /* booked by the call that is out */
};

/* Fills *ret and *ret_purse, which points to it. Over a ceiling a call is ERR_TRANSIENT "budget":
 * the unit waits for an hour and then looks again. */
void spend_open(struct job *job, struct spend *ret, struct extract_purse *ret_purse);
