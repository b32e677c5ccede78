/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rich Text Format: a small reader of groups, control words and bytes in the code page of their
 * font. Title and author, which the format keeps in its text, come first, named.
 * Invariant: unknown optional groups are skipped whole; the state of a group ends with the group;
 * depth and tables are bounded. Embedded objects and pictures are never decoded.
 */
#include "services/text-extractor/format.h"

#include <stdio.h>
#include <string.h>

#define DEPTH_MAX 512U
#define FONTS_MAX 2048U
#define BYTES_MAX 4096U /* characters of one code page gathered before they are converted */

struct state {
    bool skip;         /* contents are no text */
    bool hidden;       /* hidden or deleted */
    bool fonts;        /* inside the font table */
    bool info;         /* inside the document's properties */
    bool twice;        /* first half of text given in two encodings */
    bool outer_skip;   /* skip as it was before that */
    bool note;         /* opened a note: close its bracket */
    unsigned uc;       /* bytes that follow a \u and stand for it */
    unsigned charset;  /* Windows code page of the font */
    const char *label; /* "AUTHOR: ", written before the first text */
};

struct rtf {
    const char *p, *end;
    struct flow flow;
    struct state stack[DEPTH_MAX];
    unsigned depth;
    unsigned ignored; /* groups open beyond DEPTH_MAX */
    unsigned ansi;    /* the document's code page */
    unsigned font;    /* being defined in the font table */
    unsigned default_font;
    uint16_t font_page[FONTS_MAX];
    unsigned to_skip; /* characters left after a \u */
    uint32_t high;    /* first half of a surrogate pair */
    char bytes[BYTES_MAX];
    size_t n_bytes;
    bool star; /* the group began with \* */
};

static struct state *top(struct rtf *rtf)
{
    return &rtf->stack[rtf->depth];
}

/* --- characters ---------------------------------------------------------------------------------
 */

static int put(struct rtf *rtf, const char *s, size_t len, struct err *err)
{
    struct state *state = top(rtf);

    if (state->skip || state->hidden || len == 0) {
        return 0;
    }
    if (state->label) {
        const char *label = state->label;

        state->label = NULL;
        flow_owe(&rtf->flow, 1);
        if (flow_add(&rtf->flow, label, strlen(label), err)) {
            return -1;
        }
    }
    return flow_add(&rtf->flow, s, len, err);
}

/* Converts the gathered bytes; state is still the one they were read in. */
static int flush(struct rtf *rtf, struct err *err)
{
    CLEANUP(buf_done) struct buf text = {0};
    char name[24];
    size_t n = rtf->n_bytes;

    rtf->n_bytes = 0;
    if (n == 0 || top(rtf)->skip || top(rtf)->hidden) {
        return 0;
    }
    (void)snprintf(name, sizeof(name), "windows-%u", top(rtf)->charset);
    buf_init(&text, BYTES_MAX * 8);
    if (!text_charset_known(name)) {
        (void)snprintf(name, sizeof(name), "cp%u", top(rtf)->charset);
    }
    if (text_convert(text_charset_known(name) ? name : "windows-1252", rtf->bytes, n, &text, err)) {
        return -1;
    }
    return put(rtf, text.data ? text.data : "", text.len, err);
}

static int add_byte(struct rtf *rtf, char c, struct err *err)
{
    if (rtf->to_skip > 0) {
        rtf->to_skip--;
        return 0;
    }
    if (rtf->n_bytes == BYTES_MAX && flush(rtf, err)) {
        return -1;
    }
    rtf->bytes[rtf->n_bytes++] = c;
    return 0;
}

static int add_code(struct rtf *rtf, long value, struct err *err)
{
    uint32_t c = (uint32_t)(value < 0 ? value + 65536 : value);
    char bytes[4];

    if (flush(rtf, err)) {
        return -1;
    }
    rtf->to_skip = top(rtf)->uc;
    if (c >= 0xd800 && c < 0xdc00) {
        rtf->high = c;
        return 0;
    }
    if (c >= 0xdc00 && c < 0xe000 && rtf->high) {
        c = 0x10000 + ((rtf->high - 0xd800) << 10) + (c - 0xdc00);
    }
    rtf->high = 0;
    return c < 0x20 ? 0 : put(rtf, bytes, text_encode(c, bytes), err);
}

/* --- control words ------------------------------------------------------------------------------
 */

