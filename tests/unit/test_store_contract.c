/* SPDX-License-Identifier: Apache-2.0 */
/* PKGS: libcurl libcrypto */
/* SRCS: store_contract_upload.c */
/*
 * The contract of store.h, asked of a real server by either driver. tests/service/test_store.py
 * starts the servers and says in the environment where they are: DOCFLEET_TEST_S3_ENDPOINT,
 * _DRIVER, _ACCESS_KEY, _SECRET_KEY, and _PID of a server that may be stopped and killed;
 * DOCFLEET_TEST_ONLY is a pattern of test names. Without a server all is skipped.
 */
#include "tests/unit/store_contract.h"

#include "libcommon/http.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

struct store_world world;

const char *key_of(const char *name)
{
    static char keys[4][STORE_KEY_MAX + 1];
    static unsigned next;
    char *key = keys[next++ % ARRAY_LEN(keys)];

    snprintf(key, STORE_KEY_MAX + 1, "%s/%s", world.prefix, name);
    return key;
}

bool can(unsigned cap)
{
    return (store_caps(world.store) & cap) != 0;
}

void put_text(const char *key, const char *text)
{
    assert_ok(store_put_mem(world.store, key, text, strlen(text), "text/plain", e));
}

int temp_file(size_t mib, char sha[SHA256_HEX_SIZE])
{
    char path[] = "/tmp/store-contract-XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    unlink(path);
    for (size_t i = 0; i < mib; i++) {
        world.block[0] = (char)i;
        assert_int_equal(write(fd, world.block, MIB), MIB);
    }
    world.block[0] = 0;
    assert_ok(sha256_fd_hex(fd, 0, mib * MIB, sha, e));
    return fd;
}

static void assert_text(const char *key, struct store_range range, const char *want)
{
    CLEANUP(buf_done) struct buf buf = {.max = 0};

    assert_ok(store_get_mem(world.store, key, range, MIB, &buf, e));
    assert_int_equal(buf.len, strlen(want));
    assert_memory_equal(buf.len ? buf.data : "", want, buf.len);
}

static void test_bucket(void **state)
{
    struct store_config other = world.config;

    (void)state;
    assert_ok(store_bucket_create(world.store, e)); /* the group setup made it: again is success */
    assert_ok(store_ping(world.store, e));
    other.bucket = "docfleet-no-such-bucket";
    CLEANUP(store_cleanup) struct store *wrong = NULL;
    assert_ok(store_open(&other, &wrong, e));
    assert_fails(store_ping(wrong, e), ERR_TRANSIENT, "store_denied");
    struct store_info info;
    struct buf buf;
    assert_fails(store_head(wrong, "k", &info, e), ERR_TRANSIENT, "store_denied");
    assert_fails(store_get_mem(wrong, "k", STORE_WHOLE, 10, &buf, e), ERR_TRANSIENT,
                 "store_denied");
    assert_fails(store_put_mem(wrong, "k", "x", 1, NULL, e), ERR_TRANSIENT, "store_denied");
}

static void test_wrong_keys(void **state)
{
    struct store_config other = world.config;
    struct buf buf;

    (void)state;
    CLEANUP(store_cleanup) struct store *wrong_secret = NULL;
    other.secret_key = "not-the-secret";
    assert_ok(store_open(&other, &wrong_secret, e));
    assert_fails(store_put_mem(wrong_secret, "k", "x", 1, NULL, e), ERR_TRANSIENT, "store_denied");
    assert_fails(store_get_mem(wrong_secret, "k", STORE_WHOLE, 10, &buf, e), ERR_TRANSIENT,
                 "store_denied");
    assert_fails(store_ping(wrong_secret, e), ERR_TRANSIENT, "store_denied");
    CLEANUP(store_cleanup) struct store *wrong_access = NULL;
    other = world.config;
    other.access_key = "nobody";
    assert_ok(store_open(&other, &wrong_access, e));
    assert_fails(store_put_mem(wrong_access, "k", "x", 1, NULL, e), ERR_TRANSIENT, "store_denied");
}

