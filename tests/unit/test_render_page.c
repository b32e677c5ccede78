/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page sizes, ranges and the word list of the preview renderer; thumbnail sizes.
 * PKGS: cairo libwebp glib-2.0 vips gmodule-2.0 jansson
 * SRCS: services/preview-worker/render_page.c services/thumbnail-worker/thumb_sizes.c
 * SRCS: libcommon/picture/picture.c libcommon/picture/bmp.c
 */
#include "libcommon/jget.h"
#include "services/preview-worker/render.h"
#include "services/thumbnail-worker/thumb_sizes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static void test_range(void **state)
{
    struct render_opts opts = {.first = 0};
    struct err err = ERR_INIT;
    unsigned first = 0;
    unsigned last = 0;

    (void)state;
    assert_int_equal(render_range(&opts, 7, &first, &last, &err), 0);
    assert_int_equal(first, 1);
    assert_int_equal(last, 1);
    opts.first = 3;
    opts.last = 10;
    assert_int_equal(render_range(&opts, 7, &first, &last, &err), 0);
    assert_int_equal(first, 3);
    assert_int_equal(last, 7);
    opts.first = 8;
    assert_int_equal(render_range(&opts, 7, &first, &last, &err), -1);
    assert_string_equal(err.code, "corrupt");
    assert_int_equal(render_range(&opts, 5001, &first, &last, &err), -1);
    assert_string_equal(err.code, "too_many_pages");
    assert_int_equal(render_range(&opts, 0, &first, &last, &err), -1);
}

static void expect_canvas(double width, double height, int width_px, int height_px)
{
    const struct render_opts opts = {.width = 1200, .max_pixels = 4000000};
    CLEANUP(canvas_done) struct canvas canvas = {0};

    assert_int_equal(canvas_init(&canvas, width, height, &opts, NULL), 0);
    assert_int_equal(cairo_image_surface_get_width(canvas.surface), width_px);
    assert_int_equal(cairo_image_surface_get_height(canvas.surface), height_px);
}

static void test_canvas(void **state)
{
    (void)state;
    expect_canvas(600, 800, 1200, 1600);
    expect_canvas(60, 30, 240, 120);             /* a label is not blown up */
    expect_canvas(600, 1e8, 1, RENDER_SIDE_MAX); /* a ribbon */
    expect_canvas(0, 0, 1200, 1698);             /* nonsense becomes A4 */
    expect_canvas(1e7, 1e7, 1200, 1200);
    expect_canvas(500, 50000, 160, 16000);
}

static void test_words(void **state)
{
    CLEANUP(word_list_done) struct word_list words;
    CLEANUP(frames_cleanup) struct frames *frames = NULL;
    CLEANUP(json_cleanup) json_t *json = NULL;
    CLEANUP(fd_cleanup) int fd = memfd_create("frames", 0);
    struct frame_writer out;
    struct jail_unit unit = {.out = &out};
    struct frame frame;

    (void)state;
    frame_writer_init(&out, fd);
    word_list_init(&words, 200, 100);
    assert_int_equal(word_list_add(&words, (double[4]){-5, 10, 50, 400}, 0, 3, "a\"\xff", 3, NULL),
                     0);
    assert_int_equal(word_list_add(&words, (double[4]){100, 0, 200, 50}, 4, 5, "b", 1, NULL), 0);
    assert_int_equal(word_list_write(&words, 2, &unit, NULL), 0);
    assert_int_equal(render_end(&unit, 9, true, NULL), 0);
    assert_int_equal(frames_open(fd, 1U << 20, &frames, NULL), 0);
    assert_int_equal(frames_next(frames, &frame, NULL), 1);
    assert_string_equal(frame.type, "words");
    assert_int_equal(jget_load(frame.payload, frame.len, 4096, &json, NULL), 0);
    const json_t *texts = json_object_get(json, "texts");
    const json_t *box = json_array_get(json_object_get(json, "words"), 0);

    assert_int_equal(json_array_size(texts), 2);
    assert_string_equal(json_string_value(json_array_get(texts, 0)), "a\"\xef\xbf\xbd");
    assert_true(json_number_value(json_array_get(box, 0)) == 0);
    assert_true(json_number_value(json_array_get(box, 2)) == 0.25);
    assert_true(json_number_value(json_array_get(box, 3)) == 1);
    assert_int_equal(frames_next(frames, &frame, NULL), 1);
    assert_int_equal(json_integer_value(json_object_get(frame.meta, "pages")), 9);
    assert_true(json_is_true(json_object_get(frame.meta, "truncated")));
}

static void expect_sizes(const char *text, size_t expected_n, int expected_first)
{
    CLEANUP(json_cleanup) json_t *params = NULL;
    int sizes[THUMB_SIZES_MAX];
    size_t n = 0;

    assert_int_equal(jget_load(text, strlen(text), 1024, &params, NULL), 0);
    if (expected_n == 0) {
        assert_int_equal(thumb_sizes(params, sizes, &n, NULL), -1);
        return;
    }
    assert_int_equal(thumb_sizes(params, sizes, &n, NULL), 0);
    assert_int_equal(n, expected_n);
    assert_int_equal(sizes[0], expected_first);
}

static void test_thumb_sizes(void **state)
{
    (void)state;
    expect_sizes("{}", 3, 512);
    expect_sizes("{\"sizes\":[64,256,512,256]}", 3, 512);
    expect_sizes("{\"sizes\":[100]}", 1, 100);
    expect_sizes("{\"sizes\":[]}", 0, 0);
    expect_sizes("{\"sizes\":[1]}", 0, 0);
    expect_sizes("{\"sizes\":[\"64\"]}", 0, 0);
    expect_sizes("{\"sizes\":[16,17,18,19,20,21,22,23,24]}", 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_canvas),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_thumb_sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
