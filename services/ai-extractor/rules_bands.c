/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Headings may take several lines; what is named in a second line under another heading describes
 * the second line of each row.
 */
#include "services/ai-extractor/rules_bands.h"

#include <math.h>
#include <string.h>

enum concept item_concept(const char *name)
{
    const enum concept meaning = concept_of(name);

    switch ((int)meaning) {
    case CONCEPT_TOTAL:
    case CONCEPT_NET_TOTAL:
    case CONCEPT_DUE_AMOUNT:
        return CONCEPT_LINE_TOTAL;
    case CONCEPT_NUMBER:
        return CONCEPT_POSITION;
    default:
        return meaning;
    }
}

/* --- headings --------------------------------------------------------------------------------- */

static int hit_item(const struct table *table, const struct label_hit *hit)
{
    for (size_t i = 0; i < table->items->n; i++) {
        if (label_serves(hit->label, i, table->meanings[i])) {
            return (int)i;
        }
    }
    return -1;
}

static void name_items(const struct table *table, uint32_t line, bool *named)
{
    const size_t *hits = table->rules->line_hits;

    for (size_t i = hits[line]; i < hits[line + 1]; i++) {
        const int item = hit_item(table, &table->rules->hits[i]);
        if (item >= 0) {
            named[item] = true;
        }
    }
}

size_t bands_own(const struct table *table, uint32_t line)
{
    bool named[COLUMNS_MAX] = {false};
    size_t n = 0;

    name_items(table, line, named);
    for (size_t i = 0; i < table->items->n; i++) {
        n += named[i];
    }
    return n;
}

size_t bands_named(const struct table *table, uint32_t line)
{
    const struct lpage *page = table->rules->page;
    bool named[COLUMNS_MAX] = {false};
    size_t n = 0;

    name_items(table, line, named);
    for (size_t i = 0; i < table->items->n; i++) {
        n += named[i];
    }
    if (n && line + 1 < page->n_lines &&
        page->lines[line + 1].y0 - page->lines[line].y1 < 1.2F * page->line_h) {
        name_items(table, line + 1, named);
        n = 0;
        for (size_t i = 0; i < table->items->n; i++) {
            n += named[i];
        }
    }
    return n;
}

static void add_band(struct table *table, float x0, float x1, int item, bool second)
{
    if (table->n_bands == BANDS_MAX) {
        return;
    }
    size_t at = table->n_bands;
    while (at > 0 && table->bands[at - 1].x0 > x0) {
        table->bands[at] = table->bands[at - 1];
        at--;
    }
    table->bands[at] = (struct band){x0, x1, item, second};
    table->n_bands++;
}

static bool has_item(const struct table *table, int item)
{
    for (size_t i = 0; i < table->n_bands; i++) {
        if (table->bands[i].item == item) {
            return true;
        }
    }
    return false;
}

static bool named_later(const struct table *table, size_t hit, uint32_t line, int item)
{
    for (size_t i = hit + 1; i < table->rules->line_hits[line + 1]; i++) {
        const struct label_hit *other = &table->rules->hits[i];
        if (other->first != table->rules->hits[hit].first && hit_item(table, other) == item) {
            return true;
        }
    }
    return false;
}

static bool overlaps(const struct table *table, float x0, float x1)
{
    for (size_t b = 0; b < table->n_bands; b++) {
        if (x0 < table->bands[b].x1 && x1 > table->bands[b].x0) {
            return true;
        }
    }
    return false;
}

static void add_line_items(struct table *table, uint32_t line, bool second)
{
    const struct lpage *page = table->rules->page;

    for (size_t i = table->rules->line_hits[line]; i < table->rules->line_hits[line + 1]; i++) {
        const struct label_hit *hit = &table->rules->hits[i];
        const int item = hit_item(table, hit);
        if (item >= 0 && table->meanings[item] == CONCEPT_LINE_TOTAL &&
            named_later(table, i, line, item)) {
            continue; /* "Amount ... Price Total": the last one is the line's total */
        }
        if (item >= 0 && !has_item(table, item)) {
            const float x0 = page->words[hit_first_word(table->rules, hit)].x0;
            const float x1 = page->words[hit_last_word(table->rules, hit)].x1;
            add_band(table, x0, x1, item, second && overlaps(table, x0, x1));
        }
    }
}

