// Memory: allocation, what a pointer is, copies, fills.

#include <algorithm>
#include <cstring>

#include "driver.h"
#include "driver_api.h"

using namespace emulation;

namespace {

std::uintptr_t address(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer); }
std::uintptr_t address(CUdeviceptr pointer) { return static_cast<std::uintptr_t>(pointer); }
char* bytes_at(std::uintptr_t start) { return reinterpret_cast<char*>(start); }

// The legacy stream, for calls that take none; they wait for what they enqueue.
constexpr CUstream kNoStream = nullptr;

bool is_host(const std::optional<MemoryRange>& range) {
    return !range || range->kind != MemoryKind::kDevice;
}

enum class Side { kHost, kDevice, kEither };

bool fits(const std::optional<MemoryRange>& range, Side side) {
    switch (side) {
        case Side::kHost: return is_host(range);
        // Pinned memory has a device address too.
        case Side::kDevice: return range.has_value();
        default: return true;
    }
}

// How every copy works. Where pageable memory takes part the call blocks, for CUDA reads it before
// the call returns, and with `kNoStream` always.
CUresult copy(const char* name, std::uintptr_t to, Side to_side, std::uintptr_t from, Side from_side,
              std::size_t bytes, CUstream handle, bool is_async) {
    return call_and_wait(name, [&](Context& context, Records& records) {
        Stream* const stream = context.find(handle);
        if (stream == nullptr) {
            return CUDA_ERROR_INVALID_HANDLE;
        }
        if (bytes == 0) {
            return CUDA_SUCCESS;
        }
        const auto target = context.memory.find(to, bytes);
        const auto source = context.memory.find(from, bytes);
        if (to == 0 || from == 0 || !fits(target, to_side) || !fits(source, from_side)) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        if (!is_async) {
            const CUresult result = check_unsafe(context);
            if (result != CUDA_SUCCESS) {
                return result;
            }
        }
        const bool is_capturing = stream->capture != nullptr;
        const CUresult result = submit(
            context, *stream, [=] { std::memmove(bytes_at(to), bytes_at(from), bytes); });
        const bool is_pageable = !target || !source;
        if (result == CUDA_SUCCESS && !is_capturing && (!is_async || is_pageable)) {
            records.push_back(stream->record());
        }
        return result;
    });
}

template <typename Value>
CUresult fill(const char* name, CUdeviceptr to, Value value, std::size_t count, CUstream handle,
              bool is_async) {
    return call_and_wait(name, [&](Context& context, Records& records) {
        Stream* const stream = context.find(handle);
        if (stream == nullptr) {
            return CUDA_ERROR_INVALID_HANDLE;
        }
        if (count == 0) {
            return CUDA_SUCCESS;
        }
        if (to % sizeof(Value) != 0 || !context.memory.find(address(to), count * sizeof(Value))) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        const CUresult result = submit(context, *stream, [=] {
            std::fill_n(reinterpret_cast<Value*>(address(to)), count, value);
        });
        if (result == CUDA_SUCCESS && !is_async) {
            records.push_back(stream->record());
        }
        return result;
    });
}

CUresult allocate_host(const char* name, void** pointer, std::size_t bytes) {
    return call_in_context(name, [&](Context& context) {
        if (bytes == 0) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        const CUresult result = check_unsafe(context);
        if (result != CUDA_SUCCESS) {
            return result;
        }
        *pointer = bytes_at(context.memory.allocate(bytes, MemoryKind::kPinned));
        return *pointer == nullptr ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
    });
}

// Freeing waits for the whole device first, as CUDA does.
CUresult free_memory(const char* name, std::uintptr_t start, MemoryKind kind) {
    Records records;
    Context* used = nullptr;
    const CUresult result = call_in_context(name, [&](Context& context) {
        const auto range = context.memory.find(start, 1);
        if (!range || range->start != start || range->kind != kind) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        const CUresult status = check_unsafe(context);
        if (status == CUDA_SUCCESS) {
            used = &context;
            records = context.record_all();
            ++driver().counts["blocking"];
        }
        return status;
    });
    if (result != CUDA_SUCCESS) {
        return result;
    }
    for (const auto& record : records) {
        record->wait();
    }
    const std::lock_guard<std::mutex> lock(driver().mutex);
    return used->memory.free(start, kind) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult pointer_attribute(Context& context, void* value, int attribute, CUdeviceptr pointer) {
    const auto range = context.memory.find(address(pointer), 1);
    if (!range) {
        return CUDA_ERROR_INVALID_VALUE;  // CUDA knows nothing of pageable memory
    }
    const bool is_device = range->kind == MemoryKind::kDevice;
    switch (attribute) {
        case 1: *static_cast<CUcontext*>(value) = reinterpret_cast<CUcontext>(&context); break;
        case 2: *static_cast<unsigned int*>(value) = is_device ? 2 : 1; break;  // CUmemorytype
        case 3: *static_cast<CUdeviceptr*>(value) = pointer; break;
        case 4:
            if (is_device) {
                return CUDA_ERROR_INVALID_VALUE;
            }
            *static_cast<void**>(value) = bytes_at(address(pointer));
            break;
        case 7: *static_cast<std::uint64_t*>(value) = range->id; break;
        case 8: *static_cast<unsigned int*>(value) = 0; break;  // not managed
        case 9: *static_cast<int*>(value) = context.device; break;
        case 11: *static_cast<CUdeviceptr*>(value) = range->start; break;
        case 12: *static_cast<std::size_t*>(value) = range->bytes; break;
        default: return CUDA_ERROR_NOT_SUPPORTED;
    }
    return CUDA_SUCCESS;
}

}  // namespace

