/* The CUDA runtime's calls that backend.cu uses, for one pretended device: its properties, memory,
 * copies and launches. Streams, events and graphs are in stream.cc. */
#include "stream.h"
#include <map>
#include <set>
#include <stdio.h>
#include <stdlib.h>

using emu::error_keep;

namespace emu {

/* ---- launches ---- */

/* Dynamic shared memory that a kernel may ask for, where cudaFuncSetAttribute has raised it. */
static std::map<const void *, size_t> dynamic_limit;

/* Adds FILE KERNEL to the file PUCK_EMU_LAUNCHES, where a test wants to know which ran. */
static void launch_note(const Launch *launch) {
    static std::set<std::string> noted;
    const char *path = getenv("PUCK_EMU_LAUNCHES");
    const std::string line = std::string(launch->site.file) + " " + launch->name + "\n";
    if (!path || !noted.insert(line).second) return;
    FILE *file = fopen(path, "a");
    if (!file) return;
    fputs(line.c_str(), file);
    fclose(file);
}

void submit_launch(std::unique_ptr<Launch> launch, cudaStream_t stream) {
    const dim3 g = launch->grid, b = launch->block;
    const size_t threads = (size_t)b.x * b.y * b.z;
    const auto raised = dynamic_limit.find(launch->kernel);
    const size_t limit = raised == dynamic_limit.end() ? SHARED_WITHOUT_ATTRIBUTE : raised->second;
    const bool shape = threads > 0 && threads <= MAX_THREADS && b.z <= 64 && g.x > 0 && g.y > 0 &&
                       g.z > 0 && g.x <= 0x7FFFFFFF && g.y <= 65535 && g.z <= 65535;
    if (!shape || launch->dynamic_bytes > limit) {
        error_keep(shape ? cudaErrorInvalidValue : cudaErrorInvalidConfiguration);
        return;
    }
    launch->shared_limit = raised == dynamic_limit.end() ? SHARED_WITHOUT_ATTRIBUTE : SHARED_BYTES;
    launch_note(launch.get());
    static long launches; /* PUCK_EMU_FAIL_LAUNCH=N: the N-th is as if the card had failed */
    const char *failing = getenv("PUCK_EMU_FAIL_LAUNCH");
    if (failing && ++launches == atol(failing)) {
        error_keep(cudaErrorIllegalAddress);
        return;
    }
    stream_submit(stream, std::shared_ptr<Launch>(std::move(launch)));
}

void Launch::run() {
    const Schedule schedule = schedule_now();
    static uint64_t launches;
    const uint64_t salt = ++launches << 24;
    const int64_t n = (int64_t)grid.x * grid.y * grid.z;
    grid_dim = grid;
    block_dim = block;
    check_launch();
    const std::vector<int> order = schedule_order(schedule, (int)n, salt);
    for (int64_t i = 0; i < n; i++) {
        const unsigned b = (unsigned)order[i];
        block_index = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
        block_run(this, schedule, salt + b);
    }
}

/* ---- copies ---- */

static std::map<const char *, size_t> pinned;

static bool is_pinned(const void *address) {
    const char *p = static_cast<const char *>(address);
    auto after = pinned.upper_bound(p);
    if (after == pinned.begin()) return false;
    --after;
    return p < after->first + after->second;
}

struct Copy : Operation {
    void *to;
    const void *from;
    size_t bytes;
    void run() override {
        memmove(to, from, bytes);
        check_host_write(to, bytes, false);
    }
};

struct Fill : Operation {
    void *to;
    int byte;
    size_t bytes;
    void run() override {
        memset(to, byte, bytes);
        check_host_write(to, bytes, byte == FRESH_BYTE); /* a way to say: not written yet */
    }
};

/* The device's side of a copy is device memory, or the call is wrong. */
static bool copy_is_right(const void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
    const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    return kind == cudaMemcpyDefault ||
           ((device_holds(to, bytes) || !to_device) && (device_holds(from, bytes) || !from_device));
}

} // namespace emu

