/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that were put on the scanner askew: tesseract drops ends of lines that slope by two degrees
 * and does not say so. The angle comes from leptonica, the turning is ours.
 * Invariant: a bitmap that was straightened knows by how much, so that boxes find their way back.
 */
#include "services/ocr-fallback/ocr.h"

#include <leptonica/allheaders.h>
#include <math.h>
#include <string.h>

#define SKEW_MIN 0.4  /* degrees: less does no harm */
#define SKEW_MAX 7.0  /* the search's own range */
#define SKEW_SURE 3.0 /* leptonica's ratio of the best to the worst angle */
#define RADIANS(degrees) ((degrees) * 0.017453292519943295)

double bitmap_skew(const struct bitmap *bitmap)
{
    PIX *grey = pixCreate(bitmap->width, bitmap->height, 8), *bits = NULL;
    l_float32 angle = 0, sure = 0;
    double result = 0;

    if (!grey) {
        return 0;
    }
    for (int y = 0; y < bitmap->height; y++) {
        memcpy(pixGetData(grey) + (ptrdiff_t)y * pixGetWpl(grey),
               bitmap->pixels + (size_t)y * (size_t)bitmap->width, (size_t)bitmap->width);
    }
    if (pixEndianByteSwap(grey) == 0 &&
        pixOtsuAdaptiveThreshold(grey, bitmap->width, bitmap->height, 0, 0, 0.1F, NULL, &bits) ==
            0 &&
        pixFindSkew(bits, &angle, &sure) == 0 && sure >= (l_float32)SKEW_SURE &&
        fabs((double)angle) >= SKEW_MIN && fabs((double)angle) <= SKEW_MAX) {
        result = (double)angle;
    }
    pixDestroy(&bits);
    pixDestroy(&grey);
    return result;
}

/* Between four pixels; white outside. */
static unsigned char sample(const struct bitmap *from, double x, double y)
{
    int x0 = (int)floor(x), y0 = (int)floor(y);
    double fx = x - x0, fy = y - y0;

    if (x0 < 0 || y0 < 0 || x0 + 1 >= from->width || y0 + 1 >= from->height) {
        return 255;
    }
    const unsigned char *a = from->pixels + (size_t)y0 * (size_t)from->width + (size_t)x0;
    const unsigned char *b = a + from->width;
    double top = a[0] + (a[1] - a[0]) * fx, bottom = b[0] + (b[1] - b[0]) * fx;
    return (unsigned char)(top + (bottom - top) * fy + 0.5);
}

int bitmap_straighten(const struct bitmap *from, double degrees, struct bitmap *ret,
                      struct err *err)
{
    double c = cos(RADIANS(degrees)), s = sin(RADIANS(degrees));
    double mx = from->width / 2.0, my = from->height / 2.0;

    size_t size = (size_t)from->width * (size_t)from->height;

    *ret = *from;
    ret->tilt = degrees;
    ret->pixels = malloc(size);
    if (!ret->pixels) {
        return err_nomem(err);
    }
    if (degrees == 0) {
        memcpy(ret->pixels, from->pixels, size);
        return 0;
    }
    for (int y = 0; y < ret->height; y++) {
        unsigned char *row = ret->pixels + (size_t)y * (size_t)ret->width;
        double dy = y - my;
        for (int x = 0; x < ret->width; x++) {
            double dx = x - mx;
            row[x] = sample(from, mx + dx * c + dy * s, my - dx * s + dy * c);
        }
    }
    return 0;
}

void bitmap_tilt_back(const struct bitmap *bitmap, int width, int height, double box[4])
{
    double c = cos(RADIANS(bitmap->tilt)), s = sin(RADIANS(bitmap->tilt));
    double mx = width / 2.0, my = height / 2.0;
    double back[4] = {1, 1, 0, 0};

    if (bitmap->tilt == 0) {
        return;
    }
    for (int i = 0; i < 4; i++) {
        double dx = box[i & 1 ? 2 : 0] * width - mx, dy = box[i & 2 ? 3 : 1] * height - my;
        double x = (mx + dx * c + dy * s) / width, y = (my - dx * s + dy * c) / height;
        back[0] = fmin(back[0], x);
        back[1] = fmin(back[1], y);
        back[2] = fmax(back[2], x);
        back[3] = fmax(back[3], y);
    }
    memcpy(box, back, sizeof(back));
}
