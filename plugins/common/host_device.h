// Marks functions that are compiled for the host and, by nvcc, for the device too.

#pragma once

#if defined(__CUDACC__)
#define DFF_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define DFF_HOST_DEVICE inline __attribute__((always_inline))
#endif
