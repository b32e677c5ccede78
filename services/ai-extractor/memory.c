/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The key of a kept answer: everything the answer depends on, in one digest.
 */
#include "services/ai-extractor/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/effect.h"
#include "libcommon/fault.h"
#include "libcommon/log.h"
#include "services/ai-extractor/openai.h"
#include "services/ai-extractor/options.h"

/* Lengths stand before texts, so that no two lists of parts read the same. */
static int add_text(struct hash *hash, const char *text, size_t len, struct err *err)
{
    char head[24];
    const int n = snprintf(head, sizeof(head), "%zu:", len);

    return hash_update(hash, head, (size_t)n, err) < 0 || hash_update(hash, text, len, err) < 0 ? -1
                                                                                                : 0;
}

static int add_settings(struct hash *hash, const struct job *job, const char *columns,
                        const char *backend, struct err *err)
{
    char numbers[64];
    const char *const parts[] = {OPENAI_PROMPT_VERSION,
                                 job->claim->user_id,
                                 columns,
                                 backend,
                                 ai_options.url,
                                 ai_options.model,
                                 ai_options.schema_mode,
                                 ai_options.max_tokens_field,
                                 numbers};

    (void)snprintf(numbers, sizeof(numbers), "%" PRId64 "/%" PRId64, ai_options.max_tokens,
                   ai_options.context_tokens);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (add_text(hash, parts[i], strlen(parts[i]), err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int add_page(struct hash *hash, const struct doc_page *page, struct err *err)
{
    char head[64];
    const int n = snprintf(head, sizeof(head), "page %d, %zu words, ", page->page, page->n_words);

    if (hash_update(hash, head, (size_t)n, err) < 0 ||
        add_text(hash, page->text, page->len, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < page->n_words; i++) {
        const struct doc_word *w = &page->words[i];
        char word[128];
        const int len = snprintf(word, sizeof(word), "%u-%u %.5f %.5f %.5f %.5f;", w->start, w->end,
                                 (double)w->x0, (double)w->y0, (double)w->x1, (double)w->y1);
        if (hash_update(hash, word, (size_t)len, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int effect_name(const struct memory *memory, const char *name, char ret[EFFECT_KEY_MAX])
{
    return snprintf(ret, EFFECT_KEY_MAX, "ai/%s/%s", memory->base, name);
}

static int find(void *ctx, const char *name, char **ret_answer, size_t *ret_len, struct err *err)
{
    const struct memory *memory = ctx;
    CLEANUP(buf_done) struct buf answer = {0};
    char key[EFFECT_KEY_MAX];
    bool found = false;

    buf_init(&answer, OPENAI_RESPONSE_MAX);
    (void)effect_name(memory, name, key);
    if (effect_find(memory->job->ctx->service->db, "ai", key, &answer, &found, err) < 0) {
        return -1;
    }
    if (found) {
        const size_t len = answer.len;
        char *text = buf_steal(&answer);
        if (!text) {
            return err_nomem(err);
        }
        *ret_answer = text;
        *ret_len = len;
    }
    return 0;
}

/* What could not be kept is still used. */
static void keep(void *ctx, const char *name, const char *answer, size_t len)
{
    const struct memory *memory = ctx;
    struct err err = ERR_INIT;
    char key[EFFECT_KEY_MAX];

    fault_point("ai.answered");
    (void)effect_name(memory, name, key);
    if (effect_keep(memory->job->ctx->service->db, &memory->job->cancel, "ai", key, answer, len,
                    &err) < 0) {
        log_err(LOG_DEBUG, "a paid answer was not kept", &err);
    }
    fault_point("ai.kept");
}

int memory_open(struct job *job, const char *columns, const struct doctext *doc,
                const char *backend, struct memory *ret, struct extract_memory *ret_memory,
                struct err *err)
{
    CLEANUP(hash_done) struct hash hash = HASH_NONE;
    char base[SHA256_HEX_SIZE];

    if (hash_init(&hash, HASH_SHA256, err) < 0 ||
        add_settings(&hash, job, columns, backend, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < doc->n_pages; i++) {
        if (add_page(&hash, &doc->pages[i], err) < 0) {
            return -1;
        }
    }
    if (hash_final_hex(&hash, base, sizeof(base), err) < 0) {
        return -1;
    }
    ret->job = job;
    memcpy(ret->base, base, sizeof(base));
    *ret_memory = (struct extract_memory){.ctx = ret, .find = find, .keep = keep};
    return 0;
}
