/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Some pages of a PDF as a document of their own, through qpdf: what a provider is sent when it
 * reads PDF better than a picture of it. Nothing of the other pages goes along.
 */
#include "services/ocr-fallback/ocr.h"

#include <qpdf/qpdf-c.h>
#include <string.h>

#define SPLIT_MAX (60U << 20) /* what the result may weigh */

UNUSED
static inline void qpdf_free(qpdf_data *q)
{
    if (*q) {
        qpdf_cleanup(q);
    }
}

static int refused(qpdf_data q, const char *what, struct err *err)
{
    qpdf_error e = qpdf_get_error(q);

    if (e && qpdf_get_error_code(q, e) == qpdf_e_password) {
        return err_set(err, ERR_PERMANENT, "encrypted", "the PDF needs a password");
    }
    return err_set(err, ERR_PERMANENT, "corrupt", "%s: %.150s", what,
                   e ? qpdf_get_error_message_detail(q, e) : "no reason given");
}

static int write_out(qpdf_data to, char **ret_data, size_t *ret_len, struct err *err)
{
    if (qpdf_init_write_memory(to) & QPDF_ERRORS) {
        return refused(to, "the PDF cannot be split", err);
    }
    qpdf_set_static_ID(to, QPDF_TRUE);
    qpdf_set_preserve_encryption(to, QPDF_FALSE);
    if (qpdf_write(to) & QPDF_ERRORS) {
        return refused(to, "the PDF cannot be split", err);
    }
    size_t len = qpdf_get_buffer_length(to);
    if (len == 0 || len > SPLIT_MAX) {
        return err_set(err, ERR_PERMANENT, "file_too_large", "the pages weigh %zu bytes", len);
    }
    char *data = malloc(len);
    if (!data) {
        return err_nomem(err);
    }
    memcpy(data, qpdf_get_buffer(to), len);
    *ret_data = data;
    *ret_len = len;
    return 0;
}

int split_pdf(const char *data, size_t len, const int *pages, size_t n_pages, char **ret_data,
              size_t *ret_len, struct err *err)
{
    CLEANUP(qpdf_free) qpdf_data from = qpdf_init();
    CLEANUP(qpdf_free) qpdf_data to = qpdf_init();

    if (!from || !to) {
        return err_nomem(err);
    }
    qpdf_silence_errors(from);
    qpdf_silence_errors(to);
    qpdf_set_suppress_warnings(from, QPDF_TRUE);
    qpdf_set_suppress_warnings(to, QPDF_TRUE);
    if ((qpdf_read_memory(from, "input", data, len, NULL) & QPDF_ERRORS) ||
        (qpdf_empty_pdf(to) & QPDF_ERRORS)) {
        return refused(from, "the PDF cannot be read", err);
    }
    int count = qpdf_get_num_pages(from);
    for (size_t i = 0; i < n_pages; i++) {
        if (pages[i] < 1 || pages[i] > count) {
            return err_set(err, ERR_PERMANENT, "corrupt", "there is no page %d", pages[i]);
        }
        qpdf_oh page = qpdf_get_page_n(from, (size_t)pages[i] - 1);
        if (qpdf_add_page(to, from, page, QPDF_FALSE) & QPDF_ERRORS) {
            return refused(to, "the PDF cannot be split", err);
        }
    }
    return write_out(to, ret_data, ret_len, err);
}
