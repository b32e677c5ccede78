/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mail as people read it: subject, who and when, the body (HTML if there is any), and the names
 * of what is attached. Folders of mail show their first messages one after the other.
 * Invariant: attachments are named and never opened; nothing outside the message is looked at.
 */
#include "services/preview-worker/render_flow.h"

#include <gmime/gmime.h>
#include <iconv.h>
#include <string.h>

enum { MESSAGES_MAX = 40, PARTS_MAX = 200, PART_DEPTH_MAX = 12 };
#define BODY_MAX (8U * 1024 * 1024)
#define UTF8_MAX (32U * 1024 * 1024)

/* iconv keeps its tables in modules; loaded and held open here, the child finds them in memory. */
static const char *const charsets[] = {
    "ISO-8859-1",  "ISO-8859-2",   "ISO-8859-5",   "ISO-8859-7",   "ISO-8859-9",
    "ISO-8859-15", "WINDOWS-1250", "WINDOWS-1251", "WINDOWS-1252", "WINDOWS-1253",
    "KOI8-R",      "KOI8-U",       "ISO-2022-JP",  "SHIFT_JIS",    "EUC-JP",
    "GBK",         "GB18030",      "BIG5",         "EUC-KR",       "UHC",
};

void render_mail_warm(void)
{
    static iconv_t held[ARRAY_LEN(charsets)];

    g_mime_init();
    for (size_t i = 0; i < ARRAY_LEN(charsets); i++) {
        held[i] = iconv_open("UTF-8", charsets[i]);
    }
    (void)held;
}

/* What a walk over the parts finds. Borrowed from the message. */
struct found {
    GMimePart *plain;
    GMimePart *html;
    GMimeObject *attached[PARTS_MAX];
    unsigned n_attached;
};

static void find_parts(GMimeObject *object, int depth, struct found *found)
{
    if (GMIME_IS_MULTIPART(object)) {
        const int n = g_mime_multipart_get_count(GMIME_MULTIPART(object));

        for (int i = 0; i < n && i < PARTS_MAX && depth < PART_DEPTH_MAX; i++) {
            find_parts(g_mime_multipart_get_part(GMIME_MULTIPART(object), i), depth + 1, found);
        }
        return;
    }
    GMimeContentType *type = g_mime_object_get_content_type(object);
    const char *disposition = g_mime_object_get_disposition(object);
    const bool attached = disposition && g_ascii_strcasecmp(disposition, "attachment") == 0;

    if (!attached && GMIME_IS_PART(object)) {
        if (!found->html && g_mime_content_type_is_type(type, "text", "html")) {
            found->html = GMIME_PART(object);
            return;
        }
        if (!found->plain && g_mime_content_type_is_type(type, "text", "plain")) {
            found->plain = GMIME_PART(object);
            return;
        }
    }
    if (found->n_attached < PARTS_MAX) {
        found->attached[found->n_attached++] = object;
    }
}

/* The part's bytes, transfer encoding undone, as UTF-8. */
static int part_text(GMimePart *part, struct buf *ret_text, struct err *err)
{
    GMimeDataWrapper *content = g_mime_part_get_content(part);
    GMimeContentType *type = g_mime_object_get_content_type(GMIME_OBJECT(part));
    const char *charset = type ? g_mime_content_type_get_parameter(type, "charset") : NULL;
    bool cut = false;

    if (!content) {
        return 0;
    }
    GMimeStream *stream = g_mime_stream_mem_new();
    const GByteArray *bytes = NULL;
    int rc = 0;

    g_mime_data_wrapper_write_to_stream(content, stream);
    bytes = g_mime_stream_mem_get_byte_array(GMIME_STREAM_MEM(stream));
    if (bytes && bytes->len > 0) {
        const union {
            const guint8 *bytes;
            const char *text;
        } data = {bytes->data};

        rc = charset_to_utf8(data.text, bytes->len, BODY_MAX, charset, ret_text, &cut, err);
    }
    g_object_unref(stream);
    return rc;
}

static int header_line(struct flow *flow, const char *label, const char *value, struct err *err)
{
    char line[1200];

    if (!value || *value == '\0') {
        return 0;
    }
    const int n = snprintf(line, sizeof(line), "%s %s", label, value);

    return flow_text(flow, FLOW_SMALL, 0, NULL, line,
                     min_size((size_t)(n > 0 ? n : 0), sizeof(line) - 1), err);
}

