-- SPDX-License-Identifier: Apache-2.0
-- Whose object a key is: asked for a thousand keys at a time by each sweep for orphans. Without it a
-- sweep read all versions of all files for each page of the store's listing, and with some tens of
-- thousands of files came to no end.
CREATE INDEX file_version_key ON file_version (object_key);
-- The open letters by what they are about, counted again and again for a metric; closed ones stay.
CREATE INDEX dead_letter_reasons ON dead_letter (stage, reason) WHERE state = 'open';
