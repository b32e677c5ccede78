/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables: column widths come from the widest cells of the first rows, squeezed to the page in
 * proportion; long cells wrap up to a few lines and end in an ellipsis.
 */
#include "services/preview-worker/render_flow.h"

#include <string.h>

#define PAD 3.0
#define COLUMN_MIN 18.0
#define COLUMN_WISH_MAX 220.0
#define CELL_LINES_MAX 8
#define MEASURED_ROWS 60

int table_add(struct table *table, const char *const *cells, const size_t *lens, unsigned n,
              struct err *err)
{
    if (table->n_rows == TABLE_ROWS_MAX) {
        table->cut = true;
        return 0;
    }
    if (n > FLOW_COLUMNS_MAX) {
        n = FLOW_COLUMNS_MAX;
        table->cut = true;
    }
    if (table->n_rows == table->cap_rows) {
        const size_t cap = table->cap_rows ? 2 * table->cap_rows : 64;
        char **grown = reallocarray(table->cells, cap * FLOW_COLUMNS_MAX, sizeof(char *));

        if (!grown) {
            return err_nomem(err);
        }
        table->cells = grown;
        table->cap_rows = cap;
    }
    char **row = table->cells + table->n_rows * FLOW_COLUMNS_MAX;

    memset(row, 0, FLOW_COLUMNS_MAX * sizeof(char *));
    table->n_rows++;
    for (unsigned i = 0; i < n; i++) {
        size_t len = min_size(lens[i], FLOW_CELL_MAX);

        while (len > 0 && len < lens[i] && (cells[i][len] & 0xc0) == 0x80) {
            len--;
        }
        row[i] = strndup(cells[i], len);
        if (!row[i]) {
            return err_nomem(err);
        }
    }
    table->n_columns = n > table->n_columns ? n : table->n_columns;
    return 0;
}

void table_done(struct table *table)
{
    for (size_t i = 0; i < table->n_rows * FLOW_COLUMNS_MAX; i++) {
        free(table->cells[i]);
    }
    free(table->cells);
    *table = (struct table){0};
}

static PangoLayout *cell_layout(struct flow *flow, const char *text, bool bold, double width)
{
    PangoLayout *layout = flow_layout(flow, FLOW_SMALL, text, strlen(text), width);

    if (bold) {
        PangoFontDescription *font = pango_font_description_copy(flow->fonts[FLOW_SMALL]);

        pango_font_description_set_weight(font, PANGO_WEIGHT_BOLD);
        pango_layout_set_font_description(layout, font);
        pango_font_description_free(font);
    }
    pango_layout_set_height(layout, -CELL_LINES_MAX);
    pango_layout_set_ellipsize(layout, PANGO_ELLIPSIZE_END);
    return layout;
}

/* What each column would like, measured on one line. Returns the sum. */
static double wishes(struct flow *flow, const struct table *table, double ret[FLOW_COLUMNS_MAX])
{
    const size_t rows = min_size(table->n_rows, MEASURED_ROWS);
    double sum = 0;

    for (unsigned column = 0; column < table->n_columns; column++) {
        ret[column] = COLUMN_MIN;
        for (size_t r = 0; r < rows; r++) {
            const char *cell = table->cells[r * FLOW_COLUMNS_MAX + column];
            int width = 0;

            if (!cell || *cell == '\0') {
                continue;
            }
            PangoLayout *layout = cell_layout(flow, cell, table->header && r == 0, 4000);

            pango_layout_get_size(layout, &width, NULL);
            g_object_unref(layout);
            const double wish = (double)width / PANGO_SCALE + 2 * PAD + 1;

            ret[column] = wish > ret[column] ? wish : ret[column];
        }
        ret[column] = ret[column] > COLUMN_WISH_MAX ? COLUMN_WISH_MAX : ret[column];
        sum += ret[column];
    }
    return sum;
}

