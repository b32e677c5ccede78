/* SPDX-License-Identifier: Apache-2.0 */
/* The store's contract: whole files, uploads in parts, and what is left of those that end early. */
#include "tests/unit/store_contract.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static void assert_object(const char *key, size_t size, const char *sha)
{
    char path[] = "/tmp/store-contract-XXXXXX";
    CLEANUP(fd_cleanup) int fd = mkstemp(path);
    char got[SHA256_HEX_SIZE];
    uint64_t bytes = 0;

    unlink(path);
    assert_ok(store_get_fd(world.store, key, STORE_WHOLE, fd, size, &bytes, e));
    assert_int_equal(bytes, size);
    assert_ok(sha256_fd_hex(fd, 0, size, got, e));
    assert_string_equal(got, sha);
}

void test_put_fd(void **state)
{
    char sha[SHA256_HEX_SIZE];
    CLEANUP(fd_cleanup) int fd = temp_file(3, sha);
    const char *key = key_of("file.bin");
    struct store_info info;

    (void)state;
    assert_ok(store_put_fd(world.store, key, fd, 3 * MIB, NULL, sha, e));
    assert_object(key, 3 * MIB, sha);
    assert_ok(store_put_fd(world.store, key, fd, 3 * MIB, NULL, NULL, e));
    assert_ok(store_delete(world.store, key, e));
    sha[0] = sha[0] == '0' ? '1' : '0';
    assert_fails(store_put_fd(world.store, key, fd, 3 * MIB, NULL, sha, e), ERR_UNKNOWN,
                 "hash_mismatch");
    assert_fails(store_put_fd(world.store, key, fd, 3 * MIB + 1, NULL, NULL, e), ERR_UNKNOWN, "io");
    assert_fails(store_head(world.store, key, &info, e), ERR_PERMANENT, "input_gone");
}

void test_put_large_fd(void **state)
{
    char sha[SHA256_HEX_SIZE];
    CLEANUP(fd_cleanup) int fd = temp_file(70, sha);
    const char *key = key_of("large.bin");

    (void)state;
    assert_ok(store_put_fd(world.store, key, fd, 70 * MIB, NULL, sha, e));
    assert_object(key, 70 * MIB, sha);
    assert_ok(store_delete(world.store, key, e));
}

static void upload(const char *key, size_t size)
{
    CLEANUP(store_upload_cleanup) struct store_upload *up = NULL;
    CLEANUP(hash_done) struct hash hash = HASH_NONE;
    struct store_stored stored;
    struct store_info info;
    char sha[SHA256_HEX_SIZE];

    assert_ok(hash_init(&hash, HASH_SHA256, e));
    assert_ok(store_upload_begin(world.store, key, "application/pdf", size, &up, e));
    for (size_t done = 0; done < size;) {
        size_t n = min_size(size - done, 777777);
        assert_ok(store_upload_write(up, world.block, n, e));
        assert_ok(hash_update(&hash, world.block, n, e));
        done += n;
    }
    assert_fails(store_head(world.store, key, &info, e), ERR_PERMANENT, "input_gone");
    assert_ok(store_upload_commit(up, &stored, e));
    assert_ok(hash_final_hex(&hash, sha, sizeof(sha), e));
    assert_string_equal(stored.sha256, sha);
    assert_int_equal(stored.size, size);
    assert_ok(store_head(world.store, key, &info, e));
    assert_int_equal(info.size, size);
    assert_string_equal(info.content_type, "application/pdf");
    assert_string_equal(info.etag, stored.etag);
    assert_object(key, size, sha);
    assert_fails(store_upload_commit(up, &stored, e), ERR_FATAL, "internal");
}

void test_upload(void **state)
{
    static const size_t sizes[] = {0, 1, 70000, STORE_PART_SIZE, STORE_PART_SIZE + 1, 20 * MIB};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        const char *key = key_of("upload \xc3\xbc.pdf");
        upload(key, sizes[i]);
        assert_ok(store_delete(world.store, key, e));
    }
}

/* The most memory this process ever had, in kB. */
static long peak_kb(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    long kb = -1;

    assert_non_null(file);
    while (fgets(line, sizeof(line), file)) {
        if (sscanf(line, "VmHWM: %ld", &kb) == 1) {
            break;
        }
    }
    fclose(file);
    return kb;
}

