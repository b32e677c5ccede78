/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads answers of chat-completions servers. Servers differ in what they enforce and some enforce
 * nothing, so the shape is checked here, member by member.
 */
#include "libcommon/jget.h"
#include "services/ai-extractor/openai.h"

#include <stdio.h>
#include <string.h>

#define RAW_MAX 4000U /* bytes of a value or quote that are worth looking at */

/* --- errors of the provider ------------------------------------------------------------------- */

static const char *error_text(const json_t *root, const char *name)
{
    const json_t *error = json_object_get(root, "error");
    const char *text = json_string_value(json_object_get(error, name));

    return text ? text : "";
}

static bool says_context(const json_t *root)
{
    const char *message = error_text(root, "message");

    return strcmp(error_text(root, "type"), "exceed_context_size_error") == 0 ||
           strcmp(error_text(root, "code"), "context_length_exceeded") == 0 ||
           strstr(message, "context length") || strstr(message, "context size") ||
           strstr(message, "maximum context");
}

static int provider_error(int status, const json_t *root, struct err *err)
{
    if (status == 429 && (strcmp(error_text(root, "code"), "insufficient_quota") == 0 ||
                          strcmp(error_text(root, "type"), "insufficient_quota") == 0)) {
        return err_set(err, ERR_TRANSIENT, "budget", "the AI service says the quota is used up");
    }
    if (status == 401 || status == 403) {
        return err_set(err, ERR_TRANSIENT, "provider_unavailable",
                       "the AI service refuses the key (HTTP %d)", status);
    }
    if (status == 404 || status == 408 || status == 409 || status == 425 || status == 429 ||
        status >= 500) {
        return err_set(err, ERR_TRANSIENT, "provider_unavailable",
                       "the AI service answered HTTP %d", status);
    }
    return err_set(err, ERR_UNKNOWN, "provider_rejected",
                   "the AI service did not take the request (HTTP %d)", status);
}

/* --- usage ------------------------------------------------------------------------------------ */

static uint64_t count_of(const json_t *obj, const char *name)
{
    const json_int_t n = json_integer_value(json_object_get(obj, name));

    return n > 0 ? (uint64_t)n : 0;
}

static struct extract_usage read_usage(const json_t *root, size_t request_len, size_t answer_len)
{
    const json_t *usage = json_object_get(root, "usage");
    struct extract_usage out = {
        .calls = 1,
        .prompt_tokens = count_of(usage, "prompt_tokens"),
        .completion_tokens = count_of(usage, "completion_tokens"),
        .cached_tokens = count_of(json_object_get(usage, "prompt_tokens_details"), "cached_tokens"),
    };

    if (!out.prompt_tokens) {
        out.prompt_tokens = request_len / 4;
        out.completion_tokens = out.completion_tokens ? out.completion_tokens : answer_len / 4;
        out.estimated = true;
    }
    return out;
}

/* --- shape ------------------------------------------------------------------------------------ */

static bool refuse(struct openai_result *ret, const char *where, const char *what)
{
    ret->outcome = OPENAI_INVALID;
    ret->reason = "invalid_answer";
    (void)snprintf(ret->message, sizeof(ret->message), "%s %s", where, what);
    return false;
}

static bool string_or_null(const json_t *value)
{
    return json_is_null(value) ||
           (json_is_string(value) && json_string_length(value) == strlen(json_string_value(value)));
}

