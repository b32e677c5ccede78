/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The option table of ai-extractor.
 */
#include "services/ai-extractor/options.h"

#include <string.h>

#define OPT(field) offsetof(struct ai_options, field)

struct ai_options ai_options;

const struct option_def ai_option_defs[AI_OPTIONS] = {
    {"AI_BACKEND", OPTION_ENUM, OPT(backend), "rules", 0, 0, "rules|openai",
     "label and pattern rules without any AI, or an OpenAI-compatible service"},
    {"AI_URL", OPTION_STRING, OPT(url), "", 0, 0, NULL,
     "base address of the service, up to and without /chat/completions"},
    {"AI_MODEL", OPTION_STRING, OPT(model), "", 0, 0, NULL, "model name sent to the service"},
    {"AI_KEY", OPTION_SECRET, OPT(key), "", 0, 0, NULL, "bearer key of the service"},
    {"AI_KEY_HEADER", OPTION_ENUM, OPT(key_header), "authorization", 0, 0, "authorization|api-key",
     "header that carries the key; Azure knows the second"},
    {"AI_CA_FILE", OPTION_STRING, OPT(ca_file), "", 0, 0, NULL,
     "CAs of the service, PEM; empty: CA_FILE"},
    {"AI_SCHEMA_MODE", OPTION_ENUM, OPT(schema_mode), "json_schema", 0, 0,
     "json_schema|json_object_schema|json_object|tool",
     "how the service is told the answer's form"},
    {"AI_MAX_TOKENS_FIELD", OPTION_ENUM, OPT(max_tokens_field), "max_completion_tokens", 0, 0,
     "max_completion_tokens|max_tokens",
     "name of the limit in requests; older services know the second"},
    {"AI_MAX_TOKENS", OPTION_INT, OPT(max_tokens), "4096", 64, 1000000, NULL,
     "limit of one answer; what is longer is asked for in halves"},
    {"AI_CONTEXT_TOKENS", OPTION_INT, OPT(context_tokens), "32768", 1024, 10000000, NULL,
     "tokens the model takes, question and answer; long documents are asked in pieces"},
    {"AI_TIMEOUT", OPTION_DURATION, OPT(timeout_ms), "120s", 1000, 600000, NULL,
     "time for one answer"},
    {"AI_UNIT_TOKENS", OPTION_INT, OPT(unit_tokens), "2000000", 0, INT64_MAX / 4, NULL,
     "tokens that one unit may use, questions and answers of all attempts; 0: no ceiling"},
    {"AI_FILE_TOKENS", OPTION_INT, OPT(file_tokens), "20000000", 0, INT64_MAX / 4, NULL,
     "tokens that one run of a file may use; 0: no ceiling"},
    {"AI_PROMPT_PRICE", OPTION_INT, OPT(prompt_price), "0", 0, 1000000000, NULL,
     "price of a million tokens of questions, in thousandths of a currency unit"},
    {"AI_COMPLETION_PRICE", OPTION_INT, OPT(completion_price), "0", 0, 1000000000, NULL,
     "price of a million tokens of answers, in thousandths of a currency unit"},
    {"AI_UNIT_COST", OPTION_INT, OPT(unit_cost), "0", 0, 1000000000, NULL,
     "money that one unit may cost, in thousandths of a currency unit; 0: no ceiling"},
    {"AI_FILE_COST", OPTION_INT, OPT(file_cost), "0", 0, 1000000000, NULL,
     "money that one run of a file may cost, in thousandths of a currency unit; 0: no ceiling"},
};

static bool has_control(const char *s)
{
    for (; *s; s++) {
        if ((unsigned char)*s < 0x20 || *s == 0x7f) {
            return true;
        }
    }
    return false;
}

int ai_options_check(const struct ai_options *options, struct err *err)
{
    const char *url = options->url;

    if (strcmp(options->backend, "openai") != 0) {
        return 0;
    }
    if (!url[0] || !options->model[0]) {
        return err_set(err, ERR_FATAL, "invalid_config",
                       "DOCFLEET_AI_BACKEND=openai needs DOCFLEET_AI_URL and DOCFLEET_AI_MODEL");
    }
    if ((strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) || has_control(url)) {
        return err_set(err, ERR_FATAL, "invalid_config",
                       "DOCFLEET_AI_URL is no http or https address");
    }
    if (has_control(options->key)) {
        return err_set(err, ERR_FATAL, "invalid_config",
                       "DOCFLEET_AI_KEY holds a line end or another control character");
    }
    if (options->context_tokens < 2 * options->max_tokens) {
        return err_set(err, ERR_FATAL, "invalid_config",
                       "DOCFLEET_AI_CONTEXT_TOKENS must be at least twice DOCFLEET_AI_MAX_TOKENS");
    }
    if (options->unit_cost + options->file_cost > 0 &&
        options->prompt_price + options->completion_price == 0) {
        return err_set(
            err, ERR_FATAL, "invalid_config",
            "DOCFLEET_AI_UNIT_COST and DOCFLEET_AI_FILE_COST need DOCFLEET_AI_PROMPT_PRICE"
            " or DOCFLEET_AI_COMPLETION_PRICE");
    }
    return 0;
}
