/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jailed half of text-extractor: one operation, "text", over one file.
 * Invariant: only trusted bytes are parsed before the fork; the child opens nothing but the fonts
 * and tables poppler may need for a PDF.
 */
#include "services/text-extractor/format.h"

#include "libcommon/zygote.h"

#include <glib.h>
#include <gmime/gmime.h>
#include <libxml/parser.h>
#include <libxml/xmlerror.h>
#include <time.h>

/* Libraries have nobody to talk to: the default writers probe the journal and the terminal. */
static GLogWriterOutput drop_log(GLogLevelFlags level, const GLogField *fields, gsize n,
                                 gpointer data)
{
    (void)level;
    (void)fields;
    (void)n;
    (void)data;
    return G_LOG_WRITER_HANDLED;
}

static void drop_xml_error(void *ctx, const char *fmt, ...)
{
    (void)ctx;
    (void)fmt;
}

static int warm(struct err *err)
{
    static struct buf sink;

    g_log_set_writer_func(drop_log, NULL, NULL);
    tzset();
    xmlInitParser();
    xmlSetGenericErrorFunc(NULL, drop_xml_error);
    g_mime_init();
    buf_init(&sink, 1024);
    /* The converters and the detector map their tables on first use. */
    if (text_decode("caf\xe9 na\xefve, Stra\xdf"
                    "e, \xa3 20",
                    23, NULL, &sink, NULL, err)) {
        return -1;
    }
    buf_done(&sink);
    return format_pdf_warm(err);
}

static int op_text(struct jail_unit *unit, struct err *err)
{
    struct text_input in = {.fd = unit->input_fd};
    struct text_out out;
    int rc;

    if (unit_map_input(unit, TEXT_INPUT_MAX, &in.data, &in.len, err)) {
        return -1;
    }
    in.name = unit_param_str(unit, "name", "");
    text_out_init(&out, unit->out, (uint32_t)unit_param_int(unit, "maxPages", 0));
    rc = text_extract(&in, &out, err);
    text_out_done(&out);
    return rc;
}

static const char *const read_paths[] = {
    "/usr/share/fonts", "/usr/local/share/fonts", "/usr/share/poppler",
    "/etc/fonts",       "/var/cache/fontconfig",  NULL,
};

static const struct zygote_op ops[] = {
    {.name = "text", .cage = CAGE_READ_FILES, .run = op_text},
};

static const struct zygote zygote = {
    .name = "text-extractor-zygote",
    .warm = warm,
    .ops = ops,
    .n_ops = ARRAY_LEN(ops),
    .read_paths = read_paths,
};

int main(int argc, char **argv)
{
    return zygote_main(argc, argv, &zygote);
}
