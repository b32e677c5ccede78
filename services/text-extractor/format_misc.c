/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kinds that have no text of their own here: pictures, whose pages all go to OCR, and the old
 * office container, which the preview stage turns into a PDF first.
 * Invariant: no pixel is decoded; a TIFF's pages are counted by walking its directories.
 */
#include "services/text-extractor/format.h"

#include <string.h>

static uint64_t number(const unsigned char *p, unsigned bytes, bool little)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < bytes; i++) {
        n |= (uint64_t)p[i] << 8 * (little ? i : bytes - 1 - i);
    }
    return n;
}

/* Directories of a TIFF, at least 1; a loop or a jump outside ends the walk. */
static uint32_t tiff_pages(const unsigned char *p, size_t len)
{
    bool little = p[0] == 'I';
    bool big = number(p + 2, 2, little) == 43;
    unsigned word = big ? 8 : 4;
    unsigned head = big ? 8 : 2;
    uint64_t entry = big ? 20 : 12;
    uint32_t pages = 0;

    if (len < 16) {
        return 1;
    }
    for (uint64_t at = number(p + (big ? 8 : 4), word, little);
         at > 0 && at < len && len - at >= head && pages <= TEXT_PAGES_MAX; pages++) {
        uint64_t entries = number(p + at, head, little);

        if (entries > 65535 || len - at - head < entries * entry + word) {
            pages++;
            break;
        }
        at = number(p + at + head + entries * entry, word, little);
    }
    return pages > 0 ? pages : 1;
}

int format_image(const struct text_input *in, struct text_out *out, struct err *err)
{
    uint32_t pages =
        in->kind == FILE_TIFF ? tiff_pages((const unsigned char *)in->data, in->len) : 1;
    struct text_page page = {.needs_ocr = true, .text = ""};

    for (uint32_t i = 0; i < pages; i++) {
        if (text_page_write(out, &page, err)) {
            return -1;
        }
    }
    return 0;
}

/* UTF-16 names of streams in the container's directory. */
static bool has_stream(const struct text_input *in, const char *name)
{
    char wide[64];
    size_t n = strlen(name);

    for (size_t i = 0; i < n; i++) {
        wide[2 * i] = name[i];
        wide[2 * i + 1] = '\0';
    }
    return memmem(in->data, in->len, wide, 2 * n) != NULL;
}

int format_ole2(const struct text_input *in, struct text_out *out, struct err *err)
{
    (void)out;
    if (has_stream(in, "EncryptedPackage") || has_stream(in, "EncryptionInfo")) {
        return err_set(err, ERR_PERMANENT, "encrypted", "the document needs a password");
    }
    return err_set(err, ERR_PERMANENT, "unsupported_type",
                   "old office files are read from their conversion");
}
