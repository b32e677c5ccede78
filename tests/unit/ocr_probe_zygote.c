/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stand-in for ocr-fallback-zygote that dies on purpose: page 2 breaks its child, page 4 takes
 * all the memory, every other page reads as "page N". What it is given as a file is not looked at.
 */
#include "libcommon/jget.h"
#include "libcommon/zygote.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define PAGES 4

static int op_count(struct jail_unit *unit, struct err *err)
{
    return frame_write(unit->out, "end", json_pack("{s:i}", "pages", PAGES), NULL, 0, err);
}

static int op_ocr(struct jail_unit *unit, struct err *err)
{
    const json_t *pages = json_object_get(unit->params, "pages");

    for (size_t i = 0; i < json_array_size(pages); i++) {
        int number = (int)json_integer_value(json_array_get(pages, i));
        char text[32];
        if (number == 2) {
            raise(SIGABRT);
        }
        if (number == 4) {
            return err_nomem(err);
        }
        snprintf(text, sizeof(text), "page %d", number);
        if (frame_write(unit->out, "page",
                        json_pack("{s:i,s:f,s:f,s:f,s:s}", "page", number, "width", 100.0, "height",
                                  100.0, "confidence", 0.9, "engine", "tesseract"),
                        text, strlen(text), err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int op_render(struct jail_unit *unit, struct err *err)
{
    const json_t *page = json_array_get(json_object_get(unit->params, "pages"), 0);
    char text[32];

    snprintf(text, sizeof(text), "picture %d", (int)json_integer_value(page));
    return frame_write(unit->out, "image",
                       json_pack("{s:O,s:f,s:f,s:s}", "page", page, "width", 100.0, "height", 100.0,
                                 "mime", "image/jpeg"),
                       text, strlen(text), err);
}

static const struct zygote_op ops[] = {
    {.name = "count", .cage = CAGE_PURE, .run = op_count},
    {.name = "ocr", .cage = CAGE_PURE, .run = op_ocr},
    {.name = "render", .cage = CAGE_PURE, .run = op_render},
};

static int warm(struct err *err)
{
    (void)err;
    return 0;
}

int main(int argc, char **argv)
{
    const struct zygote zygote = {
        .name = "ocr-fallback-zygote", .warm = warm, .ops = ops, .n_ops = ARRAY_LEN(ops)};

    return zygote_main(argc, argv, &zygote);
}