void test_upload_memory(void **state)
{
    const char *key = key_of("hundred.bin");

    (void)state;
    upload(key, 100 * MIB);
    assert_ok(store_delete(world.store, key, e));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_in_range(peak_kb(), 1000, 40 * 1024);
#else
    assert_true(peak_kb() > 0);
#endif
}

static int count_pending(void *ctx, const struct store_pending *pending, struct err *err)
{
    int *n = ctx;

    (void)err;
    assert_true(pending->initiated_ms > clock_wall_ms() - 600000);
    assert_true(strlen(pending->upload_id) > 0);
    (*n)++;
    return 0;
}

static void assert_nothing_left(const char *key)
{
    struct store_info info;
    int n = 0;

    assert_fails(store_head(world.store, key, &info, e), ERR_PERMANENT, "input_gone");
    if (can(STORE_CAP_MULTIPART)) {
        assert_ok(store_list_uploads(world.store, key, count_pending, &n, e));
        assert_int_equal(n, 0);
    }
}

struct store_upload *begun(const char *key, size_t max_mib, size_t mib)
{
    struct store_upload *up = NULL;

    assert_ok(store_upload_begin(world.store, key, NULL, max_mib * MIB, &up, e));
    for (size_t i = 0; i < mib; i++) {
        assert_ok(store_upload_write(up, world.block, MIB, e));
    }
    return up;
}

void test_upload_dropped(void **state)
{
    const char *key = key_of("dropped.bin");

    (void)state;
    struct store_upload *up = begun(key, 100, 20);
    store_upload_free(up);
    assert_nothing_left(key);
}

void test_upload_too_large(void **state)
{
    const char *key = key_of("toolarge.bin");
    struct store_stored stored;

    (void)state;
    struct store_upload *up = begun(key, 10, 10);
    assert_fails(store_upload_write(up, "x", 1, e), ERR_PERMANENT, "file_too_large");
    assert_fails(store_upload_write(up, "", 0, e), ERR_PERMANENT, "file_too_large");
    assert_fails(store_upload_commit(up, &stored, e), ERR_PERMANENT, "file_too_large");
    store_upload_free(up);
    assert_nothing_left(key);
}

void test_abort_flag(void **state)
{
    const char *key = key_of("stopped.bin");
    struct store_stored stored;

    (void)state;
    struct store_upload *up = begun(key, 100, 10);
    atomic_store(&world.stop, true);
    assert_fails(store_upload_commit(up, &stored, e), ERR_TRANSIENT, "aborted");
    assert_fails(store_ping(world.store, e), ERR_TRANSIENT, "aborted");
    store_upload_free(up); /* cleans up all the same */
    atomic_store(&world.stop, false);
    assert_nothing_left(key);
}

static int abort_pending(void *ctx, const struct store_pending *pending, struct err *err)
{
    (void)ctx;
    return store_abort_upload(world.store, pending->key, pending->upload_id, err);
}

/* A process that dies in the middle of an upload leaves parts that can be found and dropped. */
void test_upload_of_the_dead(void **state)
{
    const char *key = key_of("dead \xc3\xbc.bin");
    int n = 0, status = 0;

    (void)state;
    if (!can(STORE_CAP_MULTIPART)) {
        assert_fails(store_list_uploads(world.store, "", count_pending, &n, e), ERR_FATAL,
                     "unsupported");
        assert_fails(store_abort_upload(world.store, key, "x", e), ERR_FATAL, "unsupported");
        skip();
    }
    pid_t pid = fork();
    if (pid == 0) {
        struct store *own = NULL;
        struct store_upload *up = NULL;
        if (store_open(&world.config, &own, NULL) < 0 ||
            store_upload_begin(own, key, NULL, 100 * MIB, &up, NULL) < 0) {
            _exit(1);
        }
        for (int i = 0; i < 10; i++) {
            if (store_upload_write(up, world.block, MIB, NULL) < 0) {
                _exit(1);
            }
        }
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_ok(store_list_uploads(world.store, key, count_pending, &n, e));
    assert_int_equal(n, 1);
    assert_ok(store_list_uploads(world.store, key, abort_pending, NULL, e));
    assert_nothing_left(key);
    assert_ok(store_abort_upload(world.store, key, "gone", e));
}
