/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts each SQL file into the program as it is, so that one binary can migrate anywhere. A new file
 * needs one INCLUDE_SQL and one row here.
 */
#include "services/docfleetctl/migrations.h"

#define INCLUDE_SQL(symbol, path)                                                                  \
    extern const char symbol[];                                                                    \
    __asm__(".section .rodata\n.global " #symbol "\n" #symbol ":\n.incbin \"" path                 \
            "\"\n.byte 0\n.previous\n")

INCLUDE_SQL(sql_0001, "proto-schemas/postgres/0001_core.sql");
INCLUDE_SQL(sql_0002, "proto-schemas/postgres/0002_lanes_and_queue_state.sql");
INCLUDE_SQL(sql_0003, "proto-schemas/postgres/0003_worker_breaker.sql");
INCLUDE_SQL(sql_0004, "proto-schemas/postgres/0004_ai_units.sql");
INCLUDE_SQL(sql_0005, "proto-schemas/postgres/0005_product.sql");
INCLUDE_SQL(sql_0006, "proto-schemas/postgres/0006_page_sums.sql");
INCLUDE_SQL(sql_0007, "proto-schemas/postgres/0007_pause.sql");
INCLUDE_SQL(sql_0008, "proto-schemas/postgres/0008_accounts.sql");
INCLUDE_SQL(sql_0009, "proto-schemas/postgres/0009_stage_shard.sql");
INCLUDE_SQL(sql_0010, "proto-schemas/postgres/0010_import.sql");
INCLUDE_SQL(sql_0011, "proto-schemas/postgres/0011_hold.sql");
INCLUDE_SQL(sql_0012, "proto-schemas/postgres/0012_rate_limits.sql");
INCLUDE_SQL(sql_0013, "proto-schemas/postgres/0013_row_security.sql");
INCLUDE_SQL(sql_0014, "proto-schemas/postgres/0014_backup.sql");
INCLUDE_SQL(sql_0015, "proto-schemas/postgres/0015_quotas.sql");
INCLUDE_SQL(sql_0016, "proto-schemas/postgres/0016_lookups.sql");
INCLUDE_SQL(sql_0017, "proto-schemas/postgres/0017_share_links.sql");

const struct migration migrations[] = {
    {1, "core", sql_0001},           {2, "lanes and queue state", sql_0002},
    {3, "worker breaker", sql_0003}, {4, "ai units", sql_0004},
    {5, "product", sql_0005},        {6, "page sums", sql_0006},
    {7, "pause", sql_0007},          {8, "accounts", sql_0008},
    {9, "stage shard", sql_0009},    {10, "import", sql_0010},
    {11, "hold", sql_0011},          {12, "rate limits", sql_0012},
    {13, "row security", sql_0013},  {14, "backup", sql_0014},
    {15, "quotas", sql_0015},        {16, "lookups", sql_0016},
    {17, "share links", sql_0017},
};
const size_t migration_count = sizeof(migrations) / sizeof(migrations[0]);
