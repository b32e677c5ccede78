/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two folded views of a page are searched: its text as stored, and the same words in printed
 * order, because a quote that runs across columns exists only there.
 */
#include "services/ai-extractor/ground.h"

#include <string.h>

#define FUZZY_LEAST 6U
#define FOOT_LINES 4U /* a row whose line is among a page's last may go on */
#define HEAD_LINES 6U /* among the first of the next, with its title and headings */

/* A place in one folded view of one page. */
struct region {
    const struct lpage *page;
    const struct norm *norm;
    size_t from, to;
};

int grounder_init(struct grounder *grounder, const struct doctext *doc, const struct layout *layout,
                  struct locale_hint hint, struct err *err)
{
    *grounder = (struct grounder){.doc = doc, .layout = layout, .hint = hint};
    grounder->pages = calloc(layout->n + 1, sizeof(*grounder->pages));
    return grounder->pages ? 0 : err_nomem(err);
}

void grounder_done(struct grounder *grounder)
{
    for (size_t i = 0; grounder->pages && i < grounder->layout->n; i++) {
        norm_done(&grounder->pages[i].text);
        norm_done(&grounder->pages[i].flow);
    }
    free(grounder->pages);
    grounder->pages = NULL;
}

void grounded_done(struct grounded *grounded)
{
    free(grounded->text);
    grounded->text = NULL;
}

/* --- folded views ----------------------------------------------------------------------------- */

/* The words in printed order, each line ended by a line feed; spans[i] = code point of byte i's
 * character in the page's text. */
static int flow_view(const struct lpage *page, struct norm *ret, struct err *err)
{
    const struct doc_page *text = page->page;
    char *bytes = malloc(text->len + page->n_words * 2 + 1);
    uint32_t *source = calloc(text->len + page->n_words * 2 + 1, sizeof(*source));
    size_t n = 0;
    uint32_t n_cp = 0;
    uint32_t line = 0;
    int result = -1;

    if (!bytes || !source) {
        (void)err_nomem(err);
        goto out;
    }
    for (size_t i = 0; i < page->n_words; i++) {
        const struct lword *word = &page->words[i];
        const size_t from = doctext_byte_of(text, word->start);
        const size_t to = doctext_byte_of(text, word->end);
        if (to - from > text->len + page->n_words - n) {
            break; /* overlapping words: more text than there is */
        }
        if (i) {
            const uint32_t now = page->cells[word->cell].line;
            bytes[n++] = now == line ? ' ' : '\n';
            source[n_cp++] = word->start;
            line = now;
        }
        memcpy(bytes + n, text->text + from, to - from);
        n += to - from;
        for (uint32_t cp = word->start; cp < word->end; cp++) {
            source[n_cp++] = cp;
        }
    }
    source[n_cp] = text->n_cp;
    if (norm_new(bytes, n, ret, err) < 0) {
        goto out;
    }
    for (size_t i = 0; i <= ret->n; i++) {
        ret->map[i] = source[min_size(ret->map[i], n_cp)];
    }
    result = 0;
out:
    free(bytes);
    free(source);
    return result;
}

static int page_ready(struct grounder *grounder, size_t index, struct err *err)
{
    struct ground_page *views = &grounder->pages[index];
    const struct lpage *page = &grounder->layout->pages[index];

    if (views->ready) {
        return 0;
    }
    if (norm_new(page->page->text, page->page->len, &views->text, err) < 0 ||
        flow_view(page, &views->flow, err) < 0) {
        return -1;
    }
    views->ready = true;
    return 0;
}

/* --- what a span holds ------------------------------------------------------------------------ */

double ground_ocr(const struct lpage *page, uint32_t start, uint32_t end)
{
    double sum = 0;
    size_t n = 0;

    for (size_t i = 0; i < page->n_words; i++) {
        if (page->words[i].start < end && page->words[i].end > start) {
            sum += page->words[i].conf;
            n++;
        }
    }
    return n ? sum / (double)n : 1;
}

