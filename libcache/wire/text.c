#include "text.h"

#include <stdint.h>

bool utf8_is_valid(const char *text, size_t size)
{
    const unsigned char *s = (const unsigned char *)text, *end = s + size;
    while (s < end) {
        unsigned char c = *s++;
        if (c < 0x80)
            continue;
        size_t more;
        unsigned char low = 0x80, high = 0xbf; /* range of the second byte */
        if (c >= 0xc2 && c <= 0xdf) {
            more = 1;
        } else if (c >= 0xe0 && c <= 0xef) {
            more = 2;
            low = c == 0xe0 ? 0xa0 : low;
            high = c == 0xed ? 0x9f : high;
        } else if (c >= 0xf0 && c <= 0xf4) {
            more = 3;
            low = c == 0xf0 ? 0x90 : low;
            high = c == 0xf4 ? 0x8f : high;
        } else {
            return false;
        }
        if ((size_t)(end - s) < more || s[0] < low || s[0] > high)
            return false;
        for (size_t i = 1; i < more; i++) {
            if ((s[i] & 0xc0) != 0x80)
                return false;
        }
        s += more;
    }
    return true;
}

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t base64_size(size_t size)
{
    return (size + 2) / 3 * 4;
}

void base64_encode(const void *data, size_t size, char *out)
{
    const unsigned char *in = data;
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t bits =
            (uint32_t)in[i] << 16 | (left > 1 ? (uint32_t)in[i + 1] << 8 : 0) | (left > 2 ? in[i + 2] : 0);
        *out++ = base64_digits[bits >> 18];
        *out++ = base64_digits[bits >> 12 & 63];
        *out++ = left > 1 ? base64_digits[bits >> 6 & 63] : '=';
        *out++ = left > 2 ? base64_digits[bits & 63] : '=';
    }
}

static int digit_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

long base64_decode(const char *text, size_t size, void *out)
{
    unsigned char *end = out;
    if (size % 4)
        return -1;
    for (size_t i = 0; i < size; i += 4) {
        bool is_last = i + 4 == size;
        size_t pads = is_last && text[i + 3] == '=' ? (text[i + 2] == '=' ? 2 : 1) : 0;
        uint32_t bits = 0;
        for (size_t j = 0; j < 4; j++) {
            int digit = j < 4 - pads ? digit_value(text[i + j]) : 0;
            if (digit < 0)
                return -1;
            bits = bits << 6 | (uint32_t)digit;
        }
        *end++ = (unsigned char)(bits >> 16);
        if (pads < 2)
            *end++ = (unsigned char)(bits >> 8);
        if (pads < 1)
            *end++ = (unsigned char)bits;
    }
    return end - (unsigned char *)out;
}