static bool check_value(const struct column *column, const json_t *value, const char *where,
                        struct openai_result *ret)
{
    if (!value) {
        return refuse(ret, where, "is missing");
    }
    if (json_is_null(value)) {
        return true;
    }
    switch (column->type) {
    case COLUMN_BOOLEAN:
        return json_is_boolean(value) || refuse(ret, where, "must be true, false or null");
    case COLUMN_ENUM:
        for (size_t i = 0; json_is_string(value) && i < column->n_enums; i++) {
            if (strcmp(json_string_value(value), column->enums[i]) == 0) {
                return true;
            }
        }
        return refuse(ret, where, "must be one of the allowed values or null");
    case COLUMN_MONEY:
        return (json_is_object(value) && json_object_size(value) == 2 &&
                json_is_string(json_object_get(value, "amount")) &&
                json_object_get(value, "currency") &&
                string_or_null(json_object_get(value, "currency"))) ||
               refuse(ret, where, "must be {amount, currency} or null");
    case COLUMN_NUMBER:
    case COLUMN_INTEGER:
        if (json_is_integer(value)) {
            return true;
        }
        break;
    case COLUMN_STRING:
    case COLUMN_DATE:
    case COLUMN_DATETIME:
    case COLUMN_ROWS:
        break;
    }
    return string_or_null(value) || refuse(ret, where, "must be a string or null");
}

static bool check_evidence(const json_t *obj, const char *where, struct openai_result *ret)
{
    const json_t *page = json_object_get(obj, "page");
    const json_t *line = json_object_get(obj, "line");
    const json_t *quote = json_object_get(obj, "quote");

    if (!quote || !string_or_null(quote)) {
        return refuse(ret, where, "needs quote: a string or null");
    }
    if (!page || !(json_is_integer(page) || json_is_null(page))) {
        return refuse(ret, where, "needs page: an integer or null");
    }
    if (!line || !(json_is_integer(line) || json_is_null(line))) {
        return refuse(ret, where, "needs line: an integer or null");
    }
    return true;
}

static bool check_rows(const struct column *column, const json_t *rows, struct openai_result *ret)
{
    char where[48];

    if (!json_is_array(rows)) {
        return refuse(ret, column->id, "must be an array");
    }
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        (void)snprintf(where, sizeof(where), "%s[%zu]", column->id, i);
        if (!json_is_object(row) || json_object_size(row) != column->item_columns->n + 3) {
            return refuse(ret, where, "has not exactly the expected members");
        }
        for (size_t k = 0; k < column->item_columns->n; k++) {
            const struct column *item = &column->item_columns->items[k];
            (void)snprintf(where, sizeof(where), "%s[%zu].%s", column->id, i, item->id);
            if (!check_value(item, json_object_get(row, item->id), where, ret)) {
                return false;
            }
        }
        (void)snprintf(where, sizeof(where), "%s[%zu]", column->id, i);
        if (!check_evidence(row, where, ret)) {
            return false;
        }
    }
    return true;
}

static bool check_shape(const struct columns *columns, const struct openai_group *group,
                        const json_t *values, struct openai_result *ret)
{
    if (!json_is_object(values) || json_object_size(values) != group->n) {
        return refuse(ret, "the answer", "must be an object with exactly the column ids");
    }
    for (size_t i = 0; i < group->n; i++) {
        const struct column *column = &columns->items[group->columns[i]];
        const json_t *obj = json_object_get(values, column->id);
        if (column->type == COLUMN_ROWS) {
            if (!check_rows(column, obj, ret)) {
                return false;
            }
            continue;
        }
        char where[32];
        (void)snprintf(where, sizeof(where), "%s.value", column->id);
        if (!json_is_object(obj) || json_object_size(obj) != 4) {
            return refuse(ret, column->id, "must be {value, quote, page, line}");
        }
        if (!check_value(column, json_object_get(obj, "value"), where, ret) ||
            !check_evidence(obj, column->id, ret)) {
            return false;
        }
    }
    return true;
}

/* --- the answer ------------------------------------------------------------------------------- */

