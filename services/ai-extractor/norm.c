/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folding works per code point over ICU's compatibility decomposition, so the map back to the
 * original stays exact; accents are dropped because OCR and PDF fonts disagree about them, and what
 * is published is the original text anyway.
 */
#include "services/ai-extractor/norm.h"
#include "libcommon/utf8.h"

#include <string.h>
#include <unicode/uchar.h>
#include <unicode/unorm2.h>

#define FOLD_MAX 18

static bool is_mark(uint32_t cp)
{
    const int8_t type = u_charType((UChar32)cp);

    return type == U_NON_SPACING_MARK || type == U_ENCLOSING_MARK;
}

static bool is_ignored(uint32_t cp)
{
    return cp == 0xAD || (cp >= 0x200B && cp <= 0x200F) || (cp >= 0x202A && cp <= 0x202E) ||
           (cp >= 0x2060 && cp <= 0x206F) || cp == 0xFEFF || cp >= 0xE0000 ||
           (cp < 0x20 && !(cp >= '\t' && cp <= '\r'));
}

static uint32_t unify(uint32_t cp)
{
    if ((cp >= 0x2010 && cp <= 0x2015) || cp == 0x2212 || cp == 0x2043 || cp == 0xFE58) {
        return '-';
    }
    if ((cp >= 0x2018 && cp <= 0x201B) || cp == 0x2032 || cp == 0xB4 || cp == '`') {
        return '\'';
    }
    if ((cp >= 0x201C && cp <= 0x201F) || cp == 0xAB || cp == 0xBB || cp == 0x2033) {
        return '"';
    }
    if (cp == 0xA0 || cp == 0x202F || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x3000 ||
        (cp >= '\t' && cp <= '\r') || cp == 0x2028 || cp == 0x2029 || cp == 0x1680) {
        return ' ';
    }
    return cp;
}

bool norm_is_alnum(uint32_t cp)
{
    if (cp < 0x80) {
        return (cp >= '0' && cp <= '9') || (cp >= 'a' && cp <= 'z') || (cp >= 'A' && cp <= 'Z');
    }
    return u_isalnum((UChar32)cp);
}

/* Folds one code point into out[FOLD_MAX]; returns how many came out. */
static size_t fold_one(uint32_t cp, uint32_t *out)
{
    if (cp < 0x80) {
        if (is_ignored(cp)) {
            return 0;
        }
        out[0] = cp >= 'A' && cp <= 'Z' ? cp + 32 : unify(cp);
        return 1;
    }
    if (is_ignored(cp)) {
        return 0;
    }
    const uint32_t plain = unify(cp);
    if (plain < 0x80) {
        out[0] = plain;
        return 1;
    }
    UErrorCode status = U_ZERO_ERROR;
    const UNormalizer2 *nfkd = unorm2_getNFKDInstance(&status);
    UChar units[FOLD_MAX * 2];
    int32_t n = U_FAILURE(status) ? -1
                                  : unorm2_getDecomposition(nfkd, (UChar32)cp, units,
                                                            (int32_t)ARRAY_LEN(units), &status);
    if (U_FAILURE(status) || n < 0) {
        out[0] = (uint32_t)u_foldCase((UChar32)cp, U_FOLD_CASE_DEFAULT);
        return is_mark(cp) ? 0 : 1;
    }
    size_t count = 0;
    for (int32_t i = 0; i < n && count < FOLD_MAX;) {
        uint32_t part = units[i++];
        if (part >= 0xD800 && part < 0xDC00 && i < n) {
            part = 0x10000 + ((part - 0xD800) << 10) + (units[i++] - 0xDC00U);
        }
        if (!is_mark(part)) {
            out[count++] = unify((uint32_t)u_foldCase((UChar32)part, U_FOLD_CASE_DEFAULT));
        }
    }
    return count;
}

struct folding {
    struct norm out;
    size_t cap;
    bool joined; /* a hyphen at a line's end has gone: no blank until the next letter */
};