extern "C" {

/* ---- the device ---- */

/* One card of every process's own, or PUCK_EMU_CARDS that they share. */
static int shared_cards() {
    const char *cards = getenv("PUCK_EMU_CARDS");
    return cards ? atoi(cards) : 0;
}
static int card_count() { return shared_cards() ? shared_cards() : 1; }
static bool is_card(int device) { return device >= 0 && device < card_count(); }

/* A card of compute capability 8.0, or PUCK_EMU_CAPABILITY (such as 75). It has few
 * multiprocessors, so that kernels which fill the device run several blocks and several rounds on
 * small inputs. */
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device) {
    if (!is_card(device)) return error_keep(cudaErrorInvalidDevice);
    memset(p, 0, sizeof *p);
    strcpy(p->name, "puck's emulator");
    if (shared_cards()) p->uuid.bytes[0] = (char)(device + 1);
    p->totalGlobalMem = emu::DEVICE_BYTES;
    const char *capability = getenv("PUCK_EMU_CAPABILITY");
    p->major = capability ? atoi(capability) / 10 : 8;
    p->minor = capability ? atoi(capability) % 10 : 0;
    p->multiProcessorCount = 3;
    p->warpSize = emu::WARP_LANES;
    p->maxThreadsPerBlock = emu::MAX_THREADS;
    p->maxThreadsPerMultiProcessor = 2048;
    p->sharedMemPerBlock = emu::SHARED_WITHOUT_ATTRIBUTE;
    p->sharedMemPerBlockOptin = emu::SHARED_BYTES;
    p->sharedMemPerMultiprocessor = emu::SHARED_BYTES + 1024;
    p->regsPerBlock = 65536;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int *n) {
    *n = card_count();
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
    return is_card(device) ? cudaSuccess : error_keep(cudaErrorInvalidDevice);
}
cudaError_t cudaDriverGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
    *free = emu::device_free_bytes();
    *total = emu::DEVICE_BYTES;
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureUnjoined: return "cudaErrorStreamCaptureUnjoined";
    case cudaErrorStreamCaptureMerge: return "cudaErrorStreamCaptureMerge";
    case cudaErrorStreamCaptureIsolation: return "cudaErrorStreamCaptureIsolation";
    case cudaErrorCapturedEvent: return "cudaErrorCapturedEvent";
    case cudaErrorInvalidResourceHandle: return "cudaErrorInvalidResourceHandle";
    case cudaErrorStreamCaptureImplicit: return "cudaErrorStreamCaptureImplicit";
    default: return "another error of CUDA's";
    }
}

/* ---- kernels ---- */

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value) {
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (value < 0 || (size_t)value > emu::SHARED_BYTES) return error_keep(cudaErrorInvalidValue);
    emu::dynamic_limit[kernel] = (size_t)value;
    return cudaSuccess;
}

/* ---- memory ---- */

cudaError_t cudaMalloc(void **out, size_t bytes) {
    if (emu::stream_capturing()) return error_keep(cudaErrorStreamCaptureUnsupported);
    *out = emu::device_alloc(bytes);
    return *out ? cudaSuccess : error_keep(cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void *memory) {
    if (!memory) return cudaSuccess;
    const cudaError_t error = emu::stream_run_all();
    if (error) return error;
    return emu::device_free(memory) ? cudaSuccess : error_keep(cudaErrorInvalidValue);
}
cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned) {
    if (emu::stream_capturing()) return error_keep(cudaErrorStreamCaptureUnsupported);
    *out = malloc(bytes + !bytes);
    if (!*out) return error_keep(cudaErrorMemoryAllocation);
    memset(*out, emu::FRESH_BYTE, bytes);
    emu::pinned[static_cast<char *>(*out)] = bytes;
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void *memory) {
    if (!memory) return cudaSuccess;
    emu::stream_run_all();
    if (!emu::pinned.erase(static_cast<char *>(memory))) return error_keep(cudaErrorInvalidValue);
    free(memory);
    return cudaSuccess;
}

/* Memory of the host that is not pinned is read and written before the call returns. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    if (!bytes) return cudaSuccess;
    if (!emu::copy_is_right(to, from, bytes, kind)) return error_keep(cudaErrorInvalidValue);
    auto copy = std::make_shared<emu::Copy>();
    copy->to = to;
    copy->from = from;
    copy->bytes = bytes;
    const cudaError_t error = emu::stream_submit(stream, copy);
    const bool pageable = (kind == cudaMemcpyHostToDevice && !emu::is_pinned(from)) ||
                          (kind == cudaMemcpyDeviceToHost && !emu::is_pinned(to));
    if (error || !pageable || !stream) return error;
    return cudaStreamSynchronize(stream);
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
    return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}
cudaError_t cudaMemsetAsync(void *to, int byte, size_t bytes, cudaStream_t stream) {
    if (!bytes) return cudaSuccess;
    if (!emu::device_holds(to, bytes)) return error_keep(cudaErrorInvalidValue);
    auto fill = std::make_shared<emu::Fill>();
    fill->to = to;
    fill->byte = byte;
    fill->bytes = bytes;
    return emu::stream_submit(stream, fill);
}
} // extern "C"
