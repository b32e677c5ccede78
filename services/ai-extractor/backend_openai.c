/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plans the calls of one record: columns in groups, pages in chunks that fit the model, one repair
 * call for an answer of the wrong shape, halves for what is too long. A group that cannot be
 * answered leaves its columns empty with a reason; a provider that is away fails the whole call.
 */
#include "libcommon/http.h"
#include "services/ai-extractor/openai.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define CALLS_MAX 400U /* of one record */
#define BYTES_PER_TOKEN 3U

struct openai {
    struct backend base; /* first: a struct backend * is a struct openai * */
    struct openai_config config;
    char *url, *model, *key;
    char name[96];
};

/* The calls of one extraction. */
struct session {
    const struct openai *self;
    const struct backend_job *job;
    struct proposals *out;
    unsigned calls;
};

bool openai_mode_parse(const char *name, enum schema_mode *ret_mode)
{
    static const char *const names[] = {"json_schema", "json_object_schema", "json_object", "tool"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *ret_mode = (enum schema_mode)i;
            return true;
        }
    }
    return false;
}

/* --- the request ------------------------------------------------------------------------------ */

static int add_format(json_t *body, enum schema_mode mode, const json_t *schema)
{
    json_t *shared = json_incref((json_t *)(uintptr_t)schema);
    int bad = 0;

    switch (mode) {
    case SCHEMA_JSON_SCHEMA:
        return json_object_set_new(body, "response_format",
                                   json_pack("{s:s, s:{s:s, s:b, s:o}}", "type", "json_schema",
                                             "json_schema", "name", "record", "strict", 1, "schema",
                                             shared));
    case SCHEMA_JSON_OBJECT_SCHEMA:
        return json_object_set_new(
            body, "response_format",
            json_pack("{s:s, s:o}", "type", "json_object", "schema", shared));
    case SCHEMA_JSON_OBJECT:
        json_decref(shared);
        return json_object_set_new(body, "response_format",
                                   json_pack("{s:s}", "type", "json_object"));
    case SCHEMA_TOOL:
        bad = json_object_set_new(body, "tools",
                                  json_pack("[{s:s, s:{s:s, s:b, s:o}}]", "type", "function",
                                            "function", "name", "record", "strict", 1, "parameters",
                                            shared));
        return bad | json_object_set_new(body, "tool_choice",
                                         json_pack("{s:s, s:{s:s}}", "type", "function", "function",
                                                   "name", "record"));
    }
    json_decref(shared);
    return -1;
}

static char *request_body(const struct session *session, const struct openai_group *group,
                          const char *user, const char *repair)
{
    const struct openai_config *config = &session->self->config;
    json_t *schema = openai_schema(session->job->columns, group);
    CLEANUP(free_cleanup)
    char *system = openai_system(session->job->columns, group,
                                 config->mode == SCHEMA_JSON_OBJECT ? schema : NULL);
    json_t *messages = json_pack("[{s:s, s:s}, {s:s, s:s}]", "role", "system", "content",
                                 system ? system : "", "role", "user", "content", user);
    char *text = NULL;
    json_int_t seed = config->seed;

    seed += session->job->options->attempt;
    if (system && repair) {
        (void)json_array_append_new(
            messages,
            json_pack("{s:s, s:s+}", "role", "user", "content",
                      "Your answer was not accepted. Answer again with the JSON object alone. "
                      "What was wrong: ",
                      repair));
    }
    json_t *body = json_pack("{s:s, s:o, s:i, s:I, s:b, s:I}", "model", session->self->model,
                             "messages", messages, "temperature", 0, "seed", seed, "stream", 0,
                             config->old_max_tokens ? "max_tokens" : "max_completion_tokens",
                             (json_int_t)config->max_tokens);
    if (body && schema && system && add_format(body, config->mode, schema) == 0) {
        text = json_dumps(body, JSON_COMPACT);
    }
    json_decref(schema);
    json_decref(body);
    return text;
}

