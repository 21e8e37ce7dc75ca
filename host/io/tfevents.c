/* TensorBoard's event files.
 * Record: u64 length, masked CRC-32C of it, data, masked CRC-32C of the data.
 * Data: protobuf Event {1 wall_time double, 2 step int64, 3 file_version string,
 *                       5 summary {1 value {1 tag string, 2 simple_value float}}}. */
#include "tfevents.h"
#include "io.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TAG_MAX = 128, RECORD_MAX = 512 };

struct TfEvents {
    int fd;
    int64_t bytes; /* of whole records */
    char path[IO_PATH_MAX];
};

typedef struct Bytes {
    uint8_t data[RECORD_MAX];
    int64_t n;
} Bytes;

/* Castagnoli's polynomial, reflected. Records are few and short: bit by bit is enough. */
static uint32_t crc32c(const uint8_t *data, int64_t n) {
    uint32_t crc = ~0u;
    for (int64_t i = 0; i < n; i++) {
        crc ^= data[i];
        for (int k = 0; k < 8; k++) crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static uint32_t masked_crc(const uint8_t *data, int64_t n) {
    const uint32_t crc = crc32c(data, n);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* Little-endian, as the host is. */
static void put(Bytes *b, const void *data, size_t n) {
    CHECK(b->n + (int64_t)n <= RECORD_MAX, "a record of more than %d bytes", RECORD_MAX);
    memcpy(b->data + b->n, data, n);
    b->n += (int64_t)n;
}

static void put_varint(Bytes *b, uint64_t value) {
    do {
        const uint8_t byte = (uint8_t)((value & 127) | (value > 127 ? 128 : 0));
        put(b, &byte, 1);
        value >>= 7;
    } while (value);
}

enum { WIRE_VARINT = 0, WIRE_DOUBLE = 1, WIRE_BYTES = 2, WIRE_FLOAT = 5 };
static void put_key(Bytes *b, int field, int wire) { put_varint(b, (uint64_t)(field << 3 | wire)); }

static void put_text(Bytes *b, int field, const void *text, int64_t n) {
    put_key(b, field, WIRE_BYTES);
    put_varint(b, (uint64_t)n);
    put(b, text, (size_t)n);
}

static bool append(TfEvents *t, const Bytes *data, Error *e) {
    Bytes record = {.n = 0};
    const uint64_t length = (uint64_t)data->n;
    put(&record, &length, 8);
    const uint32_t length_crc = masked_crc(record.data, 8), crc = masked_crc(data->data, data->n);
    put(&record, &length_crc, 4);
    put(&record, data->data, (size_t)data->n);
    put(&record, &crc, 4);
    if (fd_write_all(t->fd, record.data, record.n, t->path, e)) {
        t->bytes += record.n;
        return true;
    }
    /* Readers stop at half a record: take it back. */
    if (ftruncate(t->fd, t->bytes) == 0) lseek(t->fd, t->bytes, SEEK_SET);
    return false;
}

TfEvents *tfevents_open(const char *folder, Error *e) {
    const double wall_time = (double)time(NULL);
    TfEvents *t = calloc(1, sizeof *t);
    CHECK(t, "no memory for an event file");
    char host[128] = "localhost";
    gethostname(host, sizeof host - 1);
    t->fd = -1;
    for (int n = 0; t->fd < 0; n++) {
        snprintf(t->path, sizeof t->path, "%s/events.out.tfevents.%.0f.%s.%ld.%d", folder,
                 wall_time, host, (long)getpid(), n);
        t->fd = open(t->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (t->fd < 0 && errno != EEXIST) {
            file_failed(t->path, "cannot create", e);
            free(t);
            return NULL;
        }
    }
    Bytes event = {.n = 0};
    put_key(&event, 1, WIRE_DOUBLE);
    put(&event, &wall_time, sizeof wall_time);
    put_text(&event, 3, "brain.Event:2", 13);
    if (append(t, &event, e)) return t;
    unlink(t->path);
    tfevents_close(t);
    return NULL;
}

bool tfevents_scalar(TfEvents *t, int64_t step, const char *tag, double value, double wall_time,
                     Error *e) {
    CHECK(strlen(tag) <= TAG_MAX, "the tag %s is longer than %d bytes", tag, TAG_MAX);
    const float simple_value = (float)value;
    Bytes inner = {.n = 0}, summary = {.n = 0}, event = {.n = 0};
    put_text(&inner, 1, tag, (int64_t)strlen(tag));
    put_key(&inner, 2, WIRE_FLOAT);
    put(&inner, &simple_value, sizeof simple_value);
    put_text(&summary, 1, inner.data, inner.n);
    put_key(&event, 1, WIRE_DOUBLE);
    put(&event, &wall_time, sizeof wall_time);
    put_key(&event, 2, WIRE_VARINT);
    put_varint(&event, (uint64_t)step);
    put_text(&event, 5, summary.data, summary.n);
    return append(t, &event, e);
}

void tfevents_close(TfEvents *t) {
    if (!t) return;
    close(t->fd);
    free(t);
}
