// Initialisation, devices, primary contexts, the stack of current contexts, error texts.

#include <algorithm>
#include <cstring>

#include "driver.h"
#include "driver_api.h"

using namespace emulation;

namespace {

constexpr int kDriverVersion = 13000;
constexpr char kDeviceName[] = "dff-edge emulated device";
constexpr int kMajor = 8;  // compute capability
constexpr int kMinor = 7;

Context* find_context(CUdevice device) {
    auto& contexts = driver().contexts;
    return device >= 0 && static_cast<std::size_t>(device) < contexts.size()
               ? contexts[static_cast<std::size_t>(device)].get()
               : nullptr;
}

// A context's handle is its address; null when this is none.
Context* find_context(CUcontext handle) {
    for (const auto& context : driver().contexts) {
        if (reinterpret_cast<CUcontext>(context.get()) == handle) {
            return context.get();
        }
    }
    return nullptr;
}

template <typename Body>
CUresult call_on_device(const char* name, CUdevice device, const Body& body) {
    return call(name, [&] {
        Context* const context = find_context(device);
        return context == nullptr ? CUDA_ERROR_INVALID_DEVICE : body(*context);
    });
}

// By CUdevice_attribute; what is not in it is a feature that this device lacks, 0.
constexpr struct {
    int attribute;
    int value;
} kAttributes[] = {
    {1, 1024},        // MAX_THREADS_PER_BLOCK
    {2, 1024},        // MAX_BLOCK_DIM_X
    {3, 1024},        // MAX_BLOCK_DIM_Y
    {4, 64},          // MAX_BLOCK_DIM_Z
    {5, 2147483647},  // MAX_GRID_DIM_X
    {6, 65535},       // MAX_GRID_DIM_Y
    {7, 65535},       // MAX_GRID_DIM_Z
    {8, 49152},       // MAX_SHARED_MEMORY_PER_BLOCK
    {10, 32},         // WARP_SIZE
    {12, 65536},      // MAX_REGISTERS_PER_BLOCK
    {13, 1000000},    // CLOCK_RATE, kHz
    {15, 1},          // GPU_OVERLAP
    {16, 1},          // MULTIPROCESSOR_COUNT
    {19, 1},          // CAN_MAP_HOST_MEMORY
    {31, 1},          // CONCURRENT_KERNELS
    {40, 1},          // ASYNC_ENGINE_COUNT
    {41, 1},          // UNIFIED_ADDRESSING
    {75, kMajor},     // COMPUTE_CAPABILITY_MAJOR
    {76, kMinor},     // COMPUTE_CAPABILITY_MINOR
    {78, 1},          // STREAM_PRIORITIES_SUPPORTED
};
constexpr int kAttributeCount = 150;

}  // namespace