CUresult cuMemAlloc_v2(CUdeviceptr* pointer, std::size_t bytes) {
    return call_in_context("cuMemAlloc", [&](Context& context) {
        if (bytes == 0) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        const CUresult result = check_unsafe(context);
        if (result != CUDA_SUCCESS) {
            return result;
        }
        *pointer = context.memory.allocate(bytes, MemoryKind::kDevice);
        return *pointer == 0 ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
    });
}

CUresult cuMemFree_v2(CUdeviceptr pointer) {
    return free_memory("cuMemFree", address(pointer), MemoryKind::kDevice);
}

CUresult cuMemGetInfo_v2(std::size_t* free_bytes, std::size_t* total_bytes) {
    return call_in_context("cuMemGetInfo", [&](Context& context) {
        *total_bytes = context.memory.capacity_bytes();
        *free_bytes = *total_bytes - context.memory.used_bytes();
        return CUDA_SUCCESS;
    });
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr* start, std::size_t* bytes, CUdeviceptr pointer) {
    return call_in_context("cuMemGetAddressRange", [&](Context& context) {
        const auto range = context.memory.find(address(pointer), 1);
        if (!range) {
            return CUDA_ERROR_NOT_FOUND;
        }
        if (start != nullptr) {
            *start = range->start;
        }
        if (bytes != nullptr) {
            *bytes = range->bytes;
        }
        return CUDA_SUCCESS;
    });
}

CUresult cuMemHostAlloc(void** pointer, std::size_t bytes, unsigned int) {
    return allocate_host("cuMemHostAlloc", pointer, bytes);
}

CUresult cuMemAllocHost_v2(void** pointer, std::size_t bytes) {
    return allocate_host("cuMemAllocHost", pointer, bytes);
}

CUresult cuMemFreeHost(void* pointer) {
    return free_memory("cuMemFreeHost", address(pointer), MemoryKind::kPinned);
}

CUresult cuMemHostRegister_v2(void* pointer, std::size_t bytes, unsigned int) {
    return call_in_context("cuMemHostRegister", [&](Context& context) {
        if (pointer == nullptr || bytes == 0) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        if (context.memory.find(address(pointer), 1)) {
            return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
        }
        context.memory.register_host(address(pointer), bytes);
        return CUDA_SUCCESS;
    });
}

CUresult cuMemHostUnregister(void* pointer) {
    const CUresult result =
        free_memory("cuMemHostUnregister", address(pointer), MemoryKind::kRegistered);
    return result == CUDA_ERROR_INVALID_VALUE ? CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED : result;
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr* device, void* host, unsigned int) {
    return call_in_context("cuMemHostGetDevicePointer", [&](Context& context) {
        const auto range = context.memory.find(address(host), 1);
        if (!range || range->kind == MemoryKind::kDevice) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        *device = address(host);
        return CUDA_SUCCESS;
    });
}

CUresult cuPointerGetAttribute(void* value, int attribute, CUdeviceptr pointer) {
    return call_in_context("cuPointerGetAttribute", [&](Context& context) {
        return pointer_attribute(context, value, attribute, pointer);
    });
}

CUresult cuPointerGetAttributes(unsigned int count, int* attributes, void** values,
                                CUdeviceptr pointer) {
    return call_in_context("cuPointerGetAttributes", [&](Context& context) {
        for (unsigned int i = 0; i < count; ++i) {
            const CUresult result = pointer_attribute(context, values[i], attributes[i], pointer);
            if (result != CUDA_SUCCESS) {
                return result;
            }
        }
        return CUDA_SUCCESS;
    });
}

CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, std::size_t bytes) {
    return copy("cuMemcpy", address(to), Side::kEither, address(from), Side::kEither, bytes,
                kNoStream, false);
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, std::size_t bytes) {
    return copy("cuMemcpyHtoD", address(to), Side::kDevice, address(from), Side::kHost, bytes,
                kNoStream, false);
}

CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, std::size_t bytes) {
    return copy("cuMemcpyDtoH", address(to), Side::kHost, address(from), Side::kDevice, bytes,
                kNoStream, false);
}

CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, std::size_t bytes) {
    return copy("cuMemcpyDtoD", address(to), Side::kDevice, address(from), Side::kDevice, bytes,
                kNoStream, false);
}

CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, std::size_t bytes, CUstream stream) {
    return copy("cuMemcpyAsync", address(to), Side::kEither, address(from), Side::kEither, bytes,
                stream, true);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, std::size_t bytes, CUstream stream) {
    return copy("cuMemcpyHtoDAsync", address(to), Side::kDevice, address(from), Side::kHost, bytes,
                stream, true);
}

CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, std::size_t bytes, CUstream stream) {
    return copy("cuMemcpyDtoHAsync", address(to), Side::kHost, address(from), Side::kDevice, bytes,
                stream, true);
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, std::size_t bytes, CUstream stream) {
    return copy("cuMemcpyDtoDAsync", address(to), Side::kDevice, address(from), Side::kDevice,
                bytes, stream, true);
}

CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, std::size_t count) {
    return fill("cuMemsetD8", to, value, count, kNoStream, false);
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, std::size_t count, CUstream stream) {
    return fill("cuMemsetD8Async", to, value, count, stream, true);
}

CUresult cuMemsetD32_v2(CUdeviceptr to, unsigned int value, std::size_t count) {
    return fill("cuMemsetD32", to, value, count, kNoStream, false);
}

CUresult cuMemsetD32Async(CUdeviceptr to, unsigned int value, std::size_t count, CUstream stream) {
    return fill("cuMemsetD32Async", to, value, count, stream, true);
}
