/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files whose bytes are characters, drawn as what they are: plain text and markup sources in a
 * typewriter face, tables as tables, Markdown, HTML and mail with their headings.
 * Invariant: nothing in the file is executed, fetched or opened; only its own words are shown.
 */
#include "services/preview-worker/render_flow.h"

#include <string.h>

#define TEXT_BYTES_MAX (1024ULL * 1024 * 1024) /* mapped */
#define TEXT_SHOWN_MAX (4U * 1024 * 1024)      /* read of it */
#define HTML_SHOWN_MAX (16U * 1024 * 1024)
#define UTF8_MAX (64U * 1024 * 1024)
#define JSON_PRETTY_MAX (1024U * 1024)
#define JSON_LINE_LONG 160

/* --- tables --------------------------------------------------------------------------------- */

static char sniff_delimiter(const char *text, size_t len)
{
    static const char candidates[] = ",;\t|";
    size_t counts[sizeof(candidates) - 1] = {0};
    bool quoted = false;
    size_t best = 0;

    for (size_t i = 0; i < min_size(len, 4096); i++) {
        const char *hit = text[i] != '\0' && !quoted ? strchr(candidates, text[i]) : NULL;

        if (text[i] == '"') {
            quoted = !quoted;
        } else if (hit) {
            counts[hit - candidates]++;
        }
    }
    for (size_t i = 1; i < ARRAY_LEN(counts); i++) {
        best = counts[i] > counts[best] ? i : best;
    }
    return candidates[best];
}

/* One cell from *at, quotes removed, into cell; *at is left on what ended it. */
static int csv_cell(const char *text, size_t len, char delimiter, size_t *at, struct buf *cell,
                    struct err *err)
{
    bool quoted = *at < len && text[*at] == '"';
    size_t i = *at + (quoted ? 1 : 0);
    const size_t began = i;

    while (i < len && (quoted || (text[i] != delimiter && text[i] != '\n'))) {
        if (quoted && text[i] == '"') {
            if (i + 1 < len && text[i + 1] == '"') {
                i++;
            } else {
                quoted = false;
                i++;
                continue;
            }
        }
        if (i - began < 2 * FLOW_CELL_MAX && buf_append(cell, text + i, 1, err) != 0) {
            return -1;
        }
        i++;
    }
    *at = i;
    return 0;
}

static int csv_row(const char *text, size_t len, char delimiter, size_t *at, struct table *table,
                   struct err *err)
{
    CLEANUP(buf_done) struct buf all;
    const char *cells[FLOW_COLUMNS_MAX] = {0};
    size_t starts[FLOW_COLUMNS_MAX + 1] = {0};
    size_t lens[FLOW_COLUMNS_MAX] = {0};
    unsigned n = 0;

    buf_init(&all, (size_t)FLOW_COLUMNS_MAX * 3 * FLOW_CELL_MAX);
    for (;;) {
        const size_t before = all.len;

        if (csv_cell(text, len, delimiter, at, &all, err) != 0) {
            return -1;
        }
        if (n < FLOW_COLUMNS_MAX) {
            n++;
            starts[n] = all.len;
        } else {
            table->cut = true;
            all.len = before;
        }
        if (*at >= len || text[*at] == '\n') {
            break;
        }
        (*at)++;
    }
    for (unsigned i = 0; i < n; i++) {
        cells[i] = all.data ? all.data + starts[i] : "";
        lens[i] = starts[i + 1] - starts[i];
    }
    return table_add(table, cells, lens, n, err);
}

static int draw_csv(struct flow *flow, const struct buf *text, char delimiter, bool *ret_cut,
                    struct err *err)
{
    CLEANUP(table_done) struct table table = {.header = true};
    size_t at = 0;