static int push(struct folding *fold, uint32_t cp, uint32_t at, struct err *err)
{
    if (fold->out.n + 1 >= fold->cap) {
        const size_t cap = fold->cap ? fold->cap * 2 : 64;
        uint32_t *cps = realloc(fold->out.cp, cap * sizeof(*cps));
        if (!cps) {
            return err_nomem(err);
        }
        fold->out.cp = cps;
        uint32_t *map = realloc(fold->out.map, cap * sizeof(*map));
        if (!map) {
            return err_nomem(err);
        }
        fold->out.map = map;
        fold->cap = cap;
    }
    fold->out.cp[fold->out.n] = cp;
    fold->out.map[fold->out.n++] = at;
    return 0;
}

/* White space: one blank for a run, none when a hyphen before it ended a line inside a word. */
static int push_space(struct folding *fold, uint32_t at, bool line_break, uint32_t next,
                      struct err *err)
{
    struct norm *out = &fold->out;

    if (out->n == 0 || out->cp[out->n - 1] == ' ' || fold->joined) {
        return 0;
    }
    if (line_break && out->cp[out->n - 1] == '-' && out->n >= 2 &&
        u_isalpha((UChar32)out->cp[out->n - 2]) && u_islower((UChar32)next)) {
        out->n--;
        fold->joined = true;
        return 0;
    }
    return push(fold, ' ', at, err);
}

/* The first code point after a run of white space, to see whether a word goes on. */
static uint32_t peek(const char *text, size_t len, size_t at)
{
    while (at < len) {
        const uint32_t cp = utf8_next(text, len, &at);
        if (unify(cp) != ' ') {
            return cp;
        }
    }
    return 0;
}

static int fold_text(const char *text, size_t len, struct folding *fold, struct err *err)
{
    uint32_t index = 0;
    bool line_break = false;

    for (size_t at = 0; at < len; index++) {
        const uint32_t cp = utf8_next(text, len, &at);
        uint32_t folded[FOLD_MAX];
        const size_t n = fold_one(cp, folded);
        line_break = cp == '\n' || (line_break && n == 1 && folded[0] == ' ');
        for (size_t i = 0; i < n; i++) {
            fold->joined = fold->joined && folded[i] == ' ';
            const int r = folded[i] == ' ' ? push_space(fold, index, line_break,
                                                        line_break ? peek(text, len, at) : 0, err)
                                           : push(fold, folded[i], index, err);
            if (r < 0) {
                return -1;
            }
        }
    }
    if (push(fold, 0, index, err) < 0) {
        return -1;
    }
    fold->out.n--; /* the entry behind the last one maps to the end */
    return 0;
}

int norm_new(const char *text, size_t len, struct norm *ret, struct err *err)
{
    struct folding fold = {.cap = 0};

    if (fold_text(text, len, &fold, err) < 0) {
        norm_done(&fold.out);
        return -1;
    }
    *ret = fold.out;
    return 0;
}

void norm_done(struct norm *norm)
{
    free(norm->cp);
    free(norm->map);
    *norm = (struct norm){.n = 0};
}

size_t norm_key(const char *text, size_t len, char *ret, size_t size)
{
    size_t out = 0;
    bool space = false;

    for (size_t at = 0; at < len && out + 6 < size;) {
        uint32_t folded[FOLD_MAX];
        const size_t n = fold_one(utf8_next(text, len, &at), folded);
        for (size_t i = 0; i < n && out + 6 < size; i++) {
            if (!norm_is_alnum(folded[i])) {
                space = true;
                continue;
            }
            if (space && out) {
                ret[out++] = ' ';
            }
            space = false;
            out += utf8_put(folded[i], ret + out);
        }
    }
    ret[out] = '\0';
    return out;
}

