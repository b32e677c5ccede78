/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The synonym table of the rules backend, as data.
 * Invariant: lists are separated by '|' and hold no label twice in one concept.
 */
#pragma once

#include "services/ai-extractor/rules.h"

struct concept_words {
    enum concept meaning;
    const char *names;  /* what people call a column */
    const char *labels; /* what documents print; good as column names too */
};

extern const struct concept_words concept_table[];
extern const size_t concept_table_n;
