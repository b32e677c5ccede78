/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenSSL's EVP behind our error type. The only file that calls the digest functions.
 */
#include "libcommon/sha256.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#define FD_CHUNK 65536

static int digest_failed(struct err *err)
{
    return err_set(err, ERR_UNKNOWN, "internal", "the digest library failed");
}

int hash_init(struct hash *hash, enum hash_alg alg, struct err *err)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    if (!ctx) {
        return err_nomem(err);
    }
    if (EVP_DigestInit_ex(ctx, alg == HASH_MD5 ? EVP_md5() : EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(ctx);
        return digest_failed(err);
    }
    hash_done(hash);
    hash->ctx = ctx;
    return 0;
}

int hash_update(struct hash *hash, const void *data, size_t len, struct err *err)
{
    if (!hash->ctx || EVP_DigestUpdate(hash->ctx, data, len) != 1) {
        return digest_failed(err);
    }
    return 0;
}

int hash_final_hex(struct hash *hash, char *ret_hex, size_t size, struct err *err)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int len = 0;

    if (!hash->ctx || EVP_DigestFinal_ex(hash->ctx, digest, &len) != 1 ||
        (size_t)len * 2 + 1 > size) {
        hash_done(hash);
        return digest_failed(err);
    }
    hash_done(hash);
    hex_encode(digest, len, ret_hex);
    return 0;
}

void hash_done(struct hash *hash)
{
    if (hash) {
        EVP_MD_CTX_free(hash->ctx);
        hash->ctx = NULL;
    }
}

int sha256(const void *data, size_t len, unsigned char ret_digest[SHA256_LEN], struct err *err)
{
    if (EVP_Digest(data, len, ret_digest, NULL, EVP_sha256(), NULL) != 1) {
        return digest_failed(err);
    }
    return 0;
}

int sha256_hex(const void *data, size_t len, char ret_hex[SHA256_HEX_SIZE], struct err *err)
{
    unsigned char digest[SHA256_LEN];

    if (sha256(data, len, digest, err) < 0) {
        return -1;
    }
    hex_encode(digest, sizeof(digest), ret_hex);
    return 0;
}

int md5_hex(const void *data, size_t len, char ret_hex[MD5_HEX_SIZE], struct err *err)
{
    unsigned char digest[MD5_LEN];

    if (EVP_Digest(data, len, digest, NULL, EVP_md5(), NULL) != 1) {
        return digest_failed(err);
    }
    hex_encode(digest, sizeof(digest), ret_hex);
    return 0;
}

static int base64_md5(const unsigned char digest[MD5_LEN], char ret_text[MD5_BASE64_SIZE],
                      struct err *err)
{
    unsigned char text[MD5_BASE64_SIZE];

    if (EVP_EncodeBlock(text, digest, MD5_LEN) != MD5_BASE64_SIZE - 1) {
        return digest_failed(err);
    }
    memcpy(ret_text, text, sizeof(text));
    return 0;
}

int md5_base64(const void *data, size_t len, char ret_text[MD5_BASE64_SIZE], struct err *err)
{
    unsigned char digest[MD5_LEN];

    if (EVP_Digest(data, len, digest, NULL, EVP_md5(), NULL) != 1) {
        return digest_failed(err);
    }
    return base64_md5(digest, ret_text, err);
}

int hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                unsigned char ret_mac[SHA256_LEN], struct err *err)
{
    unsigned int mac_len = 0;

    if (key_len > INT32_MAX ||
        !HMAC(EVP_sha256(), key, (int)key_len, data, len, ret_mac, &mac_len) ||
        mac_len != SHA256_LEN) {
        return digest_failed(err);
    }
    return 0;
}

static int hash_fd(struct hash *hash, int fd, uint64_t offset, uint64_t len, struct err *err)
{
    CLEANUP(free_cleanup) char *chunk = malloc(FD_CHUNK);

    if (!chunk) {
        return err_nomem(err);
    }
    while (len > 0) {
        ssize_t n = pread(fd, chunk, (size_t)min_u64(len, FD_CHUNK), (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return err_from_errno(err, errno, "reading a file");
        }
        if (n == 0) {
            return err_set(err, ERR_UNKNOWN, "io", "the file is shorter than was said");
        }
        if (hash_update(hash, chunk, (size_t)n, err) < 0) {
            return -1;
        }
        offset += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return 0;
}

int sha256_fd_hex(int fd, uint64_t offset, uint64_t len, char ret_hex[SHA256_HEX_SIZE],
                  struct err *err)
{
    CLEANUP(hash_done) struct hash hash = HASH_NONE;

    if (hash_init(&hash, HASH_SHA256, err) < 0 || hash_fd(&hash, fd, offset, len, err) < 0) {
        return -1;
    }
    return hash_final_hex(&hash, ret_hex, SHA256_HEX_SIZE, err);
}

int md5_base64_fd(int fd, uint64_t offset, uint64_t len, char ret_text[MD5_BASE64_SIZE],
                  struct err *err)
{
    CLEANUP(hash_done) struct hash hash = HASH_NONE;
    unsigned char digest[MD5_LEN];

    if (hash_init(&hash, HASH_MD5, err) < 0 || hash_fd(&hash, fd, offset, len, err) < 0) {
        return -1;
    }
    if (EVP_DigestFinal_ex(hash.ctx, digest, NULL) != 1) {
        return digest_failed(err);
    }
    return base64_md5(digest, ret_text, err);
}

void hex_encode(const void *data, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *bytes = data;

    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * len] = '\0';
}