CUresult cuInit(unsigned int flags) {
    const std::lock_guard<std::mutex> lock(driver().mutex);
    const CUresult result = enter("cuInit", false);
    if (result != CUDA_SUCCESS) {
        return result;
    }
    if (flags != 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (driver().contexts.empty()) {
        return CUDA_ERROR_NO_DEVICE;
    }
    driver().is_initialised = true;
    return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int* version) {
    *version = kDriverVersion;
    return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult error, const char** name) {
    switch (error) {
#define DFF_ERROR_NAME(error_name, value, text) \
    case value: *name = #error_name; return CUDA_SUCCESS;
        DFF_CUDA_ERRORS(DFF_ERROR_NAME)
#undef DFF_ERROR_NAME
        default: *name = nullptr; return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult cuGetErrorString(CUresult error, const char** description) {
    switch (error) {
#define DFF_ERROR_TEXT(name, value, text) \
    case value: *description = text; return CUDA_SUCCESS;
        DFF_CUDA_ERRORS(DFF_ERROR_TEXT)
#undef DFF_ERROR_TEXT
        default: *description = nullptr; return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult cuDeviceGetCount(int* count) {
    return call("cuDeviceGetCount", [&] {
        *count = static_cast<int>(driver().contexts.size());
        return CUDA_SUCCESS;
    });
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    return call_on_device("cuDeviceGet", ordinal, [&](Context& context) {
        *device = context.device;
        return CUDA_SUCCESS;
    });
}

CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
    return call_on_device("cuDeviceGetName", device, [&](Context&) {
        if (length <= 0) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        std::strncpy(name, kDeviceName, static_cast<std::size_t>(length));
        name[length - 1] = '\0';
        return CUDA_SUCCESS;
    });
}

CUresult cuDeviceGetUuid_v2(unsigned char* uuid, CUdevice device) {
    return call_on_device("cuDeviceGetUuid", device, [&](Context& context) {
        std::memset(uuid, 0xDF, 16);
        uuid[15] = static_cast<unsigned char>(context.device);
        return CUDA_SUCCESS;
    });
}

CUresult cuDeviceTotalMem_v2(std::size_t* bytes, CUdevice device) {
    return call_on_device("cuDeviceTotalMem", device, [&](Context& context) {
        *bytes = context.memory.capacity_bytes();
        return CUDA_SUCCESS;
    });
}

CUresult cuDeviceGetAttribute(int* value, int attribute, CUdevice device) {
    return call_on_device("cuDeviceGetAttribute", device, [&](Context&) {
        if (attribute < 1 || attribute > kAttributeCount) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        const auto found = std::find_if(std::begin(kAttributes), std::end(kAttributes),
                                        [=](auto& item) { return item.attribute == attribute; });
        *value = found == std::end(kAttributes) ? 0 : found->value;
        return CUDA_SUCCESS;
    });
}

CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice device) {
    return call_on_device("cuDeviceComputeCapability", device, [&](Context&) {
        *major = kMajor;
        *minor = kMinor;
        return CUDA_SUCCESS;
    });
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* handle, CUdevice device) {
    return call_on_device("cuDevicePrimaryCtxRetain", device, [&](Context& context) {
        if (context.retained++ == 0) {
            context.open();
        }
        *handle = reinterpret_cast<CUcontext>(&context);
        return CUDA_SUCCESS;
    });
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    return call_on_device("cuDevicePrimaryCtxRelease", device, [&](Context& context) {
        if (context.retained == 0) {
            return CUDA_ERROR_INVALID_CONTEXT;
        }
        if (--context.retained == 0) {
            context.close();
        }
        return CUDA_SUCCESS;
    });
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned int* flags, int* active) {
    return call_on_device("cuDevicePrimaryCtxGetState", device, [&](Context& context) {
        *flags = 0;
        *active = context.retained > 0 ? 1 : 0;
        return CUDA_SUCCESS;
    });
}

CUresult cuCtxGetDevice(CUdevice* device) {
    return call_in_context("cuCtxGetDevice", [&](Context& context) {
        *device = context.device;
        return CUDA_SUCCESS;
    });
}

CUresult cuCtxGetCurrent(CUcontext* handle) {
    return call("cuCtxGetCurrent", [&] {
        auto& stack = context_stack();
        *handle = stack.empty() ? nullptr : reinterpret_cast<CUcontext>(stack.back());
        return CUDA_SUCCESS;
    });
}

CUresult cuCtxSetCurrent(CUcontext handle) {
    return call("cuCtxSetCurrent", [&] {
        Context* const context = find_context(handle);
        if (handle != nullptr && context == nullptr) {
            return CUDA_ERROR_INVALID_CONTEXT;
        }
        auto& stack = context_stack();
        if (!stack.empty()) {
            stack.pop_back();
        }
        if (context != nullptr) {
            stack.push_back(context);
        }
        return CUDA_SUCCESS;
    });
}

CUresult cuCtxPushCurrent_v2(CUcontext handle) {
    return call("cuCtxPushCurrent", [&] {
        Context* const context = find_context(handle);
        if (context == nullptr) {
            return CUDA_ERROR_INVALID_CONTEXT;
        }
        context_stack().push_back(context);
        return CUDA_SUCCESS;
    });
}

CUresult cuCtxPopCurrent_v2(CUcontext* handle) {
    return call("cuCtxPopCurrent", [&] {
        auto& stack = context_stack();
        if (stack.empty()) {
            return CUDA_ERROR_INVALID_CONTEXT;
        }
        if (handle != nullptr) {
            *handle = reinterpret_cast<CUcontext>(stack.back());
        }
        stack.pop_back();
        return CUDA_SUCCESS;
    });
}

CUresult cuCtxSynchronize() {
    return call_and_wait("cuCtxSynchronize", [&](Context& context, Records& records) {
        for (const auto& capture : context.captures) {
            capture->is_valid = false;
        }
        if (!context.captures.empty()) {
            return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        }
        records = context.record_all();
        return CUDA_SUCCESS;
    });
}

CUresult cuCtxGetFlags(unsigned int* flags) {
    return call_in_context("cuCtxGetFlags", [&](Context&) {
        *flags = 0;
        return CUDA_SUCCESS;
    });
}

CUresult cuCtxGetApiVersion(CUcontext handle, unsigned int* version) {
    return call("cuCtxGetApiVersion", [&] {
        if (handle != nullptr && find_context(handle) == nullptr) {
            return CUDA_ERROR_INVALID_CONTEXT;
        }
        *version = 3020;  // of all contexts since CUDA 4
        return CUDA_SUCCESS;
    });
}

CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    return call_in_context("cuCtxGetStreamPriorityRange", [&](Context&) {
        *least = kLeastPriority;
        *greatest = kGreatestPriority;
        return CUDA_SUCCESS;
    });
}
