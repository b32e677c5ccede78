-- SPDX-License-Identifier: Apache-2.0
-- The first 16 hex digits of the SHA-256 of a page's slices: what is read back is what was stored.
-- Rows from before have none and are not checked.
ALTER TABLE file_page ADD COLUMN text_sum text;
ALTER TABLE file_page ADD COLUMN words_sum text;