static unsigned page_of_charset(long charset)
{
    static const struct {
        short charset;
        uint16_t page;
    } map[] = {{0, 1252},   {77, 10000}, {78, 932},   {128, 932},  {129, 949},
               {130, 1361}, {134, 936},  {136, 950},  {161, 1253}, {162, 1254},
               {163, 1258}, {177, 1255}, {178, 1256}, {186, 1257}, {204, 1251},
               {222, 874},  {238, 1250}, {254, 437},  {255, 850}};

    for (size_t i = 0; i < ARRAY_LEN(map); i++) {
        if (map[i].charset == charset) {
            return map[i].page;
        }
    }
    return 0;
}

enum word_kind {
    WORD_SKIP,  /* a group that is no text */
    WORD_KEEP,  /* an optional group that is text all the same */
    WORD_LABEL, /* a property: written with its name */
    WORD_NOTE,  /* a note inside a paragraph */
    WORD_PART,  /* a part that stands by itself */
    WORD_TEXT,  /* a character */
    WORD_LINE,  /* a break of n lines */
    WORD_CELL,
};

/* clang-format off */
static const struct word {
    const char *name;
    const char *text;
    enum word_kind kind;
    unsigned lines;
} words[] = {
    {"par", "", WORD_LINE, 1}, {"line", "", WORD_LINE, 1}, {"row", "", WORD_LINE, 1},
    {"nestrow", "", WORD_LINE, 1}, {"sect", "", WORD_LINE, 2}, {"page", "", WORD_LINE, 2},
    {"column", "", WORD_LINE, 1}, {"cell", "", WORD_CELL, 0}, {"nestcell", "", WORD_CELL, 0},
    {"tab", "\t", WORD_TEXT, 0}, {"emdash", "\u2014", WORD_TEXT, 0},
    {"endash", "\u2013", WORD_TEXT, 0}, {"lquote", "\u2018", WORD_TEXT, 0},
    {"rquote", "\u2019", WORD_TEXT, 0}, {"ldblquote", "\u201c", WORD_TEXT, 0},
    {"rdblquote", "\u201d", WORD_TEXT, 0}, {"bullet", "\u2022", WORD_TEXT, 0},
    {"emspace", " ", WORD_TEXT, 0}, {"enspace", " ", WORD_TEXT, 0}, {"qmspace", " ", WORD_TEXT, 0},
    {"colortbl", "", WORD_SKIP, 0}, {"stylesheet", "", WORD_SKIP, 0},
    {"pict", "", WORD_SKIP, 0}, {"objdata", "", WORD_SKIP, 0}, {"objclass", "", WORD_SKIP, 0},
    {"fldinst", "", WORD_SKIP, 0}, {"shprslt", "", WORD_SKIP, 0}, {"sp", "", WORD_SKIP, 0},
    {"nonesttables", "", WORD_SKIP, 0}, {"nonshppict", "", WORD_SKIP, 0},
    {"listtable", "", WORD_SKIP, 0}, {"rsidtbl", "", WORD_SKIP, 0}, {"generator", "", WORD_SKIP, 0},
    {"xe", "", WORD_SKIP, 0}, {"tc", "", WORD_SKIP, 0}, {"atnid", "", WORD_SKIP, 0},
    {"atnauthor", "", WORD_SKIP, 0}, {"bkmkstart", "", WORD_SKIP, 0}, {"bkmkend", "", WORD_SKIP, 0},
    {"themedata", "", WORD_SKIP, 0}, {"filetbl", "", WORD_SKIP, 0}, {"template", "", WORD_SKIP, 0},
    {"ftnsep", "", WORD_SKIP, 0}, {"ftnsepc", "", WORD_SKIP, 0}, {"aftnsep", "", WORD_SKIP, 0},
    {"aftnsepc", "", WORD_SKIP, 0}, {"ftncn", "", WORD_SKIP, 0}, {"aftncn", "", WORD_SKIP, 0},
    {"falt", "", WORD_SKIP, 0}, {"panose", "", WORD_SKIP, 0}, {"revtbl", "", WORD_SKIP, 0},
    {"shpinst", "", WORD_KEEP, 0}, {"shptxt", "", WORD_PART, 1}, {"nesttableprops", "", WORD_SKIP, 0},
    {"footnote", "", WORD_NOTE, 0}, {"annotation", "", WORD_NOTE, 0},
    {"header", "", WORD_PART, 2}, {"headerl", "", WORD_PART, 2}, {"headerr", "", WORD_PART, 2},
    {"headerf", "", WORD_PART, 2}, {"footer", "", WORD_PART, 2}, {"footerl", "", WORD_PART, 2},
    {"footerr", "", WORD_PART, 2}, {"footerf", "", WORD_PART, 2},
    {"title", "TITLE: ", WORD_LABEL, 0}, {"author", "AUTHOR: ", WORD_LABEL, 0},
    {"subject", "SUBJECT: ", WORD_LABEL, 0},
};
/* clang-format on */