static void test_unreachable(void **state)
{
    struct store_config other = world.config;

    (void)state;
    other.endpoint = "http://127.0.0.1:1";
    CLEANUP(store_cleanup) struct store *nowhere = NULL;
    assert_ok(store_open(&other, &nowhere, e));
    assert_fails(store_ping(nowhere, e), ERR_TRANSIENT, "store_unavailable");
    assert_fails(store_put_mem(nowhere, "k", "x", 1, NULL, e), ERR_TRANSIENT, "store_unavailable");
}

static void test_put_get(void **state)
{
    static const size_t sizes[] = {0, 1, 65535, 65537, MIB};
    const char *key = key_of("sizes/one.bin");

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        CLEANUP(buf_done) struct buf buf = {.max = 0};
        struct store_info info;
        assert_ok(store_put_mem(world.store, key, world.block, sizes[i], "image/webp", e));
        assert_ok(store_get_mem(world.store, key, STORE_WHOLE, MIB, &buf, e));
        assert_int_equal(buf.len, sizes[i]);
        assert_memory_equal(buf.len ? buf.data : "", world.block, buf.len);
        assert_ok(store_head(world.store, key, &info, e));
        assert_int_equal(info.size, sizes[i]);
        assert_string_equal(info.content_type, "image/webp");
        assert_true(info.etag[0] != '\0' && info.etag[0] != '"');
        assert_true(info.mtime_ms > clock_wall_ms() - 600000);
    }
}

static void test_keys(void **state)
{
    static const char *const names[] = {
        "a b.txt",
        "R\xc3\xbc"
        "ckgabe \xe2\x82\xac 5.pdf",
        "\xe6\x96\x87\xe6\x9b\xb8/\xf0\x9f\x93\x84.txt",
        "plus+and&=?#;,@:$.txt",
        "100% %20 %2F.txt",
        "'quotes\"()!*~<>[]{}|^`\\.txt",
        "...dots/.hidden",
        "-dash/_under",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char text[16];
        snprintf(text, sizeof(text), "text %zu", i);
        put_text(key_of(names[i]), text);
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char text[16];
        struct store_info info;
        snprintf(text, sizeof(text), "text %zu", i);
        assert_text(key_of(names[i]), STORE_WHOLE, text);
        assert_ok(store_head(world.store, key_of(names[i]), &info, e));
        assert_ok(store_delete(world.store, key_of(names[i]), e));
        assert_fails(store_head(world.store, key_of(names[i]), &info, e), ERR_PERMANENT,
                     "input_gone");
    }
    assert_fails(store_put_mem(world.store, "a/../b", "x", 1, NULL, e), ERR_PERMANENT,
                 "invalid_name");
}

static void test_missing(void **state)
{
    const char *key = key_of("missing");
    struct store_info info;
    struct buf buf;

    (void)state;
    assert_fails(store_get_mem(world.store, key, STORE_WHOLE, 10, &buf, e), ERR_PERMANENT,
                 "input_gone");
    assert_fails(store_get_mem(world.store, key, ((struct store_range){5, 5}), 10, &buf, e),
                 ERR_PERMANENT, "input_gone");
    assert_fails(store_head(world.store, key, &info, e), ERR_PERMANENT, "input_gone");
    assert_ok(store_delete(world.store, key, e));
}

static void test_ranges(void **state)
{
    const char *key = key_of("range.txt");
    struct buf buf;

    (void)state;
    put_text(key, "0123456789");
    assert_text(key, (struct store_range){0, 1}, "0");
    assert_text(key, (struct store_range){3, 4}, "3456");
    assert_text(key, (struct store_range){3, 0}, "3456789");
    assert_text(key, (struct store_range){8, 100}, "89");
    assert_text(key, (struct store_range){9, 1}, "9");
    assert_fails(store_get_mem(world.store, key, ((struct store_range){10, 1}), 10, &buf, e),
                 ERR_PERMANENT, "range");
    assert_fails(store_get_mem(world.store, key, ((struct store_range){99, 0}), 10, &buf, e),
                 ERR_PERMANENT, "range");
}

