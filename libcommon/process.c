/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads /proc/self when it is asked; what cannot be read is not shown.
 */
#include "libcommon/process.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "libcommon/metrics.h"

#define TEXT_MAX 4096

static bool read_text(const char *path, char *text, size_t size)
{
    FILE *f = fopen(path, "re");

    if (!f) {
        return false;
    }
    size_t n = fread(text, 1, size - 1, f);
    text[n] = '\0';
    fclose(f);
    return n > 0;
}

/* Unix time at which the machine began, 0 when unknown. */
static double boot_time(void)
{
    char line[256];
    double at = 0;
    FILE *f = fopen("/proc/stat", "re");

    while (f && fgets(line, sizeof(line), f)) {
        if (strncmp(line, "btime ", 6) == 0) {
            at = strtod(line + 6, NULL);
            break;
        }
    }
    if (f) {
        fclose(f);
    }
    return at;
}

/* Field numbers as in proc(5); the second one is a name that may hold spaces and brackets. */
static void collect_stat(void)
{
    char text[TEXT_MAX];
    double fields[25] = {0}, boot = boot_time();
    double tick = (double)sysconf(_SC_CLK_TCK), page = (double)sysconf(_SC_PAGESIZE);
    char *p = read_text("/proc/self/stat", text, sizeof(text)) ? strrchr(text, ')') : NULL;

    if (!p || strlen(p) < 4) {
        return;
    }
    p += 4; /* past ") S", the third field */
    for (size_t i = 4; i < ARRAY_LEN(fields) && *p; i++) {
        fields[i] = strtod(p, &p);
    }
    metrics_set("process_cpu_seconds_total", "", (fields[14] + fields[15]) / tick);
    metrics_set("process_threads", "", fields[20]);
    metrics_set("process_virtual_memory_bytes", "", fields[23]);
    metrics_set("process_resident_memory_bytes", "", fields[24] * page);
    if (boot > 0) {
        metrics_set("process_start_time_seconds", "", boot + fields[22] / tick);
    }
}

static void collect_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    struct rlimit limit;
    int n = -3; /* ".", ".." and the folder itself */

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        metrics_set("process_max_fds", "", (double)limit.rlim_cur);
    }
    if (!dir) {
        return;
    }
    while (readdir(dir)) { /* NOLINT(concurrency-mt-unsafe): a stream of our own */
        n++;
    }
    closedir(dir);
    metrics_set("process_open_fds", "", n);
}

void process_collect(void *arg)
{
    (void)arg;
    collect_stat();
    collect_descriptors();
}

void process_collect_scratch(void *arg)
{
    struct statvfs st;

    if (statvfs(arg, &st) == 0) {
        metrics_set("docfleet_scratch_free_bytes", "", (double)st.f_bavail * (double)st.f_frsize);
        metrics_set("docfleet_scratch_size_bytes", "", (double)st.f_blocks * (double)st.f_frsize);
    }
}
