/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one place that talks to libvips. Loading goes through vips_thumbnail_buffer, which asks the
 * loaders who knows the bytes: all loaders but those below are blocked, and the signature was
 * checked before, so the answer is known in advance.
 */
#include "libcommon/picture/picture.h"

#include "libcommon/picture/bmp.h"

#include <dlfcn.h>
#include <gmodule.h>
#include <stdio.h>
#include <string.h>
#include <vips/vector.h>

#define WEBP_QUALITY 80
#define WEBP_EFFORT 2

static const struct {
    enum file_kind kind;
    const char *class_name; /* of the loader's family, to unblock */
    const char *loader;
} loaders[] = {
    {FILE_JPEG, "VipsForeignLoadJpeg", "jpegload_buffer"},
    {FILE_PNG, "VipsForeignLoadPng", "pngload_buffer"},
    {FILE_TIFF, "VipsForeignLoadTiff", "tiffload_buffer"},
    {FILE_WEBP, "VipsForeignLoadWebp", "webpload_buffer"},
    {FILE_GIF, "VipsForeignLoadNsgif", "gifload_buffer"},
    {FILE_HEIC, "VipsForeignLoadHeif", "heifload_buffer"},
    {FILE_AVIF, "VipsForeignLoadHeif", "heifload_buffer"},
};

int err_from_vips(struct err *err, const char *context)
{
    char text[4096];

    g_strlcpy(text, vips_error_buffer(), sizeof(text));
    vips_error_clear();
    if (strstr(text, "out of memory") || strstr(text, "nsufficient memory") ||
        strstr(text, "unable to allocate")) {
        return err_set(err, ERR_PERMANENT, "expands_too_much",
                       "%s: it needs more memory than a unit may take", context);
    }
    g_strchomp(text);
    const char *last = strrchr(text, '\n'); /* the lines before it are warnings */

    last = last ? last + 1 : text;
    return err_set(err, ERR_PERMANENT, "corrupt", "%s: %.150s", context,
                   *last ? last : "no reason given");
}

/* HEIC and AVIF come in a module beside the library; it is loaded by name, none of its neighbours
 * is. Without it these kinds are corrupt to us. */
static void load_heif(void)
{
    char path[512];
    Dl_info info;

    if (dladdr((void *)(uintptr_t)&vips_init, &info) == 0 || !info.dli_fname) {
        return;
    }
    char *folder = g_path_get_dirname(info.dli_fname);

    snprintf(path, sizeof(path), "%s/vips-modules-%d.%d/vips-heif.so", folder, VIPS_MAJOR_VERSION,
             VIPS_MINOR_VERSION);
    g_free(folder);
    GModule *module = g_module_open(path, G_MODULE_BIND_LAZY);

    if (module) {
        g_module_make_resident(module);
    }
}

int picture_setup(const char *argv0, struct err *err)
{
    /* vips looks for modules below this folder; there are none. One thread: setenv is safe. */
    if (setenv("VIPSHOME", "/nonexistent", 1) != 0) { /* NOLINT(concurrency-mt-unsafe) */
        return err_nomem(err);
    }
    if (vips_init(argv0) != 0) {
        return err_set(err, ERR_FATAL, "internal", "libvips does not start: %.120s",
                       vips_error_buffer());
    }
    load_heif();
    vips_concurrency_set(1);
    vips_cache_set_max(0);
    vips_vector_set_enabled(FALSE);
    vips_operation_block_set("VipsForeignLoad", TRUE);
    for (size_t i = 0; i < ARRAY_LEN(loaders); i++) {
        vips_operation_block_set(loaders[i].class_name, FALSE);
    }
    return 0;
}

static const char *loader_of(enum file_kind kind)
{
    for (size_t i = 0; i < ARRAY_LEN(loaders); i++) {
        if (loaders[i].kind == kind) {
            return loaders[i].loader;
        }
    }
    return NULL;
}

static int check_size(int64_t width, int64_t height, struct err *err)
{
    if (width <= 0 || height <= 0) {
        return err_set(err, ERR_PERMANENT, "corrupt", "the picture has no size");
    }
    if ((uint64_t)width * (uint64_t)height > PICTURE_PIXELS_MAX) {
        return err_set(err, ERR_PERMANENT, "too_many_pixels",
                       "%lld x %lld pixels, at most %llu million are allowed", (long long)width,
                       (long long)height, PICTURE_PIXELS_MAX / 1000000);
    }
    return 0;
}

