/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters, gauges and histograms in the text format, and the limit on series.
 */
#include "libcommon/metrics.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "libcommon/process.h"

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
    metrics_set("docfleet_inflight", "stage=\"text\"", 5);
    metrics_set("docfleet_inflight", "stage=\"text\"", 3);
    metrics_set("docfleet_ledger_mismatch", "", 4);
    metrics_add("docfleet_upload_bytes_total", "protocol=\"multipart\"", 5368709120.0);
    assert_true(metrics_get("docfleet_files_total", "stage=\"text\",outcome=\"done\"") == 3);
    assert_true(metrics_get("docfleet_inflight", "stage=\"text\"") == 3);
    assert_true(metrics_get("docfleet_inflight", "stage=\"ai\"") == 0);
    CLEANUP(free_cleanup) char *text = rendered();
    has(text, "# TYPE docfleet_files_total counter\n");
    has(text, "\ndocfleet_files_total{stage=\"text\",outcome=\"done\"} 3\n");
    has(text, "\ndocfleet_files_total{stage=\"ai\",outcome=\"failed\"} 1\n");
    has(text, "\ndocfleet_inflight{stage=\"text\"} 3\n");
    has(text, "\ndocfleet_ledger_mismatch 4\n");
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

static void letters(const char *reason, double n)
{
    char labels[96];

    snprintf(labels, sizeof(labels), "stage=\"text\",reason=\"%s\"", reason);
    metrics_set("docfleet_dead_letters", labels, n);
}

/* What is no longer true is shown no more, and what goes on keeps its place in the answer. */
static void test_a_family_is_replaced(void **state)
{
    (void)state;
    letters("corrupt", 3);
    letters("crash_loop", 1);
    metrics_set("docfleet_credit", "stage=\"text\",shard=\"0\",kind=\"used\"", 7);
    metrics_begin("docfleet_dead_letters");
    letters("corrupt", 4);
    metrics_end("docfleet_dead_letters");
    CLEANUP(free_cleanup) char *text = rendered();
    has(text, "docfleet_dead_letters{stage=\"text\",reason=\"corrupt\"} 4\n");
    has(text, "docfleet_credit{stage=\"text\",shard=\"0\",kind=\"used\"} 7\n");
    assert_null(strstr(text, "crash_loop"));
    metrics_remove("docfleet_credit", "stage=\"text\",shard=\"1\",kind=\"used\"");
    metrics_remove("docfleet_credit", "stage=\"text\",shard=\"0\",kind=\"used\"");
    metrics_begin("docfleet_dead_letters");
    metrics_end("docfleet_dead_letters");
    CLEANUP(free_cleanup) char *after = rendered();
    assert_null(strstr(after, "docfleet_credit"));
    assert_null(strstr(after, "docfleet_dead_letters"));
}

static void ask(void *arg)
{
    int *asked = arg;

    metrics_set("docfleet_ledger_mismatch", "", ++*asked);
}

static void test_values_are_asked_for(void **state)
{
    int asked = 0;

    (void)state;
    metrics_collect(ask, &asked);
    CLEANUP(free_cleanup) char *first = rendered();
    CLEANUP(free_cleanup) char *second = rendered();
    metrics_uncollect(ask, &asked);
    CLEANUP(free_cleanup) char *third = rendered();
    has(first, "docfleet_ledger_mismatch 1\n");
    has(second, "docfleet_ledger_mismatch 2\n");
    has(third, "docfleet_ledger_mismatch 2\n");
    assert_int_equal(asked, 2);
}

/* Labels that the table does not name end the process: they would never be found in a dashboard. */
static void test_labels_are_those_of_the_table(void **state)
{
    static const char *const wrong[] = {"",
                                        "stage=\"text\"",
                                        "outcome=\"done\",stage=\"text\"",
                                        "stage=\"text\",outcome=\"done\",user=\"u\"",
                                        "stage=\"text\",outcome=\"done",
                                        "stage=\"text\";outcome=\"done\"",
                                        "stage=text,outcome=done"};

    (void)state;
    metrics_inc("docfleet_http_requests_total", "route=\"GET /a,b=\\\"c\\\"\",status=\"200\"");
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        int status = 0;
        pid_t pid = fork();
        if (pid == 0) {
            int null = open("/dev/null", O_WRONLY);
            dup2(null, STDERR_FILENO);
            signal(SIGABRT, SIG_DFL);
            metrics_inc("docfleet_files_total", wrong[i]);
            _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (!WIFSIGNALED(status)) {
            fail_msg("{%s} was taken", wrong[i]);
        }
    }
}

static void test_the_process_and_its_disk(void **state)
{
    char folder[] = "/tmp";

    (void)state;
    while (clock() < CLOCKS_PER_SEC / 20) { /* the kernel counts in hundredths of a second */
    }
    process_collect(NULL);
    process_collect_scratch(folder);
    assert_true(metrics_get("process_cpu_seconds_total", "") > 0);
    assert_true(metrics_get("process_resident_memory_bytes", "") > 1e6);
    assert_in_range((int)metrics_get("process_open_fds", ""), 3, 100);
    assert_true(metrics_get("process_max_fds", "") >= 100);
    assert_int_equal((int)metrics_get("process_threads", ""), 1);
    double started = metrics_get("process_start_time_seconds", "");
    double now = (double)clock_wall_ms() / 1000;
    assert_true(started > now - 600 && started < now + 5);
    assert_true(metrics_get("docfleet_scratch_free_bytes", "") > 0);
    assert_true(metrics_get("docfleet_scratch_size_bytes", "") >=
                metrics_get("docfleet_scratch_free_bytes", ""));
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
        cmocka_unit_test(test_a_family_is_replaced),
        cmocka_unit_test(test_values_are_asked_for),
        cmocka_unit_test(test_labels_are_those_of_the_table),
        cmocka_unit_test(test_the_process_and_its_disk),
        cmocka_unit_test(test_buffer_full),
        cmocka_unit_test(test_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
