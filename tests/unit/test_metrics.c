/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters, gauges and histograms in the text format, and the limit on series.
 */
#include "libcommon/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char *rendered(void)
{
    CLEANUP(buf_done) struct buf buf;
    struct err err = ERR_INIT;

    buf_init(&buf, 4U << 20);
    assert_int_equal(metrics_render(&buf, &err), 0);
    return buf_steal(&buf);
}

static void has(const char *text, const char *want)
{
    if (!strstr(text, want)) {
        fail_msg("%s is missing in:\n%.3000s", want, text);
    }
}

static void test_values(void **state)
{
    (void)state;
    metrics_inc("docfleet_files_total", "stage=\"text\",outcome=\"done\"");
    metrics_add("docfleet_files_total", "stage=\"text\",outcome=\"done\"", 2);
    metrics_inc("docfleet_files_total", "stage=\"ai\",outcome=\"failed\"");
    metrics_set("docfleet_inflight", "", 5);
    metrics_set("docfleet_inflight", "", 3);
    metrics_add("docfleet_upload_bytes_total", "protocol=\"multipart\"", 5368709120.0);
    assert_true(metrics_get("docfleet_files_total", "stage=\"text\",outcome=\"done\"") == 3);
    assert_true(metrics_get("docfleet_inflight", "") == 3);
    assert_true(metrics_get("docfleet_inflight", "x=\"y\"") == 0);
    CLEANUP(free_cleanup) char *text = rendered();
    has(text, "# TYPE docfleet_files_total counter\n");
    has(text, "\ndocfleet_files_total{stage=\"text\",outcome=\"done\"} 3\n");
    has(text, "\ndocfleet_files_total{stage=\"ai\",outcome=\"failed\"} 1\n");
    has(text, "\ndocfleet_inflight 3\n");
    has(text, "docfleet_upload_bytes_total{protocol=\"multipart\"} 5368709120\n");
    const char *head = strstr(text, "# HELP docfleet_files_total");
    assert_non_null(head);
    assert_null(strstr(head + 1, "# HELP docfleet_files_total"));
    assert_null(strstr(text, "docfleet_leader")); /* never set, never shown */
}

static void test_histogram(void **state)
{
    (void)state;
    metrics_observe("docfleet_stage_duration_seconds", "stage=\"text\"", 0.005);
    metrics_observe("docfleet_stage_duration_seconds", "stage=\"text\"", 0.3);
    metrics_observe("docfleet_stage_duration_seconds", "stage=\"text\"", 5000);
    CLEANUP(free_cleanup) char *text = rendered();
    has(text, "# TYPE docfleet_stage_duration_seconds histogram\n");
    has(text, "docfleet_stage_duration_seconds_bucket{stage=\"text\",le=\"0.005\"} 1\n");
    has(text, "docfleet_stage_duration_seconds_bucket{stage=\"text\",le=\"0.2\"} 1\n");
    has(text, "docfleet_stage_duration_seconds_bucket{stage=\"text\",le=\"0.5\"} 2\n");
    has(text, "docfleet_stage_duration_seconds_bucket{stage=\"text\",le=\"1200\"} 2\n");
    has(text, "docfleet_stage_duration_seconds_bucket{stage=\"text\",le=\"+Inf\"} 3\n");
    has(text, "docfleet_stage_duration_seconds_sum{stage=\"text\"} 5000.305\n");
    has(text, "docfleet_stage_duration_seconds_count{stage=\"text\"} 3\n");
}

static void test_buffer_full(void **state)
{
    CLEANUP(buf_done) struct buf buf;
    struct err err = ERR_INIT;

    (void)state;
    buf_init(&buf, 50);
    assert_int_equal(metrics_render(&buf, &err), -1);
    assert_string_equal(err.code, "too_large");
}

/* The last test: it fills the table. */
static void test_limit(void **state)
{
    char labels[64];
    size_t n = 0;

    (void)state;
    for (int i = 0; i < 2 * METRICS_SERIES_MAX; i++) {
        snprintf(labels, sizeof(labels), "route=\"/%d\",status=\"200\"", i);
        metrics_inc("docfleet_http_requests_total", labels);
    }
    CLEANUP(free_cleanup) char *text = rendered();
    for (const char *p = text; (p = strstr(p, "\ndocfleet_http_requests_total{")); p++) {
        n++;
    }
    assert_in_range(n, METRICS_SERIES_MAX - 50, METRICS_SERIES_MAX);
    has(text, "\ndocfleet_series_dropped_total ");
    metrics_inc("docfleet_files_total", "stage=\"text\",outcome=\"done\""); /* known: goes on */
    assert_true(metrics_get("docfleet_files_total", "stage=\"text\",outcome=\"done\"") == 4);
    assert_true(metrics_get("docfleet_series_dropped_total", "") > METRICS_SERIES_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_buffer_full),
        cmocka_unit_test(test_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
