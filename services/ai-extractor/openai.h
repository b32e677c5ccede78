/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backend that asks a chat-completions endpoint, any compatible server.
 * Invariant: the document is data inside a random fence; the reply is checked by our own validator
 * whatever the server promises; the key is in a header and nowhere else.
 * It refuses to sleep: what should be tried later is a transient error; and to ask twice what
 * extract_options.memory knows the answer of.
 */
#pragma once

#include "services/ai-extractor/backend.h"

/* How the server is told the shape of the answer. */
enum schema_mode {
    SCHEMA_JSON_SCHEMA,        /* response_format json_schema, strict */
    SCHEMA_JSON_OBJECT_SCHEMA, /* response_format json_object with a schema member */
    SCHEMA_JSON_OBJECT,        /* response_format json_object; the schema stands in the prompt */
    SCHEMA_TOOL,               /* a forced tool call with the schema as its parameters */
};

#define OPENAI_RESPONSE_MAX (8U * 1024U * 1024U)
#define OPENAI_SCALARS_MAX 25U /* columns of one call */
#define OPENAI_PROMPT_VERSION "1"

struct openai_call {
    const char *url;
    const char *const *headers; /* "Name: value" */
    size_t n_headers;
    const char *body;
    size_t len;
    unsigned timeout_ms;
    const atomic_bool *cancel; /* may be NULL */
};

struct openai_answer {
    int status;
    char *body; /* malloc'd, NUL-terminated, at most OPENAI_RESPONSE_MAX */
    size_t len;
    int64_t retry_after_ms; /* -1: not said */
};

/* One exchange. -1 only when there was no answer. */
typedef int (*openai_send_fn)(void *ctx, const struct openai_call *call, struct openai_answer *ret,
                              struct err *err);

struct openai_config {
    const char *url; /* ".../v1", or the whole address of chat/completions */
    const char *model;
    const char *key; /* "" for none */
    enum schema_mode mode;
    bool api_key_header;     /* "api-key:" instead of a bearer token */
    bool old_max_tokens;     /* max_tokens instead of max_completion_tokens */
    unsigned max_tokens;     /* of an answer; 0: 4096 */
    unsigned context_tokens; /* of the model; 0: 32768 */
    unsigned timeout_ms;     /* of a call; 0: 120 s */
    int64_t seed;
    openai_send_fn send; /* NULL: openai_http_send */
    void *send_ctx;      /* for openai_http_send: a struct http_client * */
    const char *fence;   /* tests only: instead of a random one */
};

/* Strings are copied. ERR_PERMANENT "invalid_config" for a missing url or model. */
int backend_openai_new(const struct openai_config *config, struct backend **ret_backend,
                       struct err *err) WARN_UNUSED;
void backend_openai_free(struct backend *backend);
DEFINE_CLEANUP(struct backend *, backend_openai_cleanup, backend_openai_free)

int openai_http_send(void *ctx, const struct openai_call *call, struct openai_answer *ret,
                     struct err *err) WARN_UNUSED;

/* "json_schema" and so on; false for other names. */
bool openai_mode_parse(const char *name, enum schema_mode *ret_mode);

/* --- parts, also for tests ---------------------------------------------------------------------
 */

/* Columns of one call: indices into job->columns; one rows column stands alone. */
struct openai_group {
    size_t columns[OPENAI_SCALARS_MAX];
    size_t n;
};

/* The strict-subset schema for a group; NULL without memory. */
json_t *openai_schema(const struct columns *columns, const struct openai_group *group);

/* System and user texts; pages [first, last) of the layout. malloc'd. */
char *openai_system(const struct columns *columns, const struct openai_group *group,
                    const json_t *schema_in_prompt);
char *openai_user(const struct backend_job *job, size_t first, size_t last, const char *fence);

enum openai_outcome {
    OPENAI_OK,
    OPENAI_INVALID,  /* not JSON, or not of our shape: worth one repair */
    OPENAI_TOO_LONG, /* cut by length, or the prompt did not fit: ask for less */
    OPENAI_REFUSED,  /* refusal or content filter: not worth asking again */
};

struct openai_result {
    enum openai_outcome outcome;
    const char *reason; /* static, for the cells */
    char message[200];  /* the validator's, for the repair call */
    json_t *values;     /* the object of column ids; owned by the caller */
    struct extract_usage usage;
};

/* Reads an HTTP answer. -1: an error of the provider, by class; *retry_after_ms may be set. */
int openai_read(const struct openai_answer *answer, const struct columns *columns,
                const struct openai_group *group, size_t request_len, struct openai_result *ret,
                struct err *err) WARN_UNUSED;

/* Whether an answer is a chat completion at all, whatever it says: one that is not comes from a
 * broken service or a proxy before it. */
bool openai_is_completion(const struct openai_answer *answer);

/* Puts a checked object's values into the proposals. */
int openai_propose_values(const struct columns *columns, const struct openai_group *group,
                          const json_t *values, struct proposals *out, struct err *err) WARN_UNUSED;
