/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings of ocr-fallback.
 */
#include "services/ocr-fallback/stage.h"

#include <string.h>

struct ocr_options ocr_options;

#define AT(member) offsetof(struct ocr_options, member)

const struct option_def ocr_option_defs[OCR_OPTIONS] = {
    {"OCR_ENGINE", OPTION_ENUM, AT(engine), "auto", 0, 0, "auto|tesseract|textract",
     "Who reads pages: tesseract with Textract as its fallback, or one of them alone"},
    {"OCR_LANGUAGES", OPTION_STRING, AT(languages), "eng", 0, 0, NULL,
     "Tesseract's language data, joined with +, such as eng+deu"},
    {"OCR_MIN_CONFIDENCE", OPTION_INT, AT(min_confidence), "60", 0, 100, NULL,
     "Percent below which a page that tesseract read is given to Textract"},
    {"TEXTRACT_ENDPOINT", OPTION_STRING, AT(endpoint), "", 0, 0, NULL,
     "Address of Amazon Textract, empty for none"},
    {"TEXTRACT_REGION", OPTION_STRING, AT(region), "us-east-1", 0, 0, NULL,
     "Region that calls to Textract are signed for"},
    {"TEXTRACT_ACCESS_KEY", OPTION_SECRET, AT(access_key), "", 0, 0, NULL,
     "Access key for Textract"},
    {"TEXTRACT_SECRET_KEY", OPTION_SECRET, AT(secret_key), "", 0, 0, NULL,
     "Secret key for Textract"},
    {"TEXTRACT_CA_FILE", OPTION_STRING, AT(ca_file), "", 0, 0, NULL,
     "CAs of Textract, PEM; empty: CA_FILE"},
    {"TEXTRACT_POLL", OPTION_DURATION, AT(poll_ms), "5s", 100, 600000, NULL,
     "How often a Textract job is asked for its result"},
    {"TEXTRACT_PRICE", OPTION_INT, AT(price), "0", 0, 1000000000, NULL,
     "Price of a thousand pages, in thousandths of a currency unit"},
    {"TEXTRACT_ASYNC", OPTION_BOOL, AT(async), "false", 0, 0, NULL,
     "Read the pages of PDFs by Textract jobs on objects of the bucket, which then must be in S3"},
};

static int wrong(struct err *err, const char *what)
{
    return err_set(err, ERR_FATAL, "invalid_config", "%s", what);
}

int ocr_options_check(const struct ocr_options *options, struct err *err)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    const char *e = options->endpoint;
    const char *language = options->languages;

    while (*language) {
        size_t n = strspn(language, letters);
        if (n == 0 || (language[n] && (language[n] != '+' || !language[n + 1]))) {
            break;
        }
        language += n + (language[n] == '+' ? 1 : 0);
    }
    if (*language || !*options->languages) {
        return wrong(err, "DOCFLEET_OCR_LANGUAGES wants names joined with +");
    }
    if (!*e) {
        return strcmp(options->engine, "textract") == 0
                   ? wrong(err, "DOCFLEET_OCR_ENGINE=textract needs DOCFLEET_TEXTRACT_ENDPOINT")
                   : 0;
    }
    if (strncmp(e, "http://", 7) != 0 && strncmp(e, "https://", 8) != 0) {
        return wrong(err, "DOCFLEET_TEXTRACT_ENDPOINT is not an http or https address");
    }
    if (!*options->access_key || !*options->secret_key) {
        return wrong(err,
                     "DOCFLEET_TEXTRACT_ACCESS_KEY and _SECRET_KEY are needed with an endpoint");
    }
    return 0;
}
