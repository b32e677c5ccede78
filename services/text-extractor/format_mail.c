/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mail (and mailboxes, web archives): the headers a reader sees, the body as plain text, and a list
 * of everything that is attached.
 * Invariant: attachments are listed, never opened; a message in a message is read down to the
 * nesting limit. Of alternatives one is read.
 */
#include "services/text-extractor/format.h"
#include "services/text-extractor/text_header.h"

#include <gmime/gmime.h>
#include <stdio.h>
#include <string.h>

DEFINE_CLEANUP(GMimeStream *, stream_cleanup, g_object_unref)
DEFINE_CLEANUP(GMimeParser *, parser_cleanup, g_object_unref)
DEFINE_CLEANUP(GMimeMessage *, message_cleanup, g_object_unref)

#define PATH_MAX_LEN 64
#define PARTS_DEPTH_MAX 32U /* multiparts in multiparts */

struct mail {
    struct text_out *out;
    unsigned nesting; /* messages open */
    unsigned depth;   /* multiparts open */
};

static int walk(struct mail *mail, GMimeObject *object, const char *path, struct err *err);

/* --- parts -------------------------------------------------------------------------------------
 */

static bool is_type(GMimeObject *object, const char *type, const char *subtype)
{
    GMimeContentType *content = g_mime_object_get_content_type(object);

    return content && g_mime_content_type_is_type(content, type, subtype);
}

static int part_bytes(GMimeObject *object, GByteArray *bytes, struct err *err)
{
    GMimeDataWrapper *content =
        GMIME_IS_PART(object) ? g_mime_part_get_content(GMIME_PART(object)) : NULL;
    CLEANUP(stream_cleanup) GMimeStream *stream = g_mime_stream_mem_new_with_byte_array(bytes);

    g_mime_stream_mem_set_owner(GMIME_STREAM_MEM(stream), FALSE);
    if (content && g_mime_data_wrapper_write_to_stream(content, stream) < 0) {
        return err_set(err, ERR_PERMANENT, "corrupt", "a part of the mail cannot be decoded");
    }
    return 0;
}

static int64_t part_size(GMimeObject *object)
{
    GMimeDataWrapper *content =
        GMIME_IS_PART(object) ? g_mime_part_get_content(GMIME_PART(object)) : NULL;
    CLEANUP(stream_cleanup) GMimeStream *stream = g_mime_stream_null_new();

    return content ? (int64_t)g_mime_data_wrapper_write_to_stream(content, stream) : -1;
}

static const char *part_name(GMimeObject *object)
{
    const char *name = g_mime_object_get_content_disposition_parameter(object, "filename");

    return name ? name : g_mime_object_get_content_type_parameter(object, "name");
}

static int list_part(struct mail *mail, GMimeObject *object, const char *path, struct err *err)
{
    CLEANUP(buf_done) struct buf name = {0};
    GMimeContentType *type = g_mime_object_get_content_type(object);
    char *mime = type ? g_mime_content_type_get_mime_type(type) : NULL;
    const char *raw = part_name(object);
    int rc;

    buf_init(&name, 1U << 20);
    rc = text_header_decode(raw ? raw : "", &name, err) ||
                 text_part(mail->out, name.data ? name.data : "",
                           mime ? mime : "application/octet-stream", part_size(object), path, err)
             ? -1
             : 0;
    g_free(mime);
    return rc;
}

static int body_text(struct mail *mail, GMimeObject *object, bool html, struct err *err)
{
    CLEANUP(buf_done) struct buf text = {0};
    GByteArray *bytes = g_byte_array_new();
    const char *charset = g_mime_object_get_content_type_parameter(object, "charset");
    int rc = part_bytes(object, bytes, err);

    buf_init(&text, TEXT_INPUT_MAX);
    if (!rc && html) {
        rc = text_break(mail->out, 2, err) || format_html_bytes((const char *)bytes->data,
                                                                bytes->len, charset, mail->out, err)
                 ? -1
                 : 0;
    } else if (!rc) {
        rc = text_decode((const char *)bytes->data, bytes->len, charset, &text, NULL, err);
        text_clean(&text);
        rc = rc || text_break(mail->out, 2, err) ||
                     text_add(mail->out, text.data ? text.data : "", text.len, err)
                 ? -1
                 : 0;
    }
    (void)g_byte_array_free(bytes, TRUE);
    return rc;
}

static int read_leaf(struct mail *mail, GMimeObject *object, const char *path, struct err *err)
{
    const char *disposition = g_mime_object_get_disposition(object);
    bool attached = disposition && !strcasecmp(disposition, "attachment");
    bool html = is_type(object, "text", "html") || is_type(object, "application", "xhtml+xml");
    bool body = html || is_type(object, "text", "plain") || is_type(object, "text", "enriched");

    if (!body || attached || part_name(object)) {
        if (list_part(mail, object, path, err)) {
            return -1;
        }
    }
    return body && !attached ? body_text(mail, object, html, err) : 0;
}

/* --- multiparts --------------------------------------------------------------------------------
 */

/* Words of a plain alternative; some mailers put in an empty one. */
static bool has_words(GMimeObject *object)
{
    GByteArray *bytes = g_byte_array_new();
    struct err ignored = ERR_INIT;
    bool found = false;

    if (!part_bytes(object, bytes, &ignored)) {
        for (guint i = 0; i < bytes->len && !found; i++) {
            found = bytes->data[i] > ' ';
        }
    }
    (void)g_byte_array_free(bytes, TRUE);
    return found;
}