static int send_body(struct session *session, const char *body, struct openai_answer *ret,
                     struct err *err)
{
    const struct openai *self = session->self;
    CLEANUP(free_cleanup) char *header = NULL;
    const char *headers[2] = {"Content-Type: application/json", NULL};
    struct err why = ERR_INIT;

    if (session->calls++ >= CALLS_MAX) {
        return err_set(err, ERR_PERMANENT, "too_many_pages",
                       "the document needs more than %u calls", CALLS_MAX);
    }
    if (self->key[0] &&
        asprintf(&header, "%s%s",
                 self->config.api_key_header ? "api-key: " : "Authorization: Bearer ",
                 self->key) < 0) {
        header = NULL;
        return err_nomem(err);
    }
    headers[1] = header;
    const struct openai_call call = {.url = self->url,
                                     .headers = headers,
                                     .n_headers = header ? 2 : 1,
                                     .body = body,
                                     .len = strlen(body),
                                     .timeout_ms = self->config.timeout_ms};
    if (self->config.send(self->config.send_ctx, &call, ret, &why) < 0) {
        const bool large = strcmp(why.code, "too_large") == 0;
        return err_set(err, large ? ERR_UNKNOWN : ERR_TRANSIENT,
                       large ? "provider_rejected" : "provider_unavailable",
                       "no answer from the AI service: %.160s", why.msg);
    }
    return 0;
}

static void add_usage(struct extract_usage *sum, const struct extract_usage *more)
{
    sum->calls += more->calls;
    sum->prompt_tokens += more->prompt_tokens;
    sum->completion_tokens += more->completion_tokens;
    sum->cached_tokens += more->cached_tokens;
    sum->estimated |= more->estimated;
}

/* One exchange; repair is the validator's word about the last answer, or NULL. */
static int exchange(struct session *session, const struct openai_group *group, const char *user,
                    const char *repair, struct openai_result *ret, struct err *err)
{
    CLEANUP(free_cleanup) char *body = request_body(session, group, user, repair);
    struct openai_answer answer = {.retry_after_ms = -1};

    if (!body) {
        return err_nomem(err);
    }
    if (send_body(session, body, &answer, err) < 0) {
        return -1;
    }
    const int r = openai_read(&answer, session->job->columns, group, strlen(body), ret, err);
    if (r < 0 && answer.retry_after_ms >= 0 && session->job->options->retry_after_ms) {
        *session->job->options->retry_after_ms = answer.retry_after_ms;
    }
    free(answer.body);
    if (r == 0) {
        add_usage(&session->out->usage, &ret->usage);
    }
    return r;
}

/* --- groups and chunks ------------------------------------------------------------------------ */

static void give_up(struct session *session, const struct openai_group *group, const char *reason)
{
    for (size_t i = 0; i < group->n; i++) {
        session->out->scalars[group->columns[i]].reason = reason;
    }
    session->out->partial = true;
}

static int ask_pages(struct session *session, const struct openai_group *group, size_t first,
                     size_t last, struct err *err);

/* Half the pages, else half the columns; else nothing can be done. */
static int ask_less(struct session *session, const struct openai_group *group, size_t first,
                    size_t last, const char *reason, struct err *err)
{
    if (last - first > 1) {
        const size_t middle = (first + last) / 2;
        return ask_pages(session, group, first, middle, err) < 0 ||
                       ask_pages(session, group, middle, last, err) < 0
                   ? -1
                   : 0;
    }
    if (group->n > 1) {
        struct openai_group left = *group;
        struct openai_group right = {.n = group->n - group->n / 2};
        left.n = group->n / 2;
        memcpy(right.columns, group->columns + left.n, right.n * sizeof(right.columns[0]));
        return ask_pages(session, &left, first, last, err) < 0 ||
                       ask_pages(session, &right, first, last, err) < 0
                   ? -1
                   : 0;
    }
    give_up(session, group, reason);
    return 0;
}

