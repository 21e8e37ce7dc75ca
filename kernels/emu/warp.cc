/* What lanes and threads do together: shuffles, votes, matrix instructions, asynchronous
 * copies. */
#include "memory.h"
#include <stdlib.h>

/* Where the running function goes back to: a place in a kernel. */
#define CALLER __builtin_return_address(0)

namespace emu {

void warp_barrier(Site site) {
    warp_meet("WARP_BARRIER", ~0u, site, nullptr,
              [](void **, unsigned) { check_warp_barrier(current->number / WARP_LANES); });
}

/* ---- shuffles and votes ---- */

struct Shuffle {
    uint64_t value, result;
    int from;
};

uint64_t shuffle(const char *what, unsigned mask, uint64_t value, int from_lane, Site site) {
    Shuffle mine = {value, 0, from_lane};
    if (!(mask >> from_lane & 1))
        fault(self(), site, "%s of mask %08x reads lane %d, which is not in it", what, mask,
              from_lane);
    warp_meet(what, mask, site, &mine, [](void *operand[32], unsigned lanes) {
        Shuffle **all = reinterpret_cast<Shuffle **>(operand);
        for (unsigned rest = lanes; rest; rest &= rest - 1) {
            Shuffle *s = all[__builtin_ctz(rest)];
            s->result = all[s->from]->value;
        }
    });
    return mine.result;
}

struct Vote {
    bool value;
    unsigned result;
};

unsigned ballot(const char *what, unsigned mask, bool value, Site site) {
    Vote mine = {value, 0};
    warp_meet(what, mask, site, &mine, [](void *operand[32], unsigned lanes) {
        Vote **all = reinterpret_cast<Vote **>(operand);
        unsigned result = 0;
        for (unsigned rest = lanes; rest; rest &= rest - 1)
            if (all[__builtin_ctz(rest)]->value) result |= rest & -rest;
        for (unsigned rest = lanes; rest; rest &= rest - 1)
            all[__builtin_ctz(rest)]->result = result;
    });
    return mine.result;
}

/* ---- ldmatrix ---- */

struct MatrixLoad {
    uint32_t *out;
    const uint16_t *row;
    bool transposed;
};

/* ptx.cuh: lane l gives row l%8 of matrix l/8 and receives elements (l/4, 2*(l%4)..+1) of each, or
 * of each one's transpose. */
static void ldmatrix_finish(void *operand[32], unsigned) {
    MatrixLoad **all = reinterpret_cast<MatrixLoad **>(operand);
    for (int l = 0; l < WARP_LANES; l++)
        for (int m = 0; m < 4; m++) {
            const int i = l / 4, j = 2 * (l % 4);
            MatrixLoad *const *rows = all + 8 * m;
            const uint32_t low = all[l]->transposed ? rows[j]->row[i] : rows[i]->row[j];
            const uint32_t high = all[l]->transposed ? rows[j + 1]->row[i] : rows[i]->row[j + 1];
            all[l]->out[m] = low | high << 16;
        }
}

void ldmatrix(uint32_t out[4], const void *row, bool transposed, Site site) {
    if ((uintptr_t)row % 16 || !shared_holds(row, 16))
        fault(self(), site, "ldmatrix of %p: not 16 aligned bytes of shared memory", row);
    check_read(row, 16, CALLER);
    MatrixLoad mine = {out, static_cast<const uint16_t *>(row), transposed};
    warp_meet(transposed ? "ldmatrix_x4_trans" : "ldmatrix_x4", ~0u, site, &mine, ldmatrix_finish);
}

/* ---- mma ---- */

struct Product {
    float *d;
    const uint32_t *a, *b;
};

static float low_float(uint32_t pair) { return __uint_as_float(pair << 16); }
static float high_float(uint32_t pair) { return __uint_as_float(pair & 0xFFFF0000u); }

/* ptx.cuh has the places of the fragments. Products of bf16 are exact in f32; they are added in
 * the order of k, which is not a card's. */
static void mma_finish(void *operand[32], unsigned) {
    Product **all = reinterpret_cast<Product **>(operand);
    float a[16][16], b[16][8], d[16][8];
    for (int l = 0; l < WARP_LANES; l++) {
        const int i = l / 4, j = 2 * (l % 4);
        const Product *p = all[l];
        for (int r = 0; r < 4; r++) {
            float *at = &a[i + (r & 1) * 8][j + (r >> 1) * 8];
            at[0] = low_float(p->a[r]), at[1] = high_float(p->a[r]);
        }
        for (int r = 0; r < 2; r++) {
            b[j + 8 * r][i] = low_float(p->b[r]);
            b[j + 8 * r + 1][i] = high_float(p->b[r]);
            d[i + 8 * r][j] = p->d[2 * r], d[i + 8 * r][j + 1] = p->d[2 * r + 1];
        }
    }
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 8; j++) d[i][j] += a[i][k] * b[k][j];
    for (int l = 0; l < WARP_LANES; l++)
        for (int r = 0; r < 2; r++) {
            all[l]->d[2 * r] = d[l / 4 + 8 * r][2 * (l % 4)];
            all[l]->d[2 * r + 1] = d[l / 4 + 8 * r][2 * (l % 4) + 1];
        }
}

