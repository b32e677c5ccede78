/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Labels on a page: folded words are matched against the table and the columns' own names, the
 * longest label wins its words, and a scan may have a letter wrong.
 */
#include "services/ai-extractor/norm.h"
#include "services/ai-extractor/rules_table.h"

#include <stdio.h>
#include <string.h>

#define LABEL_BYTES 160U
#define FUZZY_LEAST 5U

/* --- folding ---------------------------------------------------------------------------------- */

/* '#', '№' and 'n°' all say "number": one token "nr" for all. */
static size_t fold_label(const char *text, size_t len, char *ret, size_t size)
{
    char marked[LABEL_BYTES];
    size_t n = 0;

    for (size_t i = 0; i < len && n + 6 < sizeof(marked); i++) {
        const bool degree = i + 2 < len + 0 && (text[i] == 'n' || text[i] == 'N') &&
                            text[i + 1] == '\xC2' &&
                            (text[i + 2] == '\xB0' || text[i + 2] == '\xBA');
        if (text[i] == '#' || degree || (i + 2 < len && memcmp(text + i, "№", 3) == 0)) {
            memcpy(marked + n, " nr ", 4);
            n += 4;
            i += text[i] == '#' ? 0 : 2;
        } else {
            marked[n++] = text[i];
        }
    }
    return norm_key(marked, n, ret, size);
}

static const char *next_word(const char *at, char ret[LABEL_TOKEN_BYTES])
{
    const size_t n = strcspn(at, " ");

    (void)snprintf(ret, LABEL_TOKEN_BYTES, "%.*s", (int)min_size(n, LABEL_TOKEN_BYTES - 1), at);
    return at + n + (at[n] == ' ');
}

/* --- concepts --------------------------------------------------------------------------------- */

/* True when one of the '|' separated words is exactly key. */
static bool list_has(const char *list, const char *key)
{
    const size_t n = strlen(key);

    for (const char *at = list; *at;) {
        const size_t k = strcspn(at, "|");
        if (k == n && memcmp(at, key, n) == 0) {
            return true;
        }
        at += k + (at[k] == '|');
    }
    return false;
}

enum concept concept_of(const char *column_name)
{
    char key[LABEL_BYTES];

    if (fold_label(column_name, strlen(column_name), key, sizeof(key)) == 0) {
        return CONCEPT_NONE;
    }
    for (size_t i = 0; i < concept_table_n; i++) {
        if (list_has(concept_table[i].names, key)) {
            return concept_table[i].meaning;
        }
    }
    for (size_t i = 0; i < concept_table_n; i++) {
        if (list_has(concept_table[i].labels, key)) {
            return concept_table[i].meaning;
        }
    }
    return CONCEPT_NONE;
}

/* --- the set of labels ------------------------------------------------------------------------ */

static int labels_add(struct labels *labels, const char *text, size_t len, enum concept meaning,
                      int column, float weight, struct err *err)
{
    char key[LABEL_BYTES];

    if (labels->n == labels->cap) {
        const size_t cap = labels->cap ? labels->cap * 2 : 1024;
        struct label *items = realloc(labels->items, cap * sizeof(*items));
        if (!items) {
            return err_nomem(err);
        }
        labels->items = items;
        labels->cap = cap;
    }
    struct label *label = &labels->items[labels->n];
    *label = (struct label){.meaning = meaning, .column = column, .weight = weight};
    if (fold_label(text, len, key, sizeof(key)) == 0) {
        return 0;
    }
    for (const char *at = key; *at && label->n < LABEL_TOKENS_MAX;) {
        at = next_word(at, label->tokens[label->n++]);
    }
    labels->n++;
    return 0;
}

/* Phrases in quotation marks of a description are labels: 'printed as "Policy ref"'. */
static int add_quoted(struct labels *labels, const char *text, int column, struct err *err)
{
    for (const char *at = strchr(text, '"'); at; at = strchr(at, '"')) {
        const char *end = strchr(at + 1, '"');
        if (!end) {
            break;
        }
        if (end - at > 2 && end - at < 60 &&
            labels_add(labels, at + 1, (size_t)(end - at - 1), CONCEPT_NONE, column, 1, err) < 0) {
            return -1;
        }
        at = end + 1;
    }
    return 0;
}

