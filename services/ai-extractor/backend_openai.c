/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plans the calls of one record: columns in groups, pages in chunks that fit the model, one repair
 * call for an answer of the wrong shape, halves for what is too long. A group that cannot be
 * answered leaves its columns empty with a reason; a provider that is away fails the whole call.
 */
#include "libcommon/http.h"
#include "libcommon/metrics.h"
#include "libcommon/sha256.h"
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

static void count_call(int status)
{
    const char *outcome = status == 0                                       ? "unavailable"
                          : status >= 200 && status < 300                   ? "done"
                          : status == 429                                   ? "throttled"
                          : status >= 500 || status == 408 || status == 409 ? "unavailable"
                                                                            : "refused";
    char labels[64];

    (void)snprintf(labels, sizeof(labels), "provider=\"openai\",outcome=\"%s\"", outcome);
    metrics_inc("docfleet_provider_calls_total", labels);
    if (status == 429) {
        metrics_inc("docfleet_provider_throttles_total", "provider=\"openai\"");
    }
}

static void count_tokens(const struct extract_usage *usage)
{
    metrics_add("docfleet_provider_tokens_total", "provider=\"openai\",kind=\"prompt\"",
                (double)usage->prompt_tokens);
    metrics_add("docfleet_provider_tokens_total", "provider=\"openai\",kind=\"completion\"",
                (double)usage->completion_tokens);
    metrics_add("docfleet_provider_tokens_total", "provider=\"openai\",kind=\"cached\"",
                (double)usage->cached_tokens);
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
                                     .timeout_ms = self->config.timeout_ms,
                                     .cancel = session->job->options->cancel};
    if (self->config.send(self->config.send_ctx, &call, ret, &why) < 0) {
        count_call(0);
        const bool large = strcmp(why.code, "too_large") == 0;
        return err_set(err, large ? ERR_UNKNOWN : ERR_TRANSIENT,
                       large ? "provider_rejected" : "provider_unavailable",
                       "no answer from the AI service: %.160s", why.msg);
    }
    count_call(ret->status);
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

/* What is asked for: columns of the group on pages [first, last) of the layout. */
struct question {
    const struct openai_group *group;
    size_t first, last;
    const char *user;
    const char *repair; /* the validator's word about the last answer, or NULL */
};

/* Names the question inside its document and dataset. The prompt itself will not do: its fence
 * differs every time. */
static int question_name(const struct question *question, char ret[SHA256_HEX_SIZE],
                         struct err *err)
{
    CLEANUP(buf_done) struct buf text = {0};

    buf_init(&text, 4096);
    if (buf_printf(&text, err, "%zu-%zu", question->first, question->last) < 0) {
        return -1;
    }
    for (size_t i = 0; i < question->group->n; i++) {
        if (buf_printf(&text, err, ",%zu", question->group->columns[i]) < 0) {
            return -1;
        }
    }
    if (question->repair && buf_printf(&text, err, "|%s", question->repair) < 0) {
        return -1;
    }
    return sha256_hex(text.data, text.len, ret, err);
}

/* The answer to a question: remembered, or asked for. *ret_name is the question's name where the
 * answer is new and there is a memory for it, else "". */
static int answer_to(struct session *session, const struct question *question, size_t *ret_sent,
                     struct openai_answer *ret, char name[SHA256_HEX_SIZE], struct err *err)
{
    const struct extract_memory *memory = session->job->options->memory;

    name[0] = '\0';
    if (memory) {
        if (question_name(question, name, err) < 0 ||
            memory->find(memory->ctx, name, &ret->body, &ret->len, err) < 0) {
            return -1;
        }
        if (ret->body) {
            ret->status = 200;
            name[0] = '\0';
            session->out->usage.remembered++;
            return 0;
        }
    }
    CLEANUP(free_cleanup)
    char *body = request_body(session, question->group, question->user, question->repair);
    if (!body) {
        return err_nomem(err);
    }
    const size_t sent = strlen(body);
    const struct extract_purse *purse = session->job->options->purse;
    if (purse && purse->reserve(purse->ctx, sent / BYTES_PER_TOKEN,
                                session->self->config.max_tokens, err) < 0) {
        return -1;
    }
    if (send_body(session, body, ret, err) < 0) {
        if (purse) {
            purse->settle(purse->ctx, NULL);
        }
        return -1;
    }
    *ret_sent = sent;
    return 0;
}

/* One exchange. An answer is kept before it is used, but for a repair that repaired nothing: that
 * may be asked again. */
