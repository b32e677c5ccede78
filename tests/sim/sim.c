/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim: runs seeded schedules of the whole fleet in fake time and checks the invariants.
 *
 *   sim --schedules N --seed S [--jobs J]   schedules S..S+N-1; stops at the first that fails
 *   sim --seed N --trace                    one schedule, told step by step
 *
 * A batch of schedules runs in a child process of its own: a killed coroutine leaves its memory
 * behind, and a crash of the code under test must not end the run without a seed.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "services/cleaner/options.h"
#include "tests/sim/world.h"

#define BATCH 100

struct totals {
    uint64_t done, files, tasks, faults, kills, events, claims, letters, seconds, users;
    uint64_t seed; /* of the schedule at work */
    uint64_t kinds[WORLD_KINDS];
    char failure[300];
};

static struct totals *totals; /* shared with the children */

static void run_one(uint64_t seed, bool trace)
{
    totals->seed = seed;
    world_run(seed, trace);
    totals->done++;
    totals->files += w.m.n_files;
    totals->tasks += w.m.n_tasks;
    totals->faults += (uint64_t)w.n_faults;
    totals->kills += (uint64_t)w.n_kills;
    totals->events += fiber_events();
    totals->letters += w.m.n_letters;
    totals->users += (uint64_t)w.n_users;
    totals->seconds += (uint64_t)(fiber_now() / SECOND - 3600);
    totals->kinds[w.kind]++;
    for (size_t i = 0; i < w.m.n_changes; i++) {
        totals->claims += !w.m.changes[i].of_file && w.m.changes[i].to == TASK_RUNNING;
    }
    if (w.failure[0]) {
        snprintf(totals->failure, sizeof(totals->failure), "%s", w.failure);
    }
}

/* 0, or 1 after a failure. */
static int run_batch(uint64_t seed, uint64_t n)
{
    pid_t pid = fork();
    int status = 0;

    if (pid == 0) {
        for (uint64_t i = 0; i < n && !totals->failure[0]; i++) {
            run_one(seed + i, false);
        }
        _exit(totals->failure[0] ? 1 : 0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0) {
        return 1;
    }
    if (!WIFEXITED(status) && !totals->failure[0]) {
        snprintf(totals->failure, sizeof(totals->failure), "the code under test died of signal %d",
                 WTERMSIG(status));
    }
    return status != 0;
}

static void report(double took)
{
    double n = totals->done > 0 ? (double)totals->done : 1;

    printf(
        "sim: %llu schedules in %.1f s (%.0f a minute), %llu mixed %llu outage %llu fair; each on "
        "average %.1f users, %.1f files, %.1f units, %.1f claims, %.1f faults, %.1f kills, %.1f "
        "dead letters, %.0f events, %.0f s of its own time\n",
        (unsigned long long)totals->done, took, n / took * 60,
        (unsigned long long)totals->kinds[WORLD_MIXED],
        (unsigned long long)totals->kinds[WORLD_OUTAGE],
        (unsigned long long)totals->kinds[WORLD_FAIR], (double)totals->users / n,
        (double)totals->files / n, (double)totals->tasks / n, (double)totals->claims / n,
        (double)totals->faults / n, (double)totals->kills / n, (double)totals->letters / n,
        (double)totals->events / n, (double)totals->seconds / n);
}

int main(int argc, char **argv)
{
    uint64_t schedules = 1, seed = 1;
    double max_s = 0;
    bool trace = false;
    int failed = 0;
    struct timespec begin, now;

    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "0";
        if (strcmp(argv[i], "--schedules") == 0) {
            schedules = strtoull(value, NULL, 10);
            i++;
        } else if (strcmp(argv[i], "--seed") == 0) {
            seed = strtoull(value, NULL, 10);
            i++;
        } else if (strcmp(argv[i], "--seconds") == 0) {
            max_s = strtod(value, NULL);
            i++;
        } else if (strcmp(argv[i], "--trace") == 0) {
            trace = true;
        } else {
            fprintf(stderr, "usage: sim [--schedules N] [--seed S] [--seconds T] [--trace]\n");
            return 2;
        }
    }
    totals = mmap(NULL, sizeof(*totals), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (totals == MAP_FAILED) {
        return 2;
    }
    cleaner_options.second_pass_ms = SECOND_PASS_MS;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    if (trace) {
        run_one(seed, true);
        failed = totals->failure[0] != '\0';
    }
    double took = 0;
    for (uint64_t at = 0; !trace && !failed && at < schedules && (max_s <= 0 || took < max_s);
         at += BATCH) {
        failed = run_batch(seed + at, schedules - at < BATCH ? schedules - at : BATCH);
        clock_gettime(CLOCK_MONOTONIC, &now);
        took = (double)(now.tv_sec - begin.tv_sec) + (double)(now.tv_nsec - begin.tv_nsec) / 1e9;
    }
    report(took > 0 ? took : 1);
    if (failed) {
        printf("sim: FAILED seed %llu: %s\n     replay: sim --seed %llu --trace\n",
               (unsigned long long)totals->seed, totals->failure, (unsigned long long)totals->seed);
    }
    return failed;
}
