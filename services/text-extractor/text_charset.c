/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of unknown encoding to UTF-8, by ICU alone: its tables are compiled in, while iconv would
 * open files, which the cage refuses.
 * Invariant: any bytes give text; what no converter can read becomes U+FFFD.
 */
#include "services/text-extractor/format.h"

#include "libcommon/utf8.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unicode/ucnv.h>
#include <unicode/ucsdet.h>

#define DETECT_BYTES (256U * 1024U)

DEFINE_CLEANUP(UConverter *, converter_cleanup, ucnv_close)
DEFINE_CLEANUP(UCharsetDetector *, detector_cleanup, ucsdet_close)

/* Labels the web and mail use for something wider than they say, and a few ICU does not know. */
static const char *real_name(const char *charset)
{
    static const char *const map[][2] = {
        {"iso-8859-1", "windows-1252"},
        {"iso8859-1", "windows-1252"},
        {"latin1", "windows-1252"},
        {"us-ascii", "windows-1252"},
        {"ascii", "windows-1252"},
        {"iso-8859-9", "windows-1254"},
        {"iso-8859-8-i", "iso-8859-8"},
        {"shift_jis", "windows-31j"},
        {"shift-jis", "windows-31j"},
        {"sjis", "windows-31j"},
        {"x-sjis", "windows-31j"},
        {"gb2312", "gb18030"},
        {"gbk", "gb18030"},
        {"ks_c_5601-1987", "windows-949"},
        {"euc-kr", "windows-949"},
        {"big5", "windows-950"},
        {"x-user-defined", "windows-1252"},
        {"unicode-1-1-utf-7", "utf-7"},
        {"cp866", "ibm-866"},
        {"ansi_x3.110-1983", "windows-1252"},
        {"iso-2022-cn", "iso-2022-cn"},
        {"cp932", "windows-31j"},
        {"cp949", "windows-949"},
        {"cp936", "gb18030"},
    };

    for (size_t i = 0; i < ARRAY_LEN(map); i++) {
        if (!strcasecmp(charset, map[i][0])) {
            return map[i][1];
        }
    }
    return charset;
}

static UConverter *converter_open(const char *charset)
{
    UErrorCode status = U_ZERO_ERROR;
    UConverter *converter;

    /* ICU takes names with options and paths; a charset label has neither. */
    if (!charset || !*charset || strlen(charset) > 40 || strpbrk(charset, ",/\\=!:")) {
        return NULL;
    }
    converter = ucnv_open(real_name(charset), &status);
    if (U_FAILURE(status)) {
        return NULL;
    }
    return converter;
}

/* ASCII bytes cannot declare that they are UTF-16. */
static bool is_wide(const char *charset)
{
    CLEANUP(converter_cleanup) UConverter *converter = converter_open(charset);

    return converter && ucnv_getMinCharSize(converter) > 1;
}

bool text_charset_known(const char *charset)
{
    CLEANUP(converter_cleanup) UConverter *converter = converter_open(charset);

    return converter != NULL;
}

/* Appends UTF-16 units; *high carries a surrogate from the piece before. */
static int append_units(struct buf *text, const UChar *units, size_t n, uint32_t *high,
                        struct err *err)
{
    char bytes[4096];
    size_t len = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t c = units[i];

        if (c >= 0xd800 && c < 0xdc00) {
            *high = c;
            continue;
        }
        if (c >= 0xdc00 && c < 0xe000) {
            c = *high ? 0x10000 + ((*high - 0xd800) << 10) + (c - 0xdc00) : 0xfffd;
        }
        *high = 0;
        if (len + 4 > sizeof(bytes)) {
            if (buf_append(text, bytes, len, err)) {
                return -1;
            }
            len = 0;
        }
        len += text_encode(c, bytes + len);
    }
    return buf_append(text, bytes, len, err);
}

