/* Bits of parameter sets, written, and of slice headers, read. Each codec's file has these for itself. */
#ifndef NVCUVID_BITS_H
#define NVCUVID_BITS_H

#include "nvcuvid.h"
#include <string.h>

struct bits {
    uint8_t bytes[PARAMETER_SETS_ROOM];
    size_t count;
};

static void bit(struct bits *b, bool value)
{
    if (value)
        b->bytes[b->count >> 3] |= (uint8_t)(0x80 >> (b->count & 7));
    b->count++;
}

static void fixed(struct bits *b, int width, unsigned value)
{
    while (width--)
        bit(b, value >> width & 1);
}

/* ue(v) */
static void golomb(struct bits *b, unsigned value)
{
    int length = 31 - __builtin_clz(value + 1);
    fixed(b, length, 0);
    fixed(b, length + 1, value + 1);
}

/* se(v) */
static void signed_golomb(struct bits *b, int value)
{
    golomb(b, value > 0 ? 2 * (unsigned)value - 1 : 2 * (unsigned)-value);
}

/* Ends the bits and wraps them as a NAL unit with start code and emulation prevention. */
static size_t nal_unit(struct bits *b, const char *header, size_t header_size, uint8_t *out)
{
    bit(b, true);
    while (b->count & 7)
        bit(b, false);
    static const uint8_t start[] = { 0, 0, 0, 1 };
    memcpy(out, start, sizeof start);
    memcpy(out + sizeof start, header, header_size);
    size_t size = sizeof start + header_size;
    int zeros = 0;
    for (size_t i = 0; i < b->count / 8; i++) {
        if (zeros == 2 && b->bytes[i] <= 3) {
            out[size++] = 3;
            zeros = 0;
        }
        out[size++] = b->bytes[i];
        zeros = b->bytes[i] ? 0 : zeros + 1;
    }
    return size;
}

/* The beginning of a picture's first slice, without emulation prevention: what stands in front of the PPS id fits in 16 bytes. */
struct reader {
    uint8_t plain[16];
    size_t at, end;
};

static struct reader slice_header(const CUVIDPICPARAMS *picture, size_t nal_header)
{
    const uint8_t *data = picture->pBitstreamData;
    size_t size = picture->nBitstreamDataLen, i = 0, count = 0;
    struct reader r = { .at = 0 };
    while (i + 3 < size && !(data[i] == 0 && data[i + 1] == 0 && data[i + 2] == 1))
        i++;
    i += 3 + nal_header;
    for (int zeros = 0; i < size && count < sizeof r.plain; i++) {
        if (zeros == 2 && data[i] == 3) {
            zeros = 0;
            continue;
        }
        r.plain[count++] = data[i];
        zeros = data[i] ? 0 : zeros + 1;
    }
    r.end = count * 8;
    return r;
}

static unsigned read_bit(struct reader *r)
{
    if (r->at >= r->end)
        return 1;
    unsigned value = r->plain[r->at >> 3] >> (7 - (r->at & 7)) & 1;
    r->at++;
    return value;
}

static unsigned read_golomb(struct reader *r)
{
    int length = 0;
    while (length < 31 && !read_bit(r))
        length++;
    unsigned value = 1;
    while (length--)
        value = value << 1 | read_bit(r);
    return value - 1;
}

#endif
