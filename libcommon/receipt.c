/* SPDX-License-Identifier: Apache-2.0 */
#include "libcommon/receipt.h"

#include <string.h>

int receipt_digest(const json_t *lines, char ret_hex[SHA256_HEX_SIZE], struct err *err)
{
    CLEANUP(hash_done) struct hash hash = HASH_NONE;
    size_t i;
    json_t *line;

    if (hash_init(&hash, HASH_SHA256, err) < 0) {
        return -1;
    }
    json_array_foreach(lines, i, line)
    {
        CLEANUP(free_cleanup) char *text = json_dumps(line, JSON_COMPACT | JSON_SORT_KEYS);
        if (!text) {
            return err_nomem(err);
        }
        if (hash_update(&hash, text, strlen(text), err) < 0 ||
            hash_update(&hash, "\n", 1, err) < 0) {
            return -1;
        }
    }
    return hash_final_hex(&hash, ret_hex, SHA256_HEX_SIZE, err);
}
