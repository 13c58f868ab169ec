// Lets the .cu files compile as C++ and run on the CPU: the few words of CUDA that they use, and a
// launch that runs the threads of a grid one after another. So they may not wait for each other:
// a kernel here has no __syncthreads and no shared memory.
//
// On the default stream a kernel runs at once. On any other it is enqueued to the emulated driver
// (emulation/), as a host function; the real driver is refused, its memory cannot be read here.

#pragma once

#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <list>
#include <mutex>

#include "cuda/dff_cuda.h"

#define __global__
#define __device__
#define __launch_bounds__(...)
#define DFF_NO_UNROLL
#define DFF_UNROLL

struct dim3 {
    unsigned x = 1;
    unsigned y = 1;
    unsigned z = 1;
};

inline thread_local dim3 threadIdx;
inline thread_local dim3 blockIdx;
inline thread_local dim3 blockDim;
inline thread_local dim3 gridDim;

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

// A device faults where a CPU mostly does not.
template <typename T>
void check_alignment(const T* pointer) {
    if (reinterpret_cast<std::uintptr_t>(pointer) % sizeof(T) != 0) {
        std::fprintf(stderr, "a kernel reads or writes %zu bytes at once at %p\n", sizeof(T),
                     static_cast<const void*>(pointer));
        std::abort();
    }
}

template <typename T>
T __ldg(const T* from) {
    check_alignment(from);
    return *from;
}
template <typename T>
T __ldcs(const T* from) {
    check_alignment(from);
    return *from;
}
template <typename T>
void __stcs(T* to, T value) {
    check_alignment(to);
    *to = value;
}

inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
    const std::uint64_t bytes = static_cast<std::uint64_t>(high) << 32 | low;
    unsigned result = 0;
    for (unsigned i = 0; i < 4; ++i) {
        const unsigned from = selector >> 4 * i & 7u;
        result |= static_cast<unsigned>(bytes >> 8 * from & 0xFFu) << 8 * i;
    }
    return result;
}

struct __half {
    std::uint16_t bits;
};

inline float __half2float(__half half) {
    const std::uint32_t sign = static_cast<std::uint32_t>(half.bits & 0x8000u) << 16;
    const std::uint32_t magnitude = half.bits & 0x7FFFu;
    std::uint32_t bits;
    if (magnitude >= 0x7C00u) {  // infinity and NaN
        bits = 0x7F800000u | (magnitude & 0x3FFu) << 13;
    } else if (magnitude >= 0x400u) {
        bits = (magnitude << 13) + ((127u - 15u) << 23);
    } else {  // whole multiples of 2^-24
        const float value = static_cast<float>(magnitude) * 0x1p-24f;
        std::memcpy(&bits, &value, sizeof(bits));
    }
    bits |= sign;
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
}

inline __half __float2half_rn(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
    bits &= 0x7FFFFFFFu;
    std::uint32_t half;
    if (bits > 0x7F800000u) {
        half = 0x7FFFu;  // CUDA's one NaN
    } else if (bits >= 0x47800000u) {
        half = 0x7C00u;  // 2^16 and beyond; from 65520 on the carry below makes it infinite
    } else if (bits >= 0x38800000u) {
        // The 13 bits that are dropped round up above one half, and at one half to an even result;
        // a carry runs into the exponent, as it should.
        half = (bits - ((127u - 15u) << 23) + 0xFFFu + (bits >> 13 & 1u)) >> 13;
    } else {
        // Below 2^-14 the result is a multiple of 2^-24, the last bit of floats from 0.5 to 1.
        float magnitude;
        std::memcpy(&magnitude, &bits, sizeof(magnitude));
        const float shifted = magnitude + 0.5f;
        std::memcpy(&half, &shifted, sizeof(half));
        half -= 0x3F000000u;
    }
    if (bits > 0x7F800000u) {
        return {static_cast<std::uint16_t>(half)};
    }
    return {static_cast<std::uint16_t>(half | sign)};
}

namespace dff {

template <typename Args>
struct EmulatedLaunch {
    void (*kernel)(Args);
    dim3 grid;
    dim3 block;
    Args args;