static void make_fence(const struct openai *self, char *ret, size_t size)
{
    unsigned char bytes[12] = {0};

    if (self->config.fence) {
        (void)snprintf(ret, size, "%s", self->config.fence);
        return;
    }
    (void)getrandom(bytes, sizeof(bytes), 0);
    size_t n = (size_t)snprintf(ret, size, "=====");
    for (size_t i = 0; i < sizeof(bytes); i++) {
        n += (size_t)snprintf(ret + n, size - n, "%02x", bytes[i]);
    }
    (void)snprintf(ret + n, size - n, "=====");
}

static int ask_pages(struct session *session, const struct openai_group *group, size_t first,
                     size_t last, struct err *err)
{
    struct openai_result result = {.outcome = OPENAI_INVALID};
    char fence[64];
    char repair[sizeof(result.message)];

    make_fence(session->self, fence, sizeof(fence));
    CLEANUP(free_cleanup) char *user = openai_user(session->job, first, last, fence);
    if (!user) {
        return err_nomem(err);
    }
    if (exchange(session, group, user, NULL, &result, err) < 0) {
        return -1;
    }
    if (result.outcome == OPENAI_INVALID) {
        memcpy(repair, result.message, sizeof(repair));
        if (exchange(session, group, user, repair, &result, err) < 0) {
            return -1;
        }
    }
    switch (result.outcome) {
    case OPENAI_OK:
        break;
    case OPENAI_TOO_LONG:
        return ask_less(session, group, first, last, result.reason, err);
    case OPENAI_INVALID:
    case OPENAI_REFUSED:
        give_up(session, group, result.reason);
        return 0;
    }
    const int r =
        openai_propose_values(session->job->columns, group, result.values, session->out, err);
    json_decref(result.values);
    return r;
}

static size_t page_tokens(const struct lpage *page)
{
    return page->page->len / BYTES_PER_TOKEN + page->n_lines * 6 + 8;
}

/* Columns of the group that nothing has been proposed for yet. */
static struct openai_group still_open(const struct session *session,
                                      const struct openai_group *group)
{
    struct openai_group open = {.n = 0};

    for (size_t i = 0; i < group->n; i++) {
        const size_t index = group->columns[i];
        const bool rows = session->job->columns->items[index].type == COLUMN_ROWS;
        if (rows || session->out->scalars[index].n == 0) {
            open.columns[open.n++] = index;
        }
    }
    return open;
}

/* Pages in order, as many at once as fit, until all scalar columns have a candidate. */
static int ask_group(struct session *session, const struct openai_group *group, struct err *err)
{
    const struct layout *layout = session->job->layout;
    const struct openai_config *config = &session->self->config;
    CLEANUP(free_cleanup) char *system = openai_system(session->job->columns, group, NULL);

    if (!system) {
        return err_nomem(err);
    }
    /* the prompt's own length counts twice: columns stand in the schema too */
    const size_t overhead = 2 * strlen(system) / BYTES_PER_TOKEN + config->max_tokens + 64;
    const size_t budget =
        config->context_tokens > overhead + 512 ? config->context_tokens - overhead : 512;
    for (size_t first = 0; first < layout->n;) {
        size_t last = first;
        size_t tokens = 0;
        while (last < layout->n &&
               (last == first || tokens + page_tokens(&layout->pages[last]) <= budget)) {
            if (!job_sees(session->job, layout->pages[last].page->page)) {
                break;
            }
            tokens += page_tokens(&layout->pages[last]);
            last++;
        }
        const struct openai_group open = still_open(session, group);
        if (last > first && open.n && ask_pages(session, &open, first, last, err) < 0) {
            return -1;
        }
        first = last > first ? last : first + 1;
    }
    return 0;
}

static int openai_propose(const struct backend *backend, const struct backend_job *job,
                          struct proposals *ret, struct err *err)
{
    struct session session = {.job = job, .out = ret};
    struct openai_group scalars = {.n = 0};

