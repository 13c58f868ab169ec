// Memory for the tests of the CUDA kernels. With DFF_TEST_ON_GPU it is a GPU's, and a test program
// without one ends as skipped; else the kernels are emulated, and it is the host's, on the heap,
// where a sanitizer sees what is read or written beyond it.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#if defined(DFF_TEST_ON_GPU)
#include <cuda_runtime_api.h>
#endif

namespace dff_test {

constexpr int kSkipped = 77;  // ctest's SKIP_RETURN_CODE

#if defined(DFF_TEST_ON_GPU)

inline void check_cuda(cudaError_t error, const char* what) {
    if (error != cudaSuccess) {
        std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
        std::exit(1);
    }
}

inline void skip_without_device() {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0) {
        std::fprintf(stderr, "skipped: no CUDA device (%s)\n",
                     error == cudaSuccess ? "none found" : cudaGetErrorString(error));
        std::exit(kSkipped);
    }
}

inline void* allocate(std::size_t bytes) {
    void* memory = nullptr;
    check_cuda(cudaMalloc(&memory, bytes), "cudaMalloc");
    return memory;
}

inline void release(void* memory) { check_cuda(cudaFree(memory), "cudaFree"); }

// On the default stream, behind the kernels.
inline void copy(void* to, const void* from, std::size_t bytes) {
    check_cuda(cudaMemcpy(to, from, bytes, cudaMemcpyDefault), "cudaMemcpy");
}

#else

inline void skip_without_device() {}
inline void* allocate(std::size_t bytes) { return std::malloc(bytes); }
inline void release(void* memory) { std::free(memory); }
inline void copy(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }

#endif

// Holds a copy of `values`. `shift` elements lie before the first: it is aligned to no more than
// an element then.
template <typename T>
class DeviceArray {
  public:
    explicit DeviceArray(const std::vector<T>& values, std::size_t shift = 0)
        : shift_(shift), size_(values.size()) {
        const std::size_t bytes = (size_ + shift) * sizeof(T);
        memory_ = static_cast<T*>(allocate(std::max<std::size_t>(bytes, 1)));
        if (size_ > 0) {
            copy(data(), values.data(), size_ * sizeof(T));
        }
    }
    ~DeviceArray() { release(memory_); }
    DeviceArray(const DeviceArray&) = delete;
    DeviceArray& operator=(const DeviceArray&) = delete;

    T* data() { return memory_ + shift_; }

    std::vector<T> values() {
        std::vector<T> values(size_);
        if (size_ > 0) {
            copy(values.data(), data(), size_ * sizeof(T));
        }
        return values;
    }

  private:
    T* memory_;
    std::size_t shift_;
    std::size_t size_;
};

}  // namespace dff_test
