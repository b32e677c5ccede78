/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frame streams: what the writer writes the reader gives back, and whatever else a child may leave
 * in its output is refused without reading past it.
 */
#include "libcommon/frames.h"

#include "libcommon/jget.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define MAX (1U << 20)

static int new_memfd(void)
{
    int fd = memfd_create("frames", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    return fd;
}

static int put(int fd, const void *data, size_t len)
{
    return write(fd, data, len) == (ssize_t)len ? 0 : -1;
}

/* A frame by hand, with lengths that may lie. */
static void put_raw(int fd, const char *meta, uint32_t meta_len, const char *payload,
                    uint64_t payload_len)
{
    uint32_t head = htole32(meta_len);
    uint64_t body = htole64(payload_len);

    assert_int_equal(put(fd, "DFF1", 4), 0);
    assert_int_equal(put(fd, &head, sizeof(head)), 0);
    assert_int_equal(put(fd, &body, sizeof(body)), 0);
    assert_int_equal(put(fd, meta, strlen(meta)), 0);
    assert_int_equal(put(fd, payload, strlen(payload)), 0);
}

static void put_good(int fd, const char *meta, const char *payload)
{
    put_raw(fd, meta, (uint32_t)strlen(meta), payload, strlen(payload));
}

static void assert_refused(int fd, const char *code)
{
    struct frames *frames = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(frames_open(fd, MAX, &frames, &err), -1);
    assert_null(frames);
    assert_string_equal(err.code, code);
    close(fd);
}

static void write_sample(struct frame_writer *out)
{
    struct err err = ERR_INIT;

    assert_int_equal(frame_write(out, "page", json_pack("{s:i,s:s}", "page", 1, "engine", "native"),
                                 "text", 4, &err),
                     0);
    assert_int_equal(frame_write(out, "image", NULL, NULL, 0, &err), 0);
    assert_false(out->ended);
}

static void assert_sample(struct frames *frames)
{
    struct frame frame = {0};
    struct err err = ERR_INIT;
    int64_t page = 0;

    assert_int_equal(frames_next(frames, &frame, &err), 1);
    assert_string_equal(frame.type, "page");
    assert_int_equal(frame.len, 4);
    assert_memory_equal(frame.payload, "text", 4);
    assert_int_equal(jget_int(frame.meta, "page", 1, 9, &page, &err), 0);
    assert_int_equal(frames_next(frames, &frame, &err), 1);
    assert_string_equal(frame.type, "image");
    assert_int_equal(frame.len, 0);
}

static void test_round_trip(void **state)
{
    (void)state;
    for (int sealable = 0; sealable < 2; sealable++) {
        CLEANUP(fd_cleanup)
        int fd = sealable ? new_memfd() : memfd_create("plain", MFD_CLOEXEC);
        CLEANUP(frames_cleanup) struct frames *frames = NULL;
        struct frame_writer out;
        struct frame frame;
        struct err err = ERR_INIT;

        frame_writer_init(&out, fd);
        write_sample(&out);
        assert_int_equal(frame_write(&out, "end", json_pack("{s:i}", "pages", 1), NULL, 0, &err),
                         0);
        assert_true(out.ended);
        assert_int_equal(out.written, (uint64_t)lseek(fd, 0, SEEK_END));
        assert_int_equal(frames_open(fd, MAX, &frames, &err), 0);
        /* nobody changes it now: sealed, or we have a copy */
        ssize_t n = pwrite(fd, "XXXX", 4, 0);
        assert_true(n == (sealable ? -1 : 4));
        fd_cleanup(&fd);
        assert_sample(frames);
        assert_int_equal(frames_next(frames, &frame, &err), 1);
        assert_string_equal(frame.type, "end");
        assert_int_equal(frames_next(frames, &frame, &err), 0);
        assert_int_equal(frames_next(frames, &frame, &err), 0);
    }
}

static void test_error_frame(void **state)
{
    CLEANUP(fd_cleanup) int fd = new_memfd();
    CLEANUP(frames_cleanup) struct frames *frames = NULL;
    struct frame_writer out;
    struct frame frame;
    struct err why = ERR_INIT, err = ERR_INIT;

    (void)state;
    frame_writer_init(&out, fd);
    write_sample(&out);
    err_set(&why, ERR_PERMANENT, "encrypted", "broken \xff text");
    assert_int_equal(frame_write_error(&out, &why, &err), 0);
    assert_true(out.ended);
    assert_int_equal(frames_open(fd, MAX, &frames, &err), 0);
    assert_sample(frames);
    assert_int_equal(frames_next(frames, &frame, &err), -1);
    assert_int_equal(err.class, ERR_PERMANENT);
    assert_string_equal(err.code, "encrypted");
    assert_string_equal(err.msg, "broken ? text");
}

/* A child's words are text: no class of ours that stops a service, no code of any length. */
static void test_hostile_error(void **state)
{
    static const char *const metas[] = {
        "{\"type\":\"error\"}",
        "{\"type\":\"error\",\"class\":\"fatal\",\"code\":7,\"detail\":[]}",
        "{\"type\":\"error\",\"class\":\"none\",\"code\":\"\"}",
        "{\"type\":\"error\",\"code\":\"a_code_that_is_much_longer_than_any_code_of_ours_may_be\"}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(metas); i++) {
        CLEANUP(fd_cleanup) int fd = new_memfd();
        CLEANUP(frames_cleanup) struct frames *frames = NULL;
        struct frame frame;
        struct err err = ERR_INIT;

        put_good(fd, metas[i], "");
        assert_int_equal(frames_open(fd, MAX, &frames, &err), 0);
        assert_int_equal(frames_next(frames, &frame, &err), -1);
        assert_int_equal(err.class, ERR_UNKNOWN);
        assert_string_equal(err.code, "child_crashed");
    }
}

static void test_broken(void **state)
{
    static const char end[] = "{\"type\":\"end\"}";
    int fd;

    (void)state;
    assert_refused(new_memfd(), "child_crashed"); /* empty */
    fd = new_memfd();
    assert_int_equal(put(fd, "DFF1", 4), 0);
    assert_refused(fd, "child_crashed");
    fd = new_memfd();
    put_good(fd, "{\"type\":\"page\"}", "no end");
    assert_refused(fd, "child_crashed");
    fd = new_memfd();
    put_good(fd, end, "");
    assert_int_equal(put(fd, "x", 1), 0);
    assert_refused(fd, "child_crashed");
    fd = new_memfd();
    put_raw(fd, end, sizeof(end) + 5, "", 0); /* head longer than the file */
    assert_refused(fd, "child_crashed");
    fd = new_memfd();
    put_raw(fd, end, sizeof(end) - 1, "", UINT64_MAX - 20); /* wraps around */
    assert_refused(fd, "child_crashed");
    fd = new_memfd();
    put_raw(fd, end, UINT32_MAX, "", 0);
    assert_refused(fd, "child_crashed");
    fd = new_memfd();
    put_good(fd, "not json", "");
    assert_refused(fd, "child_crashed");
    fd = new_memfd();
    put_good(fd, "{\"type\":5}", "");
    assert_refused(fd, "child_crashed");
    fd = new_memfd();
    put_good(fd, end, "");
    assert_int_equal(ftruncate(fd, MAX + 1), 0);
    assert_refused(fd, "expands_too_much");
}

/* An end in the middle hides what follows from a careless reader: not from this one. */
static void test_early_end(void **state)
{
    CLEANUP(fd_cleanup) int fd = new_memfd();
    CLEANUP(frames_cleanup) struct frames *frames = NULL;
    struct frame frame;
    struct err err = ERR_INIT;

    (void)state;
    put_good(fd, "{\"type\":\"end\"}", "");
    put_good(fd, "{\"type\":\"end\"}", "");
    assert_int_equal(frames_open(fd, MAX, &frames, &err), 0);
    assert_int_equal(frames_next(frames, &frame, &err), -1);
    assert_string_equal(err.code, "child_crashed");
}

static void test_writer_limits(void **state)
{
    CLEANUP(fd_cleanup) int read_only = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CLEANUP(free_cleanup) char *big = malloc(FRAME_META_MAX + 1);
    struct frame_writer out;
    struct err err = ERR_INIT;

    (void)state;
    assert_non_null(big);
    memset(big, 'a', FRAME_META_MAX);
    big[FRAME_META_MAX] = '\0';
    frame_writer_init(&out, read_only);
    assert_int_equal(frame_write(&out, "page", json_pack("{s:s}", "x", big), NULL, 0, &err), -1);
    assert_string_equal(err.code, "expands_too_much");
    assert_int_equal(frame_write(&out, "end", NULL, NULL, 0, &err), -1);
    assert_false(out.ended);
}

/* Bytes flipped at random: refused or read, never a crash (the sanitizers watch). */
static void test_mutations(void **state)
{
    CLEANUP(fd_cleanup) int good = new_memfd();
    struct frame_writer out;
    struct err err = ERR_INIT;
    char stream[512];
    uint64_t random = 88172645463325252ULL;

    (void)state;
    frame_writer_init(&out, good);
    write_sample(&out);
    assert_int_equal(frame_write(&out, "end", NULL, NULL, 0, &err), 0);
    ssize_t len = pread(good, stream, sizeof(stream), 0);
    assert_true(len > 0 && len < (ssize_t)sizeof(stream));
    for (int round = 0; round < 3000; round++) {
        CLEANUP(fd_cleanup) int fd = new_memfd();
        CLEANUP(frames_cleanup) struct frames *frames = NULL;
        struct frame frame;
        char mutant[sizeof(stream)];

        memcpy(mutant, stream, (size_t)len);
        for (int flips = 1 + round % 3; flips > 0; flips--) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            mutant[random % (uint64_t)len] = (char)(random >> 32);
        }
        assert_int_equal(put(fd, mutant, (size_t)len - (round % 7 == 0)), 0);
        if (frames_open(fd, MAX, &frames, &err) == 0) {
            while (frames_next(frames, &frame, &err) > 0) {
                assert_true(frame.len <= (size_t)len);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),    cmocka_unit_test(test_error_frame),
        cmocka_unit_test(test_hostile_error), cmocka_unit_test(test_broken),
        cmocka_unit_test(test_early_end),     cmocka_unit_test(test_writer_limits),
        cmocka_unit_test(test_mutations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
