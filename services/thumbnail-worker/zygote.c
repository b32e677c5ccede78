/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parsing half of thumbnail-worker: one operation, "thumb", that turns a picture (or page 1 of
 * a preview) into small WebP images.
 * Invariant: libvips is only initialised here; its pipelines start threads and run in the child
 * alone. It opens no file and draws no document.
 */
#include "libcommon/zygote.h"
#include "services/thumbnail-worker/thumb_sizes.h"

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
    return picture_setup("thumbnail-worker-zygote", err);
}

static const struct zygote_op ops[] = {
    {.name = "thumb", .cage = CAGE_THREADS, .run = thumb_run},
};

int main(int argc, char **argv)
{
    const struct zygote zygote = {
        .name = "thumbnail-worker-zygote",
        .warm = warm,
        .ops = ops,
        .n_ops = ARRAY_LEN(ops),
    };

    return zygote_main(argc, argv, &zygote);
}