static int add_table(struct labels *labels, struct err *err)
{
    for (size_t i = 0; i < concept_table_n; i++) {
        for (const char *at = concept_table[i].labels; *at;) {
            const size_t n = strcspn(at, "|");
            if (labels_add(labels, at, n, concept_table[i].meaning, -1, 0.95F, err) < 0) {
                return -1;
            }
            at += n + (at[n] == '|');
        }
    }
    return 0;
}

static int by_first(const void *a, const void *b)
{
    const struct label *l = a;
    const struct label *r = b;

    return strcmp(l->tokens[0], r->tokens[0]);
}

int labels_new(const struct columns *columns, struct labels *ret, struct err *err)
{
    struct labels labels = {.n = 0};
    int result = add_table(&labels, err);

    for (size_t i = 0; result == 0 && i < columns->n; i++) {
        const struct column *column = &columns->items[i];
        result =
            labels_add(&labels, column->name, strlen(column->name), CONCEPT_NONE, (int)i, 1, err);
        if (result == 0) {
            result = add_quoted(&labels, column->description, (int)i, err);
        }
    }
    if (result < 0) {
        labels_done(&labels);
        return -1;
    }
    if (labels.items) {
        qsort(labels.items, labels.n, sizeof(*labels.items), by_first);
    }
    *ret = labels;
    return 0;
}

void labels_done(struct labels *labels)
{
    free(labels->items);
    *labels = (struct labels){.n = 0};
}

bool label_serves(const struct label *label, size_t column, enum concept meaning)
{
    return label->column == (int)column ||
           (label->column < 0 && meaning != CONCEPT_NONE && label->meaning == meaning);
}

/* --- words of a page -------------------------------------------------------------------------- */

int tokens_new(const struct lpage *page, struct ltokens *ret, struct err *err)
{
    struct ltokens tokens = {.n = 0};
    size_t cap = page->n_words * 2 + 8;

    tokens.items = calloc(cap, sizeof(*tokens.items));
    if (!tokens.items) {
        return err_nomem(err);
    }
    for (size_t i = 0; i < page->n_words; i++) {
        const struct lword *word = &page->words[i];
        const size_t from = doctext_byte_of(page->page, word->start);
        const size_t to = doctext_byte_of(page->page, word->end);
        const char *text = page->page->text + from;
        char key[LABEL_BYTES];
        (void)fold_label(text, min_size(to - from, 120), key, sizeof(key));
        for (const char *at = key; *at && tokens.n < cap;) {
            struct ltoken *token = &tokens.items[tokens.n++];
            at = next_word(at, token->key);
            token->word = (uint32_t)i;
            token->start = word->start;
            token->end = word->end;
            token->last = *at == '\0';
            token->colon = to > from && text[to - from - 1] == ':';
        }
        if (tokens.n + 16 > cap) {
            cap = cap * 2 + 16;
            struct ltoken *items = realloc(tokens.items, cap * sizeof(*items));
            if (!items) {
                tokens_done(&tokens);
                return err_nomem(err);
            }
            tokens.items = items;
        }
    }
    *ret = tokens;
    return 0;
}

void tokens_done(struct ltokens *tokens)
{
    free(tokens->items);
    *tokens = (struct ltokens){.n = 0};
}

/* --- matching --------------------------------------------------------------------------------- */

static size_t wrong_letters(const char *a, const char *b, bool fuzzy)
{
    if (strcmp(a, b) == 0) {
        return 0;
    }
    const size_t n = strlen(a);
    if (!fuzzy || n < FUZZY_LEAST) {
        return 99;
    }
    const size_t max = n >= 9 ? 2 : 1;
    const size_t d = edit_distance(a, n, b, strlen(b), max);
    return d > max ? 99 : d;
}

/* Tokens used by the label at position i, or 0. Words may be split or joined: "sub total" is
 * "subtotal". */