/* Takes one ``` fence off; nothing cleverer. */
static void strip_fence(const char **text, size_t *len)
{
    const char *at = *text;
    size_t n = *len;

    while (n && strchr(" \t\r\n", at[n - 1])) {
        n--;
    }
    while (n && strchr(" \t\r\n", at[0])) {
        at++;
        n--;
    }
    if (n > 6 && memcmp(at, "```", 3) == 0 && memcmp(at + n - 3, "```", 3) == 0) {
        const char *line = memchr(at, '\n', n);
        if (line) {
            n -= (size_t)(line + 1 - at) + 3;
            at = line + 1;
        }
    }
    *text = at;
    *len = n;
}

static void read_content(const char *text, size_t len, const struct columns *columns,
                         const struct openai_group *group, struct openai_result *ret)
{
    struct err why = ERR_INIT;
    CLEANUP(json_cleanup) json_t *values = NULL;

    strip_fence(&text, &len);
    if (jget_load(text, len, OPENAI_RESPONSE_MAX, &values, &why) < 0) {
        (void)refuse(ret, "the answer", "is not one JSON object");
        return;
    }
    if (check_shape(columns, group, values, ret)) {
        ret->outcome = OPENAI_OK;
        ret->values = STEAL(values);
    }
}

static void read_choice(const json_t *choice, const struct columns *columns,
                        const struct openai_group *group, struct openai_result *ret)
{
    const json_t *message = json_object_get(choice, "message");
    const char *finish = json_string_value(json_object_get(choice, "finish_reason"));
    const json_t *call = json_array_get(json_object_get(message, "tool_calls"), 0);
    const json_t *arguments = json_object_get(json_object_get(call, "function"), "arguments");
    const json_t *content =
        json_is_string(arguments) ? arguments : json_object_get(message, "content");

    if (json_is_string(json_object_get(message, "refusal"))) {
        ret->outcome = OPENAI_REFUSED;
        ret->reason = "refused";
    } else if (finish && strcmp(finish, "content_filter") == 0) {
        ret->outcome = OPENAI_REFUSED;
        ret->reason = "content_filter";
    } else if (finish && strcmp(finish, "length") == 0) {
        ret->outcome = OPENAI_TOO_LONG;
        ret->reason = "answer_too_long";
    } else if (!json_is_string(content)) {
        (void)refuse(ret, "the answer", "has no content");
    } else {
        read_content(json_string_value(content), json_string_length(content), columns, group, ret);
    }
}

/* NULL: this is no chat completion. */
static const json_t *first_choice(const json_t *root)
{
    return json_array_get(json_object_get(root, "choices"), 0);
}

bool openai_is_completion(const struct openai_answer *answer)
{
    CLEANUP(json_cleanup) json_t *root = NULL;
    struct err why = ERR_INIT;

    return jget_load(answer->body, answer->len, OPENAI_RESPONSE_MAX, &root, &why) == 0 &&
           first_choice(root);
}

int openai_read(const struct openai_answer *answer, const struct columns *columns,
                const struct openai_group *group, size_t request_len, struct openai_result *ret,
                struct err *err)
{
    struct err why = ERR_INIT;
    CLEANUP(json_cleanup) json_t *root = NULL;

    *ret = (struct openai_result){.outcome = OPENAI_INVALID};
    if (jget_load(answer->body, answer->len, OPENAI_RESPONSE_MAX, &root, &why) < 0) {
        root = NULL;
    }
    if (answer->status == 400 && says_context(root)) {
        ret->outcome = OPENAI_TOO_LONG;
        ret->reason = "document_too_long";
        return 0;
    }
    if (answer->status < 200 || answer->status > 299) {
        return provider_error(answer->status, root, err);
    }
    ret->usage = read_usage(root, request_len, answer->len);
    const json_t *choice = first_choice(root);
    if (!choice) {
        return err_set(err, ERR_TRANSIENT, "provider_unavailable",
                       "the AI service's answer is not a chat completion");
    }
    read_choice(choice, columns, group, ret);
    return 0;
}

/* --- proposals -------------------------------------------------------------------------------- */

