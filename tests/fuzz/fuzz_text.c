/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer target for the text parsers: any bytes end in text or in an error with a class and a
 * code. The first byte picks a name, so that all kinds of plain text are reached. Seeds:
 * tests/fuzz/seeds/text.
 */
#include "services/text-extractor/format.h"

#include <fcntl.h>
#include <gmime/gmime.h>
#include <libxml/parser.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc UNUSED, char ***argv UNUSED)
{
    g_mime_init();
    xmlInitParser();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"a.txt", "a.html", "a.eml", "a.csv", "a.xml"};
    struct frame_writer writer;
    struct text_out out;
    struct err err = ERR_INIT;
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

    if (size == 0 || fd < 0) {
        return 0;
    }
    const struct text_input in = {.data = (const char *)data + 1,
                                  .len = size - 1,
                                  .fd = -1,
                                  .name = names[data[0] % ARRAY_LEN(names)]};
    frame_writer_init(&writer, fd);
    text_out_init(&out, &writer, 0);
    if (text_extract(&in, &out, &err) && (err.class == ERR_NONE || !err.code[0] || !err.msg[0])) {
        abort();
    }
    text_out_done(&out);
    (void)close(fd);
    return 0;
}
