/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines are measured without hinting, so that a page breaks at the same places at every width.
 */
#include "services/preview-worker/render_flow.h"

#include <string.h>

#define MARGIN 48.0
#define RULE_SPACE 6.0
#define PIECE_MAX 4096U /* bytes laid out at once */

static const struct {
    const char *font;
    double size;
    double before; /* space above a paragraph */
} styles[FLOW_STYLES] = {
    [FLOW_BODY] = {"Liberation Sans, DejaVu Sans, sans", 10.5, 3},
    [FLOW_TITLE] = {"Liberation Sans, DejaVu Sans, sans bold", 17, 8},
    [FLOW_HEADING] = {"Liberation Sans, DejaVu Sans, sans bold", 13.5, 8},
    [FLOW_SUBHEADING] = {"Liberation Sans, DejaVu Sans, sans bold", 11, 6},
    [FLOW_MONO] = {"Liberation Mono, DejaVu Sans Mono, monospace", 9, 0},
    [FLOW_SMALL] = {"Liberation Sans, DejaVu Sans, sans", 9, 2},
};

double flow_margin(void)
{
    return MARGIN;
}

double flow_room(const struct flow *flow)
{
    return flow->width - 2 * MARGIN;
}

void flow_turn(struct flow *flow)
{
    flow->width = RENDER_A4_HEIGHT;
    flow->height = RENDER_A4_WIDTH;
}

int flow_init(struct flow *flow, struct jail_unit *unit, const struct render_opts *opts,
              struct err *err)
{
    *flow = (struct flow){
        .unit = unit,
        .opts = opts,
        .width = RENDER_A4_WIDTH,
        .height = RENDER_A4_HEIGHT,
    };
    flow->context = pango_font_map_create_context(pango_cairo_font_map_get_default());
    if (!flow->context) {
        return err_nomem(err);
    }
    cairo_font_options_t *options = cairo_font_options_create();

    cairo_font_options_set_hint_style(options, CAIRO_HINT_STYLE_NONE);
    cairo_font_options_set_hint_metrics(options, CAIRO_HINT_METRICS_OFF);
    pango_cairo_context_set_font_options(flow->context, options);
    cairo_font_options_destroy(options);
    pango_cairo_context_set_resolution(flow->context, 72);
    pango_context_set_round_glyph_positions(flow->context, FALSE);
    for (size_t i = 0; i < FLOW_STYLES; i++) {
        flow->fonts[i] = pango_font_description_from_string(styles[i].font);
        pango_font_description_set_absolute_size(flow->fonts[i], styles[i].size * PANGO_SCALE);
    }
    return 0;
}

static void close_page(struct flow *flow)
{
    if (flow->drawing) {
        canvas_done(&flow->canvas);
        word_list_done(&flow->words);
        flow->drawing = false;
    }
}

void flow_done(struct flow *flow)
{
    close_page(flow);
    for (size_t i = 0; i < FLOW_STYLES; i++) {
        if (flow->fonts[i]) {
            pango_font_description_free(flow->fonts[i]);
        }
    }
    g_clear_object(&flow->context);
}

static int write_page(struct flow *flow, struct err *err)
{
    if (flow->drawing && (canvas_write(&flow->canvas, flow->page, flow->unit, err) != 0 ||
                          word_list_write(&flow->words, flow->page, flow->unit, err) != 0)) {
        return -1;
    }
    close_page(flow);
    return 0;
}

static bool wanted(const struct flow *flow, unsigned page)
{
    const struct render_opts *opts = flow->opts;

    return opts->first == 0 ? page == 1
                            : page >= opts->first && (opts->last == 0 || page <= opts->last);
}

static int next_page(struct flow *flow, struct err *err)
{
    if (write_page(flow, err) != 0) {
        return -1;
    }
    if (flow->page == FLOW_PAGES_MAX) {
        flow->full = true;
        return 0;
    }
    flow->page++;
    flow->y = MARGIN;
    flow->text_at = 0;
    if (wanted(flow, flow->page)) {
        if (canvas_init(&flow->canvas, flow->width, flow->height, flow->opts, err) != 0) {
            return -1;
        }
        word_list_init(&flow->words, flow->width, flow->height);
        flow->drawing = true;
        cairo_set_source_rgb(flow->canvas.cr, 0.1, 0.1, 0.1);
    }
    return 0;
}