char *ground_text(const struct doc_page *page, uint32_t start, uint32_t end)
{
    const size_t from = doctext_byte_of(page, start);
    const size_t to = doctext_byte_of(page, end);
    char *text = malloc(to - from + 1);
    size_t n = 0;

    for (size_t i = from; text && i < to; i++) {
        const char c = page->text[i];
        const bool blank = c == ' ' || (c >= '\t' && c <= '\r');
        if (!blank) {
            if ((unsigned char)c >= 0x20) {
                text[n++] = c;
            }
        } else if (n && text[n - 1] != ' ') {
            text[n++] = ' ';
        }
    }
    if (text) {
        n -= n && text[n - 1] == ' ';
        text[n] = '\0';
    }
    return text;
}

/* --- search ----------------------------------------------------------------------------------- */

static bool region_has(const struct region *region, uint32_t cp)
{
    for (size_t i = region->from; i < region->to; i++) {
        if (region->norm->map[i] == cp) {
            return true;
        }
    }
    return false;
}

/* Code points of a folded range: its first and the one behind its last character. */
static void region_span(const struct region *region, uint32_t *ret_start, uint32_t *ret_end)
{
    uint32_t low = UINT32_MAX;
    uint32_t high = 0;

    for (size_t i = region->from; i < region->to; i++) {
        const uint32_t cp = region->norm->map[i];
        low = cp < low ? cp : low;
        high = cp + 1 > high ? cp + 1 : high;
    }
    *ret_start = low;
    *ret_end = high;
}

/* All exact hits in one view; keeps the one on the named line, else the first. */
static size_t view_find(const struct lpage *page, const struct norm *view,
                        const struct norm *needle, size_t needle_n, int line, struct region *ret)
{
    size_t hits = 0;

    for (size_t at = 0; hits < 50;) {
        const size_t found = norm_find(view, at, view->n, needle);
        if (found == SIZE_MAX) {
            break;
        }
        const bool named = line > 0 && layout_line_of(page, view->map[found]) == line - 1;
        if (hits == 0 || named) {
            *ret = (struct region){page, view, found, min_size(found + needle_n, view->n)};
        }
        hits++;
        if (named) {
            break;
        }
        at = found + 1;
    }
    return hits;
}

static size_t trimmed_length(const struct norm *needle)
{
    size_t n = needle->n;
    size_t lead = 0;

    while (n && needle->cp[n - 1] == ' ') {
        n--;
    }
    while (lead < n && needle->cp[lead] == ' ') {
        lead++;
    }
    return n - lead;
}

static bool view_fuzzy(const struct lpage *page, const struct norm *view, const struct norm *needle,
                       size_t allowed, struct region *ret)
{
    size_t from = 0;
    size_t to = 0;

    if (norm_find_fuzzy(view, 0, view->n, needle, allowed, &from, &to) < 0) {
        return false;
    }
    *ret = (struct region){page, view, from, to};
    return true;
}

/* Searches text on one page; *ret_hits > 0 and a grade when found. */
static double page_find(struct grounder *grounder, size_t index, const struct norm *needle,
                        int line, bool fuzzy, struct region *ret, size_t *ret_hits)
{
    const struct ground_page *views = &grounder->pages[index];
    const struct lpage *page = &grounder->layout->pages[index];
    const size_t n = trimmed_length(needle);

    if (!fuzzy) {
        *ret_hits = view_find(page, &views->text, needle, n, line, ret);
        if (*ret_hits == 0) {
            *ret_hits = view_find(page, &views->flow, needle, n, line, ret);
        }
        return *ret_hits ? GRADE_EXACT : 0;
    }
    if (n < FUZZY_LEAST) {
        return 0;
    }
    *ret_hits = view_fuzzy(page, &views->text, needle, n / 10 ? n / 10 : 1, ret) ||
                view_fuzzy(page, &views->flow, needle, n / 10 ? n / 10 : 1, ret);
    return *ret_hits ? GRADE_FUZZY : 0;
}