/* The plain one if it says anything, else the last, which is the richest. */
static int pick_alternative(GMimeMultipart *multipart)
{
    int n = g_mime_multipart_get_count(multipart);

    for (int i = 0; i < n; i++) {
        GMimeObject *child = g_mime_multipart_get_part(multipart, i);

        if (is_type(child, "text", "plain") && has_words(child)) {
            return i;
        }
    }
    for (int i = n - 1; i >= 0; i--) {
        GMimeObject *child = g_mime_multipart_get_part(multipart, i);

        if (is_type(child, "text", "html") || GMIME_IS_MULTIPART(child)) {
            return i;
        }
    }
    return n - 1;
}

static int read_multipart(struct mail *mail, GMimeMultipart *multipart, const char *path,
                          struct err *err)
{
    bool alternative = is_type(GMIME_OBJECT(multipart), "multipart", "alternative");
    int n = g_mime_multipart_get_count(multipart);
    int pick = alternative ? pick_alternative(multipart) : -1;
    int rc = 0;

    if (mail->depth >= PARTS_DEPTH_MAX) {
        return err_set(err, ERR_PERMANENT, "expands_too_much", "the mail is nested too deeply");
    }
    mail->depth++;
    for (int i = 0; !rc && i < n; i++) {
        GMimeObject *child = g_mime_multipart_get_part(multipart, i);
        char inner[PATH_MAX_LEN];

        (void)snprintf(inner, sizeof(inner), "%.48s%s%d", path, *path ? "." : "", i + 1);
        if (alternative && i != pick && !GMIME_IS_MULTIPART(child) && is_type(child, "text", "*")) {
            continue;
        }
        rc = walk(mail, child, inner, err);
    }
    mail->depth--;
    return rc;
}

/* --- messages ----------------------------------------------------------------------------------
 */

static int add_header(struct mail *mail, GMimeMessage *message, const char *name, struct err *err)
{
    CLEANUP(buf_done) struct buf value = {0};
    GMimeHeaderList *list = g_mime_object_get_header_list(GMIME_OBJECT(message));
    GMimeHeader *header = g_mime_header_list_get_header(list, name);
    const char *raw = header ? g_mime_header_get_raw_value(header) : NULL;

    buf_init(&value, 1U << 20);
    if (!raw) {
        return 0;
    }
    if (text_header_decode(raw, &value, err)) {
        return -1;
    }
    for (size_t i = 0; i < value.len; i++) {
        value.data[i] = value.data[i] == '\n' ? ' ' : value.data[i];
    }
    if (value.len == 0) {
        return 0;
    }
    return text_break(mail->out, 1, err) || text_puts(mail->out, name, err) ||
                   text_puts(mail->out, ": ", err) ||
                   text_flow(mail->out, value.data, value.len, err)
               ? -1
               : 0;
}

static int read_message(struct mail *mail, GMimeMessage *message, const char *path, struct err *err)
{
    static const char *const names[] = {"From", "To", "Cc", "Date", "Subject"};
    GMimeObject *root = g_mime_message_get_mime_part(message);
    int rc;

    if (text_break(mail->out, 2, err)) {
        return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (add_header(mail, message, names[i], err)) {
            return -1;
        }
    }
    if (!root) {
        return 0;
    }
    mail->nesting++;
    rc = text_break(mail->out, 2, err) || walk(mail, root, path, err) ? -1 : 0;
    mail->nesting--;
    return rc;
}

static int walk(struct mail *mail, GMimeObject *object, const char *path, struct err *err)
{
    if (GMIME_IS_MULTIPART(object)) {
        return read_multipart(mail, GMIME_MULTIPART(object), path, err);
    }
    if (GMIME_IS_MESSAGE_PART(object)) {
        GMimeMessage *message = g_mime_message_part_get_message(GMIME_MESSAGE_PART(object));

        if (list_part(mail, object, path, err)) {
            return -1;
        }
        return message && mail->nesting < TEXT_NESTING_MAX ? read_message(mail, message, path, err)
                                                           : 0;
    }
    return read_leaf(mail, object, path, err);
}

static int read_all(const char *data, size_t len, struct text_out *out, struct err *err)
{
    CLEANUP(stream_cleanup) GMimeStream *stream = g_mime_stream_mem_new_with_buffer(data, len);
    CLEANUP(parser_cleanup) GMimeParser *parser = g_mime_parser_new_with_stream(stream);
    bool mbox = len >= 5 && !memcmp(data, "From ", 5);
    unsigned n = 0;

    g_mime_parser_set_format(parser, mbox ? GMIME_FORMAT_MBOX : GMIME_FORMAT_MESSAGE);
    do {
        CLEANUP(message_cleanup)
        GMimeMessage *message = g_mime_parser_construct_message(parser, NULL);
        struct mail mail = {.out = out};

        if (!message) {
            break;
        }
        if (++n > TEXT_MEMBERS_MAX) {
            return err_set(err, ERR_PERMANENT, "expands_too_much", "more than %u messages",
                           TEXT_MEMBERS_MAX);
        }
        if (read_message(&mail, message, "", err)) {
            return -1;
        }
    } while (mbox && !g_mime_parser_eos(parser));
    if (n == 0) {
        return err_set(err, ERR_PERMANENT, "corrupt", "the mail cannot be read");
    }
    return 0;
}

int format_mail(const struct text_input *in, struct text_out *out, struct err *err)
{
    CLEANUP(buf_done) struct buf text = {0};
    size_t skip = 0;

    buf_init(&text, TEXT_INPUT_MAX);
    /* Saved by an editor as UTF-16: the parser wants bytes. */
    if (text_wide_charset(in->data, in->len, &skip)) {
        if (text_decode(in->data, in->len, NULL, &text, NULL, err)) {
            return -1;
        }
        return read_all(text.data ? text.data : "", text.len, out, err);
    }
    return read_all(in->data + skip, in->len - skip, out, err);
}
