/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Textract's blocks to a page: LINE blocks in the order given, each made of the WORD blocks it
 * names. A line whose words are missing is split at blanks and its box shared out by letters.
 */
#include "services/ocr-fallback/textract.h"

#include <string.h>

static int bad_block(struct err *err, const char *what)
{
    return err_set(err, ERR_PERMANENT, "invalid_json", "a block of Textract's answer %s", what);
}

static double number_of(const json_t *obj, const char *name)
{
    const json_t *value = json_object_get(obj, name);

    return json_is_number(value) ? json_number_value(value) : 0;
}

static void box_of(const json_t *block, double box[4])
{
    const json_t *at = json_object_get(json_object_get(block, "Geometry"), "BoundingBox");

    box[0] = number_of(at, "Left");
    box[1] = number_of(at, "Top");
    box[2] = box[0] + number_of(at, "Width");
    box[3] = box[1] + number_of(at, "Height");
}

static int page_of(const json_t *block)
{
    const json_t *page = json_object_get(block, "Page");

    return json_is_integer(page) ? (int)json_integer_value(page) : 1;
}

static bool is_type(const json_t *block, const char *type)
{
    const char *is = json_string_value(json_object_get(block, "BlockType"));

    return is && strcmp(is, type) == 0;
}

static int add_block(struct ocr_page *page, const json_t *block, struct err *err)
{
    const json_t *text = json_object_get(block, "Text");
    double box[4];

    if (!json_is_string(text)) {
        return bad_block(err, "has no text");
    }
    box_of(block, box);
    return ocr_page_word(page, json_string_value(text), json_string_length(text), box,
                         number_of(block, "Confidence") / 100, err);
}

/* Words along the line in proportion to their letters. */
static int share_out(struct ocr_page *page, const json_t *line, struct err *err)
{
    const char *text = json_string_value(json_object_get(line, "Text"));
    double box[4], word[4];

    if (!text || !*text) {
        return 0;
    }
    size_t all = strlen(text);
    box_of(line, box);
    for (size_t at = 0; at < all;) {
        size_t skip = strspn(text + at, " ");
        size_t len = strcspn(text + at + skip, " ");
        at += skip;
        if (len > 0) {
            memcpy(word, box, sizeof(word));
            word[0] = box[0] + (box[2] - box[0]) * (double)at / (double)all;
            word[2] = box[0] + (box[2] - box[0]) * (double)(at + len) / (double)all;
            if (ocr_page_word(page, text + at, len, word, number_of(line, "Confidence") / 100,
                              err) < 0) {
                return -1;
            }
        }
        at += len;
    }
    return 0;
}

static int add_line(struct ocr_page *page, const json_t *line, const json_t *by_id, struct err *err)
{
    const json_t *relations = json_object_get(line, "Relationships");
    const json_t *relation, *id;
    size_t i, k, words = 0;

    if (ocr_page_break(page, false, err) < 0) {
        return -1;
    }
    json_array_foreach(relations, i, relation)
    {
        const char *type = json_string_value(json_object_get(relation, "Type"));
        if (!type || strcmp(type, "CHILD") != 0) {
            continue;
        }
        json_array_foreach(json_object_get(relation, "Ids"), k, id)
        {
            const json_t *word =
                json_is_string(id) ? json_object_get(by_id, json_string_value(id)) : NULL;
            if (word && is_type(word, "WORD")) {
                words++;
                if (add_block(page, word, err) < 0) {
                    return -1;
                }
            }
        }
    }
    return words > 0 ? 0 : share_out(page, line, err);
}

int textract_read_blocks(const json_t *blocks, int page, struct ocr_page *ret, struct err *err)
{
    CLEANUP(json_cleanup) json_t *by_id = json_object();
    json_t *block;
    size_t i;

    if (!by_id) {
        return err_nomem(err);
    }
    if (!json_is_array(blocks) || json_array_size(blocks) > TEXTRACT_BLOCKS_MAX) {
        return bad_block(err, "list is missing or too long");
    }
    json_array_foreach(blocks, i, block)
    {
        const char *id = json_string_value(json_object_get(block, "Id"));
        if (id && is_type(block, "WORD") && page_of(block) == page &&
            json_object_set(by_id, id, block) < 0) {
            return err_nomem(err);
        }
    }
    json_array_foreach(blocks, i, block)
    {
        if (is_type(block, "LINE") && page_of(block) == page &&
            add_line(ret, block, by_id, err) < 0) {
            return -1;
        }
    }
    return 0;
}
