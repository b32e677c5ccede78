/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/file_filter.h"

#include "libcommon/names.h"
#include "libcommon/states.h"

#include <stdio.h>
#include <string.h>

void query_init(struct query *query)
{
    *query = (struct query){0};
    buf_init(&query->sql, 16384);
}

void query_done(struct query *query)
{
    for (int i = 0; i < query->n; i++) {
        free(query->owned[i]);
    }
    buf_done(&query->sql);
    query->n = 0;
}

int query_param(struct query *query, const char *value)
{
    if (query->n == QUERY_PARAMS_MAX) {
        return -1;
    }
    char *copy = value ? strdup(value) : NULL;
    if (value && !copy) {
        return -1;
    }
    query->owned[query->n] = copy;
    query->params[query->n] = copy;
    return ++query->n;
}

static int add_state(struct request *req, struct file_filter *f, const char *name, size_t len,
                     struct err *err)
{
    char one[16];
    char next[32];

    if (len > 0 && len < sizeof(one)) {
        memcpy(one, name, len);
        one[len] = '\0';
        int state = file_state_parse(one);
        if (state >= 0 && state < FILE_DELETING) {
            bool first = f->states[0] == '\0';
            if (!first) {
                f->states[strlen(f->states) - 1] = '\0';
            }
            int n = snprintf(next, sizeof(next), "%s%c%d}", f->states, first ? '{' : ',', state);
            if (n > 0 && (size_t)n < sizeof(next)) {
                memcpy(f->states, next, (size_t)n + 1);
                return 0;
            }
        }
    }
    return request_invalid(req, "/state", "no such state of a file", err);
}

static int too_many_states(struct request *req, struct err *err)
{
    return request_invalid(req, "/state", "more states than there are", err);
}

static int add_states(struct request *req, struct file_filter *f, const char *list, struct err *err)
{
    unsigned left = FILTER_STATES_MAX;

    for (const char *s = list; *s != '\0';) {
        size_t n = strcspn(s, ",");
        if (left-- == 0) {
            return too_many_states(req, err);
        }
        if (add_state(req, f, s, n, err) < 0) {
            return -1;
        }
        s += n;
        s += *s == ',' ? 1 : 0;
    }
    return 0;
}

static int set_rest(struct request *req, struct file_filter *f, const char *stage, const char *q,
                    const char *batch, struct err *err)
{
    if (stage) {
        f->stage = (int)stage_parse(stage);
        if (f->stage == STAGE_NONE || f->stage == STAGE_CLEAN) {
            return request_invalid(req, "/stage", "no such stage", err);
        }
    }
    if (q) {
        if (name_chars(q) > FILTER_TEXT_MAX) {
            return request_invalid(req, "/q", "longer than 200 characters", err);
        }
        snprintf(f->q, sizeof(f->q), "%s", q);
    }
    if (batch) {
        if (!uuid_text_valid(batch)) {
            return request_invalid(req, "/batchId", "no batch id", err);
        }
        memcpy(f->batch_id, batch, UUID_TEXT);
    }
    return 0;
}

int file_filter_read(struct request *req, struct file_filter *ret_filter, struct err *err)
{
    struct file_filter f = {0};
    const char *states = uri_arg(&req->uri, "state");

    if ((states && add_states(req, &f, states, err) < 0) ||
        set_rest(req, &f, uri_arg(&req->uri, "stage"), uri_arg(&req->uri, "q"),
                 uri_arg(&req->uri, "batchId"), err) < 0) {
        if (strcmp(err->code, "invalid_value") == 0) {
            snprintf(err->code, sizeof(err->code), "bad_request");
        }
        return -1;
    }
    *ret_filter = f;
    return 0;
}

int file_filter_parse(struct request *req, const json_t *json, struct file_filter *ret_filter,
                      struct err *err)
{
    static const char *const names[] = {"state", "stage", "q", "batchId"};
    struct file_filter f = {0};
    const char *key;
    json_t *value;
    const char *text[ARRAY_LEN(names)] = {NULL};