static int address_line(struct flow *flow, const char *label, InternetAddressList *list,
                        struct err *err)
{
    if (!list) {
        return 0;
    }
    char *text = internet_address_list_to_string(list, NULL, FALSE);
    const int rc = header_line(flow, label, text, err);

    g_free(text);
    return rc;
}

static int draw_head(struct flow *flow, GMimeMessage *message, struct err *err)
{
    const char *subject = g_mime_message_get_subject(message);
    GDateTime *date = g_mime_message_get_date(message);
    char *when = date ? g_date_time_format(date, "%Y-%m-%d %H:%M %z") : NULL;
    int rc;

    subject = subject && *subject ? subject : "(no subject)";
    rc = flow_text(flow, FLOW_TITLE, 0, NULL, subject, min_size(strlen(subject), 1000), err);
    if (rc == 0) {
        rc = address_line(flow, "From:", g_mime_message_get_from(message), err) != 0 ||
                     address_line(flow, "To:", g_mime_message_get_to(message), err) != 0 ||
                     address_line(flow, "Cc:", g_mime_message_get_cc(message), err) != 0 ||
                     header_line(flow, "Date:", when, err) != 0
                 ? -1
                 : flow_rule(flow, err);
    }
    g_free(when);
    return rc;
}

static int draw_attached(struct flow *flow, const struct found *found, struct err *err)
{
    static const char label[] = "Attached";

    if (found->n_attached == 0) {
        return 0;
    }
    if (flow_rule(flow, err) != 0 ||
        flow_text(flow, FLOW_SUBHEADING, 0, NULL, label, strlen(label), err) != 0) {
        return -1;
    }
    for (unsigned i = 0; i < found->n_attached && !flow->full; i++) {
        GMimeObject *object = found->attached[i];
        const char *name =
            GMIME_IS_PART(object) ? g_mime_part_get_filename(GMIME_PART(object)) : NULL;
        char *type = g_mime_content_type_get_mime_type(g_mime_object_get_content_type(object));
        char line[600];

        snprintf(line, sizeof(line), "%.400s (%.100s)", name ? name : "without a name",
                 type ? type : "unknown");
        g_free(type);
        if (flow_text(flow, FLOW_SMALL, 16, "\xe2\x80\xa2", line, strlen(line), err) != 0) {
            return -1;
        }
    }
    return 0;
}

static int draw_message(struct flow *flow, GMimeMessage *message, struct err *err)
{
    CLEANUP(buf_done) struct buf text;
    struct found found = {0};
    GMimeObject *body = g_mime_message_get_mime_part(message);
    int rc = draw_head(flow, message, err);

    buf_init(&text, UTF8_MAX);
    if (rc == 0 && body) {
        find_parts(body, 0, &found);
        if (found.html) {
            rc = part_text(found.html, &text, err);
            rc = rc != 0 || text.len == 0 ? rc : flow_html(flow, text.data, text.len, err);
        } else if (found.plain) {
            rc = part_text(found.plain, &text, err);
            rc = rc != 0 || text.len == 0
                     ? rc
                     : flow_text(flow, FLOW_BODY, 0, NULL, text.data, text.len, err);
        }
    }
    return rc != 0 ? -1 : draw_attached(flow, &found, err);
}

int flow_mail(struct flow *flow, const char *mail, size_t len, struct err *err)
{
    const bool folder = len > 5 && memcmp(mail, "From ", 5) == 0;
    GMimeStream *stream = g_mime_stream_mem_new_with_buffer(mail, min_size(len, 64U << 20));
    GMimeParser *parser = g_mime_parser_new_with_stream(stream);
    int rc = 0;

    g_mime_parser_set_format(parser, folder ? GMIME_FORMAT_MBOX : GMIME_FORMAT_MESSAGE);
    for (int i = 0; i < MESSAGES_MAX && rc == 0 && !flow->full; i++) {
        GMimeMessage *message = i > 0 && g_mime_parser_eos(parser)
                                    ? NULL
                                    : g_mime_parser_construct_message(parser, NULL);

        if (!message) {
            if (i == 0) {
                rc = flow_text(flow, FLOW_MONO, 0, NULL, mail, min_size(len, BODY_MAX), err);
            }
            break;
        }
        if (i > 0) {
            rc = flow_rule(flow, err);
        }
        rc = rc != 0 ? rc : draw_message(flow, message, err);
        g_object_unref(message);
        if (!folder) {
            break;
        }
    }
    g_object_unref(parser);
    g_object_unref(stream);
    return rc;
}
