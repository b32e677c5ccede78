/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing and reading the frame stream of a jailed child.
 * Invariant: the reader first gets bytes nobody can change any more (sealed or copied) and walks
 * all lengths before it shows the first frame. It never trusts a length, a type or a text.
 */
#include "libcommon/frames.h"

#include "libcommon/jget.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FRAME_HEAD 16U
#define FRAME_ERR_DETAIL_MAX 4096U

static const char frame_magic[4] = {'D', 'F', 'F', '1'};

struct frames {
    char *data;
    size_t len;
    bool mapped; /* else malloc'd */
    size_t pos;  /* of the next frame */
    bool ended;
    json_t *meta;
};

void frame_writer_init(struct frame_writer *out, int fd)
{
    *out = (struct frame_writer){.fd = fd};
}

static bool type_is_last(const char *type)
{
    return strcmp(type, "end") == 0 || strcmp(type, "error") == 0;
}

static int write_all(struct frame_writer *out, struct iovec *iov, int n, struct err *err)
{
    while (n > 0) {
        if (iov->iov_len == 0) {
            iov++;
            n--;
            continue;
        }
        ssize_t done = writev(out->fd, iov, n);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done < 0 && errno == EFBIG) {
            return err_set(err, ERR_PERMANENT, "expands_too_much",
                           "the result is larger than allowed");
        }
        if (done <= 0) {
            return err_from_errno(err, done < 0 ? errno : EIO, "writing a result frame");
        }
        out->written += (uint64_t)done;
        for (size_t left = (size_t)done; left > 0 && n > 0;) {
            size_t step = min_size(left, iov->iov_len);
            iov->iov_base = (char *)iov->iov_base + step;
            iov->iov_len -= step;
            left -= step;
            if (iov->iov_len == 0) {
                iov++;
                n--;
            }
        }
    }
    return 0;
}

int frame_write(struct frame_writer *out, const char *type, json_t *meta, const void *payload,
                size_t len, struct err *err)
{
    CLEANUP(json_cleanup) json_t *owned = meta ? meta : json_object();
    CLEANUP(free_cleanup) char *text = NULL;
    char head[FRAME_HEAD];

    if (!owned || json_object_set_new(owned, "type", json_string(type)) < 0) {
        return err_nomem(err);
    }
    text = json_dumps(owned, JSON_COMPACT);
    if (!text) {
        return err_nomem(err);
    }
    size_t text_len = strlen(text);
    if (text_len > FRAME_META_MAX) {
        return err_set(err, ERR_PERMANENT, "expands_too_much", "the head of a %s frame is too long",
                       type);
    }
    uint32_t wire_head = htole32((uint32_t)text_len);
    uint64_t wire_payload = htole64((uint64_t)len);
    memcpy(head, frame_magic, sizeof(frame_magic));
    memcpy(head + 4, &wire_head, sizeof(wire_head));
    memcpy(head + 8, &wire_payload, sizeof(wire_payload));
    union {
        const void *from;
        void *to;
    } bytes = {.from = payload}; /* writev does not write to it */
    struct iovec iov[] = {{head, sizeof(head)}, {text, text_len}, {bytes.to, len}};
    if (write_all(out, iov, (int)ARRAY_LEN(iov), err) < 0) {
        return -1;
    }
    out->ended = type_is_last(type);
    return 0;
}

/* Error texts may quote a file or be cut inside a character: never let that lose the error. */
static json_t *json_text(const char *text)
{
    json_t *value = json_string(text);
    char plain[ERR_MSG_MAX];
    size_t i = 0;

    if (value) {
        return value;
    }
    for (; text[i] && i < sizeof(plain) - 1; i++) {
        plain[i] = (text[i] & 0x80) ? '?' : text[i];
    }
    plain[i] = '\0';
    return json_string(plain);
}

int frame_write_error(struct frame_writer *out, const struct err *why, struct err *err)
{
    CLEANUP(json_cleanup) json_t *meta = json_object();

    if (!meta || json_object_set_new(meta, "code", json_text(why->code)) < 0 ||
        json_object_set_new(meta, "detail", json_text(why->msg)) < 0 ||
        json_object_set_new(meta, "class", json_string(err_class_name(why->class))) < 0) {
        return err_nomem(err);
    }
    return frame_write(out, "error", STEAL(meta), NULL, 0, err);
}

static int broken(struct err *err, const char *what)
{
    return err_set(err, ERR_UNKNOWN, "child_crashed", "the result is broken: %s", what);
}

/* Seals a memfd against every change and maps it; false when this descriptor cannot be sealed. */
static bool map_sealed(struct frames *frames, int fd)
{
    const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    struct stat st;

    if (fcntl(fd, F_ADD_SEALS, seals) < 0) {
        return false;
    }
    if (fstat(fd, &st) < 0 || (uint64_t)st.st_size != frames->len) {
        return false;
    }
    void *data = mmap(NULL, frames->len, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) {
        return false;
    }
    frames->data = data;
    frames->mapped = true;
    return true;
}

static int copy_stream(struct frames *frames, int fd, struct err *err)
{
    size_t have = 0;

    frames->data = malloc(frames->len);
    if (!frames->data) {
        return err_nomem(err);
    }
    while (have < frames->len) {
        ssize_t n = pread(fd, frames->data + have, frames->len - have, (off_t)have);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return err_from_errno(err, errno, "reading the result");
        }
        if (n == 0) {
            return broken(err, "it became shorter");
        }
        have += (size_t)n;
    }
    return 0;
}

