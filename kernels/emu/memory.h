/* Memory of the pretended device: allocations with guarded ends, and the shared memory of the
 * block that runs. Both are NaN at first: all bits set, which is NaN in f32, bf16 and f64. */
#pragma once
#include "block.h"
#include "check.h"
#include <string>

namespace emu {

enum { REDZONE = 256, FRESH_BYTE = 0xFF, GUARD_BYTE = 0xA5 };

/* ---- device memory ---- */

void *device_alloc(size_t bytes); /* NULL beyond the device's size */
bool device_free(void *memory);   /* false: no such memory. Stops where an end was written over */
size_t device_free_bytes();
/* [address, address + bytes) is inside one allocation. */
bool device_holds(const void *address, size_t bytes);
/* While one exists, device memory can be read and written: by a stream's work. A host that touches
 * it otherwise stops, as it would where the memory is a card's. */
struct DeviceAtWork {
    DeviceAtWork();
    ~DeviceAtWork();
};
/* The allocation that address is in, or in the redzones of. `cells` is the checker's. */
struct DeviceBlock {
    char *memory;
    size_t bytes;
    void *cells;
};
bool device_find(const void *address, DeviceBlock *out);
/* "byte 12 of `sums`", "byte 100 of 4096 of device memory" */
std::string memory_text(const void *address);
static const size_t DEVICE_BYTES = (size_t)8 << 30;

/* ---- shared memory ---- */

static const size_t SHARED_BYTES = 163 << 10, SHARED_WITHOUT_ATTRIBUTE = 48 << 10;
void shared_begin(const Launch *launch);
/* Stops where a redzone was written to. */
void shared_end();
bool shared_holds(const void *address, size_t bytes);
/* Where address lies in the memory of which shared arrays are parts; false: not there. */
bool shared_offset(const void *address, size_t *offset);

/* ---- cp.async ---- */

/* A thread ends: what it never waited for does not arrive. */
void async_abandon(Thread *t);

} // namespace emu
