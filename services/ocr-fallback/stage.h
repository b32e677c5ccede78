/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stage `ocr` for the worker frame, and its settings.
 */
#pragma once

#include "libcommon/stage.h"

extern const struct stage ocr_fallback;

struct ocr_options {
    char *engine;    /* auto, tesseract, textract */
    char *languages; /* tesseract's names joined with + */
    int64_t min_confidence;
    char *endpoint; /* "": no Textract */
    char *region;
    char *access_key;
    char *secret_key;
    char *ca_file;
    int64_t poll_ms;
    int64_t price; /* of a page, in millionths of a currency unit */
    bool async;
};

extern struct ocr_options ocr_options;
#define OCR_OPTIONS 11
extern const struct option_def ocr_option_defs[OCR_OPTIONS];

/* Mistakes no single option shows: ERR_FATAL invalid_config. */
int ocr_options_check(const struct ocr_options *options, struct err *err) WARN_UNUSED;
