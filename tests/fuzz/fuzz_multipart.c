/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer target for the multipart parser: whatever the bytes and however they are sliced, the
 * events come in order and no part's data is lost or made up. Seeds: tests/fuzz/seeds/multipart.
 */
#include "services/ingest-gateway/multipart.h"

#include <string.h>

struct trace {
    bool open;
    unsigned parts;
    size_t bytes;
};

static int on_begin(void *ctx, const struct multipart_part *part, struct err *err UNUSED)
{
    struct trace *t = ctx;

    if (t->open || !part->name || strlen(part->name) > part->name_len) {
        abort();
    }
    t->open = true;
    t->parts++;
    return 0;
}

static int on_data(void *ctx, const char *data UNUSED, size_t len, struct err *err UNUSED)
{
    struct trace *t = ctx;

    if (!t->open || len == 0) {
        abort();
    }
    t->bytes += len;
    return 0;
}

static int on_end(void *ctx, struct err *err UNUSED)
{
    struct trace *t = ctx;

    if (!t->open) {
        abort();
    }
    t->open = false;
    return 0;
}

static int run(const char *data, size_t size, size_t step, struct trace *trace)
{
    static const struct multipart_events events = {on_begin, on_data, on_end};
    CLEANUP(multipart_cleanup) struct multipart *parser = NULL;
    struct err err = ERR_INIT;

    if (multipart_new("b", 20, &events, trace, &parser, &err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < size; i += step) {
        if (multipart_feed(parser, data + i, min_size(step, size - i), &err) < 0) {
            return -1;
        }
    }
    return multipart_finish(parser, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct trace whole = {0};
    struct trace cut = {0};
    size_t step = size > 0 ? 1U + data[0] % 61U : 1U;
    int a = run((const char *)data, size, size ? size : 1, &whole);
    int b = run((const char *)data, size, step, &cut);

    if (a != b || (a == 0 && (whole.parts != cut.parts || whole.bytes != cut.bytes))) {
        abort();
    }
    return 0;
}