static int convert(UConverter *converter, const char *data, size_t len, struct buf *text,
                   struct err *err)
{
    const char *from = data;
    const char *end = data + len;
    uint32_t high = 0;
    UErrorCode status;

    do {
        UChar units[2048] = {0};
        UChar *to = units;

        status = U_ZERO_ERROR;
        ucnv_toUnicode(converter, &to, units + ARRAY_LEN(units), &from, end, NULL, true, &status);
        if (U_FAILURE(status) && status != U_BUFFER_OVERFLOW_ERROR) {
            return err_set(err, ERR_PERMANENT, "corrupt", "text cannot be decoded: %s",
                           u_errorName(status));
        }
        if (append_units(text, units, (size_t)(to - units), &high, err)) {
            return -1;
        }
    } while (status == U_BUFFER_OVERFLOW_ERROR);
    return 0;
}

int text_convert(const char *charset, const char *data, size_t len, struct buf *text,
                 struct err *err)
{
    CLEANUP(converter_cleanup) UConverter *converter = converter_open(charset);

    if (!converter) {
        return err_set(err, ERR_PERMANENT, "corrupt", "unknown character set");
    }
    return convert(converter, data, len, text, err);
}

/* --- which encoding ------------------------------------------------------------------------ */

static const char *byte_order_mark(const char *p, size_t len, size_t *ret_skip)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *charset;
    } marks[] = {
        {"\xef\xbb\xbf", 3, "UTF-8"},    {"\xff\xfe\0\0", 4, "UTF-32LE"},
        {"\0\0\xfe\xff", 4, "UTF-32BE"}, {"\xff\xfe", 2, "UTF-16LE"},
        {"\xfe\xff", 2, "UTF-16BE"},     {"\x84\x31\x95\x33", 4, "gb18030"},
    };

    for (size_t i = 0; i < ARRAY_LEN(marks); i++) {
        if (len >= marks[i].len && !memcmp(p, marks[i].bytes, marks[i].len)) {
            *ret_skip = marks[i].len;
            return marks[i].charset;
        }
    }
    *ret_skip = 0;
    return NULL;
}

/* UTF-16 or UTF-32 without a mark shows in where the NULs stand. */
static const char *wide_without_mark(const char *p, size_t len)
{
    size_t at[4] = {0};
    size_t n = min_size(len, 4096) & ~(size_t)3;
    size_t nul;

    for (size_t i = 0; i < n; i++) {
        at[i % 4] += p[i] == 0;
    }
    nul = at[0] + at[1] + at[2] + at[3];
    if (n < 4 || nul * 10 < n * 3) {
        return NULL;
    }
    if (nul * 10 >= n * 7) {
        return at[0] > at[3] ? "UTF-32BE" : "UTF-32LE";
    }
    if ((at[0] + at[2]) * 10 <= nul) {
        return "UTF-16LE";
    }
    return (at[1] + at[3]) * 10 <= nul ? "UTF-16BE" : NULL;
}

/* Two families ICU does not detect: EBCDIC in its Latin form, and DOS Cyrillic. */
static const char *by_histogram(const char *p, size_t len)
{
    size_t count[256] = {0};
    size_t letters = 0;
    size_t high = 0;
    size_t dos = 0;

    for (size_t i = 0; i < len; i++) {
        count[(unsigned char)p[i]]++;
    }
    /* a to i, j to r and s to z of EBCDIC, of which e must be frequent; its blank is 0x40. */
    for (unsigned c = 0x81; c <= 0xa9; c++) {
        letters += (c & 0x0f) >= 1 && (c & 0x0f) <= 9 && c != 0xa1 ? count[c] : 0;
    }
    if (count[0x40] * 20 > len && count[0x20] * 200 < len && letters * 10 > len * 3 &&
        count[0x85] * 30 > len) {
        return "ibm-500";
    }
    for (unsigned c = 0x80; c <= 0xff; c++) {
        high += count[c];
        dos += (c >= 0x80 && c <= 0xaf) || (c >= 0xe0 && c <= 0xf1) ? count[c] : 0;
    }
    /* Small а to п is the busiest half of Russian; in windows-1251 and KOI8-R nothing is there. */
    for (unsigned c = 0xa0; c <= 0xaf; c++) {
        letters = c == 0xa0 ? count[c] : letters + count[c];
    }
    if (high * 3 > len && dos * 100 >= high * 97 && letters * 3 > high) {
        return "ibm-866";
    }
    return NULL;
}

