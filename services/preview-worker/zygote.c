/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parsing half of preview-worker: one operation, "render", that turns a PDF, a picture or
 * text into page images with a text layer.
 * Invariant: warm() leaves one thread. Neither pango nor a vips pipeline runs here: both start
 * threads that a forked child would wait for in vain; they are first used in the child.
 */
#include "libcommon/picture/picture.h"
#include "services/preview-worker/render.h"

#include <glib.h>

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
    render_mail_warm();
    return picture_setup("preview-worker-zygote", err) != 0 ? -1 : render_pdf_warm(err);
}

/* What the service thinks the file is; the renderers look at the bytes again. */
static int render(struct jail_unit *unit, struct err *err)
{
    struct render_opts opts;

    if (render_opts_read(unit, &opts, err) != 0) {
        return -1;
    }
    const struct filetype *type = filetype_of(opts.kind);

    if (type->kind == FILE_PDF) {
        return render_pdf(unit, &opts, err);
    }
    if (type->raster || type->kind == FILE_HEIC || type->kind == FILE_AVIF) {
        return render_image(unit, &opts, err);
    }
    if (type->text && type->kind != FILE_SVG) {
        return render_text(unit, &opts, err);
    }
    return err_set(err, ERR_PERMANENT, "unsupported_type", "no preview for %s", type->mime);
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
        .n_ops = ARRAY_LEN(ops),
        .read_paths = read_paths,
    };

    return zygote_main(argc, argv, &zygote);
}