    delimiter = delimiter ? delimiter : sniff_delimiter(text->data, text->len);
    while (at < text->len && !table.cut) {
        if (csv_row(text->data, text->len, delimiter, &at, &table, err) != 0) {
            return -1;
        }
        at++;
    }
    if (table.n_columns < 2) {
        return flow_text(flow, FLOW_MONO, 0, NULL, text->data, text->len, err);
    }
    if (table_natural_width(flow, &table) > flow_room(flow)) {
        flow_turn(flow);
    }
    *ret_cut = *ret_cut || table.cut;
    return table_draw(flow, &table, err);
}

/* --- Markdown: as much of it as one line shows ---------------------------------------------- */

static int draw_md_line(struct flow *flow, const char *line, size_t len, bool code, struct err *err)
{
    static const enum flow_style headings[] = {FLOW_TITLE, FLOW_HEADING, FLOW_SUBHEADING};
    size_t hashes = 0;
    size_t indent = 0;

    if (code || (len > 0 && line[0] == '|')) {
        return flow_text(flow, FLOW_MONO, 12, NULL, line, len, err);
    }
    while (hashes < len && line[hashes] == '#') {
        hashes++;
    }
    if (hashes > 0 && hashes < len && line[hashes] == ' ') {
        return flow_text(flow, headings[hashes > 3 ? 2 : hashes - 1], 0, NULL, line + hashes + 1,
                         len - hashes - 1, err);
    }
    while (indent < len && line[indent] == ' ') {
        indent++;
    }
    line += indent;
    len -= indent;
    if (len > 2 && strchr("-*+", line[0]) && line[1] == ' ') {
        return flow_text(flow, FLOW_BODY, 16 + 6.0 * (double)indent, "\xe2\x80\xa2", line + 2,
                         len - 2, err);
    }
    if (len == 0) {
        flow_space(flow, 5);
        return 0;
    }
    return flow_text(flow, FLOW_BODY, 3.0 * (double)indent, NULL, line, len, err);
}

static int draw_md(struct flow *flow, const struct buf *text, struct err *err)
{
    const char *line = text->data;
    const char *end = text->data + text->len;
    bool code = false;

    while (line < end && !flow->full) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        const size_t len = (size_t)((stop ? stop : end) - line);

        if (len >= 3 && (memcmp(line, "```", 3) == 0 || memcmp(line, "~~~", 3) == 0)) {
            code = !code;
        } else if (draw_md_line(flow, line, len, code, err) != 0) {
            return -1;
        }
        line = stop ? stop + 1 : end;
    }
    return 0;
}

/* --- the rest ------------------------------------------------------------------------------- */

static int indent_line(struct buf *out, unsigned depth, struct err *err)
{
    static const char spaces[] = "\n                                                ";

    return buf_append(out, spaces, 1 + min_size(2UL * depth, sizeof(spaces) - 2), err);
}

/* One character between two strings. */
static int indent_token(struct buf *out, char c, unsigned *depth, struct err *err)
{
    const bool opens = c == '{' || c == '[';
    const bool closes = c == '}' || c == ']';

    if (c == ' ' || c == '\n' || c == '\t') {
        return 0;
    }
    if (closes) {
        *depth -= *depth > 0;
        if (indent_line(out, *depth, err) != 0) {
            return -1;
        }
    }
    if (buf_append(out, &c, 1, err) != 0) {
        return -1;
    }
    *depth += opens;
    if (opens || c == ',') {
        return indent_line(out, *depth, err);
    }
    return c == ':' ? buf_append(out, " ", 1, err) : 0;
}

/* Behind the string that begins at `at`. */
static size_t string_end(const struct buf *text, size_t at)
{
    for (at++; at < text->len && text->data[at] != '"'; at++) {
        at += text->data[at] == '\\';
    }
    return at < text->len ? at + 1 : text->len;
}

/* Line breaks and indentation between the tokens; the tokens stay as they are, so that no number
 * is written differently from the file. */
static int indent_json(const struct buf *text, struct buf *out, struct err *err)
{
    unsigned depth = 0;

    for (size_t i = 0; i < text->len;) {
        const size_t end = text->data[i] == '"' ? string_end(text, i) : i + 1;
        const int rc = text->data[i] == '"' ? buf_append(out, text->data + i, end - i, err)
                                            : indent_token(out, text->data[i], &depth, err);

        if (rc != 0) {
            return -1;
        }
        i = end;
    }
    return 0;
}