/* Narrow columns keep their wish, wide ones share what is left. */
static void share(double widths[FLOW_COLUMNS_MAX], unsigned n, double room)
{
    bool settled[FLOW_COLUMNS_MAX] = {false};
    unsigned open = n;
    bool again = true;

    while (again && open > 0) {
        const double each = room / open;

        again = false;
        for (unsigned i = 0; i < n; i++) {
            if (!settled[i] && widths[i] <= each) {
                settled[i] = again = true;
                room -= widths[i];
                open--;
            }
        }
    }
    for (unsigned i = 0; i < n; i++) {
        widths[i] = settled[i] ? widths[i] : room / open;
    }
}

double table_natural_width(struct flow *flow, const struct table *table)
{
    double widths[FLOW_COLUMNS_MAX];

    return wishes(flow, table, widths);
}

struct row {
    PangoLayout *layouts[FLOW_COLUMNS_MAX];
    double height;
};

static void row_layout(struct flow *flow, const struct table *table, size_t r,
                       const double widths[FLOW_COLUMNS_MAX], struct row *row)
{
    *row = (struct row){.height = 2 * PAD + 8};
    for (unsigned column = 0; column < table->n_columns; column++) {
        const char *cell = table->cells[r * FLOW_COLUMNS_MAX + column];
        int height = 0;

        row->layouts[column] =
            cell_layout(flow, cell ? cell : "", table->header && r == 0, widths[column] - 2 * PAD);
        pango_layout_get_size(row->layouts[column], NULL, &height);
        const double needed = (double)height / PANGO_SCALE + 2 * PAD;

        row->height = needed > row->height ? needed : row->height;
    }
}

static int draw_cell(struct flow *flow, PangoLayout *layout, double x, double y, struct err *err)
{
    PangoLayoutIter *iter = pango_layout_get_iter(layout);
    int rc = 0;

    do {
        const double baseline = y + (double)pango_layout_iter_get_baseline(iter) / PANGO_SCALE;

        rc = flow_draw_line(flow, iter, x, baseline, err);
    } while (rc == 0 && pango_layout_iter_next_line(iter));
    pango_layout_iter_free(iter);
    return rc;
}

static int draw_row(struct flow *flow, const struct table *table, size_t r, const struct row *row,
                    const double widths[FLOW_COLUMNS_MAX], struct err *err)
{
    double x = flow_margin();

    for (unsigned column = 0; flow->drawing && column < table->n_columns; column++) {
        cairo_t *cr = flow->canvas.cr;

        cairo_save(cr);
        cairo_rectangle(cr, x, flow->y, widths[column], row->height);
        if (table->header && r == 0) {
            cairo_set_source_rgb(cr, 0.93, 0.94, 0.96);
            cairo_fill_preserve(cr);
        }
        cairo_set_source_rgb(cr, 0.75, 0.77, 0.8);
        cairo_set_line_width(cr, 0.5);
        cairo_stroke(cr);
        cairo_restore(cr);
        if (draw_cell(flow, row->layouts[column], x + PAD, flow->y + PAD, err) != 0) {
            return -1;
        }
        x += widths[column];
    }
    flow->y += row->height;
    return 0;
}

static int add_row(struct flow *flow, const struct table *table, size_t r,
                   const double widths[FLOW_COLUMNS_MAX], struct err *err)
{
    struct row row;
    const unsigned page = flow->page;
    int rc;

    row_layout(flow, table, r, widths, &row);
    rc = flow_need(flow, row.height, err);
    if (rc == 0 && table->header && r > 0 && flow->page != page && !flow->full) {
        rc = add_row(flow, table, 0, widths, err);
    }
    if (rc == 0 && !flow->full) {
        rc = draw_row(flow, table, r, &row, widths, err);
    }
    for (unsigned column = 0; column < table->n_columns; column++) {
        g_object_unref(row.layouts[column]);
    }
    return rc;
}

int table_draw(struct flow *flow, const struct table *table, struct err *err)
{
    double widths[FLOW_COLUMNS_MAX];
    const double room = flow_room(flow);

    if (table->n_columns == 0) {
        return 0;
    }
    if (wishes(flow, table, widths) > room) {
        share(widths, table->n_columns, room);
    }
    flow_space(flow, 4);
    for (size_t r = 0; r < table->n_rows && !flow->full; r++) {
        if (add_row(flow, table, r, widths, err) != 0) {
            return -1;
        }
    }
    flow_space(flow, 4);
    return 0;
}