/* The value as the grounding looks for it; false for null. */
static bool raw_of(const struct column *column, const json_t *value, char *ret, size_t size)
{
    if (json_is_null(value)) {
        return false;
    }
    if (json_is_boolean(value)) {
        (void)snprintf(ret, size, "%s", json_is_true(value) ? "true" : "false");
        return true;
    }
    if (json_is_integer(value)) {
        (void)snprintf(ret, size, "%lld", (long long)json_integer_value(value));
        return true;
    }
    if (column->type == COLUMN_MONEY) {
        const char *amount = json_string_value(json_object_get(value, "amount"));
        const char *currency = json_string_value(json_object_get(value, "currency"));
        const struct locale_hint hint = {.order = DATE_ORDER_AUTO};
        struct value typed;
        char code[4];
        const bool bare = amount && typing_parse(column, amount, strlen(amount), &hint, &typed) &&
                          !typed.currency[0];
        const bool known = currency && currency[0] &&
                           currency_at(currency, strlen(currency), 0, code) == strlen(currency);
        (void)snprintf(ret, size, "%s%s%s", amount ? amount : "", bare && known ? " " : "",
                       bare && known ? currency : "");
        return ret[0] != '\0';
    }
    const char *text = json_string_value(value);
    return text && text[0] && (size_t)snprintf(ret, size, "%s", text) < size;
}

static int small_int(const json_t *value)
{
    const json_int_t n = json_integer_value(value);

    return n > 0 && n < 1000000 ? (int)n : 0;
}

/* A candidate whose strings are borrowed from raw and the JSON. */
static struct candidate candidate_of(char *raw, const json_t *obj)
{
    const char *quote = json_string_value(json_object_get(obj, "quote"));
    struct candidate candidate = {
        .raw = raw,
        .page = small_int(json_object_get(obj, "page")),
        .line = small_int(json_object_get(obj, "line")),
        .prior = 1,
    };

    if (quote && strlen(quote) < RAW_MAX) {
        candidate.quote = (char *)(uintptr_t)quote; /* copied by whoever keeps it */
    }
    return candidate;
}

static int propose_rows(const struct columns *columns, size_t index, const json_t *rows,
                        struct proposals *out, struct err *err)
{
    const struct columns *items = columns->items[index].item_columns;
    char raw[RAW_MAX];

    for (size_t i = 0; i < json_array_size(rows) && i < EXTRACT_ROWS_MAX; i++) {
        const json_t *obj = json_array_get(rows, i);
        struct candidate *row = proposals_add_row(out, index);
        if (!row) {
            return out->rows[index].n_rows >= EXTRACT_ROWS_MAX ? 0 : err_nomem(err);
        }
        for (size_t k = 0; k < items->n; k++) {
            const struct column *item = &items->items[k];
            if (!raw_of(item, json_object_get(obj, item->id), raw, sizeof(raw))) {
                continue;
            }
            row[k] = candidate_of(raw, obj);
            row[k].row = true;
            row[k].raw = strdup(raw);
            row[k].quote = row[k].quote ? strdup(row[k].quote) : NULL;
            if (!row[k].raw) {
                return err_nomem(err);
            }
        }
    }
    return 0;
}

int openai_propose_values(const struct columns *columns, const struct openai_group *group,
                          const json_t *values, struct proposals *out, struct err *err)
{
    char raw[RAW_MAX];

    for (size_t i = 0; i < group->n; i++) {
        const size_t index = group->columns[i];
        const struct column *column = &columns->items[index];
        const json_t *obj = json_object_get(values, column->id);
        if (column->type == COLUMN_ROWS) {
            if (propose_rows(columns, index, obj, out, err) < 0) {
                return -1;
            }
            continue;
        }
        if (raw_of(column, json_object_get(obj, "value"), raw, sizeof(raw))) {
            const struct candidate candidate = candidate_of(raw, obj);
            if (proposals_add(out, index, &candidate, err) < 0) {
                return -1;
            }
        }
    }
    return 0;
}