static size_t match_at(const struct label *label, const struct lpage *page,
                       const struct ltokens *tokens, size_t i, bool fuzzy, size_t *ret_distance)
{
    size_t distance = 0;

    if (i + label->n > tokens->n) {
        return 0;
    }
    const uint32_t cell = page->words[tokens->items[i].word].cell;
    for (size_t k = 0; k < label->n; k++) {
        const struct ltoken *token = &tokens->items[i + k];
        if (page->words[token->word].cell != cell) {
            return 0;
        }
        distance += wrong_letters(label->tokens[k], token->key, fuzzy);
        if (distance >= 99) {
            return 0;
        }
    }
    *ret_distance = distance;
    return label->n;
}

static size_t first_with(const struct labels *labels, const char *key)
{
    size_t low = 0;
    size_t high = labels->n;

    while (low < high) {
        const size_t mid = (low + high) / 2;
        if (strcmp(labels->items[mid].tokens[0], key) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

static bool better(const struct label_hit *a, const struct label_hit *b)
{
    if (b->n == 0 || a->distance != b->distance) {
        return b->n == 0 || a->distance < b->distance;
    }
    return a->n > b->n;
}

struct hits {
    struct label_hit *items;
    size_t n, cap;
};

static int hits_add(struct hits *hits, const struct label_hit *hit, struct err *err)
{
    if (hits->n == hits->cap) {
        const size_t cap = hits->cap ? hits->cap * 2 : 64;
        struct label_hit *items = realloc(hits->items, cap * sizeof(*items));
        if (!items) {
            return err_nomem(err);
        }
        hits->items = items;
        hits->cap = cap;
    }
    hits->items[hits->n++] = *hit;
    return 0;
}

/* The labels with the same words as best (several columns may share them). */
static int take_all(const struct labels *labels, const struct lpage *page,
                    const struct ltokens *tokens, size_t i, const struct label_hit *best,
                    bool fuzzy, struct hits *hits, struct err *err)
{
    const size_t from = fuzzy ? 0 : first_with(labels, tokens->items[i].key);

    for (size_t k = from; k < labels->n; k++) {
        const struct label *label = &labels->items[k];
        if (!fuzzy && strcmp(label->tokens[0], tokens->items[i].key) != 0) {
            break;
        }
        struct label_hit hit = {.label = label, .first = i};
        hit.n = match_at(label, page, tokens, i, fuzzy, &hit.distance);
        if (hit.n == best->n && hit.distance == best->distance && hits_add(hits, &hit, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The best label that begins at token i; n is 0 when there is none. */
static struct label_hit best_at(const struct labels *labels, const struct lpage *page,
                                const struct ltokens *tokens, size_t i, bool fuzzy)
{
    struct label_hit best = {.n = 0};

    for (size_t k = fuzzy ? 0 : first_with(labels, tokens->items[i].key); k < labels->n; k++) {
        const struct label *label = &labels->items[k];
        if (!fuzzy && strcmp(label->tokens[0], tokens->items[i].key) != 0) {
            break;
        }
        struct label_hit hit = {.label = label, .first = i};
        hit.n = match_at(label, page, tokens, i, fuzzy, &hit.distance);
        if (hit.n && better(&hit, &best)) {
            best = hit;
        }
    }
    return best;
}

int labels_find(const struct labels *labels, const struct lpage *page, const struct ltokens *tokens,
                struct label_hit **ret_hits, size_t *ret_n, struct err *err)
{
    struct hits hits = {.n = 0};
    const bool scan = strcmp(page->page->engine, "native") != 0;

    for (size_t i = 0; i < tokens->n;) {
        struct label_hit best = {.n = 0};
        bool fuzzy = false;
        if (i == 0 || tokens->items[i - 1].last) {
            best = best_at(labels, page, tokens, i, false);
            fuzzy = best.n == 0 && scan;
            best = fuzzy ? best_at(labels, page, tokens, i, true) : best;
        }
        if (best.n && take_all(labels, page, tokens, i, &best, fuzzy, &hits, err) < 0) {
            free(hits.items);
            return -1;
        }
        i += best.n ? best.n : 1;
    }
    *ret_hits = hits.items;
    *ret_n = hits.n;
    return 0;
}