static int run_word(struct rtf *rtf, const struct word *word, struct err *err)
{
    struct state *state = top(rtf);

    switch (word->kind) {
    case WORD_SKIP:
        state->skip = true;
        return 0;
    case WORD_KEEP:
        return 0;
    case WORD_LABEL:
        if (state->info && !state->twice) {
            state->skip = false;
            state->label = word->text;
        }
        return 0;
    case WORD_NOTE:
        state->note = !state->skip && !state->hidden;
        return put(rtf, " [", 2, err);
    case WORD_PART:
    case WORD_LINE:
        if (!state->skip && !state->hidden) {
            flow_owe(&rtf->flow, word->lines);
        }
        return 0;
    case WORD_TEXT:
        return put(rtf, word->text, strlen(word->text), err);
    case WORD_CELL:
        if (!state->skip && !state->hidden) {
            rtf->flow.tabs++;
        }
        return 0;
    }
    return 0;
}

static const struct word *find_word(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (!strcmp(words[i].name, name)) {
            return &words[i];
        }
    }
    return NULL;
}

static void select_font(struct rtf *rtf, long n)
{
    struct state *state = top(rtf);

    if (n < 0 || n >= (long)FONTS_MAX) {
        return;
    }
    if (state->fonts) {
        rtf->font = (unsigned)n;
    } else {
        state->charset = rtf->font_page[n] ? rtf->font_page[n] : rtf->ansi;
    }
}

/* Words with a number that change how bytes are read. True if it was one. */
static bool run_setting(struct rtf *rtf, const char *name, bool has_value, long value)
{
    struct state *state = top(rtf);

    if (!strcmp(name, "f")) {
        select_font(rtf, value);
    } else if (!strcmp(name, "fcharset") && state->fonts) {
        rtf->font_page[rtf->font] = (uint16_t)page_of_charset(value);
    } else if (!strcmp(name, "cpg") && state->fonts && value > 0 && value < 65536) {
        rtf->font_page[rtf->font] = (uint16_t)value;
    } else if (!strcmp(name, "ansicpg") && value > 0 && value < 65536) {
        rtf->ansi = (unsigned)value;
        state->charset = rtf->ansi;
    } else if (!strcmp(name, "mac")) {
        rtf->ansi = state->charset = 10000;
    } else if (!strcmp(name, "pc")) {
        rtf->ansi = state->charset = 437;
    } else if (!strcmp(name, "pca")) {
        rtf->ansi = state->charset = 850;
    } else if (!strcmp(name, "deff") && value >= 0) {
        rtf->default_font = (unsigned)value;
    } else if (!strcmp(name, "uc")) {
        state->uc = value >= 0 && value < 16 ? (unsigned)value : 1;
    } else if (!strcmp(name, "v") || !strcmp(name, "deleted")) {
        state->hidden = !has_value || value != 0;
    } else if (!strcmp(name, "plain")) {
        state->hidden = false;
        select_font(rtf, (long)rtf->default_font);
    } else if (!strcmp(name, "fonttbl")) {
        state->skip = state->fonts = true;
    } else if (!strcmp(name, "info")) {
        state->skip = state->info = true;
    } else if (!strcmp(name, "upr")) {
        state->outer_skip = state->skip;
        state->skip = state->twice = true;
    } else if (!strcmp(name, "ud")) {
        state->skip = state->outer_skip;
        state->twice = false;
    } else {
        return false;
    }
    return true;
}

static int on_word(struct rtf *rtf, const char *name, bool has_value, long value, struct err *err)
{
    const struct word *word;
    bool star = rtf->star;

    rtf->star = false;
    if (!strcmp(name, "u") && has_value) {
        return add_code(rtf, value, err);
    }
    if (flush(rtf, err)) {
        return -1;
    }
    rtf->to_skip = 0;
    if (!strcmp(name, "bin")) {
        size_t left = (size_t)(rtf->end - rtf->p);

        rtf->p += value > 0 ? min_size((size_t)value, left) : 0;
        return 0;
    }
    if (run_setting(rtf, name, has_value, value)) {
        return 0;
    }
    word = find_word(name);
    if (word) {
        return run_word(rtf, word, err);
    }
    top(rtf)->skip = top(rtf)->skip || star;
    return 0;
}