static int refuse(void *ctx, const char *data, size_t len, struct err *err)
{
    (void)ctx, (void)data, (void)len;
    return err_set(err, ERR_TRANSIENT, "client_gone", "the client went away");
}

static void test_limits(void **state)
{
    const char *key = key_of("limit.bin");
    struct buf buf;

    (void)state;
    assert_ok(store_put_mem(world.store, key, world.block, MIB, NULL, e));
    assert_fails(store_get_mem(world.store, key, STORE_WHOLE, MIB - 1, &buf, e), ERR_PERMANENT,
                 "too_large");
    assert_fails(store_get_cb(world.store, key, STORE_WHOLE, MIB, refuse, NULL, NULL, e),
                 ERR_TRANSIENT, "client_gone");
    assert_fails(store_get_mem(world.store, key, ((struct store_range){0, MIB}), 10, &buf, e),
                 ERR_PERMANENT, "too_large");
}

static void test_delete_many(void **state)
{
    char names[30][64];
    const char *keys[31];
    struct store_info info;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(names[i], sizeof(names[i]), "%s/many & more/%zu.txt", world.prefix, i);
        keys[i] = names[i];
        put_text(names[i], "x");
    }
    keys[30] = key_of("many/never-was");
    assert_ok(store_delete_many(world.store, keys, ARRAY_LEN(keys), e));
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        assert_fails(store_head(world.store, names[i], &info, e), ERR_PERMANENT, "input_gone");
    }
    assert_ok(store_delete_many(world.store, keys, 0, e));
    assert_fails(store_delete_many(world.store, keys, STORE_DELETE_MAX + 1, e), ERR_PERMANENT,
                 "too_large");
}

struct listed {
    unsigned n;
    char last[STORE_KEY_MAX + 1];
};

static int on_entry(void *ctx, const struct store_entry *entry, struct err *err)
{
    struct listed *listed = ctx;

    (void)err;
    assert_true(strcmp(entry->key, listed->last) > 0);
    assert_int_equal(entry->size, listed->n % 7);
    assert_true(entry->etag[0] != '\0' && entry->etag[0] != '"');
    assert_true(entry->mtime_ms > clock_wall_ms() - 600000);
    snprintf(listed->last, sizeof(listed->last), "%s", entry->key);
    listed->n++;
    return 0;
}

static int stop_listing(void *ctx, const struct store_entry *entry, struct err *err)
{
    (void)ctx, (void)entry;
    return err_set(err, ERR_UNKNOWN, "enough", "seen enough");
}

static void test_list(void **state)
{
    struct listed listed = {.n = 0};
    char *token = NULL;
    unsigned pages = 0;

    (void)state;
    for (unsigned i = 0; i < 25; i++) {
        char name[64];
        snprintf(name, sizeof(name), "list/\xc3\xbc & <%02u>.txt", i);
        assert_ok(store_put_mem(world.store, key_of(name), world.block, i % 7, NULL, e));
    }
    put_text(key_of("listing-of-another-prefix"), "x");
    do {
        char *next = NULL;
        assert_ok(store_list(world.store, key_of("list/"), token, 10, on_entry, &listed, &next, e));
        free(token);
        token = next;
        pages++;
    } while (token);
    assert_int_equal(listed.n, 25);
    assert_int_equal(pages, 3);
    assert_ok(
        store_list(world.store, key_of("nothing-here/"), NULL, 10, on_entry, &listed, &token, e));
    assert_null(token);
    assert_int_equal(listed.n, 25);
    assert_fails(store_list(world.store, key_of("list/"), NULL, 10, stop_listing, NULL, &token, e),
                 ERR_UNKNOWN, "enough");
}

