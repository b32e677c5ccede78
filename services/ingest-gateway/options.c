/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/options.h"

struct gateway_options gateway_options;

#define AT(member) offsetof(struct gateway_options, member)

static const struct option_def defs[] = {
    {"LISTEN", OPTION_STRING, AT(listen), "127.0.0.1:8080", 0, 0, NULL,
     "Numeric address and port of the HTTP API and the console"},
    {"STREAM_PORT", OPTION_INT, AT(stream_port), "0", 0, 65535, NULL,
     "Port of a second listener for event streams, 0 for none"},
    {"CONSOLE_DIR", OPTION_STRING, AT(console_dir), "", 0, 0, NULL,
     "Folder of the built web console, empty for none"},
    {"OPENAPI_FILE", OPTION_STRING, AT(openapi_file), "", 0, 0, NULL,
     "The API's description as JSON, empty for share/openapi.json beside the program's folder"},
    {"IDLE_TIMEOUT", OPTION_DURATION, AT(idle_timeout_ms), "30s", 1000, 600000, NULL,
     "Time after which a silent connection is closed"},
    {"MAX_FILE_SIZE", OPTION_SIZE, AT(max_file_size), "5GiB", 1, (int64_t)5 << 30, NULL,
     "Largest file that is accepted"},
};

const struct option_table gateway_option_table = {defs, ARRAY_LEN(defs), &gateway_options};
