/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Excel workbooks: one page per sheet, its name first, rows as lines and cells set apart by tabs,
 * numbers and dates as the cell's format shows them; then comments, text boxes and charts.
 * Invariant: a sheet is read as a stream, only shared strings and styles are held. Gaps between
 * cells are bounded, so a far-away cell costs nothing.
 */
#include "services/text-extractor/package.h"
#include "services/text-extractor/text_numfmt.h"

#include <stdio.h>
#include <string.h>

#define STRINGS_MAX 4000000U
#define STRINGS_BYTES (128U << 20)
#define STYLES_MAX 65536U
#define GAP_MAX 16          /* tabs for columns without a cell */
#define CELL_MAX (1U << 20) /* bytes of one cell */

struct numfmt {
    int64_t id;
    char code[256];
};

struct xlsx {
    struct package *pkg;
    struct text_out *out;
    struct buf strings; /* all shared strings, NUL-terminated one after the other */
    size_t *offsets;
    size_t n_strings, cap_strings;
    struct numfmt *formats;
    size_t n_formats, cap_formats;
    int64_t *styles; /* cell style -> number format */
    size_t n_styles, cap_styles;
    bool date1904;
};

static void xlsx_done(struct xlsx *xlsx)
{
    buf_done(&xlsx->strings);
    free(xlsx->offsets);
    free(xlsx->formats);
    free(xlsx->styles);
}

/* Makes room for one more; list, its use and its size are updated together. */
static int grow(void **list, size_t n, size_t *cap, size_t item, size_t max, struct err *err)
{
    size_t more = *cap ? *cap * 2 : 64;
    void *moved;

    if (n < *cap) {
        return 0;
    }
    if (n >= max) {
        return err_set(err, ERR_PERMANENT, "expands_too_much", "the workbook has too many entries");
    }
    moved = reallocarray(*list, more, item);
    if (!moved) {
        return err_nomem(err);
    }
    *list = moved;
    *cap = more;
    return 0;
}

/* --- tables of the workbook ---------------------------------------------------------------------
 */

/* Appends what stands in <t> up to the end of the element just opened; phonetic runs are left out.
 * Line breaks inside a cell become blanks. */
static int rich_text(struct xml *xml, struct buf *text, struct err *err)
{
    int depth = xml->depth;
    bool in_text = false;

    while (!(xml->type == XML_CLOSE && xml->depth <= depth) && xml->type != XML_END) {
        if (xml_next(xml, err)) {
            return -1;
        }
        if (xml->type == XML_OPEN && xml_is(xml, "rPh") && xml_skip(xml, err)) {
            return -1;
        }
        if (xml_is(xml, "t") && (xml->type == XML_OPEN || xml->type == XML_CLOSE)) {
            in_text = xml->type == XML_OPEN;
        } else if (xml->type == XML_CHARS && in_text && buf_puts(text, xml_chars(xml), err)) {
            return -1;
        }
    }
    return 0;
}

static int strings_load(struct xlsx *xlsx, const char *part, struct err *err)
{
    CLEANUP(xml_close) struct xml xml = {0};

    if (xml_open(xlsx->pkg, part, &xml, err)) {
        return -1;
    }
    do {
        if (xml_next(&xml, err)) {
            return -1;
        }
        if (xml.type == XML_OPEN && xml_is(&xml, "si")) {
            void *list = xlsx->offsets;
            int rc = grow(&list, xlsx->n_strings, &xlsx->cap_strings, sizeof(*xlsx->offsets),
                          STRINGS_MAX, err);

            xlsx->offsets = list;
            if (rc) {
                return -1;
            }
            xlsx->offsets[xlsx->n_strings++] = xlsx->strings.len;
            if (rich_text(&xml, &xlsx->strings, err) || buf_append(&xlsx->strings, "", 1, err)) {
                return -1;
            }
        }
    } while (xml.type != XML_END);
    return 0;
}

static int format_add(struct xlsx *xlsx, struct xml *xml, struct err *err)
{
    void *list = xlsx->formats;
    int rc =
        grow(&list, xlsx->n_formats, &xlsx->cap_formats, sizeof(*xlsx->formats), STYLES_MAX, err);

    xlsx->formats = list;
    if (!rc) {
        struct numfmt *format = &xlsx->formats[xlsx->n_formats++];

        format->id = xml_attr_int(xml, "numFmtId", 0);
        (void)xml_attr(xml, "formatCode", false, format->code, sizeof(format->code));
    }
    return rc;
}