    session.self = (const struct openai *)(const void *)backend;
    for (size_t i = 0; i <= job->columns->n; i++) {
        const bool end = i == job->columns->n;
        if (scalars.n == OPENAI_SCALARS_MAX || (end && scalars.n)) {
            if (ask_group(&session, &scalars, err) < 0) {
                return -1;
            }
            scalars.n = 0;
        }
        if (end || !job_wants(job, i)) {
            continue;
        }
        if (job->columns->items[i].type != COLUMN_ROWS) {
            scalars.columns[scalars.n++] = i;
            continue;
        }
        const struct openai_group alone = {.columns = {i}, .n = 1};
        if (ask_group(&session, &alone, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* --- making and ending it --------------------------------------------------------------------- */

static char *full_url(const char *url)
{
    static const char path[] = "/chat/completions";
    const size_t n = strlen(url);
    const bool query = strchr(url, '?') != NULL;
    const bool whole = n >= sizeof(path) - 1 && strcmp(url + n - (sizeof(path) - 1), path) == 0;
    char *made = NULL;

    if (query || whole) {
        return strdup(url);
    }
    const int skip = n && url[n - 1] == '/' ? 1 : 0;
    return asprintf(&made, "%s%s", url, path + skip) < 0 ? NULL : made;
}

int backend_openai_new(const struct openai_config *config, struct backend **ret_backend,
                       struct err *err)
{
    if (!config->url || !config->url[0] || !config->model || !config->model[0]) {
        return err_set(err, ERR_PERMANENT, "invalid_config",
                       "the AI backend needs an address and a model");
    }
    struct openai *self = calloc(1, sizeof(*self));
    if (!self) {
        return err_nomem(err);
    }
    self->config = *config;
    self->url = full_url(config->url);
    self->model = strdup(config->model);
    self->key = strdup(config->key ? config->key : "");
    if (!self->url || !self->model || !self->key) {
        backend_openai_free(&self->base);
        return err_nomem(err);
    }
    self->config.max_tokens = config->max_tokens ? config->max_tokens : 4096;
    self->config.context_tokens = config->context_tokens ? config->context_tokens : 32768;
    self->config.timeout_ms = config->timeout_ms ? config->timeout_ms : 120000;
    self->config.send = config->send ? config->send : openai_http_send;
    (void)snprintf(self->name, sizeof(self->name), "openai:%.80s", config->model);
    self->base = (struct backend){.name = self->name, .propose = openai_propose};
    *ret_backend = &self->base;
    return 0;
}

void backend_openai_free(struct backend *backend)
{
    struct openai *self = (struct openai *)(void *)backend;

    if (!self) {
        return;
    }
    free(self->url);
    free(self->model);
    if (self->key) {
        explicit_bzero(self->key, strlen(self->key));
    }
    free(self->key);
    free(self);
}

int openai_http_send(void *ctx, const struct openai_call *call, struct openai_answer *ret,
                     struct err *err)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    const struct http_request request = {
        .method = "POST",
        .url = call->url,
        .headers = call->headers,
        .n_headers = call->n_headers,
        .body = call->body,
        .body_len = call->len,
        .max_response = OPENAI_RESPONSE_MAX,
        .timeout_ms = call->timeout_ms,
    };

    if (http_call(ctx, &request, &resp, err) < 0) {
        return -1;
    }
    ret->status = resp.status;
    ret->retry_after_ms = http_retry_after_ms(&resp, clock_wall_ms());
    const char *ms = http_header_get(&resp, "retry-after-ms");
    if (ms && ms[0] >= '0' && ms[0] <= '9') {
        ret->retry_after_ms = strtol(ms, NULL, 10);
    }
    ret->len = resp.body.len;
    ret->body = buf_steal(&resp.body);
    return ret->body ? 0 : err_nomem(err);
}