    void run() const {
        gridDim = grid;
        blockDim = block;
        for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z)
            for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
                for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) run_block();
    }

    void run_block() const {
        for (threadIdx.z = 0; threadIdx.z < block.z; ++threadIdx.z)
            for (threadIdx.y = 0; threadIdx.y < block.y; ++threadIdx.y)
                for (threadIdx.x = 0; threadIdx.x < block.x; ++threadIdx.x) kernel(args);
    }
};

// The emulated driver's functions, or null where no driver or another one is loaded.
struct EmulatedDriver {
    int (*launch_host_function)(void* stream, void (*function)(void*), void* data) = nullptr;
    int (*is_capturing)(void* stream, int* status) = nullptr;

    // Looked for until it is there: it may be loaded after this library.
    static const EmulatedDriver& get() {
        static thread_local EmulatedDriver driver;
        if (driver.launch_host_function == nullptr) {
            driver = find();
        }
        return driver;
    }

  private:
    static EmulatedDriver find() {
        EmulatedDriver driver;
        void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
        if (library != nullptr && dlsym(library, "dff_emulation_jitter") != nullptr) {
            driver.launch_host_function = reinterpret_cast<int (*)(void*, void (*)(void*), void*)>(
                dlsym(library, "cuLaunchHostFunc"));
            driver.is_capturing = reinterpret_cast<int (*)(void*, int*)>(
                dlsym(library, "cuStreamIsCapturing"));
        }
        return driver;
    }
};

// What a graph holds is run again and again, and nobody says when for the last time: it stays.
template <typename Launch>
Launch* keep(const Launch& launch) {
    static std::mutex mutex;
    static auto& kept = *new std::list<Launch>;  // a stream may still run at exit
    const std::lock_guard<std::mutex> lock(mutex);
    return &kept.emplace_back(launch);
}

// What every device since compute capability 3.0 takes.
inline bool is_launchable(dim3 grid, dim3 block) {
    const auto lies = [](unsigned size, unsigned most) { return size >= 1 && size <= most; };
    return lies(grid.x, 0x7FFFFFFFu) && lies(grid.y, 65535) && lies(grid.z, 65535) &&
           lies(block.x, 1024) && lies(block.y, 1024) && lies(block.z, 64) &&
           block.x * block.y * block.z <= 1024;
}

constexpr int kEmulatedBadLaunch = 9;  // cudaErrorInvalidConfiguration
constexpr int kEmulatedNoDriver = 35;  // cudaErrorInsufficientDriver

inline const char* emulated_launch_message(int error) {
    if (error == kEmulatedNoDriver) {
        return "emulated kernels run on streams of the emulated driver only, which is not loaded; "
               "load it first, or pass the default stream";
    }
    if (error == kEmulatedBadLaunch) {
        return "the launch has more blocks or threads than a device takes, or none";
    }
    return "the emulated driver refused the launch";
}

template <typename Args>
int launch(void (*kernel)(Args), dim3 grid, dim3 block, const Args& args, void* stream) noexcept {
    using Launch = EmulatedLaunch<Args>;
    if (!is_launchable(grid, block)) {
        return DFF_CUDA_ERROR + kEmulatedBadLaunch;
    }
    if (stream == nullptr) {
        Launch{kernel, grid, block, args}.run();
        return DFF_OK;
    }
    const EmulatedDriver& driver = EmulatedDriver::get();
    if (driver.launch_host_function == nullptr || driver.is_capturing == nullptr) {
        return DFF_CUDA_ERROR + kEmulatedNoDriver;
    }
    int capture_status = 0;
    if (const int error = driver.is_capturing(stream, &capture_status)) {
        return DFF_CUDA_ERROR + error;
    }
    const Launch call{kernel, grid, block, args};
    int error;
    if (capture_status != 0) {
        error = driver.launch_host_function(
            stream, [](void* data) { static_cast<const Launch*>(data)->run(); }, keep(call));
    } else {
        auto* copy = new Launch(call);
        const auto run_once = [](void* data) {
            static_cast<const Launch*>(data)->run();
            delete static_cast<Launch*>(data);
        };
        error = driver.launch_host_function(stream, run_once, copy);
        if (error != 0) {
            delete copy;
        }
    }
    return error == 0 ? DFF_OK : DFF_CUDA_ERROR + error;
}

}  // namespace dff