int flow_need(struct flow *flow, double points, struct err *err)
{
    if (flow->full) {
        return 0;
    }
    if (flow->page == 0 || (flow->y + points > flow->height - MARGIN && flow->y > MARGIN)) {
        return next_page(flow, err);
    }
    return 0;
}

void flow_space(struct flow *flow, double points)
{
    if (flow->page > 0 && flow->y > MARGIN) {
        flow->y += points;
    }
}

int flow_rule(struct flow *flow, struct err *err)
{
    if (flow_need(flow, 2 * RULE_SPACE, err) != 0) {
        return -1;
    }
    flow->y += RULE_SPACE;
    if (flow->drawing) {
        cairo_t *cr = flow->canvas.cr;

        cairo_save(cr);
        cairo_set_source_rgb(cr, 0.7, 0.7, 0.7);
        cairo_set_line_width(cr, 0.6);
        cairo_move_to(cr, MARGIN, flow->y);
        cairo_line_to(cr, flow->width - MARGIN, flow->y);
        cairo_stroke(cr);
        cairo_restore(cr);
    }
    flow->y += RULE_SPACE;
    return 0;
}

PangoLayout *flow_layout(struct flow *flow, enum flow_style style, const char *text, size_t len,
                         double width)
{
    PangoLayout *layout = pango_layout_new(flow->context);
    g_autofree char *valid = g_utf8_make_valid(text, (gssize)len);

    pango_layout_set_font_description(layout, flow->fonts[style]);
    pango_layout_set_text(layout, valid, -1);
    pango_layout_set_width(layout, (int)(width * PANGO_SCALE));
    pango_layout_set_wrap(layout, PANGO_WRAP_WORD_CHAR);
    /* an address cut in two must not gain a hyphen */
    PangoAttrList *attributes = pango_attr_list_new();

    pango_attr_list_insert(attributes, pango_attr_insert_hyphens_new(FALSE));
    pango_layout_set_attributes(layout, attributes);
    pango_attr_list_unref(attributes);
    return layout;
}

/* The box of bytes [start, end) of a line, around all of its parts in mixed directions. */
static void word_box(PangoLayoutLine *line, int start, int end, const PangoRectangle *extents,
                     double x, double baseline, double box[4])
{
    int *ranges = NULL;
    int n = 0;

    pango_layout_line_get_x_ranges(line, start, end, &ranges, &n);
    box[0] = box[2] = x;
    for (int i = 0; i < n; i++) {
        const double left = x + (double)ranges[2 * i] / PANGO_SCALE;
        const double right = x + (double)ranges[2 * i + 1] / PANGO_SCALE;

        box[0] = i == 0 || left < box[0] ? left : box[0];
        box[2] = i == 0 || right > box[2] ? right : box[2];
    }
    g_free(ranges);
    box[1] = baseline + (double)extents->y / PANGO_SCALE;
    box[3] = box[1] + (double)extents->height / PANGO_SCALE;
}

static int note_words(struct flow *flow, PangoLayout *layout, PangoLayoutLine *line, double x,
                      double baseline, struct err *err)
{
    const char *text = pango_layout_get_text(layout) + line->start_index;
    const char *end = text + line->length;
    PangoRectangle extents;

    pango_layout_line_get_extents(line, NULL, &extents);
    for (const char *p = text; p < end;) {
        const char *start = p;
        double box[4];

        while (p < end && !g_unichar_isspace(g_utf8_get_char(p))) {
            p = g_utf8_next_char(p);
        }
        if (p > start) {
            const unsigned n = (unsigned)g_utf8_strlen(start, p - start);

            word_box(line, line->start_index + (int)(start - text),
                     line->start_index + (int)(p - text), &extents, x, baseline, box);
            if (word_list_add(&flow->words, box, flow->text_at, flow->text_at + n, start,
                              (size_t)(p - start), err) != 0) {
                return -1;
            }
            flow->text_at += n + 1;
        } else {
            p = g_utf8_next_char(p);
        }
    }
    return 0;
}

int flow_draw_line(struct flow *flow, PangoLayoutIter *iter, double x, double baseline,
                   struct err *err)
{
    PangoLayoutLine *line = pango_layout_iter_get_line_readonly(iter);
    PangoRectangle logical;

