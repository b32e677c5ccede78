/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A filter for benchmarks and tests: one JSON line in, {columns, pages: [{page, text, words?,
 * engine?}]}, one JSON line out, the record of the rules backend. No services, no network.
 */
#include "libcommon/jget.h"
#include "services/ai-extractor/extract.h"

#include <stdio.h>
#include <string.h>

static int add_page(struct doctext *doc, const json_t *page, struct err *err)
{
    const char *text;
    int64_t number;
    const json_t *words = json_object_get(page, "words");

    if (jget_str(page, "text", DOCTEXT_PAGE_BYTES_MAX, &text, err) < 0 ||
        jget_int(page, "page", 1, DOCTEXT_PAGES_MAX, &number, err) < 0) {
        return -1;
    }
    CLEANUP(free_cleanup)
    char *line = json_is_object(words) ? json_dumps(words, JSON_COMPACT) : NULL;
    return doctext_add_page(doc, (int)number, text, strlen(text), line, line ? strlen(line) : 0,
                            json_string_value(json_object_get(page, "engine")), err);
}

static int run(const char *text, size_t len, struct err *err)
{
    CLEANUP(json_cleanup) json_t *in = json_loadb(text, len, 0, NULL);
    CLEANUP(columns_cleanup) struct columns *columns = NULL;
    CLEANUP(doctext_cleanup) struct doctext *doc = doctext_new();
    const struct extract_options options = {.part = EXTRACT_ALL, .attempt = 1};
    struct extract_result result;
    size_t i;
    json_t *page;

    if (!doc || columns_parse_request(json_object_get(in, "columns"), &columns, NULL, err) < 0) {
        return -1;
    }
    json_array_foreach(json_object_get(in, "pages"), i, page)
    {
        if (add_page(doc, page, err) < 0) {
            return -1;
        }
    }
    if (extract_record(backend_rules(), columns, doc, &options, &result, err) < 0) {
        return -1;
    }
    CLEANUP(json_cleanup)
    json_t *out =
        json_pack("{s:O, s:O, s:O, s:b, s:f, s:s}", "values", result.values, "cells", result.cells,
                  "rows", result.rows, "needsReview", (int)result.needs_review, "completeness",
                  result.completeness, "backend", result.backend);
    extract_result_done(&result);
    return out && json_dumpf(out, stdout, JSON_COMPACT | JSON_REAL_PRECISION(15)) == 0 &&
                   putchar('\n') != EOF && fflush(stdout) == 0
               ? 0
               : err_set(err, ERR_UNKNOWN, "io", "the record could not be written");
}

int main(void)
{
    CLEANUP(free_cleanup) char *line = NULL;
    size_t cap = 0;

    for (ssize_t n = getline(&line, &cap, stdin); n >= 0; n = getline(&line, &cap, stdin)) {
        struct err err = ERR_INIT;
        if (run(line, (size_t)n, &err) < 0) {
            (void)printf("{\"error\":\"%s\"}\n", err.code);
            (void)fprintf(stderr, "%s: %s\n", err.code, err.msg);
            (void)fflush(stdout);
        }
    }
    return 0;
}
