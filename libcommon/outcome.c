/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds the JSON document that the completing statement takes apart again (task_end.c).
 */
#include "libcommon/outcome.h"

#include <string.h>

#define OUTCOME_ITEMS_MAX 20000U
#define HAS "has" /* the first member, so that it is read without parsing */
#define HAS_ALL (OUTCOME_UNITS | OUTCOME_RESULTS | OUTCOME_RECORD | OUTCOME_ENDS)

struct outcome {
    json_t *root;
};

int outcome_new(int version, struct outcome **ret_outcome, struct err *err)
{
    struct outcome *out = calloc(1, sizeof(*out));

    if (!out) {
        return err_nomem(err);
    }
    out->root = json_pack("{s:i, s:i, s:[], s:[], s:[], s:[], s:[], s:{}}", HAS, 0, "version",
                          version, "artifacts", "pages", "units", "next", "spawn", "detail");
    if (!out->root) {
        free(out);
        return err_nomem(err);
    }
    *ret_outcome = out;
    return 0;
}

void outcome_free(struct outcome *out)
{
    if (out) {
        json_decref(out->root);
        free(out);
    }
}

static int append(struct outcome *out, const char *list, json_t *item, struct err *err)
{
    json_t *array = json_object_get(out->root, list);

    if (!item) {
        return err_nomem(err);
    }
    if (json_array_size(array) >= OUTCOME_ITEMS_MAX) {
        json_decref(item);
        return err_set(err, ERR_PERMANENT, "too_large", "more than %u %s", OUTCOME_ITEMS_MAX, list);
    }
    return json_array_append_new(array, item) < 0 ? err_nomem(err) : 0;
}

int outcome_artifact(struct outcome *out, const char *kind, int page, const char *object_key,
                     uint64_t bytes, const char *mime, json_t *meta, struct err *err)
{
    json_t *item = json_pack("{s:s, s:s, s:I, s:s, s:o}", "kind", kind, "key", object_key, "bytes",
                             (json_int_t)bytes, "mime", mime, "meta", meta ? meta : json_object());

    if (item && page > 0) {
        json_object_set_new(item, "page", json_integer(page));
    }
    return append(out, "artifacts", item, err);
}

int outcome_page(struct outcome *out, const struct outcome_page *page, struct err *err)
{
    json_t *item = json_pack("{s:i, s:s, s:I, s:f, s:f, s:b}", "page", page->page, "engine",
                             page->engine, "chars", (json_int_t)page->chars, "width", page->width,
                             "height", page->height, "needs_ocr", page->needs_ocr ? 1 : 0);

    if (item && page->confidence >= 0) {
        json_object_set_new(item, "confidence", json_real(page->confidence));
    }
    if (item && page->text_key) {
        json_object_set_new(item, "text_key", json_string(page->text_key));
        json_object_set_new(item, "text_start", json_integer((json_int_t)page->text_start));
        json_object_set_new(item, "text_bytes", json_integer((json_int_t)page->text_bytes));
        json_object_set_new(item, "text_sum", json_string(page->text_sum));
    }
    if (item && page->words_key) {
        json_object_set_new(item, "words_key", json_string(page->words_key));
        json_object_set_new(item, "words_start", json_integer((json_int_t)page->words_start));
        json_object_set_new(item, "words_bytes", json_integer((json_int_t)page->words_bytes));
        json_object_set_new(item, "words_sum", json_string(page->words_sum));
    }
    return append(out, "pages", item, err);
}

static int add_task(struct outcome *out, const char *list, int stage, int unit, int cost,
                    json_t *input, struct err *err)
{
    json_t *item =
        json_pack("{s:i, s:i, s:i}", "stage", stage, "unit", unit, "cost", cost > 0 ? cost : 1);

    if (input && (!item || json_object_set_new(item, "input", input) < 0)) {
        json_decref(item);
        return err_nomem(err);
    }
    return append(out, list, item, err);
}

int outcome_unit(struct outcome *out, int unit, int cost, json_t *input, struct err *err)
{
    return add_task(out, "units", 0, unit, cost, input, err);
}

int outcome_next(struct outcome *out, int stage, int unit, int cost, json_t *input, struct err *err)
{
    return add_task(out, "next", stage, unit, cost, input, err);
}

int outcome_spawn(struct outcome *out, int stage, int unit, int cost, json_t *input,
                  struct err *err)
{
    return add_task(out, "spawn", stage, unit, cost, input, err);
}

int outcome_pipeline(struct outcome *out, enum pipeline_state state, const char *code,
                     const char *detail, struct err *err)
{
    json_t *pipeline =
        json_pack("{s:i, s:s?, s:s?}", "state", (int)state, "code", code, "detail", detail);

    return json_object_set_new(out->root, "pipeline", pipeline) < 0 ? err_nomem(err) : 0;
}

void outcome_no_thumbnail(struct outcome *out)
{
    json_object_set_new(out->root, "noThumbnail", json_true());
}

int outcome_record(struct outcome *out, json_t *record, struct err *err)
{
    return json_object_set_new(out->root, "record", record) < 0 ? err_nomem(err) : 0;
}

int outcome_detail(struct outcome *out, const char *name, json_t *value, struct err *err)
{
    json_t *detail = json_object_get(out->root, "detail");

    return json_object_set_new(detail, name, value) < 0 ? err_nomem(err) : 0;
}

void outcome_set_cost(struct outcome *out, int cost)
{
    json_object_set_new(out->root, "cost", json_integer(cost > 0 ? cost : 1));
}

bool outcome_skipped(const struct outcome *out)
{
    const json_t *pipeline = out ? json_object_get(out->root, "pipeline") : NULL;

    return json_integer_value(json_object_get(pipeline, "state")) == PIPE_SKIPPED;
}

static bool filled(const struct outcome *out, const char *list)
{
    return json_array_size(json_object_get(out->root, list)) > 0;
}

char *outcome_dump(const struct outcome *out)
{
    int has = (filled(out, "units") ? OUTCOME_UNITS : 0) |
              (filled(out, "artifacts") || filled(out, "pages") ? OUTCOME_RESULTS : 0) |
              (json_object_get(out->root, "record") ? OUTCOME_RECORD : 0) |
              (json_object_get(out->root, "pipeline") || json_object_get(out->root, "noThumbnail")
                   ? OUTCOME_ENDS
                   : 0);

    /* A new value keeps its member's place. */
    return json_object_set_new(out->root, HAS, json_integer(has)) < 0
               ? NULL
               : json_dumps(out->root, JSON_COMPACT);
}

int outcome_has(const char *text)
{
    static const char begin[] = "{\"" HAS "\":";
    size_t n = sizeof(begin) - 1;
    char *end = NULL;

    if (strncmp(text, begin, n) != 0) {
        return HAS_ALL;
    }
    long has = strtol(text + n, &end, 10);
    return *end == ',' && has >= 0 && has <= HAS_ALL ? (int)has : HAS_ALL;
}