/* Searches the named page first, then all. 1 found, 0 not, -1 error. */
static int doc_find(struct grounder *grounder, const char *text, int page, int line,
                    struct region *ret, double *ret_grade, size_t *ret_hits, struct err *err)
{
    struct norm needle;
    int found = 0;

    if (norm_new(text, strlen(text), &needle, err) < 0) {
        return -1;
    }
    for (int pass = 0; pass < 4 && !found && trimmed_length(&needle); pass++) {
        const bool elsewhere = (pass & 1) != 0; /* exact here, exact elsewhere, then fuzzy */
        for (size_t i = 0; i < grounder->layout->n && !found; i++) {
            const bool named = grounder->layout->pages[i].page->page == page;
            if (named == elsewhere) {
                continue;
            }
            if (page_ready(grounder, i, err) < 0) {
                found = -1;
                break;
            }
            *ret_grade = page_find(grounder, i, &needle, line, pass >= 2, ret, ret_hits);
            found = *ret_grade > 0;
        }
    }
    norm_done(&needle);
    return found;
}

/* --- values ----------------------------------------------------------------------------------- */

static bool has_tokens(enum column_type type)
{
    return type == COLUMN_NUMBER || type == COLUMN_INTEGER || type == COLUMN_MONEY ||
           type == COLUMN_DATE || type == COLUMN_DATETIME;
}

static void found_at(struct grounded *ret, const struct lpage *page, uint32_t start, uint32_t end,
                     double grade)
{
    ret->page = page;
    ret->start = start;
    ret->end = end;
    ret->grade = grade;
    ret->ocr = ground_ocr(page, start, end);
}

/* A quote may leave the currency out that the token has. */
static bool region_holds(const struct region *region, const struct doc_page *page,
                         const struct token *token)
{
    size_t first = token->start;
    size_t last = token->end - 1;

    while (token->value.type == COLUMN_MONEY && first < last &&
           !(page->text[first] >= '0' && page->text[first] <= '9')) {
        first++;
    }
    while (token->value.type == COLUMN_MONEY && last > first &&
           !(page->text[last] >= '0' && page->text[last] <= '9')) {
        last--;
    }
    return region_has(region, doctext_cp_of(page, first)) &&
           region_has(region, doctext_cp_of(page, last));
}

/* Tokens of the page equal to want, inside region (NULL: anywhere). Keeps the first. */
static size_t page_tokens(const struct grounder *grounder, const struct lpage *page,
                          const struct column *column, const struct value *want,
                          const struct region *region, struct grounded *ret)
{
    const struct locale_hint hint = typing_hint(column, &grounder->hint);
    const struct doc_page *text = page->page;
    struct token token;
    size_t hits = 0;

    for (size_t at = 0; typing_next(column->type, text->text, text->len, &at, &hint, &token);) {
        if (!value_equal(&token.value, want)) {
            continue;
        }
        const uint32_t start = doctext_cp_of(text, token.start);
        const uint32_t end = doctext_cp_of(text, token.end);
        if (region && !region_holds(region, text, &token)) {
            continue;
        }
        if (hits++ == 0) {
            ret->value = token.value;
            found_at(ret, page, start, end, GRADE_PARSED);
        }
    }
    return hits;
}

static bool same_text(const struct doc_page *page, uint32_t start, uint32_t end, const char *raw)
{
    const size_t from = doctext_byte_of(page, start);
    const size_t to = doctext_byte_of(page, end);

    return strlen(raw) == to - from && memcmp(page->text + from, raw, to - from) == 0;
}

static int ground_tokens(struct grounder *grounder, const struct column *column,
                         const struct candidate *candidate, const struct region *quote,
                         struct grounded *ret)
{
    const struct locale_hint hint = typing_hint(column, &grounder->hint);
    struct value want;