/* The detector's first choice unless it is a guess; ISO-8859-1 reads as windows-1252. */
static const char *detect(const char *p, size_t len)
{
    CLEANUP(detector_cleanup) UCharsetDetector *detector = NULL;
    UErrorCode status = U_ZERO_ERROR;
    const UCharsetMatch *match;
    const char *name = by_histogram(p, len);
    static char kept[64];
    size_t high = 0;

    if (name) {
        return name;
    }
    for (size_t i = 0; i < len; i++) {
        high += (unsigned char)p[i] >= 0x80;
    }
    /* Too little for statistics: the commonest it is. */
    if (high < 4 && high * 2 < len && !memchr(p, '\x1b', len)) {
        return "windows-1252";
    }
    detector = ucsdet_open(&status);
    ucsdet_setText(detector, p, (int32_t)len, &status);
    match = ucsdet_detect(detector, &status);
    if (U_FAILURE(status) || !match || ucsdet_getConfidence(match, &status) < 10) {
        return "windows-1252";
    }
    name = ucsdet_getName(match, &status);
    if (U_FAILURE(status) || !name || !strncmp(name, "UTF-", 4) || !strncmp(name, "IBM4", 4)) {
        return "windows-1252";
    }
    (void)snprintf(kept, sizeof(kept), "%s", name);
    return kept;
}

/* A text that is UTF-8 but for a few broken bytes (or a cut last character) stays UTF-8. */
static bool mostly_utf8(const char *p, size_t len)
{
    size_t good = 0;
    size_t bad = 0;

    for (size_t i = 0; i < len;) {
        size_t n;
        uint32_t c = text_next(p + i, len - i, &n);

        bad += c == 0xfffd && n == 1;
        good += n > 1;
        i += n;
    }
    return bad == 0 || good >= 20 * bad;
}

const char *text_wide_charset(const char *data, size_t len, size_t *ret_skip)
{
    const char *name = byte_order_mark(data, len, ret_skip);

    if (name) {
        return strncmp(name, "UTF-8", 5) ? name : NULL;
    }
    return wide_without_mark(data, len);
}

static const char *choose(const char *data, size_t len, const char *charset, size_t *ret_skip)
{
    const char *name = byte_order_mark(data, len, ret_skip);

    if (name) {
        return name;
    }
    name = wide_without_mark(data, len);
    if (name) {
        return name;
    }
    /* A declared charset is believed unless the bytes are UTF-8 that no other encoding looks like.
     */
    if (charset && text_charset_known(charset) && !is_wide(charset) &&
        strncasecmp(charset, "utf-", 4) != 0) {
        bool ascii_like = !strcasecmp(real_name(charset), "windows-1252");

        if (!ascii_like || !utf8_valid(data, len)) {
            return charset;
        }
    }
    if (charset && !strcasecmp(charset, "utf-7")) {
        return charset;
    }
    if (mostly_utf8(data, len)) {
        return "UTF-8";
    }
    return detect(data, min_size(len, DETECT_BYTES));
}

int text_decode(const char *data, size_t len, const char *charset, struct buf *text,
                const char **ret_charset, struct err *err)
{
    size_t skip = 0;
    const char *name = choose(data, len, charset, &skip);

    if (ret_charset) {
        *ret_charset = name;
    }
    data += skip;
    len -= skip;
    if (!strcmp(name, "UTF-8") && utf8_valid(data, len)) {
        return buf_append(text, data, len, err);
    }
    return text_convert(name, data, len, text, err);
}
