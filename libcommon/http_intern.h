/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What http.c and http_response.c share. Not for other modules.
 */
#pragma once

#include "libcommon/http.h"

#include <curl/curl.h>

/* One call while it runs; callbacks get it as their context. */
struct transfer {
    const struct http_request *request;
    struct http_response *response;
    struct curl_slist *header_list;
    struct err err;   /* set by a callback that ended the call */
    size_t sent;      /* of a body in memory or in a file */
    bool source_used; /* the callback gave bytes that cannot be had again */
    int status;
    CURLcode rc;
    char curl_error[CURL_ERROR_SIZE];
};

/* The one translation of libcurl's codes. Returns -1. */
int err_from_curl(struct err *err, int curl_code, const char *detail);

/* The status of a line "HTTP/1.1 200 OK", or 0. */
int http_parse_status(const char *line, size_t len);

int http_headers_init(struct http_response *resp, struct err *err) WARN_UNUSED;
void http_headers_reset(struct http_response *resp);
/* Keeps "Name: value" while there is room, drops it otherwise. */
void http_headers_add(struct http_response *resp, const char *line, size_t len);

/* http_public.c: opens sockets to addresses out on the net only (CURLOPT_OPENSOCKETFUNCTION). */
curl_socket_t http_open_public(void *ctx, curlsocktype purpose, struct curl_sockaddr *address);