    if (!typing_parse(column, candidate->raw, strlen(candidate->raw), &hint, &want)) {
        return 0;
    }
    if (quote) {
        ret->hits = page_tokens(grounder, quote->page, column, &want, quote, ret);
    } else {
        for (int pass = 0; pass < 2 && ret->hits == 0; pass++) {
            for (size_t i = 0; i < grounder->layout->n; i++) {
                const struct lpage *page = &grounder->layout->pages[i];
                if ((page->page->page == candidate->page) == (pass == 0) && ret->hits == 0) {
                    ret->hits = page_tokens(grounder, page, column, &want, NULL, ret);
                }
            }
        }
    }
    if (ret->hits && same_text(ret->page->page, ret->start, ret->end, candidate->raw)) {
        ret->grade = GRADE_EXACT;
    }
    return ret->hits > 0;
}

/* A string inside its quote, or alone on page or document. */
static int ground_string(struct grounder *grounder, const struct candidate *candidate,
                         const struct region *quote, struct grounded *ret, struct err *err)
{
    struct region hit = {.from = 0};
    double grade = 0;
    int found;

    if (quote) {
        struct norm needle;
        if (norm_new(candidate->raw, strlen(candidate->raw), &needle, err) < 0) {
            return -1;
        }
        const size_t n = trimmed_length(&needle);
        const size_t at = norm_find(quote->norm, quote->from, quote->to, &needle);
        found = at != SIZE_MAX;
        hit = (struct region){quote->page, quote->norm, at, found ? at + n : 0};
        grade = GRADE_EXACT;
        if (!found && n >= FUZZY_LEAST &&
            norm_find_fuzzy(quote->norm, quote->from, quote->to, &needle, n / 10 ? n / 10 : 1,
                            &hit.from, &hit.to) >= 0) {
            found = 1;
            grade = GRADE_FUZZY;
        }
        ret->hits = (size_t)found;
        norm_done(&needle);
    } else {
        found = doc_find(grounder, candidate->raw, candidate->page, candidate->line, &hit, &grade,
                         &ret->hits, err);
    }
    if (found > 0) {
        uint32_t start;
        uint32_t end;
        region_span(&hit, &start, &end);
        if (end - start > 2 * (hit.to - hit.from) + 8) {
            return 0; /* together in print, far apart in the text: no span could cite it */
        }
        found_at(ret, hit.page, start, end, grade);
    }
    return found;
}

/* Words for yes, no and listed words may be inferred, but only from a quote that is there. */
static int ground_word(struct grounder *grounder, const struct column *column,
                       const struct candidate *candidate, const struct region *quote,
                       struct grounded *ret)
{
    struct value literal;

    if (!quote || !typing_parse(column, candidate->raw, strlen(candidate->raw), &grounder->hint,
                                &ret->value)) {
        return 0;
    }
    uint32_t start;
    uint32_t end;
    region_span(quote, &start, &end);
    found_at(ret, quote->page, start, end, GRADE_INFERRED);
    ret->hits = 1;
    CLEANUP(free_cleanup) char *text = ground_text(quote->page->page, start, end);
    if (text && typing_parse(column, text, strlen(text), &grounder->hint, &literal) &&
        value_equal(&literal, &ret->value)) {
        ret->grade = GRADE_EXACT;
    }
    return 1;
}

/* The backend named the span itself: it must hold what the backend says. */
static int ground_span(struct grounder *grounder, const struct column *column,
                       const struct candidate *candidate, const struct lpage *page,
                       struct grounded *ret)
{
    const struct locale_hint hint = typing_hint(column, &grounder->hint);

    if (candidate->end > page->page->n_cp || candidate->start >= candidate->end) {
        return 0;
    }
    CLEANUP(free_cleanup)
    char *text = ground_text(page->page, candidate->start, candidate->end);
    if (!text || strcmp(text, candidate->raw) != 0) {
        return 0;
    }
    if (column->type != COLUMN_STRING &&
        !typing_parse(column, text, strlen(text), &hint, &ret->value)) {
        return 0;
    }
    found_at(ret, page, candidate->start, candidate->end, GRADE_EXACT);
    ret->hits = 1;
    return 1;
}

