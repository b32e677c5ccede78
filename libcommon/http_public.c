/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which addresses are out on the net. It is asked of the address that a name was resolved to, at
 * the moment of connecting, so a name that points inside does not pass.
 */
#include "libcommon/http_intern.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct net4 {
    uint32_t net;
    int bits;
};

static bool public4(uint32_t ip)
{
    static const struct net4 inside[] = {
        {0x00000000, 8},  {0x0A000000, 8},  {0x64400000, 10}, {0x7F000000, 8},  {0xA9FE0000, 16},
        {0xAC100000, 12}, {0xC0000000, 24}, {0xC0A80000, 16}, {0xC6120000, 15}, {0xE0000000, 3},
    };

    for (size_t i = 0; i < ARRAY_LEN(inside); i++) {
        if ((ip ^ inside[i].net) >> (32 - inside[i].bits) == 0) {
            return false;
        }
    }
    return true;
}

static bool public6(const uint8_t ip[16])
{
    static const uint8_t zeros[12];
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
    static const uint8_t nat64[12] = {0, 0x64, 0xFF, 0x9B};

    if (memcmp(ip, zeros, 12) == 0 || memcmp(ip, mapped, 12) == 0 || memcmp(ip, nat64, 12) == 0) {
        return public4((uint32_t)ip[12] << 24 | (uint32_t)ip[13] << 16 | (uint32_t)ip[14] << 8 |
                       ip[15]);
    }
    /* Of all others only 2000::/3 is out there; 6to4 (2002::/16) carries an inner address. */
    return (ip[0] & 0xE0) == 0x20 && !(ip[0] == 0x20 && ip[1] == 0x02);
}

bool http_address_public(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address, sizeof(in));
        return public4(ntohl(in.sin_addr.s_addr));
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, address, sizeof(in6));
        return public6(in6.sin6_addr.s6_addr);
    }
    return false;
}

curl_socket_t http_open_public(void *ctx UNUSED, curlsocktype purpose UNUSED,
                               struct curl_sockaddr *address)
{
    if (!http_address_public(&address->addr)) {
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}
