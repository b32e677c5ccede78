/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the office zygote share: its private folder, the warm-up documents and the
 * check of a container before LibreOffice sees it.
 * Invariant: LibreOffice takes any bytes for text and works on them for long, so nothing reaches
 * it whose signature was not recognised here.
 */
#pragma once

#include "libcommon/err.h"

/* The folder of this process below $TMPDIR (else /tmp): home/ with the profile, tmp/ for work. */
struct office_folder {
    char root[200];
    char home[240];
    char tmp[240];
};

/* Makes the folder, writes the profile, sets HOME and TMPDIR; removes folders that dead processes
 * left behind. */
int office_folder_make(struct office_folder *folder, struct err *err) WARN_UNUSED;
/* Removes it with all contents. */
void office_folder_remove(const struct office_folder *folder);

enum office_family {
    OFFICE_TEXT,
    OFFICE_SHEET,
    OFFICE_SLIDES,
};

/* Recognises word processing, sheets and slides in OOXML, ODF, OLE2 and RTF. Errors, permanent:
 * encrypted (a wrapped OOXML file), unsupported_type, expands_too_much, corrupt. */
int office_check(const unsigned char *data, size_t len, enum office_family *ret_family,
                 struct err *err) WARN_UNUSED;
/* Whether a file that LibreOffice refused looks protected by a password. */
bool office_looks_encrypted(const unsigned char *data, size_t len);

/* Flat ODF documents of our own that touch what most files need, by family. */
extern const char *const office_samples[3];