static const struct lpage *layout_page(const struct layout *layout, int page)
{
    for (size_t i = 0; i < layout->n; i++) {
        if (layout->pages[i].page->page == page) {
            return &layout->pages[i];
        }
    }
    return NULL;
}

/* The top of the next page, when the quote stands at the foot of its own. 1, 0 or -1. */
static int next_top(struct grounder *grounder, const struct region *quote, struct region *ret,
                    struct err *err)
{
    const size_t next = (size_t)(quote->page - grounder->layout->pages) + 1;
    uint32_t start;
    uint32_t end;

    region_span(quote, &start, &end);
    const int line = layout_line_of(quote->page, end - 1);
    if (next >= grounder->layout->n || line < 0 ||
        (size_t)line + FOOT_LINES < quote->page->n_lines ||
        grounder->layout->pages[next].page->page != quote->page->page->page + 1) {
        return 0;
    }
    if (page_ready(grounder, next, err) < 0) {
        return -1;
    }
    const struct lpage *page = &grounder->layout->pages[next];
    const struct norm *view = &grounder->pages[next].flow;
    size_t to = 0;
    while (to < view->n && layout_line_of(page, view->map[to]) < (int)HEAD_LINES) {
        to++;
    }
    *ret = (struct region){page, view, 0, to};
    return to > 0;
}

static int ground_inside(struct grounder *grounder, const struct column *column,
                         const struct candidate *candidate, const struct region *inside,
                         struct grounded *ret, struct err *err)
{
    if (has_tokens(column->type)) {
        return ground_tokens(grounder, column, candidate, inside, ret);
    }
    if (column->type == COLUMN_STRING) {
        return ground_string(grounder, candidate, inside, ret, err);
    }
    return ground_word(grounder, column, candidate, inside, ret);
}

static int ground_searched(struct grounder *grounder, const struct column *column,
                           const struct candidate *candidate, struct grounded *ret, struct err *err)
{
    struct region quote = {.from = 0};
    const struct region *inside = NULL;
    double quote_grade = 0;
    size_t quote_hits = 0;
    int found = 0;

    if (candidate->quote && candidate->quote[0]) {
        found = doc_find(grounder, candidate->quote, candidate->page, candidate->line, &quote,
                         &quote_grade, &quote_hits, err);
        if (found < 0) {
            return -1;
        }
        inside = found ? &quote : NULL;
    }
    /* a quote that is there must hold the value; one that is not leaves the value to be sought */
    found = ground_inside(grounder, column, candidate, inside, ret, err);
    if (found == 0 && inside && candidate->row) {
        struct region top;
        found = next_top(grounder, inside, &top, err);
        if (found > 0) {
            quote_grade = 0;
            found = ground_inside(grounder, column, candidate, &top, ret, err);
        }
    }
    if (found > 0) {
        ret->quote = inside ? (quote_grade < 1 ? 0.9 : 1) : candidate->quote ? 0.7 : 0.85;
    }
    return found;
}

int ground_candidate(struct grounder *grounder, const struct column *column,
                     const struct candidate *candidate, struct grounded *ret, struct err *err)
{
    struct grounded made = {.quote = 1};
    const struct lpage *page =
        candidate->end ? layout_page(grounder->layout, candidate->page) : NULL;
    const int found = page ? ground_span(grounder, column, candidate, page, &made)
                           : ground_searched(grounder, column, candidate, &made, err);

    if (found <= 0) {
        return found;
    }
    if (column->type == COLUMN_STRING) {
        made.text = ground_text(made.page->page, made.start, made.end);
        if (!made.text) {
            return err_nomem(err);
        }
    }
    *ret = made;
    return 1;
}
