/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the rules backend: what labels mean, where they stand, what stands beside them.
 * Invariant: no rule knows a document; labels, geometry and types are all there is.
 */
#pragma once

#include "services/ai-extractor/backend.h"

/* What a column is about, by its name; CONCEPT_NONE for names the table does not know. */
enum concept {
    CONCEPT_NONE,
    CONCEPT_NUMBER, /* of the document: invoice, receipt, credit note */
    CONCEPT_ISSUE_DATE,
    CONCEPT_DUE_DATE,
    CONCEPT_DELIVERY_DATE,
    CONCEPT_ORDER_NUMBER,
    CONCEPT_CUSTOMER_NUMBER,
    CONCEPT_CONTRACT_NUMBER,
    CONCEPT_DELIVERY_NUMBER,
    CONCEPT_SELLER,
    CONCEPT_BUYER,
    CONCEPT_VAT_ID,
    CONCEPT_TAX_NUMBER,
    CONCEPT_IBAN,
    CONCEPT_BIC,
    CONCEPT_EMAIL,
    CONCEPT_PHONE,
    CONCEPT_CURRENCY,
    CONCEPT_NET_TOTAL,
    CONCEPT_TAX_TOTAL,
    CONCEPT_TAX_RATE,
    CONCEPT_TOTAL,
    CONCEPT_DUE_AMOUNT,
    CONCEPT_PAID_AMOUNT,
    CONCEPT_DISCOUNT,
    CONCEPT_SHIPPING,
    CONCEPT_CHANGE,
    CONCEPT_ADDRESS,
    CONCEPT_TIME,
    CONCEPT_TERMS,
    CONCEPT_POSITION,
    CONCEPT_DESCRIPTION,
    CONCEPT_QUANTITY,
    CONCEPT_UNIT,
    CONCEPT_UNIT_PRICE,
    CONCEPT_LINE_TOTAL,
    CONCEPT_ITEM_NUMBER,
    CONCEPT_LINES_SUM,
    CONCEPT_COUNT_,
};

enum concept concept_of(const char *column_name);

#define LABEL_TOKENS_MAX 8U
#define LABEL_TOKEN_BYTES 32U

/* A folded word of a page; a printed word may hold several ("Rechnungs-Nr."). */
struct ltoken {
    char key[LABEL_TOKEN_BYTES];
    uint32_t word; /* index in lpage.words */
    uint32_t start, end;
    bool last;  /* last of its word */
    bool colon; /* its word ends with ':' */
};

/* A label: the words a value is announced with. */
struct label {
    char tokens[LABEL_TOKENS_MAX][LABEL_TOKEN_BYTES];
    size_t n;
    enum concept meaning; /* of the table's labels */
    int column;           /* index of the column whose own name it is, or -1 */
    float weight;         /* 1 for the column's name, less for a synonym's */
};

struct labels {
    struct label *items;
    size_t n, cap;
};

/* A label that stands on a page. */
struct label_hit {
    const struct label *label;
    size_t first, n; /* tokens */
    size_t distance; /* wrong letters */
};

/* The labels of the table and of these columns' names and descriptions. */
int labels_new(const struct columns *columns, struct labels *ret, struct err *err) WARN_UNUSED;
void labels_done(struct labels *labels);
/* Whether a label belongs to the column: its own name, or its concept's. */
bool label_serves(const struct label *label, size_t column, enum concept meaning);

struct ltokens {
    struct ltoken *items;
    size_t n;
};

int tokens_new(const struct lpage *page, struct ltokens *ret, struct err *err) WARN_UNUSED;
void tokens_done(struct ltokens *tokens);

/* Label occurrences, none inside a longer one, in token order; malloc'd. */
int labels_find(const struct labels *labels, const struct lpage *page, const struct ltokens *tokens,
                struct label_hit **ret_hits, size_t *ret_n, struct err *err) WARN_UNUSED;

/* A page with its labels. */
struct rules_page {
    const struct lpage *page;
    struct ltokens tokens;
    struct label_hit *hits;
    size_t n_hits;
    size_t *line_hits; /* per line, and one more: where its hits begin */
    bool *labelled;    /* per word: part of a label */
    bool *header_line; /* per line: heads a table of items */
    bool *buyer_cell;  /* per cell: stands under a heading for the buyer */
};

int rules_page_new(const struct labels *labels, const struct lpage *page, struct rules_page *ret,
                   struct err *err) WARN_UNUSED;
void rules_page_done(struct rules_page *page);

/* The words of a hit: first and last; its cell. */
uint32_t hit_first_word(const struct rules_page *page, const struct label_hit *hit);
uint32_t hit_last_word(const struct rules_page *page, const struct label_hit *hit);

/* What the rules of one column share. */
struct rules_target {
    const struct backend_job *job;
    struct proposals *out;
    size_t index;
    const struct column *column;
    enum concept meaning;
};

/* Words [first, last] of one cell that may hold a value. */
struct place {
    const struct rules_page *page;
    uint32_t first, last;
    float prior;
    bool whole_cell; /* a cell of its own, not the rest of the label's */
    bool announced;  /* a colon or a cell border parts it from its label */
};

/* Proposes what a place holds, by the column's type. 1 if something was proposed. */
int place_propose(const struct rules_target *target, const struct place *place,
                  struct err *err) WARN_UNUSED;
/* Proposes the words as they stand. */
int place_words(const struct rules_target *target, const struct place *place, uint32_t first,
                uint32_t last, float prior, struct err *err) WARN_UNUSED;
/* Numbers of documents and parties; names of sellers and buyers. */
bool place_is_id(enum concept meaning);
bool place_is_party(enum concept meaning);
/* The last word of [first, last] that follows its neighbour in the stored text. */
uint32_t run_end(const struct lpage *page, uint32_t first, uint32_t last);
/* The word's bytes. */
const char *word_text(const struct lpage *page, uint32_t word, size_t *ret_len);

/* Right of and below a label. */
int rules_label(const struct rules_target *target, const struct rules_page *rules,
                const struct label_hit *hit, float weight, struct err *err) WARN_UNUSED;
/* "Invoice no. 17 of 3 May 2024" at the top of a document. */
int rules_title(const struct rules_target *target, const struct rules_page *rules,
                struct err *err) WARN_UNUSED;
/* The name under a heading such as "Seller" or "Bill to"; a company's name at the top. */
int rules_party(const struct rules_target *target, const struct rules_page *rules,
                struct err *err) WARN_UNUSED;
/* Values that show their nature by their form: IBAN, VAT number, e-mail, currency, the only date.
 */
int rules_pattern(const struct rules_target *target, const struct rules_page *rules,
                  struct err *err) WARN_UNUSED;

/* Rows of one rows column. */
int rules_rows(const struct backend_job *job, size_t column, struct proposals *ret,
               struct err *err) WARN_UNUSED;