    if (!json_is_object(json)) {
        return request_invalid(req, "/filter", "a filter is an object", err);
    }
    json_object_foreach((json_t *)(uintptr_t)json, key, value)
    {
        size_t i = 0;
        while (i < ARRAY_LEN(names) && strcmp(key, names[i]) != 0) {
            i++;
        }
        if (i == ARRAY_LEN(names)) {
            return request_invalid(req, "/filter", "unknown member", err);
        }
        if (json_is_null(value)) {
            continue;
        }
        if (i == 0 && json_is_array(value)) {
            size_t k;
            json_t *one;
            if (json_array_size(value) > FILTER_STATES_MAX) {
                return too_many_states(req, err);
            }
            json_array_foreach(value, k, one)
            {
                const char *s = json_is_string(one) ? json_string_value(one) : "";
                if (add_state(req, &f, s, strlen(s), err) < 0) {
                    return -1;
                }
            }
            continue;
        }
        if (!json_is_string(value)) {
            return request_invalid(req, "/filter", "values are texts", err);
        }
        text[i] = json_string_value(value)[0] != '\0' ? json_string_value(value) : NULL;
    }
    if ((text[0] && add_states(req, &f, text[0], err) < 0) ||
        set_rest(req, &f, text[1], text[2], text[3], err) < 0) {
        return -1;
    }
    *ret_filter = f;
    return 0;
}

/* The pattern of LIKE for the text, with its own wildcards escaped. */
static void like_pattern(const char *text, bool contains, char *out, size_t size)
{
    size_t o = 0;

    if (contains) {
        out[o++] = '%';
    }
    for (const char *s = text; *s != '\0' && o + 3 < size; s++) {
        if (*s == '%' || *s == '_' || *s == '\\') {
            out[o++] = '\\';
        }
        out[o++] = *s;
    }
    out[o++] = '%';
    out[o] = '\0';
}

bool file_filter_searches(const struct file_filter *filter)
{
    return filter->q[0] != '\0';
}

/* Three characters are what the trigram index can use; shorter texts are prefixes. */
static bool three_letters(const char *text)
{
    int n = 0;

    for (const char *s = text; *s != '\0'; s++) {
        n += ((unsigned char)*s & 0xC0) != 0x80;
    }
    return n >= 3;
}

int file_filter_sql(const struct file_filter *filter, struct query *query, struct err *err)
{
    struct buf *sql = &query->sql;
    struct db_num num;

    if (filter->states[0] != '\0') {
        int p = query_param(query, filter->states);
        if (p < 0 || buf_printf(sql, err, " AND f.state = ANY ($%d::smallint[])", p) < 0) {
            return -1;
        }
    }
    if (filter->batch_id[0] != '\0') {
        int p = query_param(query, filter->batch_id);
        if (p < 0 || buf_printf(sql, err, " AND f.batch_id = $%d::uuid", p) < 0) {
            return -1;
        }
    }
    if (filter->stage) {
        int p = query_param(query, db_num(&num, filter->stage));
        if (p < 0 || buf_printf(sql, err,
                                " AND EXISTS (SELECT 1 FROM task t WHERE t.file_id = f.file_id"
                                " AND t.stage = $%d::smallint AND t.generation = f.generation"
                                " AND t.state < 4)",
                                p) < 0) {
            return -1;
        }
    }
    if (filter->q[0] != '\0') {
        char pattern[2 * sizeof(filter->q) + 4];
        bool contains = three_letters(filter->q);
        like_pattern(filter->q, contains, pattern, sizeof(pattern));
        int p = query_param(query, pattern);
        if (p < 0 ||
            buf_printf(sql, err, " AND f.name %s $%d", contains ? "ILIKE" : "LIKE", p) < 0) {
            return -1;
        }
    }
    return 0;
}
