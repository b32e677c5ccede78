/* SPDX-License-Identifier: Apache-2.0 */
#include "libcommon/reason.h"

#include <string.h>

#define ASK_OPERATOR "an operator can look at the evidence and send it again"
#define RETRY_LATER "try again later"

/* Sorted by who can help: the file's owner, somebody who waits, an operator. */
static const struct reason table[] = {
    {"encrypted", "the document is protected with a password", "upload a copy without a password",
     false, false},
    {"corrupt", "the file is damaged, or cut off, and cannot be read",
     "open it where it was made and upload a fresh copy", false, false},
    {"unsupported_type", "no text can be read from files of this type",
     "upload it as PDF, office document, picture or text", false, false},
    {"empty_file", "the file has no content", "upload the file with its content", false, false},
    {"file_too_large", "the file is larger than what is taken", "split it, or make it smaller",
     false, false},
    {"too_many_pages", "the document has more pages than are processed", "split the document",
     false, false},
    {"too_many_pixels", "a picture in it is larger than what is processed",
     "upload it with a lower resolution", false, false},
    {"expands_too_much", "unpacked, the file is far larger than what is processed",
     "upload its parts as single files", false, false},
    {"too_large", "a part of the document is larger than what is processed", "split the document",
     false, false},
    {"no_preview", "there is no first page to picture", "look at the preview's error", false,
     false},
    {"no_text", "the document has no text that could be read", "upload a sharper scan", false,
     false},
    {"pages_failed", "some of the pages could not be read; the others are there",
     "look at the pages, then try again", true, false},
    {"invalid_schema", "the dataset's columns cannot be used for extraction",
     "change the columns, then run the file again from the ai stage", false, false},
    {"invalid_name", "the file's name cannot be used", "rename the file", false, false},
    {"hash_mismatch", "the bytes that came are not the bytes that were announced",
     "upload the file again", true, false},
    {"upload_failed", "the upload was not completed", "upload the file again", false, false},
    {"upload_stale", "the upload was begun and never completed", "upload the file again", false,
     false},
    {"input_gone", "the stored file is missing, or was replaced in the store",
     "upload the file again", false, false},
    {"dataset_gone", "the dataset was removed", "make an import of another dataset", false, false},
    {"source_empty", "the source has no objects any more", "look at its prefix", true, false},
    {"source_keys", "the source has objects whose names cannot be used", "rename the objects",
     false, false},
    {"source_unknown", "there is no source of that name", ASK_OPERATOR, true, false},
    {"too_many_objects", "the source has more objects than are taken", "split it by prefixes",
     false, false},
    {"too_many_failed", "more objects are broken than the import allows", "look at its objects",
     true, false},
    {"unfetched", "more objects could not be read than the import allows", RETRY_LATER, true,
     false},
    {"object_changed", "the object changed while it was read", RETRY_LATER, true, false},
    {"timeout", "it did not end in the time it has", RETRY_LATER, true, false},
    {"aborted", "it was stopped and goes on later", RETRY_LATER, true, false},
    {"provider_unavailable", "a service this step depends on did not answer for a day", RETRY_LATER,
     true, true},
    {"provider_refused", "the service this step depends on refused the request", ASK_OPERATOR, true,
     true},
    {"provider_rejected", "the service this step depends on refused the document", ASK_OPERATOR,
     true, true},
    {"infected", "the virus scanner found something harmful in this file",
     "remove the file; where you are sure that it is harmless, ask the operator to release it",
     false, false},
    {"scan_too_large", "the file is larger than the virus scanner takes, so it was not let in",
     ASK_OPERATOR, false, false},
    {"scan_failed", "the virus scanner could not look into this file, several times", ASK_OPERATOR,
     false, true},
    {"scanner_unavailable", "the virus scanner did not answer for a day", RETRY_LATER, true, true},
    {"quota_exceeded", "a quota of the account is used up",
     "look at the account's usage, ask the operator for more, then try again", true, false},
    {"budget", "the budget for paid services is used up", "try again when there is budget again",
     true, false},
    {"store_unavailable", "the file store did not answer for too long", RETRY_LATER, true, true},
    {"store_denied", "the file store did not let this step in", ASK_OPERATOR, true, true},
    {"store_refused", "the file store refused a request", ASK_OPERATOR, true, true},
    {"db_unavailable", "the database did not answer for a day", RETRY_LATER, true, true},
    {"child_crashed", "the program that reads such files broke down on this one, several times",
     "open it where it was made and save it anew; " ASK_OPERATOR, false, true},
    {"child_timeout", "reading the file took longer than allowed, several times",
     "split the document; " ASK_OPERATOR, false, false},
    {"crash_loop", "the worker was lost three times while it worked on this file",
     ASK_OPERATOR " alone", false, false},
    {"jail_start", "the sandbox for reading files could not be started", ASK_OPERATOR, true, true},
    {"no_memory", "there was not enough memory", RETRY_LATER, true, true},
    {"io", "a disk or a connection failed", RETRY_LATER, true, true},
    {"internal", "something went wrong on our side", ASK_OPERATOR, true, true},
};

const struct reason *reason_find(const char *code)
{
    for (size_t i = 0; code && i < ARRAY_LEN(table); i++) {
        if (strcmp(table[i].code, code) == 0) {
            return &table[i];
        }
    }
    return &table[ARRAY_LEN(table) - 1];
}

const char *reason_words(const char *code, const char *message)
{
    return reason_find(code)->ours ? NULL : message;
}

const char *reason_said(const char *code, const char *message)
{
    const struct reason *reason = reason_find(code);

    return reason->ours ? reason->text : message;
}

const struct reason *reason_table(size_t *ret_n)
{
    *ret_n = ARRAY_LEN(table);
    return table;
}