static int http_do(const char *method, const char *url, const char *body, struct buf *ret_body,
                   char *ret_disposition)
{
    CLEANUP(http_client_cleanup) struct http_client *client = NULL;
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    struct http_request req = {
        .method = method, .url = url, .body = body, .body_len = body ? strlen(body) : 0};

    assert_ok(http_client_new(NULL, &client, e));
    assert_ok(http_call(client, &req, &resp, e));
    const char *value = http_header_get(&resp, "content-disposition");
    if (ret_disposition) {
        snprintf(ret_disposition, 100, "%s", value ? value : "");
    }
    if (ret_body && resp.body.len) {
        assert_ok(buf_append(ret_body, resp.body.data, resp.body.len, e));
    }
    return resp.status;
}

static void test_presign(void **state)
{
    const char *key = key_of("presigned \xc3\xbc+1.txt");
    struct store_presign get = {
        .method = "GET",
        .key = key,
        .expires = 60,
        .response_type = "text/x-own",
        .response_disposition = "attachment; filename=\"a b.txt\"",
    };
    struct store_presign put = {.method = "PUT", .key = key, .expires = 60};
    CLEANUP(free_cleanup) char *get_url = NULL;
    CLEANUP(free_cleanup) char *put_url = NULL;
    CLEANUP(buf_done) struct buf body = {.max = MIB};
    char disposition[100];

    (void)state;
    if (!can(STORE_CAP_PRESIGN)) {
        assert_fails(store_presign(world.store, &get, &get_url, e), ERR_FATAL, "unsupported");
        skip();
    }
    assert_ok(store_presign(world.store, &get, &get_url, e));
    assert_ok(store_presign(world.store, &put, &put_url, e));
    assert_int_equal(http_do("PUT", put_url, "presigned", NULL, NULL), 200);
    assert_int_equal(http_do("GET", get_url, NULL, &body, disposition), 200);
    assert_string_equal(body.data, "presigned");
    assert_string_equal(disposition, "attachment; filename=\"a b.txt\"");
    assert_int_equal(http_do("GET", put_url, NULL, NULL, NULL), 403);
    get_url[strlen(get_url) - 1] = get_url[strlen(get_url) - 1] == 'a' ? 'b' : 'a';
    assert_int_equal(http_do("GET", get_url, NULL, NULL, NULL), 403);
}

static void *worker(void *ctx)
{
    const int *number = ctx;
    struct err err = ERR_INIT;

    for (int i = 0; i < 20; i++) {
        char key[128], text[64];
        CLEANUP(buf_done) struct buf buf = {.max = 0};
        snprintf(key, sizeof(key), "%s/threads/%d/%d", world.prefix, *number, i % 3);
        snprintf(text, sizeof(text), "thread %d round %d", *number, i);
        if (store_put_mem(world.store, key, text, strlen(text), NULL, &err) < 0 ||
            store_get_mem(world.store, key, STORE_WHOLE, 100, &buf, &err) < 0 ||
            strcmp(buf.data, text) != 0) {
            return ctx; /* anything but NULL */
        }
    }
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t threads[4];
    int numbers[4];

    (void)state;
    for (int i = 0; i < 4; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, worker, &numbers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *result = NULL;
        pthread_join(threads[i], &result);
        assert_null(result);
    }
}

static pid_t server_pid(void)
{
    const char *pid = getenv("DOCFLEET_TEST_S3_PID");

    return pid ? (pid_t)strtol(pid, NULL, 10) : 0;
}

static void test_silent_server(void **state)
{
    struct store_config other = world.config;
    uint64_t start = clock_mono_ms();

    (void)state;
    if (server_pid() <= 0) {
        skip();
    }
    other.timeout_ms = 1500;
    CLEANUP(store_cleanup) struct store *impatient = NULL;
    assert_ok(store_open(&other, &impatient, e));
    assert_ok(store_ping(impatient, e));
    assert_int_equal(kill(server_pid(), SIGSTOP), 0);
    struct err err = ERR_INIT;
    int rc = store_put_mem(impatient, key_of("silent"), world.block, MIB, NULL, &err);
    assert_int_equal(kill(server_pid(), SIGCONT), 0);
    assert_int_equal(rc, -1);
    assert_int_equal(err.class, ERR_TRANSIENT);
    assert_string_equal(err.code, "store_unavailable");
    assert_in_range(clock_mono_ms() - start, 1000, 8000);
}