static bool edges_free(const struct norm *hay, size_t start, size_t end)
{
    const bool left =
        start == 0 || !norm_is_alnum(hay->cp[start]) || !norm_is_alnum(hay->cp[start - 1]);
    const bool right =
        end >= hay->n || !norm_is_alnum(hay->cp[end - 1]) || !norm_is_alnum(hay->cp[end]);

    return left && right;
}

static void trim(const struct norm *needle, const uint32_t **ret, size_t *ret_n)
{
    size_t n = needle->n;
    const uint32_t *cp = needle->cp;

    while (n && cp[n - 1] == ' ') {
        n--;
    }
    while (n && cp[0] == ' ') {
        cp++;
        n--;
    }
    *ret = cp;
    *ret_n = n;
}

size_t norm_find(const struct norm *hay, size_t from, size_t to, const struct norm *needle)
{
    const uint32_t *cp;
    size_t n;

    trim(needle, &cp, &n);
    to = min_size(to, hay->n);
    if (n == 0 || n > to) {
        return SIZE_MAX;
    }
    for (size_t i = from; i + n <= to; i++) {
        if (hay->cp[i] == cp[0] && memcmp(hay->cp + i, cp, n * sizeof(*cp)) == 0 &&
            edges_free(hay, i, i + n)) {
            return i;
        }
    }
    return SIZE_MAX;
}

#define FUZZY_MAX 256U

/* Sellers' algorithm: the best end of an approximate match, with where it began. */
int norm_find_fuzzy(const struct norm *hay, size_t from, size_t to, const struct norm *needle,
                    size_t max_distance, size_t *ret_start, size_t *ret_end)
{
    const uint32_t *cp;
    size_t n;
    size_t cost[FUZZY_MAX + 1];
    size_t begin[FUZZY_MAX + 1];
    int best = -1;

    trim(needle, &cp, &n);
    if (n == 0 || n > FUZZY_MAX) {
        return -1;
    }
    for (size_t j = 0; j <= n; j++) {
        cost[j] = j;
        begin[j] = from;
    }
    for (size_t i = from; i < min_size(to, hay->n); i++) {
        size_t diagonal = cost[0];
        size_t diagonal_begin = begin[0];
        cost[0] = 0;
        begin[0] = i + 1;
        for (size_t j = 1; j <= n; j++) {
            const size_t up = cost[j];
            const size_t up_begin = begin[j];
            size_t least = diagonal + (hay->cp[i] != cp[j - 1]);
            size_t least_begin = diagonal_begin;
            if (up + 1 < least) {
                least = up + 1;
                least_begin = up_begin;
            }
            if (cost[j - 1] + 1 < least) {
                least = cost[j - 1] + 1;
                least_begin = begin[j - 1];
            }
            cost[j] = least;
            begin[j] = least_begin;
            diagonal = up;
            diagonal_begin = up_begin;
        }
        if (cost[n] <= max_distance && (best < 0 || cost[n] < (size_t)best) && begin[n] < i + 1 &&
            edges_free(hay, begin[n], i + 1)) {
            best = (int)cost[n];
            *ret_start = begin[n];
            *ret_end = i + 1;
        }
    }
    return best;
}

size_t edit_distance(const char *a, size_t a_len, const char *b, size_t b_len, size_t max)
{
    size_t row[65];

    if (a_len > 64 || b_len > 64 || a_len > b_len + max || b_len > a_len + max) {
        return max + 1;
    }
    for (size_t j = 0; j <= b_len; j++) {
        row[j] = j;
    }
    for (size_t i = 0; i < a_len; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        size_t least = row[0];
        for (size_t j = 1; j <= b_len; j++) {
            const size_t up = row[j];
            size_t value = diagonal + (a[i] != b[j - 1]);
            value = min_size(value, min_size(up, row[j - 1]) + 1);
            row[j] = value;
            diagonal = up;
            least = min_size(least, value);
        }
        if (least > max) {
            return max + 1;
        }
    }
    return min_size(row[b_len], max + 1);
}