/* --- the reader
 * ----------------------------------------------------------------------------------- */

static int read_word(struct rtf *rtf, struct err *err)
{
    char name[33];
    size_t n = 0;
    bool negative = false;
    bool has_value = false;
    long value = 0;

    while (rtf->p < rtf->end && ((*rtf->p | 32) >= 'a' && (*rtf->p | 32) <= 'z')) {
        if (n < sizeof(name) - 1) {
            name[n++] = *rtf->p;
        }
        rtf->p++;
    }
    name[n] = '\0';
    if (rtf->p < rtf->end && *rtf->p == '-') {
        negative = true;
        rtf->p++;
    }
    while (rtf->p < rtf->end && *rtf->p >= '0' && *rtf->p <= '9') {
        has_value = true;
        value = value < 100000000 ? value * 10 + (*rtf->p - '0') : value;
        rtf->p++;
    }
    if (rtf->p < rtf->end && *rtf->p == ' ') {
        rtf->p++;
    }
    return on_word(rtf, name, has_value, negative ? -value : value, err);
}

static int hex(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 0;
}

/* After a backslash. */
static int read_control(struct rtf *rtf, struct err *err)
{
    char c;

    if (rtf->p >= rtf->end) {
        return 0;
    }
    c = *rtf->p;
    if ((c | 32) >= 'a' && (c | 32) <= 'z') {
        return read_word(rtf, err);
    }
    rtf->p++;
    switch (c) {
    case '\'':
        if (rtf->end - rtf->p < 2) {
            rtf->p = rtf->end;
            return 0;
        }
        c = (char)(hex(rtf->p[0]) * 16 + hex(rtf->p[1]));
        rtf->p += 2;
        return add_byte(rtf, c, err);
    case '{':
    case '}':
    case '\\':
        return add_byte(rtf, c, err);
    case '*':
        rtf->star = true;
        return 0;
    case '~':
        return flush(rtf, err) || put(rtf, "\u00a0", 2, err) ? -1 : 0;
    case '_':
        return flush(rtf, err) || put(rtf, "-", 1, err) ? -1 : 0;
    case '\n':
    case '\r':
        return flush(rtf, err) || run_word(rtf, find_word("par"), err) ? -1 : 0;
    default:
        return 0;
    }
}

static int group_open(struct rtf *rtf, struct err *err)
{
    if (flush(rtf, err)) {
        return -1;
    }
    rtf->to_skip = 0;
    rtf->star = false;
    if (rtf->depth + 1 >= DEPTH_MAX) {
        rtf->ignored++;
        return 0;
    }
    rtf->stack[rtf->depth + 1] = rtf->stack[rtf->depth];
    rtf->depth++;
    top(rtf)->note = false;
    return 0;
}

static int group_close(struct rtf *rtf, struct err *err)
{
    bool labelled;

    if (flush(rtf, err)) {
        return -1;
    }
    rtf->to_skip = 0;
    rtf->star = false;
    if (rtf->ignored > 0) {
        rtf->ignored--;
        return 0;
    }
    if (top(rtf)->note && put(rtf, "]", 1, err)) {
        return -1;
    }
    labelled = top(rtf)->info && !top(rtf)->skip;
    rtf->depth -= rtf->depth > 0;
    if (labelled) {
        flow_owe(&rtf->flow, 2);
    }
    return 0;
}

int format_rtf(const struct text_input *in, struct text_out *out, struct err *err)
{
    CLEANUP(free_cleanup) struct rtf *rtf = calloc(1, sizeof(*rtf));
    int rc = 0;

    if (!rtf) {
        return err_nomem(err);
    }
    rtf->p = in->data;
    rtf->end = in->data + in->len;
    rtf->flow.out = out;
    rtf->ansi = 1252;
    top(rtf)->uc = 1;
    top(rtf)->charset = 1252;
    while (!rc && rtf->p < rtf->end) {
        char c = *rtf->p++;

        switch (c) {
        case '{':
            rc = group_open(rtf, err);
            break;
        case '}':
            rc = group_close(rtf, err);
            break;
        case '\\':
            rc = read_control(rtf, err);
            break;
        case '\r':
        case '\n':
        case '\0':
            break;
        default:
            rc = add_byte(rtf, c, err);
        }
    }
    return rc || flush(rtf, err) ? -1 : 0;
}