static void *kill_soon(void *ctx)
{
    (void)ctx;
    usleep(80000);
    kill(server_pid(), SIGKILL);
    return NULL;
}

/* The last of all: the server is gone afterwards. */
static void test_killed_server(void **state)
{
    char sha[SHA256_HEX_SIZE];
    pthread_t killer;
    struct err err = ERR_INIT;
    int rc = 0;

    (void)state;
    if (server_pid() <= 0) {
        skip();
    }
    CLEANUP(fd_cleanup) int fd = temp_file(200, sha);
    struct store_upload *up = begun(key_of("cut.bin"), 100, 10);
    assert_int_equal(pthread_create(&killer, NULL, kill_soon, NULL), 0);
    rc = store_put_fd(world.store, key_of("killed.bin"), fd, 200 * MIB, NULL, NULL, &err);
    pthread_join(killer, NULL);
    assert_int_equal(rc, -1);
    assert_int_equal(err.class, ERR_TRANSIENT);
    assert_string_equal(err.code, "store_unavailable");
    struct store_stored stored;
    assert_fails(store_upload_commit(up, &stored, e), ERR_TRANSIENT, "store_unavailable");
    store_upload_free(up);
}

static int group_setup(void **state)
{
    const char *endpoint = getenv("DOCFLEET_TEST_S3_ENDPOINT");

    (void)state;
    world.block = malloc(MIB);
    assert_non_null(world.block);
    for (size_t i = 0; i < MIB; i++) {
        world.block[i] = (char)(i * 31 + i / 251);
    }
    world.block[0] = 0;
    world.config = (struct store_config){
        .driver = getenv("DOCFLEET_TEST_S3_DRIVER"),
        .endpoint = endpoint,
        .bucket = "docfleet-contract",
        .access_key = getenv("DOCFLEET_TEST_S3_ACCESS_KEY"),
        .secret_key = getenv("DOCFLEET_TEST_S3_SECRET_KEY"),
        .abort = &world.stop,
    };
    snprintf(world.prefix, sizeof(world.prefix), "run/%lld-%d", (long long)clock_wall_ms(),
             getpid());
    assert_ok(store_open(&world.config, &world.store, e));
    assert_ok(store_bucket_create(world.store, e));
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    store_free(world.store);
    free(world.block);
    return 0;
}

static void test_without_server(void **state)
{
    (void)state;
    skip();
}

int main(void)
{
    const struct CMUnitTest none[] = {cmocka_unit_test(test_without_server)};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_upload_memory),  cmocka_unit_test(test_bucket),
        cmocka_unit_test(test_wrong_keys),     cmocka_unit_test(test_unreachable),
        cmocka_unit_test(test_put_get),        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_missing),        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_limits),         cmocka_unit_test(test_put_fd),
        cmocka_unit_test(test_put_large_fd),   cmocka_unit_test(test_upload),
        cmocka_unit_test(test_upload_dropped), cmocka_unit_test(test_upload_too_large),
        cmocka_unit_test(test_abort_flag),     cmocka_unit_test(test_upload_of_the_dead),
        cmocka_unit_test(test_delete_many),    cmocka_unit_test(test_list),
        cmocka_unit_test(test_presign),        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_silent_server),  cmocka_unit_test(test_killed_server),
    };

    if (!getenv("DOCFLEET_TEST_S3_ENDPOINT")) {
        return cmocka_run_group_tests(none, NULL, NULL);
    }
    cmocka_set_test_filter(getenv("DOCFLEET_TEST_ONLY"));
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
