/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The option table of preview-worker.
 */
#include "services/preview-worker/options.h"

struct preview_options preview_options;

const struct option_def preview_option_defs[] = {
    {"PREVIEW_MAX_PAGES", OPTION_INT, offsetof(struct preview_options, max_pages), "500", 1, 5000,
     NULL, "pages of a document that get an image"},
};
const size_t preview_option_count = ARRAY_LEN(preview_option_defs);