    if (!flow->drawing) {
        return 0;
    }
    /* lines that run from right to left stand off the left edge; word ranges count from there */
    pango_layout_iter_get_line_extents(iter, NULL, &logical);
    cairo_move_to(flow->canvas.cr, x + (double)logical.x / PANGO_SCALE, baseline);
    pango_cairo_show_layout_line(flow->canvas.cr, line);
    return note_words(flow, pango_layout_iter_get_layout(iter), line, x, baseline, err);
}

static void draw_mark(struct flow *flow, enum flow_style style, double x, double baseline,
                      const char *mark)
{
    if (!flow->drawing || !mark) {
        return;
    }
    PangoLayout *layout = flow_layout(flow, style, mark, strlen(mark), 100);

    cairo_move_to(flow->canvas.cr, x, baseline);
    pango_cairo_show_layout_line(flow->canvas.cr, pango_layout_get_line_readonly(layout, 0));
    g_object_unref(layout);
}

static int add_layout(struct flow *flow, enum flow_style style, double indent, const char *mark,
                      PangoLayout *layout, struct err *err)
{
    PangoLayoutIter *iter = pango_layout_get_iter(layout);
    int rc = 0;

    do {
        PangoLayoutLine *line = pango_layout_iter_get_line_readonly(iter);
        PangoRectangle box;

        pango_layout_line_get_extents(line, NULL, &box);
        const double height = (double)box.height / PANGO_SCALE * 1.12;
        const double ascent = -(double)box.y / PANGO_SCALE;

        rc = flow_need(flow, height, err);
        if (rc != 0 || flow->full) {
            break;
        }
        draw_mark(flow, style, MARGIN + indent - 12, flow->y + ascent, mark);
        mark = NULL;
        rc = flow_draw_line(flow, iter, MARGIN + indent, flow->y + ascent, err);
        flow->y += height;
    } while (rc == 0 && pango_layout_iter_next_line(iter));
    pango_layout_iter_free(iter);
    return rc;
}

/* Where to cut a long text: behind a line feed, a space, or any character, in this order. */
static size_t piece_len(const char *text, size_t len)
{
    if (len <= PIECE_MAX) {
        return len;
    }
    for (size_t n = PIECE_MAX; n > PIECE_MAX / 2; n--) {
        if (text[n - 1] == '\n') {
            return n;
        }
    }
    for (size_t n = PIECE_MAX; n > PIECE_MAX / 2; n--) {
        if (text[n - 1] == ' ') {
            return n;
        }
    }
    size_t n = PIECE_MAX;

    while (n > PIECE_MAX - 4 && (text[n] & 0xc0) == 0x80) {
        n--;
    }
    return n;
}

int flow_text(struct flow *flow, enum flow_style style, double indent, const char *mark,
              const char *text, size_t len, struct err *err)
{
    indent = indent > flow->width / 3 ? flow->width / 3 : indent;
    flow_space(flow, styles[style].before);
    if (style == FLOW_TITLE || style == FLOW_HEADING || style == FLOW_SUBHEADING) {
        if (flow_need(flow, 3 * styles[style].size, err) != 0) { /* not alone at the foot */
            return -1;
        }
    }
    while (len > 0 && !flow->full) {
        const size_t n = piece_len(text, len);
        const size_t shown = text[n - 1] == '\n' ? n - 1 : n; /* the layout would add a line */
        PangoLayout *layout = flow_layout(flow, style, text, shown, flow_room(flow) - indent);
        const int rc = add_layout(flow, style, indent, mark, layout, err);

        g_object_unref(layout);
        if (rc != 0) {
            return -1;
        }
        mark = NULL;
        text += n;
        len -= n;
    }
    return 0;
}

int flow_finish(struct flow *flow, bool truncated, struct err *err)
{
    if (flow->page == 0 && next_page(flow, err) != 0) {
        return -1;
    }
    if (write_page(flow, err) != 0) {
        return -1;
    }
    if (flow->opts->first > flow->page) {
        return err_set(err, ERR_PERMANENT, "corrupt", "page %u is not in a document of %u pages",
                       flow->opts->first, flow->page);
    }
    return render_end(flow->unit, flow->page, truncated || flow->full, err);
}
