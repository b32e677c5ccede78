/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parsers of this service share: where text goes (struct text_out), how bytes become
 * UTF-8, and one entry per format. Everything here runs in a jailed child on untrusted bytes.
 * Invariant: a parser appends only UTF-8 to the page and never writes frames itself; all limits on
 * pages, text and expansion are enforced here, not in the parsers.
 * It refuses to open files, sockets or external entities.
 */
#pragma once

#include "libcommon/buf.h"
#include "libcommon/filetype.h"
#include "libcommon/frames.h"

#define TEXT_PAGES_MAX 5000U
#define TEXT_TOTAL_MAX (60U << 20)      /* bytes of text of one file */
#define TEXT_WORDS_STOP (44U << 20)     /* past this much output no more word boxes are written */
#define TEXT_INPUT_MAX (256U << 20)     /* what is mapped at once; PDF is read through its fd */
#define TEXT_PAGE_CHARS 100000U         /* longer page-less documents are cut at paragraph ends */
#define TEXT_SHEET_CHARS 2000000U       /* so are sheets and slides, but only here */
#define TEXT_EXPAND_MAX (1024ULL << 20) /* unpacked bytes of one file */
#define TEXT_EXPAND_RATIO 200U          /* unpacked : packed */
#define TEXT_EXPAND_FREE (16U << 20)    /* the ratio is not looked at below this */
#define TEXT_NESTING_MAX 3U             /* message in a message, archive in an archive */
#define TEXT_MEMBERS_MAX 1000U          /* of an archive or a mail */
#define TEXT_PACKAGE_MAX 10000U         /* parts of an office package, most of them pictures */

/* --- where text goes ---------------------------------------------------------------------- */

struct text_word {
    double x0, y0, x1, y1; /* fractions of the page, origin top left */
    uint32_t start, end;   /* code points of the page's text */
};

struct text_out {
    struct frame_writer *frames;
    struct buf page;     /* the page being built */
    uint32_t pages;      /* written so far */
    uint32_t members;    /* parts written so far */
    uint64_t total;      /* bytes of text written so far */
    uint32_t page_limit; /* maxPages of the request */
    const char *kind;    /* what a package turned out to be; static, NULL: as detected */
    bool raw;            /* keep line breaks and blanks as they are (plain text) */
};

void text_out_init(struct text_out *out, struct frame_writer *frames, uint32_t page_limit);
void text_out_done(struct text_out *out);

/* Appends UTF-8 as it is. */
int text_add(struct text_out *out, const char *s, size_t len, struct err *err) WARN_UNUSED;
int text_puts(struct text_out *out, const char *s, struct err *err) WARN_UNUSED;
int text_char(struct text_out *out, uint32_t code_point, struct err *err) WARN_UNUSED;
/* Appends with runs of white space folded to one blank, none at the start of a line. */
int text_flow(struct text_out *out, const char *s, size_t len, struct err *err) WARN_UNUSED;
/* Makes sure the page ends in `lines` line feeds (0: in white space); nothing on an empty page.
 * Blanks before the break are dropped, tabs are kept. */
int text_break(struct text_out *out, unsigned lines, struct err *err) WARN_UNUSED;
/* Drops blanks (not tabs) at the end. */
void text_trim(struct text_out *out);
/* Length of the page so far, in bytes; with text_cut_repeat to drop what was there before. */
size_t text_len(const struct text_out *out);
/* Drops everything after `from` if the same bytes stand earlier at `seen`..`from`. */
bool text_drop_repeat(struct text_out *out, size_t seen, size_t from);

/* Writes the page built so far, even an empty one, as the next page (no geometry); a huge one is
 * cut. */
int text_page_end(struct text_out *out, struct err *err) WARN_UNUSED;
/* Writes what is left: nothing if the page is empty and pages were written before; a long text is
 * cut into pages at paragraph ends. */
int text_finish(struct text_out *out, struct err *err) WARN_UNUSED;

/* A page with geometry; words may be NULL. text is cleaned already. */
struct text_page {
    double width, height; /* points */
    bool needs_ocr;
    const char *text;
    size_t len;
    const struct text_word *words;
    size_t n_words;
};
int text_page_write(struct text_out *out, const struct text_page *page,
                    struct err *err) WARN_UNUSED;
