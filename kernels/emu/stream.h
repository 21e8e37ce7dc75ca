/* Streams, events and graphs of the pretended device.
 *
 * A stream's work runs as late as CUDA allows: when the host or another stream waits for it. So a
 * wait that is missing gives wrong numbers. Only what meets other ranks runs at once. */
#pragma once
#include "memory.h"
#include <deque>

namespace emu {

/* Runs now, later or as part of a graph. NULL is the legacy default stream: after all work of
 * streams that are not cudaStreamNonBlocking, and at once. */
cudaError_t stream_submit(cudaStream_t stream, std::shared_ptr<Operation> operation);
cudaError_t stream_run_all();
/* Whether a stream is captured: then calls that wait or allocate are refused. */
bool stream_capturing();
/* Sets what cudaGetLastError returns; gives it back. */
cudaError_t error_keep(cudaError_t error);

} // namespace emu