static int open_bmp(struct picture *picture, struct err *err)
{
    struct bmp_header header;

    if (bmp_read_header(picture->data, picture->len, &header, err) != 0 ||
        check_size(header.width, header.height, err) != 0 ||
        bmp_decode(picture->data, picture->len, &header, &picture->pixels, err) != 0) {
        return -1;
    }
    picture->ready = vips_image_new_from_memory(picture->pixels,
                                                (size_t)header.width * (size_t)header.height * 3,
                                                header.width, header.height, 3, VIPS_FORMAT_UCHAR);
    if (!picture->ready) {
        return err_from_vips(err, "the BMP");
    }
    picture->ready->Type = VIPS_INTERPRETATION_sRGB;
    picture->width = header.width;
    picture->height = header.height;
    return 0;
}

/* Through the kind's own loader; decoding starts when pixels are asked for. */
static int load(const struct picture *picture, VipsImage **ret, struct err *err)
{
    /* vips only reads it: the blob has no free function. */
    union {
        const void *in;
        void *out;
    } bytes = {.in = picture->data};
    VipsBlob *blob = vips_blob_new(NULL, bytes.out, picture->len);
    VipsImage *image = NULL;
    const int rc = vips_call(loader_of(picture->kind), blob, &image, "fail_on",
                             picture->whole ? VIPS_FAIL_ON_TRUNCATED : VIPS_FAIL_ON_NONE, NULL);

    vips_area_unref(VIPS_AREA(blob));
    if (rc != 0 || !image) {
        return err_from_vips(err, "the picture cannot be read");
    }
    *ret = image;
    return 0;
}

static int open_header(struct picture *picture, struct err *err)
{
    CLEANUP(vips_image_cleanup) VipsImage *header = NULL;

    if (load(picture, &header, err) != 0) {
        return -1;
    }
    picture->width = vips_image_get_width(header);
    picture->height = vips_image_get_height(header);
    if (picture->kind == FILE_TIFF) {
        picture->pages = vips_image_get_n_pages(header);
    }
    return check_size(picture->width, picture->height, err);
}

int picture_open(const void *data, size_t len, struct picture *ret_picture, struct err *err)
{
    struct filetype type;

    filetype_detect(data, min_size(len, FILETYPE_HEAD), NULL, &type);
    struct picture picture = {.data = data, .len = len, .kind = type.kind, .pages = 1};

    if (type.kind == FILE_BMP) {
        if (open_bmp(&picture, err) != 0) {
            return -1;
        }
    } else {
        if (!loader_of(type.kind)) {
            return err_set(err, ERR_PERMANENT, "unsupported_type", "%s is not a picture we draw",
                           type.mime);
        }
        if (open_header(&picture, err) != 0) {
            return -1;
        }
    }
    if (picture.pages > PICTURE_PAGES_MAX) {
        return err_set(err, ERR_PERMANENT, "too_many_pages", "%d pages, at most %d are allowed",
                       picture.pages, PICTURE_PAGES_MAX);
    }
    picture.pages = picture.pages < 1 ? 1 : picture.pages;
    *ret_picture = picture;
    return 0;
}

void picture_close(struct picture *picture)
{
    vips_image_cleanup(&picture->ready);
    free_cleanup(&picture->pixels);
}

/* Pixels alone: places and names in EXIF must not leak into previews, and the colours are sRGB by
 * now. The saver's own "strip" would write EXIF again from its parsed fields. */
static int bare_copy(VipsImage *image, VipsImage **ret)
{
    size_t size = 0;
    void *pixels = vips_image_write_to_memory(image, &size);

    if (!pixels) {
        return -1;
    }
    *ret = vips_image_new_from_memory_copy(pixels, size, image->Xsize, image->Ysize, image->Bands,
                                           image->BandFmt);
    g_free(pixels);
    if (!*ret) {
        return -1;
    }
    (*ret)->Type = VIPS_INTERPRETATION_sRGB;
    return 0;
}

