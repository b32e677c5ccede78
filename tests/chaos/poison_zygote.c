/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text stage's zygote with a parser that has every fault a parser can have: a document that
 * begins with !segv, !abort, !loop, !alloc or !fork does that to the child that reads it. All other
 * documents are read as by the real one. It lives in the same cage as the real one.
 */
#include "services/text-extractor/format.h"

#include "libcommon/zygote.h"

#include <gmime/gmime.h>
#include <libxml/parser.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define GIB (1UL << 30)

static int warm(struct err *err)
{
    xmlInitParser();
    g_mime_init();
    return format_pdf_warm(err);
}

static int eat_memory(struct err *err)
{
    for (int i = 0; i < 10; i++) {
        char *p = mmap(NULL, GIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) {
            return err_nomem(err);
        }
        memset(p, 1, GIB);
    }
    return 0;
}

static int misbehave(const char *how, struct err *err)
{
    volatile unsigned spin = 0;

    if (strncmp(how, "segv", 4) == 0) {
        (void)raise(SIGSEGV);
    } else if (strncmp(how, "abort", 5) == 0) {
        abort();
    } else if (strncmp(how, "alloc", 5) == 0) {
        return eat_memory(err);
    } else if (strncmp(how, "fork", 4) == 0) {
        while (fork() >= 0) {
            spin++;
        }
    } else if (strncmp(how, "loop", 4) == 0) {
        for (;;) {
            spin++;
        }
    }
    return err_set(err, ERR_UNKNOWN, "child_crashed", "the poison did not work");
}

static int op_text(struct jail_unit *unit, struct err *err)
{
    struct text_input in = {.fd = unit->input_fd};
    struct text_out out;

    if (unit_map_input(unit, TEXT_INPUT_MAX, &in.data, &in.len, err) < 0) {
        return -1;
    }
    if (in.len > 8 && in.data[0] == '!') {
        return misbehave(in.data + 1, err);
    }
    in.name = unit_param_str(unit, "name", "");
    text_out_init(&out, unit->out, (uint32_t)unit_param_int(unit, "maxPages", 0));
    int rc = text_extract(&in, &out, err);
    text_out_done(&out);
    return rc;
}

static const struct zygote_op ops[] = {
    {.name = "text", .cage = CAGE_READ_FILES, .run = op_text},
};

int main(int argc, char **argv)
{
    const struct zygote zygote = {
        .name = "text-extractor-zygote", .warm = warm, .ops = ops, .n_ops = ARRAY_LEN(ops)};

    return zygote_main(argc, argv, &zygote);
}