/* Lists a member; strings are cleaned here. size < 0: unknown. */
int text_part(struct text_out *out, const char *name, const char *mime, int64_t size,
              const char *path, struct err *err) WARN_UNUSED;

/* --- blocks and tables ---------------------------------------------------------------------- */

#define FLOW_CELLS_MAX 64U /* nested table cells that are told apart */

/* Between a document's structure and its text: breaks are owed, and paid when the next text comes,
 * so that empty blocks leave no trace. A cell of one line is followed by a tab, one that has lines
 * of its own by a line feed. Starts as {.out = out}. */
struct flow {
    struct text_out *out;
    unsigned lines; /* line feeds owed before the next text */
    unsigned tabs;  /* or cell separators */
    unsigned cells;
    size_t cell_start[FLOW_CELLS_MAX]; /* where the text of an open cell begins */
};

void flow_owe(struct flow *flow, unsigned lines);
void flow_cell_open(struct flow *flow);
void flow_cell_close(struct flow *flow);
/* Text as it is; with white space folded; a blank between words. */
int flow_add(struct flow *flow, const char *s, size_t len, struct err *err) WARN_UNUSED;
int flow_text(struct flow *flow, const char *s, size_t len, struct err *err) WARN_UNUSED;
int flow_blank(struct flow *flow, struct err *err) WARN_UNUSED;

/* --- characters --------------------------------------------------------------------------- */

/* Converts bytes of any common encoding to UTF-8 and appends it to text: byte order marks, then
 * `charset` (may be NULL or wrong), then valid UTF-8, UTF-16 without a mark, then detection.
 * What cannot be read becomes U+FFFD. *ret_charset (may be NULL) is a static or ICU-owned name. */
int text_decode(const char *data, size_t len, const char *charset, struct buf *text,
                const char **ret_charset, struct err *err) WARN_UNUSED;
/* Drops NULs and control characters, makes every line end LF, repairs invalid UTF-8. In place. */
void text_clean(struct buf *text);
/* Converts len bytes with one named converter; -1 without touching text if the name is unknown. */
int text_convert(const char *charset, const char *data, size_t len, struct buf *text,
                 struct err *err) WARN_UNUSED;
/* UTF-16 or UTF-32, with a mark or without, else NULL; *ret_skip: bytes of the mark (UTF-8's too).
 */
const char *text_wide_charset(const char *data, size_t len, size_t *ret_skip);
bool text_charset_known(const char *charset);
/* One code point from valid or invalid UTF-8: its length in *ret_len (1..4), U+FFFD if broken. */
uint32_t text_next(const char *s, size_t len, size_t *ret_len);
/* Writes 1..4 bytes, returns their number. */
size_t text_encode(uint32_t code_point, char ret_bytes[4]);
size_t text_count(const char *s, size_t len);

/* --- formats: each reads the whole input and leaves its text in out ------------------------ */

struct text_input {
    const char *data;
    size_t len;
    int fd;           /* for formats that read through the descriptor, else -1 */
    const char *name; /* of the file, "" if unknown */
    enum file_kind kind;
    unsigned depth; /* 0 for the file itself */
};

int format_pdf(const struct text_input *in, struct text_out *out, struct err *err) WARN_UNUSED;
int format_plain(const struct text_input *in, struct text_out *out, struct err *err) WARN_UNUSED;
int format_html(const struct text_input *in, struct text_out *out, struct err *err) WARN_UNUSED;
int format_rtf(const struct text_input *in, struct text_out *out, struct err *err) WARN_UNUSED;
int format_mail(const struct text_input *in, struct text_out *out, struct err *err) WARN_UNUSED;
int format_package(const struct text_input *in, struct text_out *out, struct err *err) WARN_UNUSED;
int format_image(const struct text_input *in, struct text_out *out, struct err *err) WARN_UNUSED;
int format_ole2(const struct text_input *in, struct text_out *out, struct err *err) WARN_UNUSED;

/* HTML in some charset (NULL: as it says itself or by detection). */
int format_html_bytes(const char *data, size_t len, const char *charset, struct text_out *out,
                      struct err *err) WARN_UNUSED;

/* Keeps one trusted PDF open, as its library drops its tables with the last document. */
int format_pdf_warm(struct err *err) WARN_UNUSED;

/* Finds the kind and runs its parser; ends with the "end" frame. kind_hint may be "". */
int text_extract(const struct text_input *in, struct text_out *out, struct err *err) WARN_UNUSED;