static int exchange(struct session *session, const struct question *question,
                    struct openai_result *ret, struct err *err)
{
    const struct extract_options *options = session->job->options;
    struct openai_answer answer = {.retry_after_ms = -1};
    char name[SHA256_HEX_SIZE];
    size_t sent = 0;

    if (answer_to(session, question, &sent, &answer, name, err) < 0) {
        return -1;
    }
    const int r = openai_read(&answer, session->job->columns, question->group, sent, ret, err);
    if (r < 0 && answer.retry_after_ms >= 0 && options->retry_after_ms) {
        *options->retry_after_ms = answer.retry_after_ms;
    }
    if (sent && options->purse) {
        options->purse->settle(options->purse->ctx, r == 0 ? &ret->usage : NULL);
    }
    if (r == 0 && sent) {
        add_usage(&session->out->usage, &ret->usage);
        count_tokens(&ret->usage);
    }
    const bool worth = answer.status >= 200 && answer.status < 300 &&
                       !(question->repair && ret->outcome == OPENAI_INVALID);
    if (r == 0 && name[0] && worth) {
        options->memory->keep(options->memory->ctx, name, answer.body, answer.len);
    }
    free(answer.body);
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

static int make_fence(const struct openai *self, char *ret, size_t size, struct err *err)
{
    unsigned char bytes[12] = {0};

    if (self->config.fence) {
        (void)snprintf(ret, size, "%s", self->config.fence);
        return 0;
    }
    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes)) {
        return err_set(err, ERR_TRANSIENT, "no_random", "no random bytes for the fence");
    }
    size_t n = (size_t)snprintf(ret, size, "=====");
    for (size_t i = 0; i < sizeof(bytes); i++) {
        n += (size_t)snprintf(ret + n, size - n, "%02x", bytes[i]);
    }
    (void)snprintf(ret + n, size - n, "=====");
    return 0;
}

static int ask_pages(struct session *session, const struct openai_group *group, size_t first,
                     size_t last, struct err *err)
{
    struct openai_result result = {.outcome = OPENAI_INVALID};
    char fence[64];
    char repair[sizeof(result.message)];

    if (make_fence(session->self, fence, sizeof(fence), err) < 0) {
        return -1;
    }
    CLEANUP(free_cleanup) char *user = openai_user(session->job, first, last, fence);
    if (!user) {
        return err_nomem(err);
    }
    struct question question = {.group = group, .first = first, .last = last, .user = user};
    if (exchange(session, &question, &result, err) < 0) {
        return -1;
    }
    if (result.outcome == OPENAI_INVALID) {
        memcpy(repair, result.message, sizeof(repair));
        question.repair = repair;
        if (exchange(session, &question, &result, err) < 0) {
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

static void say_no_text(struct session *session, const struct openai_group *group)
{
    for (size_t i = 0; i < group->n; i++) {
        session->out->scalars[group->columns[i]].reason = "no_text";
    }
}

/* Pages in order, as many at once as fit, until all scalar columns have a candidate. What has no
 * text is not worth a call. */
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
    bool text = false;
    for (size_t first = 0; first < layout->n;) {
        size_t last = first;
        size_t tokens = 0;
        size_t lines = 0;
        while (last < layout->n &&
               (last == first || tokens + page_tokens(&layout->pages[last]) <= budget)) {
            if (!job_sees(session->job, layout->pages[last].page->page)) {
                break;
            }
            tokens += page_tokens(&layout->pages[last]);
            lines += layout->pages[last].n_lines;
            last++;
        }
        const struct openai_group open = still_open(session, group);
        text |= lines > 0;
        if (lines && open.n && ask_pages(session, &open, first, last, err) < 0) {
            return -1;
        }
        first = last > first ? last : first + 1;
    }
    if (!text) {
        say_no_text(session, group);
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
        .abort = call->cancel,
    };

    if (http_call(ctx, &request, &resp, err) < 0) {
        return -1;
    }
    ret->status = resp.status;
    ret->retry_after_ms = http_retry_after_ms(&resp, clock_wall_ms());
    const char *ms = http_header_get(&resp, "retry-after-ms");
    if (ms && ms[0] >= '0' && ms[0] <= '9') {
        const long wait = strtol(ms, NULL, 10);
        ret->retry_after_ms = wait < HTTP_RETRY_AFTER_MAX ? wait : HTTP_RETRY_AFTER_MAX;
    }
    ret->len = resp.body.len;
    ret->body = buf_steal(&resp.body);
    return ret->body ? 0 : err_nomem(err);
}