static int style_add(struct xlsx *xlsx, struct xml *xml, struct err *err)
{
    void *list = xlsx->styles;
    int rc = grow(&list, xlsx->n_styles, &xlsx->cap_styles, sizeof(*xlsx->styles), STYLES_MAX, err);

    xlsx->styles = list;
    if (!rc) {
        xlsx->styles[xlsx->n_styles++] = xml_attr_int(xml, "numFmtId", 0);
    }
    return rc;
}

static int styles_load(struct xlsx *xlsx, const char *part, struct err *err)
{
    CLEANUP(xml_close) struct xml xml = {0};
    bool in_cells = false;

    if (xml_open(xlsx->pkg, part, &xml, err)) {
        return -1;
    }
    do {
        if (xml_next(&xml, err)) {
            return -1;
        }
        if (xml_is(&xml, "cellXfs")) {
            in_cells = xml.type == XML_OPEN;
        } else if (xml.type == XML_OPEN && in_cells && xml_is(&xml, "xf")) {
            if (style_add(xlsx, &xml, err)) {
                return -1;
            }
        } else if (xml.type == XML_OPEN && xml_is(&xml, "numFmt") && format_add(xlsx, &xml, err)) {
            return -1;
        }
    } while (xml.type != XML_END);
    return 0;
}

static const char *format_code(const struct xlsx *xlsx, int64_t style)
{
    int64_t id = style >= 0 && (size_t)style < xlsx->n_styles ? xlsx->styles[style] : 0;

    for (size_t i = 0; i < xlsx->n_formats; i++) {
        if (xlsx->formats[i].id == id) {
            return xlsx->formats[i].code;
        }
    }
    return numfmt_builtin(id);
}

/* --- cells --------------------------------------------------------------------------------------
 */

struct cell {
    int64_t column;
    int64_t style;
    char type[16];
    struct buf value;
};

/* Column of "AB12", counted from 0; fallback if there is none. */
static int64_t column_of(const char *ref, int64_t fallback)
{
    int64_t n = 0;

    for (; *ref >= 'A' && *ref <= 'Z' && n < 20000; ref++) {
        n = n * 26 + (*ref - 'A' + 1);
    }
    return n > 0 ? n - 1 : fallback;
}

static int cell_read(struct xml *xml, struct cell *cell, struct err *err)
{
    int depth = xml->depth;
    bool in_value = false;

    buf_reset(&cell->value);
    while (!(xml->type == XML_CLOSE && xml->depth <= depth) && xml->type != XML_END) {
        if (xml_next(xml, err)) {
            return -1;
        }
        if (xml_is(xml, "v") && (xml->type == XML_OPEN || xml->type == XML_CLOSE)) {
            in_value = xml->type == XML_OPEN;
        } else if (xml->type == XML_OPEN && xml_is(xml, "is")) {
            if (rich_text(xml, &cell->value, err)) {
                return -1;
            }
            xml->type = XML_OTHER;
        } else if (xml->type == XML_CHARS && in_value &&
                   buf_puts(&cell->value, xml_chars(xml), err)) {
            return -1;
        }
    }
    return 0;
}

/* The cell as shown; borrowed from cell, from the shared strings or from text. */
static const char *cell_text(const struct xlsx *xlsx, const struct cell *cell, char *text,
                             size_t size)
{
    const char *value = cell->value.data ? cell->value.data : "";
    char *end;
    double number;

    if (!strcmp(cell->type, "s")) {
        unsigned long long i = strtoull(value, NULL, 10);

        return i < xlsx->n_strings ? xlsx->strings.data + xlsx->offsets[i] : "";
    }
    if (!strcmp(cell->type, "b")) {
        return *value == '1' ? "TRUE" : "FALSE";
    }
    if ((*cell->type && strcmp(cell->type, "n") != 0) || !*value) {
        return value;
    }
    number = strtod(value, &end);
    if (*end) {
        return value;
    }
    numfmt_number(format_code(xlsx, cell->style), number, xlsx->date1904, text, size);
    /* Blanks that only line up brackets. */
    for (size_t n = strlen(text); n > 0 && text[n - 1] == ' '; n--) {
        text[n - 1] = '\0';
    }
    return text + strspn(text, " ");
}

static int cell_write(const struct xlsx *xlsx, const struct cell *cell, int64_t gap,
                      struct err *err)
{
    char text[512];
    const char *s = cell_text(xlsx, cell, text, sizeof(text));

    for (int64_t i = 0; *s && i < gap && i < GAP_MAX; i++) {
        if (text_add(xlsx->out, "\t", 1, err)) {
            return -1;
        }
    }
    return text_flow(xlsx->out, s, strlen(s), err);
}

