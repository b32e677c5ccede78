/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parsing half of preview-worker: one operation, "render", that turns a PDF, a picture or
 * text into page images with a text layer.
 * Invariant: warm() leaves one thread. Neither pango nor a vips pipeline runs here: both start
 * threads that a forked child would wait for in vain; they are first used in the child.
 */
#include "services/preview-worker/render.h"

#include <glib.h>
#include <string.h>

static GLogWriterOutput drop_log(GLogLevelFlags level, const GLogField *fields, gsize n_fields,
                                 gpointer data)
{
    (void)level;
    (void)fields;
    (void)n_fields;
    (void)data;
    return G_LOG_WRITER_HANDLED;
}

static int warm(struct err *err)
{
    g_log_set_writer_func(drop_log, NULL, NULL);
    return render_pdf_warm(err);
}

static int render(struct jail_unit *unit, struct err *err)
{
    struct render_opts opts;

    if (render_opts_read(unit, &opts, err) != 0) {
        return -1;
    }
    if (strcmp(opts.kind, "pdf") == 0) {
        return render_pdf(unit, &opts, err);
    }
    return err_set(err, ERR_PERMANENT, "unsupported_type", "no preview for kind %.40s", opts.kind);
}

static const struct zygote_op ops[] = {
    {.name = "render", .cage = CAGE_READ_FILES | CAGE_THREADS, .run = render},
};

static const char *const read_paths[] = {
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "/usr/share/poppler",
    NULL,
};

int main(int argc, char **argv)
{
    const struct zygote zygote = {
        .name = "preview-worker-zygote",
        .warm = warm,
        .ops = ops,
        .n_ops = sizeof(ops) / sizeof(ops[0]),
        .read_paths = read_paths,
    };

    return zygote_main(argc, argv, &zygote);
}