void mma(float d[4], const uint32_t a[4], const uint32_t b[2], Site site) {
    Product mine = {d, a, b};
    warp_meet("mma_bf16", ~0u, site, &mine, mma_finish);
}

/* ---- cp.async ---- */

/* Until it is waited for, the destination is NaN; the source is read at the wait. So a missing wait
 * and a source that changes too early both show. */
void cp_async(void *shared, const void *global, int bytes, int valid, Site site) {
    Thread *me = self();
    if ((uintptr_t)shared % bytes || !shared_holds(shared, bytes))
        fault(me, site, "cp.async to %p: not %d aligned bytes of shared memory", shared, bytes);
    if (valid != 0 && valid != bytes) fault(me, site, "cp.async of %d bytes", valid);
    if ((uintptr_t)global % bytes || (valid && !device_holds(global, valid)))
        fault(me, site, "cp.async from %p: not %d aligned bytes of device memory", global, bytes);
    check_read(global, valid, CALLER);
    check_pending(shared, bytes, CALLER);
    memset(shared, FRESH_BYTE, bytes);
    me->copies.push_back({shared, global, bytes, valid, me->open_group, CALLER});
}

void cp_async_commit() { self()->open_group++; }

void cp_async_wait(int open_groups) {
    Thread *me = self();
    size_t kept = 0;
    for (const AsyncCopy &c : me->copies) {
        if (c.group >= me->open_group - open_groups) {
            me->copies[kept++] = c;
            continue;
        }
        check_write(c.to, c.bytes, c.pc);
        memcpy(c.to, c.from, c.valid);
        memset(static_cast<char *>(c.to) + c.valid, 0, c.bytes - c.valid);
    }
    me->copies.resize(kept);
}

void async_abandon(Thread *t) { t->copies.clear(); }

/* ---- mutants ---- */

static const char *skip_text = getenv("PUCK_EMU_SKIP");
static int skip_line_of(const char *text) {
    const char *colon = text ? strchr(text, ':') : nullptr;
    return colon ? atoi(colon + 1) : -1;
}
int skip_line = skip_line_of(skip_text);

/* The line is right: compares FILE and MACRO of FILE:LINE:MACRO. */
bool skip_at(const char *macro, const char *file) {
    const size_t n = (size_t)(strchr(skip_text, ':') - skip_text);
    const size_t length = strlen(file);
    const char *last = strrchr(skip_text, ':');
    return length >= n && !strncmp(file + length - n, skip_text, n) && !strcmp(last + 1, macro);
}

} // namespace emu