struct sheet {
    struct xlsx *xlsx;
    struct xml xml;
    int64_t first_column; /* of the used range */
    int64_t last;         /* column of the last cell written in this row, -1 none */
    int64_t next;         /* column a cell without a reference has */
};

static int on_cell(struct sheet *sheet, struct cell *cell, struct err *err)
{
    struct xml *xml = &sheet->xml;
    char ref[24];
    size_t before = text_len(sheet->xlsx->out);
    int64_t gap;

    (void)xml_attr(xml, "r", false, ref, sizeof(ref));
    (void)xml_attr(xml, "t", false, cell->type, sizeof(cell->type));
    cell->style = xml_attr_int(xml, "s", 0);
    cell->column = column_of(ref, sheet->next);
    sheet->next = cell->column + 1;
    gap = sheet->last >= 0 ? cell->column - sheet->last : cell->column - sheet->first_column;
    if (cell_read(xml, cell, err) || cell_write(sheet->xlsx, cell, gap, err)) {
        return -1;
    }
    if (text_len(sheet->xlsx->out) > before) {
        sheet->last = cell->column;
    }
    return 0;
}

/* "&L&"Arial"Left&RPage &P": the codes go, the words stay. */
static int header_text(struct text_out *out, const char *s, struct err *err)
{
    if (text_break(out, 1, err)) {
        return -1;
    }
    while (*s) {
        size_t n = strcspn(s, "&");

        if (text_flow(out, s, n, err)) {
            return -1;
        }
        s += n;
        if (*s != '&') {
            break;
        }
        s++;
        if (*s == '"') {
            const char *end = strchr(s + 1, '"');
            s = end ? end + 1 : s + strlen(s);
        } else if (*s == '&') {
            if (text_add(out, "&", 1, err)) {
                return -1;
            }
            s++;
        } else if (*s >= '0' && *s <= '9') {
            s += strspn(s, "0123456789");
        } else if (*s) {
            if (strchr("LCR", *s) && text_break(out, 1, err)) {
                return -1;
            }
            s++;
        }
    }
    return 0;
}

static int sheet_node(struct sheet *sheet, struct cell *cell, bool *in_header, struct err *err)
{
    struct xml *xml = &sheet->xml;
    char ref[48];

    if (xml->type == XML_CHARS && *in_header) {
        return header_text(sheet->xlsx->out, xml_chars(xml), err);
    }
    if (xml_is(xml, "oddHeader") || xml_is(xml, "oddFooter")) {
        *in_header = xml->type == XML_OPEN;
    }
    if (xml->type != XML_OPEN) {
        return 0;
    }
    if (xml_is(xml, "c")) {
        return on_cell(sheet, cell, err);
    }
    if (xml_is(xml, "row")) {
        sheet->last = -1;
        sheet->next = 0;
        return text_break(sheet->xlsx->out, 1, err);
    }
    if (xml_is(xml, "dimension")) {
        (void)xml_attr(xml, "ref", false, ref, sizeof(ref));
        sheet->first_column = column_of(ref, 0);
    }
    return 0;
}

static int sheet_read(struct xlsx *xlsx, const char *part, struct err *err)
{
    struct sheet sheet = {.xlsx = xlsx, .last = -1};
    struct cell cell = {0};
    bool in_header = false;
    int rc = 0;

    if (xml_open(xlsx->pkg, part, &sheet.xml, err)) {
        return -1;
    }
    buf_init(&cell.value, CELL_MAX);
    do {
        rc = xml_next(&sheet.xml, err) || sheet_node(&sheet, &cell, &in_header, err) ? -1 : 0;
    } while (!rc && sheet.xml.type != XML_END);
    buf_done(&cell.value);
    xml_close(&sheet.xml);
    return rc;
}

/* --- what hangs on a sheet
 * ------------------------------------------------------------------------ */