/* As it is, unless it was written for machines. */
static int draw_json(struct flow *flow, const struct buf *text, struct err *err)
{
    CLEANUP(buf_done) struct buf pretty;
    const char *line = text->data;
    const char *end = text->data + text->len;
    bool long_lines = false;

    buf_init(&pretty, UTF8_MAX);
    while (line < end && !long_lines) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));

        long_lines = (stop ? stop : end) - line > JSON_LINE_LONG;
        line = stop ? stop + 1 : end;
    }
    if (long_lines && text->len <= JSON_PRETTY_MAX) {
        if (indent_json(text, &pretty, err) != 0) {
            return -1;
        }
        text = &pretty;
    }
    return flow_text(flow, FLOW_MONO, 0, NULL, text->data, text->len, err);
}

/* The encoding that a markup file names in its first bytes, or NULL. */
static const char *named_charset(const char *data, size_t len, char ret[40])
{
    static const char *const marks[] = {"charset=", "encoding="};

    for (size_t m = 0; m < ARRAY_LEN(marks); m++) {
        const size_t mark_len = strlen(marks[m]);

        for (size_t i = 0; i + mark_len < min_size(len, 2048); i++) {
            if (g_ascii_strncasecmp(data + i, marks[m], mark_len) != 0) {
                continue;
            }
            size_t n = 0;

            i += mark_len;
            i += i < len && (data[i] == '"' || data[i] == '\'') ? 1 : 0;
            while (n < 39 && i < len && (g_ascii_isalnum(data[i]) || strchr("-_:.", data[i]))) {
                ret[n++] = data[i++];
            }
            ret[n] = '\0';
            return n > 0 ? ret : NULL;
        }
    }
    return NULL;
}

static int draw(struct flow *flow, const struct render_opts *opts, const struct buf *text,
                bool *ret_cut, struct err *err)
{
    switch (opts->kind) {
    case FILE_CSV:
        return draw_csv(flow, text, '\0', ret_cut, err);
    case FILE_TSV:
        return draw_csv(flow, text, '\t', ret_cut, err);
    case FILE_MD:
        return draw_md(flow, text, err);
    case FILE_JSON:
        return draw_json(flow, text, err);
    case FILE_HTML:
        return flow_html(flow, text->data, text->len, err);
    default:
        return flow_text(flow, FLOW_MONO, 0, NULL, text->data, text->len, err);
    }
}

int render_text(struct jail_unit *unit, const struct render_opts *opts, struct err *err)
{
    CLEANUP(flow_done) struct flow flow = {0};
    CLEANUP(buf_done) struct buf text;
    const char *data = NULL;
    size_t len = 0;
    char name[40] = "";
    bool cut = false;
    const bool markup = opts->kind == FILE_HTML || opts->kind == FILE_XML;

    buf_init(&text, UTF8_MAX);
    if (unit_map_input(unit, TEXT_BYTES_MAX, &data, &len, err) != 0) {
        return -1;
    }
    if (len == 0) {
        return err_set(err, ERR_PERMANENT, "empty_file", "the file is empty");
    }
    if (flow_init(&flow, unit, opts, err) != 0) {
        return -1;
    }
    if (opts->kind == FILE_EML) {
        return flow_mail(&flow, data, len, err) != 0 ? -1 : flow_finish(&flow, false, err);
    }
    if (charset_to_utf8(data, len, markup ? HTML_SHOWN_MAX : TEXT_SHOWN_MAX,
                        markup ? named_charset(data, len, name) : NULL, &text, &cut, err) != 0 ||
        buf_puts(&text, "", err) != 0 || draw(&flow, opts, &text, &cut, err) != 0) {
        return -1;
    }
    return flow_finish(&flow, cut, err);
}
