// Launching of kernels, and the CUDA keywords used by the .cu files. nvcc has them built in;
// for other compilers tests/emulation/kernels.h has them, and runs kernels on the CPU.

#pragma once

#if defined(__CUDACC__)

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "cuda/dff_cuda.h"

#define DFF_NO_UNROLL _Pragma("unroll 1")
#define DFF_UNROLL _Pragma("unroll")

namespace dff {

// A kernel gets all its arguments in one struct. Returns a status of dff_cuda.h.
template <typename Args>
int launch(void (*kernel)(Args), dim3 grid, dim3 block, const Args& args, void* stream) noexcept {
    kernel<<<grid, block, 0, static_cast<cudaStream_t>(stream)>>>(args);
    const cudaError_t error = cudaGetLastError();
    return error == cudaSuccess ? DFF_OK : DFF_CUDA_ERROR + static_cast<int>(error);
}

}  // namespace dff

#else
#include "emulation/kernels.h"
#endif
