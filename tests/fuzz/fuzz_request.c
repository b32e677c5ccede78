/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer target for what the gateway reads of a request besides its body's parts: the address,
 * cursors, ranges, tags, Accept, parameters of header values, JSON, names of files. Whatever the
 * bytes, what comes out keeps the promises of the headers. Seeds: tests/fuzz/seeds/request.
 */
#include "libcommon/jget.h"
#include "libcommon/names.h"
#include "libcommon/utf8.h"
#include "services/ingest-gateway/cond.h"
#include "services/ingest-gateway/cursor.h"
#include "services/ingest-gateway/multipart_header.h"
#include "services/ingest-gateway/uri.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void check_text(const char *text)
{
    must(utf8_valid(text, strlen(text)));
    for (const char *s = text; *s != '\0'; s++) {
        must((unsigned char)*s >= 0x20 && *s != 0x7F);
    }
    must(name_chars(text) <= strlen(text));
}

static void try_address(const char *text)
{
    struct uri uri;
    struct err err = ERR_INIT;
    int64_t n = 0;
    const char *value = NULL;

    if (uri_parse(text, &uri, &err) < 0) {
        must(err.code[0] != '\0' && err.msg[0] != '\0');
        return;
    }
    must(uri.path[0] == '/' && uri.n_args <= URI_ARGS_MAX);
    check_text(uri.path);
    for (size_t i = 0; i < uri.n_args; i++) {
        check_text(uri.args[i].name);
        check_text(uri.args[i].value);
        for (size_t k = 0; k < i; k++) {
            must(strcmp(uri.args[i].name, uri.args[k].name) != 0);
        }
        if (uri_arg_int(&uri, uri.args[i].name, -5, 200, 7, &n, &err) == 0) {
            must(n >= 0 && n <= 200);
        }
        if (uri_arg_text(&uri, uri.args[i].name, 20, &value, &err) == 0) {
            must(!value || name_chars(value) <= 20);
        }
    }
    uri_done(&uri);
}

static void try_cursor(const char *text)
{
    struct cursor cursor;
    struct err err = ERR_INIT;

    if (cursor_decode(text, "name", &cursor, &err) < 0) {
        must(strcmp(err.code, "bad_request") == 0);
        return;
    }
    struct cursor again;
    char *made = cursor_encode("name", cursor.id, cursor.value);
    must(made && cursor_decode(made, "name", &again, &err) == 0);
    must(strcmp(again.id, cursor.id) == 0 && strcmp(again.value, cursor.value) == 0);
    free(made);
}

static void try_conditions(const char *text)
{
    uint64_t offset = 0;
    uint64_t length = 0;

    if (range_parse(text, 1000, &offset, &length) == RANGE_PART) {
        must(length > 0 && offset < 1000 && length <= 1000 - offset);
    }
    (void)etag_listed(text, "\"abc\"");
    (void)etag_matches(text, "\"abc\"");
    (void)accept_prefers_json(text);
    (void)accept_gzip(text);
    (void)accept_names(text, "text/csv");
    (void)time_text_valid(text);
}

static void try_parameters(char *text)
{
    char *end = text + strlen(text);
    char *at = text;
    char *name = NULL;
    char *value = NULL;
    size_t len = 0;

    while (header_param(&at, &name, &value, &len) > 0) {
        must(name && value && name >= text && value + len <= end && at <= end);
    }
}

static void try_json(const char *text, size_t size)
{
    CLEANUP(json_cleanup) json_t *json = NULL;
    struct err err = ERR_INIT;
    int64_t n = 0;

    if (jget_load(text, size, 65536, &json, &err) < 0) {
        must(err.class == ERR_PERMANENT && err.msg[0] != '\0');
    } else if (jget_opt_int(json, "n", -9, 9, 0, &n, &err) == 0) {
        must(n >= -9 && n <= 9);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = ERR_INIT;
    char *text = malloc(size + 1); /* of its own size, so that a read behind it shows */

    if (!text) {
        return 0;
    }
    memcpy(text, data, size);
    text[size] = '\0';
    try_json(text, size);
    if (name_check(text, size, &err) == 0) {
        check_text(text);
    }
    try_address(text);
    try_cursor(text);
    try_conditions(text);
    try_parameters(text);
    free(text);
    return 0;
}
