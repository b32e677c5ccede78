/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paragraphs and table cells to lines and tabs, the same for HTML, Word, OpenDocument and slides.
 * Invariant: owed breaks are never written at the start or the end of a page.
 */
#include "services/text-extractor/format.h"

#include <string.h>

#define FLOW_TABS_MAX 32U /* empty cells in a row that still leave a trace */

static size_t innermost(const struct flow *flow)
{
    return flow->cells > 0 && flow->cells <= FLOW_CELLS_MAX ? flow->cell_start[flow->cells - 1]
                                                            : SIZE_MAX;
}

void flow_owe(struct flow *flow, unsigned lines)
{
    /* At the very start of a cell there is nothing to break from. */
    if (innermost(flow) == text_len(flow->out)) {
        return;
    }
    flow->tabs = 0;
    if (flow->lines < lines) {
        flow->lines = lines;
    }
}

static int settle(struct flow *flow, struct err *err)
{
    if (flow->lines > 0 && text_break(flow->out, flow->lines, err)) {
        return -1;
    }
    if (flow->tabs > 0) {
        text_trim(flow->out);
        for (unsigned i = 0; i < flow->tabs && i < FLOW_TABS_MAX; i++) {
            if (text_add(flow->out, "\t", 1, err)) {
                return -1;
            }
        }
    }
    flow->lines = 0;
    flow->tabs = 0;
    return 0;
}

void flow_cell_open(struct flow *flow)
{
    if (flow->cells < FLOW_CELLS_MAX) {
        flow->cell_start[flow->cells] = text_len(flow->out);
    }
    flow->cells++;
}

void flow_cell_close(struct flow *flow)
{
    size_t end = text_len(flow->out);
    size_t start = innermost(flow);

    if (flow->cells == 0) {
        return;
    }
    flow->cells--;
    if (start >= end) {
        /* Empty: after a break of lines the row has not begun, so it is just one more column. */
        flow->tabs++;
        return;
    }
    while (start < end && strchr("\n\t ", flow->out->page.data[start])) {
        start++;
    }
    if (memchr(flow->out->page.data + start, '\n', end - start)) {
        flow->lines = flow->lines > 0 ? flow->lines : 1;
        flow->tabs = 0;
        return;
    }
    flow->lines = 0;
    flow->tabs = 1;
}

int flow_add(struct flow *flow, const char *s, size_t len, struct err *err)
{
    if (len == 0) {
        return 0;
    }
    return settle(flow, err) ? -1 : text_add(flow->out, s, len, err);
}

int flow_text(struct flow *flow, const char *s, size_t len, struct err *err)
{
    return settle(flow, err) ? -1 : text_flow(flow->out, s, len, err);
}

int flow_blank(struct flow *flow, struct err *err)
{
    if (flow->lines > 0 || flow->tabs > 0 || innermost(flow) == text_len(flow->out)) {
        return 0;
    }
    return text_break(flow->out, 0, err);
}