/* Text of comments, shapes and charts: <t> anywhere, <v> of a chart's cached labels. */
static int drawn_text(struct xlsx *xlsx, const char *part, bool chart, struct err *err)
{
    static const char *const ends[] = {"p", "comment", "pt", "text", NULL};
    CLEANUP(xml_close) struct xml xml = {0};
    bool in_text = false;
    bool labels = false;

    if (package_find(xlsx->pkg, part) < 0) {
        return 0;
    }
    if (xml_open(xlsx->pkg, part, &xml, err) || text_break(xlsx->out, 1, err)) {
        return -1;
    }
    do {
        if (xml_next(&xml, err) ||
            (xml.type == XML_OPEN && xml_is(&xml, "Fallback") && xml_skip(&xml, err))) {
            return -1;
        }
        if (xml_is(&xml, "strCache")) {
            labels = chart && xml.type == XML_OPEN;
        }
        if (xml_is(&xml, "t") || (labels && xml_is(&xml, "v"))) {
            in_text = xml.type == XML_OPEN;
        } else if (xml.type == XML_CLOSE && xml_is_any(&xml, ends)) {
            if (text_break(xlsx->out, 1, err)) {
                return -1;
            }
        } else if (xml.type == XML_CHARS && in_text &&
                   text_flow(xlsx->out, xml_chars(&xml), strlen(xml_chars(&xml)), err)) {
            return -1;
        }
    } while (xml.type != XML_END);
    return 0;
}

static int sheet_extras(struct xlsx *xlsx, const char *part, struct err *err)
{
    CLEANUP(rels_done) struct rels rels = {0};

    if (rels_load(xlsx->pkg, part, &rels, err)) {
        return -1;
    }
    for (size_t i = 0; i < rels.n; i++) {
        bool drawing = !strcmp(rels.list[i].type, "drawing");
        CLEANUP(rels_done) struct rels inner = {0};

        if (!drawing && strcmp(rels.list[i].type, "comments") != 0) {
            continue;
        }
        if (drawn_text(xlsx, rels.list[i].target, false, err) ||
            (drawing && rels_load(xlsx->pkg, rels.list[i].target, &inner, err))) {
            return -1;
        }
        for (const struct rel *rel = rels_by_type(&inner, "chart", NULL); rel;
             rel = rels_by_type(&inner, "chart", rel)) {
            if (drawn_text(xlsx, rel->target, true, err)) {
                return -1;
            }
        }
    }
    return 0;
}

/* --- the workbook
 * ---------------------------------------------------------------------------------- */

static int sheet_page(struct xlsx *xlsx, const struct rels *rels, struct xml *book, struct err *err)
{
    char name[256];
    char id[REL_ID_MAX];
    const struct rel *rel;

    (void)xml_attr(book, "name", false, name, sizeof(name));
    (void)xml_attr(book, "id", true, id, sizeof(id));
    rel = rels_by_id(rels, id);
    if (!rel || package_find(xlsx->pkg, rel->target) < 0) {
        return 0;
    }
    if (text_puts(xlsx->out, name, err) || text_break(xlsx->out, 1, err) ||
        sheet_read(xlsx, rel->target, err) || sheet_extras(xlsx, rel->target, err)) {
        return err_wrap(err, "sheet %.60s", name);
    }
    return text_page_end(xlsx->out, err);
}

static int tables_load(struct xlsx *xlsx, const struct rels *rels, struct err *err)
{
    const struct rel *strings = rels_by_type(rels, "sharedStrings", NULL);
    const struct rel *styles = rels_by_type(rels, "styles", NULL);

    if (strings && package_find(xlsx->pkg, strings->target) >= 0 &&
        strings_load(xlsx, strings->target, err)) {
        return err_wrap(err, "shared strings");
    }
    if (styles && package_find(xlsx->pkg, styles->target) >= 0 &&
        styles_load(xlsx, styles->target, err)) {
        return err_wrap(err, "styles");
    }
    return 0;
}

int format_xlsx(struct package *pkg, const char *main_part, struct text_out *out, struct err *err)
{
    CLEANUP(rels_done) struct rels rels = {0};
    CLEANUP(xlsx_done) struct xlsx xlsx = {.pkg = pkg, .out = out};
    CLEANUP(xml_close) struct xml book = {0};

    buf_init(&xlsx.strings, STRINGS_BYTES);
    if (strstr(main_part, ".bin")) {
        return err_set(err, ERR_PERMANENT, "unsupported_type",
                       "binary workbooks (xlsb) are not read; save it as xlsx");
    }
    if (rels_load(pkg, main_part, &rels, err) || tables_load(&xlsx, &rels, err) ||
        xml_open(pkg, main_part, &book, err)) {
        return -1;
    }
    do {
        char flag[8];

        if (xml_next(&book, err)) {
            return -1;
        }
        if (book.type == XML_OPEN && xml_is(&book, "workbookPr")) {
            (void)xml_attr(&book, "date1904", false, flag, sizeof(flag));
            xlsx.date1904 = *flag == '1' || *flag == 't';
        } else if (book.type == XML_OPEN && xml_is(&book, "sheet") &&
                   sheet_page(&xlsx, &rels, &book, err)) {
            return -1;
        }
    } while (book.type != XML_END);
    return 0;
}
