/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames leave in falling order of size. Transparent parts become white, as in the previews, so
 * that dark drawings stay visible on any ground.
 */
#include "services/thumbnail-worker/thumb_sizes.h"

#define THUMB_BYTES_MAX (1024ULL * 1024 * 1024)

DEFINE_CLEANUP(void *, glib_cleanup, g_free)

static int insert_size(int sizes[THUMB_SIZES_MAX], size_t *n, int size)
{
    size_t at = 0;

    while (at < *n && sizes[at] > size) {
        at++;
    }
    if (at < *n && sizes[at] == size) {
        return 0;
    }
    if (*n == THUMB_SIZES_MAX) {
        return -1;
    }
    for (size_t i = *n; i > at; i--) {
        sizes[i] = sizes[i - 1];
    }
    sizes[at] = size;
    (*n)++;
    return 0;
}

int thumb_sizes(const json_t *params, int ret_sizes[THUMB_SIZES_MAX], size_t *ret_n,
                struct err *err)
{
    static const int standard[] = {512, 256, 64};
    const json_t *array = json_object_get(params, "sizes");
    int sizes[THUMB_SIZES_MAX] = {0};
    size_t n = 0;

    if (!array) {
        for (size_t i = 0; i < ARRAY_LEN(standard); i++) {
            ret_sizes[i] = standard[i];
        }
        *ret_n = ARRAY_LEN(standard);
        return 0;
    }
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_int_t size = json_integer_value(json_array_get(array, i));

        if (size < THUMB_SIDE_MIN || size > THUMB_SIDE_MAX ||
            insert_size(sizes, &n, (int)size) != 0) {
            return err_set(err, ERR_PERMANENT, "invalid_json", "sizes holds a size out of range");
        }
    }
    if (n == 0) {
        return err_set(err, ERR_PERMANENT, "invalid_json", "sizes is no list of sizes");
    }
    for (size_t i = 0; i < n; i++) {
        ret_sizes[i] = sizes[i];
    }
    *ret_n = n;
    return 0;
}

static int write_thumb(struct jail_unit *unit, VipsImage *image, int size, struct err *err)
{
    CLEANUP(glib_cleanup) void *data = NULL;
    size_t len = 0;

    if (picture_webp(image, &data, &len, err) != 0) {
        return -1;
    }
    json_t *meta = json_pack("{s:i, s:i, s:i, s:i}", "page", 1, "size", size, "width",
                             vips_image_get_width(image), "height", vips_image_get_height(image));

    if (!meta) {
        return err_nomem(err);
    }
    return frame_write(unit->out, "image", meta, data, len, err);
}

int thumb_run(struct jail_unit *unit, struct err *err)
{
    CLEANUP(picture_close) struct picture picture = {0};
    CLEANUP(vips_image_cleanup) VipsImage *image = NULL;
    int sizes[THUMB_SIZES_MAX];
    size_t n = 0;
    const char *data = NULL;
    size_t len = 0;

    if (thumb_sizes(unit->params, sizes, &n, err) != 0 ||
        unit_map_input(unit, THUMB_BYTES_MAX, &data, &len, err) != 0) {
        return -1;
    }
    if (len == 0) {
        return err_set(err, ERR_PERMANENT, "empty_file", "the file is empty");
    }
    if (picture_open(data, len, &picture, err) != 0 ||
        picture_fit(&picture, 0, sizes[0], sizes[0], &image, err) != 0 ||
        write_thumb(unit, image, sizes[0], err) != 0) {
        return -1;
    }
    for (size_t i = 1; i < n; i++) {
        VipsImage *smaller = NULL;

        if (picture_shrink(image, sizes[i], sizes[i], &smaller, err) != 0) {
            return -1;
        }
        g_object_unref(image);
        image = smaller;
        if (write_thumb(unit, image, sizes[i], err) != 0) {
            return -1;
        }
    }
    return 0;
}