/* Any colour space to three bands of 8-bit sRGB on white. */
static int to_rgb(VipsImage *in, VipsImage **ret, struct err *err)
{
    CLEANUP(vips_image_cleanup) VipsImage *colour = NULL;
    CLEANUP(vips_image_cleanup) VipsImage *flat = NULL;
    CLEANUP(vips_image_cleanup) VipsImage *three = NULL;
    CLEANUP(vips_image_cleanup) VipsImage *bytes = NULL;
    const double white[] = {255, 255, 255};
    VipsArrayDouble *background = vips_array_double_new(white, 3);
    int rc = 0;

    if (vips_colourspace(in, &colour, VIPS_INTERPRETATION_sRGB, NULL) != 0) {
        /* bands without meaning: take them as they are */
        vips_error_clear();
        rc = vips_copy(in, &colour, "interpretation", VIPS_INTERPRETATION_sRGB, NULL);
    }
    rc = rc != 0                       ? rc
         : vips_image_hasalpha(colour) ? vips_flatten(colour, &flat, "background", background, NULL)
                                       : vips_copy(colour, &flat, NULL);
    vips_area_unref(VIPS_AREA(background));
    if (rc == 0) {
        rc = flat->Bands >= 3 ? vips_extract_band(flat, &three, 0, "n", 3, NULL)
                              : vips_colourspace(flat, &three, VIPS_INTERPRETATION_sRGB, NULL);
    }
    if (rc != 0 || vips_cast_uchar(three, &bytes, NULL) != 0 || bare_copy(bytes, ret) != 0) {
        return err_from_vips(err, "the picture cannot be decoded");
    }
    return 0;
}

static int shrink(VipsImage *from, int width, int height, const char *profile,
                  VipsImage **ret_image, struct err *err)
{
    CLEANUP(vips_image_cleanup) VipsImage *small = NULL;
    const int rc = profile ? vips_thumbnail_image(from, &small, width, "height", height, "size",
                                                  VIPS_SIZE_DOWN, "export_profile", profile, NULL)
                           : vips_thumbnail_image(from, &small, width, "height", height, "size",
                                                  VIPS_SIZE_DOWN, NULL);

    if (rc != 0) {
        return err_from_vips(err, "the picture cannot be decoded");
    }
    return to_rgb(small, ret_image, err);
}

/* Decodes at a fraction of the size where the format can (JPEG, WebP). */
static int load_small(const struct picture *picture, int page, int width, int height,
                      VipsImage **ret, struct err *err)
{
    const char *fail_on = picture->whole ? "truncated" : "none";
    char options[48];
    union {
        const void *in;
        void *out;
    } bytes = {.in = picture->data};

    if (page > 0) {
        snprintf(options, sizeof(options), "[page=%d,fail_on=%s]", page, fail_on);
    } else {
        snprintf(options, sizeof(options), "[fail_on=%s]", fail_on);
    }
    if (vips_thumbnail_buffer(bytes.out, picture->len, ret, width, "height", height, "size",
                              VIPS_SIZE_DOWN, "export_profile", "srgb", "option_string", options,
                              NULL) != 0) {
        return err_from_vips(err, "the picture cannot be decoded");
    }
    return 0;
}

int picture_fit(const struct picture *picture, int page, int width, int height,
                VipsImage **ret_image, struct err *err)
{
    CLEANUP(vips_image_cleanup) VipsImage *image = NULL;

    if (picture->ready) {
        return picture_shrink(picture->ready, width, height, ret_image, err);
    }
    if (picture->kind == FILE_HEIC || picture->kind == FILE_AVIF) {
        /* vips' own sniffer does not know every brand of these */
        return load(picture, &image, err) != 0
                   ? -1
                   : shrink(image, width, height, "srgb", ret_image, err);
    }
    return load_small(picture, page, width, height, &image, err) != 0
               ? -1
               : to_rgb(image, ret_image, err);
}

int picture_shrink(VipsImage *from, int width, int height, VipsImage **ret_image, struct err *err)
{
    return shrink(from, width, height, NULL, ret_image, err);
}

int picture_webp(VipsImage *image, void **ret_data, size_t *ret_len, struct err *err)
{
    if (vips_webpsave_buffer(image, ret_data, ret_len, "Q", WEBP_QUALITY, "effort", WEBP_EFFORT,
                             "strip", TRUE, NULL) != 0) {
        vips_error_clear();
        return err_set(err, ERR_UNKNOWN, "internal", "webp encoding failed");
    }
    return 0;
}
