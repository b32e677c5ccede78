/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Formats whose bytes are their text: plain, csv, tsv, markdown, json, xml. Only the encoding is
 * read; separators, tags and line breaks stay, as they carry meaning to whoever reads the columns.
 * Invariant: nothing of the text is interpreted, so nothing in it can expand.
 */
#include "services/text-extractor/format.h"

#include <string.h>
#include <strings.h>

/* The encoding an XML declaration names, cut out of its first bytes. */
static const char *xml_charset(const char *data, size_t len, char *buf, size_t size)
{
    const char *end =
        len > 5 && !memcmp(data, "<?xml", 5) ? memchr(data, '>', min_size(len, 200)) : NULL;
    const char *p = end ? memmem(data, (size_t)(end - data), "encoding", 8) : NULL;

    if (!p) {
        return NULL;
    }
    p += 8;
    while (p < end && (*p == ' ' || *p == '=' || *p == '"' || *p == '\'')) {
        p++;
    }
    size_t n = 0;
    while (p + n < end && !strchr("\"' ?>", p[n])) {
        n++;
    }
    if (n == 0 || n >= size) {
        return NULL;
    }
    memcpy(buf, p, n);
    buf[n] = '\0';
    return buf;
}

int format_plain(const struct text_input *in, struct text_out *out, struct err *err)
{
    char name[41];
    const char *charset =
        in->kind == FILE_XML ? xml_charset(in->data, in->len, name, sizeof(name)) : NULL;

    out->raw = true;
    if (text_decode(in->data, in->len, charset, &out->page, NULL, err)) {
        if (!strcmp(err->code, "too_large")) {
            return err_set(err, ERR_PERMANENT, "expands_too_much", "the text is longer than %u MiB",
                           TEXT_TOTAL_MAX >> 20);
        }
        return -1;
    }
    return 0;
}
