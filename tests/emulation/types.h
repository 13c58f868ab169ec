// The types of CUDA's driver API, declared anew: handles are opaque, values are those of cuda.h.

#pragma once

#include <cstddef>
#include <cstdint>

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUhostFn = void (*)(void*);
using CUcontext = struct CUctx_st*;
using CUstream = struct CUstream_st*;
using CUevent = struct CUevent_st*;
using CUgraph = struct CUgraph_st*;
using CUgraphExec = struct CUgraphExec_st*;

#define DFF_DRIVER_API extern "C" __attribute__((visibility("default")))

namespace emulation {

// Each error that the emulation gives, with the text that cuGetErrorString has for it.
#define DFF_CUDA_ERRORS(X)                                                                     \
    X(CUDA_SUCCESS, 0, "no error")                                                             \
    X(CUDA_ERROR_INVALID_VALUE, 1, "invalid argument")                                         \
    X(CUDA_ERROR_OUT_OF_MEMORY, 2, "out of memory")                                            \
    X(CUDA_ERROR_NOT_INITIALIZED, 3, "initialization error")                                   \
    X(CUDA_ERROR_NO_DEVICE, 100, "no CUDA-capable device is detected")                         \
    X(CUDA_ERROR_INVALID_DEVICE, 101, "invalid device ordinal")                                \
    X(CUDA_ERROR_INVALID_CONTEXT, 201, "invalid device context")                               \
    X(CUDA_ERROR_INVALID_HANDLE, 400, "invalid resource handle")                               \
    X(CUDA_ERROR_NOT_FOUND, 500, "named symbol not found")                                     \
    X(CUDA_ERROR_NOT_READY, 600, "device not ready")                                           \
    X(CUDA_ERROR_ILLEGAL_ADDRESS, 700, "an illegal memory access was encountered")             \
    X(CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE, 708, "cannot set while device is active in this process") \
    X(CUDA_ERROR_CONTEXT_IS_DESTROYED, 709, "context is destroyed")                            \
    X(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, 712,                                          \
      "part or all of the requested memory range is already mapped")                           \
    X(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, 713,                                              \
      "pointer does not correspond to a registered memory region")                             \
    X(CUDA_ERROR_LAUNCH_FAILED, 719, "unspecified launch failure")                             \
    X(CUDA_ERROR_NOT_PERMITTED, 800, "operation not permitted")                                \
    X(CUDA_ERROR_NOT_SUPPORTED, 801, "operation not supported")                                \
    X(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, 900,                                              \
      "operation not permitted when stream is capturing")                                      \
    X(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, 901,                                              \
      "operation failed due to a previous error during capture")                               \
    X(CUDA_ERROR_STREAM_CAPTURE_MERGE, 902,                                                    \
      "operation would result in a merge of separate capture sequences")                       \
    X(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, 903, "capture was not ended in the same stream as it began") \
    X(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, 904, "capturing stream has unjoined work")           \
    X(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, 905, "dependency created on uncaptured work in another stream") \
    X(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, 906,                                                 \
      "operation would make the legacy stream depend on a capturing blocking stream")          \
    X(CUDA_ERROR_CAPTURED_EVENT, 907,                                                          \
      "operation not permitted on an event last recorded in a capturing stream")               \
    X(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, 908,                                             \
      "attempt to terminate a thread-local capture sequence from another thread")

#define DFF_DECLARE_ERROR(name, value, text) constexpr CUresult name = value;
DFF_CUDA_ERRORS(DFF_DECLARE_ERROR)
#undef DFF_DECLARE_ERROR

}  // namespace emulation
