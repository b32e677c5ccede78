/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raster pictures as preview pages: upright, sRGB, on white, never enlarged. A TIFF has as many
 * pages as it holds; of moving pictures the first frame is shown.
 * Invariant: what the header claims is checked before pixels are decoded (libcommon/picture).
 * A picture cut off in the middle shows what there is of it; only one whose header or first rows
 * are missing is corrupt. There is no text layer here: that of pictures comes from reading them.
 */
#include "libcommon/picture/picture.h"
#include "services/preview-worker/render.h"

#define IMAGE_BYTES_MAX (1024ULL * 1024 * 1024)

DEFINE_CLEANUP(void *, glib_cleanup, g_free)

static int draw_page(const struct picture *picture, unsigned number, const struct render_opts *opts,
                     struct jail_unit *unit, struct err *err)
{
    CLEANUP(vips_image_cleanup) VipsImage *image = NULL;
    CLEANUP(glib_cleanup) void *data = NULL;
    size_t len = 0;
    const uint64_t rows = opts->max_pixels / opts->width;
    const int height = rows < RENDER_SIDE_MAX ? (int)rows : RENDER_SIDE_MAX;

    if (picture_fit(picture, (int)number - 1, (int)opts->width, height, &image, err) != 0 ||
        picture_webp(image, &data, &len, err) != 0) {
        return -1;
    }
    json_t *meta = json_pack("{s:i, s:i, s:i}", "page", (int)number, "width",
                             vips_image_get_width(image), "height", vips_image_get_height(image));

    if (!meta) {
        return err_nomem(err);
    }
    return frame_write(unit->out, "image", meta, data, len, err);
}

int render_image(struct jail_unit *unit, const struct render_opts *opts, struct err *err)
{
    CLEANUP(picture_close) struct picture picture = {0};
    const char *data = NULL;
    size_t len = 0;
    unsigned first = 0;
    unsigned last = 0;

    if (unit_map_input(unit, IMAGE_BYTES_MAX, &data, &len, err) != 0) {
        return -1;
    }
    if (len == 0) {
        return err_set(err, ERR_PERMANENT, "empty_file", "the file is empty");
    }
    if (picture_open(data, len, &picture, err) != 0 ||
        render_range(opts, (unsigned)picture.pages, &first, &last, err) != 0) {
        return -1;
    }
    for (unsigned number = first; number <= last; number++) {
        if (draw_page(&picture, number, opts, unit, err) != 0) {
            return err_wrap(err, "page %u", number);
        }
    }
    return render_end(unit, (unsigned)picture.pages, false, err);
}