/* Bands of a heading line: the labels, and what else stands there. */
void bands_read(struct table *table, uint32_t line)
{
    const struct lpage *page = table->rules->page;
    const struct lline *heads = &page->lines[line];

    table->n_bands = 0;
    add_line_items(table, line, false);
    for (uint32_t k = heads->first_cell; k < heads->first_cell + heads->n_cells; k++) {
        const struct lcell *cell = &page->cells[k];
        for (uint32_t w = cell->first; w < cell->first + cell->n; w++) {
            if (!overlaps(table, page->words[w].x0, page->words[w].x1)) {
                add_band(table, page->words[w].x0, page->words[w].x1, -1, false);
            }
        }
    }
    for (uint32_t step = 1; step <= 2; step++) { /* headings of two or three lines */
        if (line >= step && page->lines[line].y0 - page->lines[line - step].y1 < 2 * page->line_h) {
            add_line_items(table, line - step, true);
        }
        if (line + step < page->n_lines &&
            page->lines[line + step].y0 - page->lines[line].y1 < 2 * page->line_h) {
            add_line_items(table, line + step, true);
        }
    }
}

/* --- lines ------------------------------------------------------------------------------------ */

static bool is_string(const struct table *table, int item)
{
    return item >= 0 && table->items->items[item].type == COLUMN_STRING;
}

static int nearest_band(const struct table *table, float x0, float x1, bool below)
{
    float best = 1e9F;
    int found = -1;

    for (size_t b = 0; b < table->n_bands; b++) {
        const struct band *band = &table->bands[b];
        const float gap = fmaxf(fmaxf(band->x0 - x1, x0 - band->x1), 0);
        const float middle = fabsf((band->x0 + band->x1) - (x0 + x1)) / 2;
        if ((below || !band->second) && gap + middle * 0.01F < best) {
            best = gap + middle * 0.01F;
            found = (int)b;
        }
    }
    return found;
}

struct shade {
    size_t n;  /* headings above a cell */
    int first; /* the leftmost */
    int text;  /* a heading of text among them, or -1 */
};

static struct shade bands_under(const struct table *table, const struct lcell *cell, bool below)
{
    struct shade shade = {0, -1, -1};

    for (size_t b = 0; b < table->n_bands; b++) {
        const struct band *band = &table->bands[b];
        if (cell->x0 >= band->x1 || cell->x1 <= band->x0 || (band->second && !below)) {
            continue;
        }
        shade.first = shade.n == 0 ? (int)b : shade.first;
        shade.n++;
        if (is_string(table, band->item) && (shade.text < 0 || band->second)) {
            shade.text = (int)b;
        }
    }
    return shade;
}

static void take_word(struct span *span, uint32_t word)
{
    if (!span->used) {
        *span = (struct span){word, word, true};
    } else if (word == span->last + 1) {
        span->last = word;
    }
}

static bool mostly_letters(const struct lpage *page, const struct lcell *cell)
{
    size_t letters = 0;
    size_t digits = 0;

    for (uint32_t w = cell->first; w < cell->first + cell->n; w++) {
        size_t len;
        const char *text = word_text(page, w, &len);
        for (size_t i = 0; i < len; i++) {
            digits += text[i] >= '0' && text[i] <= '9';
            letters += (unsigned char)text[i] >= 'A';
        }
    }
    return letters > digits;
}

bool bands_assign(const struct table *table, uint32_t line, bool below, struct span *spans)
{
    const struct lpage *page = table->rules->page;
    const struct lline *cells = &page->lines[line];

    for (uint32_t k = cells->first_cell; k < cells->first_cell + cells->n_cells; k++) {
        const struct lcell *cell = &page->cells[k];
        const struct shade shade = bands_under(table, cell, below);
        const bool text = shade.n > 1 && shade.text >= 0 && mostly_letters(page, cell) &&
                          (below || shade.text == shade.first);
        if (shade.n >= 3 && cell->n >= 7 && mostly_letters(page, cell)) {
            return false;
        }
        for (uint32_t w = cell->first; w < cell->first + cell->n; w++) {
            const float x0 = shade.n ? page->words[w].x0 : cell->x0;
            const float x1 = shade.n ? page->words[w].x1 : cell->x1;
            const int band = text           ? shade.text
                             : shade.n == 1 ? shade.first
                                            : nearest_band(table, x0, x1, below);
            if (band >= 0 && table->bands[band].item >= 0) {
                take_word(&spans[table->bands[band].item], w);
            }
        }
    }
    return true;
}