/* Lengths of the frame at pos, checked against what is there. */
static int frame_lengths(const struct frames *frames, size_t pos, size_t *ret_head,
                         size_t *ret_payload, struct err *err)
{
    uint32_t head;
    uint64_t payload;
    size_t rest = frames->len - pos;

    if (rest < FRAME_HEAD || memcmp(frames->data + pos, frame_magic, sizeof(frame_magic)) != 0) {
        return broken(err, "no frame where one must be");
    }
    memcpy(&head, frames->data + pos + 4, sizeof(head));
    memcpy(&payload, frames->data + pos + 8, sizeof(payload));
    head = le32toh(head);
    payload = le64toh(payload);
    rest -= FRAME_HEAD;
    if (head > FRAME_META_MAX || head > rest || payload > rest - head) {
        return broken(err, "a frame is cut off");
    }
    *ret_head = head;
    *ret_payload = (size_t)payload;
    return 0;
}

static int load_meta(const struct frames *frames, size_t pos, size_t len, json_t **ret_meta,
                     const char **ret_type, struct err *err)
{
    CLEANUP(json_cleanup) json_t *meta = NULL;
    const char *type = NULL;

    if (jget_load(frames->data + pos + FRAME_HEAD, len, FRAME_META_MAX, &meta, NULL) < 0 ||
        jget_str(meta, "type", 32, &type, NULL) < 0) {
        return broken(err, "a frame has no readable head");
    }
    *ret_type = type;
    *ret_meta = STEAL(meta);
    return 0;
}

/* Walks the whole stream once: nothing is shown of a stream that does not end properly. */
static int check_stream(const struct frames *frames, struct err *err)
{
    CLEANUP(json_cleanup) json_t *meta = NULL;
    const char *type = NULL;
    size_t pos = 0, last = 0, head = 0, payload = 0;

    do {
        if (frame_lengths(frames, pos, &head, &payload, err) < 0) {
            return -1;
        }
        last = pos;
        pos += FRAME_HEAD + head + payload;
    } while (pos < frames->len);
    if (load_meta(frames, last, head, &meta, &type, err) < 0) {
        return -1;
    }
    return type_is_last(type) ? 0 : broken(err, "it has no end");
}

int frames_open(int fd, uint64_t max, struct frames **ret_frames, struct err *err)
{
    CLEANUP(frames_cleanup) struct frames *frames = NULL;
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return err_from_errno(err, errno, "the result");
    }
    if (st.st_size <= 0) {
        return broken(err, "it is empty");
    }
    if ((uint64_t)st.st_size > max || (uint64_t)st.st_size > SIZE_MAX / 2) {
        return err_set(err, ERR_PERMANENT, "expands_too_much",
                       "the result has %lld bytes, more than allowed", (long long)st.st_size);
    }
    frames = calloc(1, sizeof(*frames));
    if (!frames) {
        return err_nomem(err);
    }
    frames->len = (size_t)st.st_size;
    if (!map_sealed(frames, fd) && copy_stream(frames, fd, err) < 0) {
        return -1;
    }
    if (check_stream(frames, err) < 0) {
        return -1;
    }
    *ret_frames = STEAL(frames);
    return 0;
}

void frames_free(struct frames *frames)
{
    if (!frames) {
        return;
    }
    json_decref(frames->meta);
    if (frames->mapped) {
        munmap(frames->data, frames->len);
    } else {
        free(frames->data);
    }
    free(frames);
}

/* What the child says went wrong. Its class is a claim about its own input, so it may not stop
 * the service: "fatal" and unknown words count as unknown. */
static int child_error(const json_t *meta, struct err *err)
{
    const char *code = NULL, *detail = NULL, *class_text = NULL;

    if (jget_str(meta, "code", ERR_CODE_MAX - 1, &code, NULL) < 0 || code[0] == '\0') {
        code = "child_crashed";
    }
    if (jget_str(meta, "detail", FRAME_ERR_DETAIL_MAX, &detail, NULL) < 0) {
        detail = "no details";
    }
    if (jget_str(meta, "class", 16, &class_text, NULL) < 0) {
        class_text = "unknown";
    }
    enum err_class class = err_class_parse(class_text);
    if (class != ERR_PERMANENT && class != ERR_TRANSIENT) {
        class = ERR_UNKNOWN;
    }
    return err_set(err, class, code, "%.*s", ERR_MSG_MAX - 1, detail);
}

int frames_next(struct frames *frames, struct frame *ret, struct err *err)
{
    CLEANUP(json_cleanup) json_t *meta = NULL;
    const char *type = NULL;
    size_t head = 0, payload = 0;

    if (frames->ended) {
        return 0;
    }
    if (frames->pos >= frames->len) {
        return broken(err, "it has no end");
    }
    if (frame_lengths(frames, frames->pos, &head, &payload, err) < 0 ||
        load_meta(frames, frames->pos, head, &meta, &type, err) < 0) {
        return -1;
    }
    size_t next = frames->pos + FRAME_HEAD + head + payload;
    if (type_is_last(type) && next != frames->len) {
        return broken(err, "something follows its end");
    }
    if (strcmp(type, "error") == 0) {
        return child_error(meta, err);
    }
    json_decref(frames->meta);
    frames->meta = STEAL(meta);
    frames->ended = strcmp(type, "end") == 0;
    *ret = (struct frame){
        .type = type,
        .meta = frames->meta,
        .payload = frames->data + frames->pos + FRAME_HEAD + head,
        .len = payload,
    };
    frames->pos = next;
    return 1;
}
