/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/csv.h"

#include <string.h>

int csv_text(struct buf *buf, const char *text, struct err *err)
{
    if (!text || text[0] == '\0') {
        return 0;
    }
    bool guard = strchr("=+-@\t\r\n|%", text[0]) != NULL;
    bool quote = guard || strpbrk(text, ",\"\r\n") || text[0] == ' ';
    if (!quote) {
        return buf_puts(buf, text, err);
    }
    if (buf_puts(buf, guard ? "\"'" : "\"", err) < 0) {
        return -1;
    }
    for (const char *s = text; *s != '\0';) {
        size_t n = strcspn(s, "\"");
        if (buf_append(buf, s, n, err) < 0) {
            return -1;
        }
        s += n;
        if (*s == '"') {
            if (buf_puts(buf, "\"\"", err) < 0) {
                return -1;
            }
            s++;
        }
    }
    return buf_puts(buf, "\"", err);
}

int csv_json(struct buf *buf, const json_t *value, struct err *err)
{
    if (!value || json_is_null(value)) {
        return 0;
    }
    if (json_is_string(value)) {
        return csv_text(buf, json_string_value(value), err);
    }
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    if (!text) {
        return err_nomem(err);
    }
    int rc = json_is_number(value) ? buf_puts(buf, text, err) : csv_text(buf, text, err);
    free(text);
    return rc;
}
