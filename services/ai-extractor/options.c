/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The option table of ai-extractor.
 */
#include "services/ai-extractor/options.h"

#define OPT(field) offsetof(struct ai_options, field)

struct ai_options ai_options;

const struct option_def ai_option_defs[] = {
    {"AI_BACKEND", OPTION_ENUM, OPT(backend), "rules", 0, 0, "rules|openai",
     "label and pattern rules without any AI, or an OpenAI-compatible service"},
    {"AI_URL", OPTION_STRING, OPT(url), "", 0, 0, NULL,
     "base address of the service, up to and without /chat/completions"},
    {"AI_MODEL", OPTION_STRING, OPT(model), "", 0, 0, NULL, "model name sent to the service"},
    {"AI_KEY", OPTION_SECRET, OPT(key), "", 0, 0, NULL, "bearer key of the service"},
    {"AI_SCHEMA_MODE", OPTION_ENUM, OPT(schema_mode), "json_schema", 0, 0,
     "json_schema|json_object_schema|json_object|tool",
     "how the service is told the answer's form"},
    {"AI_MAX_TOKENS_FIELD", OPTION_ENUM, OPT(max_tokens_field), "max_completion_tokens", 0, 0,
     "max_completion_tokens|max_tokens",
     "name of the limit in requests; older services know the second"},
    {"AI_TIMEOUT", OPTION_DURATION, OPT(timeout_ms), "120s", 1000, 600000, NULL,
     "time for one answer"},
};
const size_t ai_option_count = ARRAY_LEN(ai_option_defs);
