// The emulated driver against what CUDA's documentation says of these calls; graphs are in
// test_graph.cpp.

#include <algorithm>
#include <cstring>
#include <future>
#include <thread>
#include <vector>

#include "../cpp/check.h"
#include "driver_api.h"
#include "handles.h"

using namespace dff_test;
using namespace emulation;

namespace {

// For as long as an idle stream's thread needs to come to it, by far.
bool stays_undone(CUevent event) {
    for (int i = 0; i < 2000; ++i) {
        if (cuEventQuery(event) != CUDA_ERROR_NOT_READY) {
            return false;
        }
        std::this_thread::yield();
    }
    return true;
}

void test_copies_move_bytes() {
    Memory memory;
    const CUstream stream = make_stream();
    std::memset(memory.host, 7, kBytes);
    CHECK(cuMemcpyHtoDAsync_v2(memory.device, memory.host, kBytes, stream) == CUDA_SUCCESS);
    CHECK(cuStreamSynchronize(stream) == CUDA_SUCCESS);
    std::memset(memory.host, 0, kBytes);
    CHECK(cuMemcpyDtoHAsync_v2(memory.host, memory.device, kBytes, stream) == CUDA_SUCCESS);
    CHECK(cuStreamSynchronize(stream) == CUDA_SUCCESS);
    CHECK(memory.holds(7));
    CHECK(cuStreamDestroy_v2(stream) == CUDA_SUCCESS);
}

void test_new_memory_is_poisoned_and_freed_memory_unusable() {
    Memory memory;
    CUdeviceptr freed = 0;
    CHECK(cuMemcpyDtoH_v2(memory.host, memory.device, kBytes) == CUDA_SUCCESS);
    CHECK(memory.holds(0xCD));
    CHECK(cuMemAlloc_v2(&freed, kBytes) == CUDA_SUCCESS);
    CHECK(cuMemFree_v2(freed) == CUDA_SUCCESS);
    CHECK(cuMemcpyDtoH_v2(memory.host, freed, kBytes) == CUDA_ERROR_INVALID_VALUE);
    CHECK(cuMemFree_v2(freed) == CUDA_ERROR_INVALID_VALUE);
    CHECK(cuMemcpyDtoH_v2(memory.host, memory.device, kBytes + 1) == CUDA_ERROR_INVALID_VALUE);
    CHECK(cuMemcpyHtoD_v2(memory.device, reinterpret_cast<void*>(memory.device), kBytes) ==
          CUDA_ERROR_INVALID_VALUE);
}

void test_pageable_memory_is_read_before_the_call_returns() {
    Memory memory;
    const CUstream stream = make_stream();
    std::vector<unsigned char> pageable(kBytes, 9);
    const std::uint64_t before = dff_emulation_count("blocking");
    CHECK(cuMemcpyHtoDAsync_v2(memory.device, pageable.data(), kBytes, stream) == CUDA_SUCCESS);
    CHECK(dff_emulation_count("blocking") == before + 1);
    std::fill(pageable.begin(), pageable.end(), static_cast<unsigned char>(0));
    CHECK(cuMemcpyDtoHAsync_v2(memory.host, memory.device, kBytes, stream) == CUDA_SUCCESS);
    CHECK(dff_emulation_count("blocking") == before + 1);  // pinned memory blocks nobody
    CHECK(cuStreamSynchronize(stream) == CUDA_SUCCESS);
    CHECK(memory.holds(9));
    CHECK(cuStreamDestroy_v2(stream) == CUDA_SUCCESS);
}

void test_memory_is_limited() {
    std::size_t free_bytes = 0;
    std::size_t total_bytes = 0;
    CUdeviceptr pointer = 0;
    CHECK(cuMemGetInfo_v2(&free_bytes, &total_bytes) == CUDA_SUCCESS);
    CHECK(cuMemAlloc_v2(&pointer, free_bytes + 1) == CUDA_ERROR_OUT_OF_MEMORY);
    CHECK(cuMemAlloc_v2(&pointer, 0) == CUDA_ERROR_INVALID_VALUE);
}

void test_streams_and_events() {
    const CUstream first = make_stream();
    const CUstream second = make_stream();
    const CUevent event = make_event();
    CHECK(cuEventQuery(event) == CUDA_SUCCESS);  // never recorded
    CHECK(cuStreamWaitEvent(second, event, 0) == CUDA_SUCCESS);
    Gate gate(first);
    CHECK(cuEventRecord(event, first) == CUDA_SUCCESS);
    CHECK(cuStreamWaitEvent(second, event, 0) == CUDA_SUCCESS);
    CHECK(cuEventQuery(event) == CUDA_ERROR_NOT_READY);
    CHECK(cuStreamQuery(second) == CUDA_ERROR_NOT_READY);
    gate.open();
    CHECK(cuStreamSynchronize(second) == CUDA_SUCCESS);
    CHECK(cuStreamQuery(first) == CUDA_SUCCESS);

    float milliseconds = -1;
    const CUevent end = make_event();
    CHECK(cuEventElapsedTime(&milliseconds, event, end) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(cuEventRecord(end, second) == CUDA_SUCCESS);
    CHECK(cuEventSynchronize(end) == CUDA_SUCCESS);
    CHECK(cuEventElapsedTime(&milliseconds, event, end) == CUDA_SUCCESS);
    CHECK(milliseconds >= 0);
    for (const CUevent made : {event, end}) {
        CHECK(cuEventDestroy_v2(made) == CUDA_SUCCESS);
        CHECK(cuEventRecord(made, first) == CUDA_ERROR_INVALID_HANDLE);
    }
    for (const CUstream made : {first, second}) {
        CHECK(cuStreamDestroy_v2(made) == CUDA_SUCCESS);
        CHECK(cuStreamSynchronize(made) == CUDA_ERROR_INVALID_HANDLE);
    }
}

void test_a_destroyed_stream_finishes_its_work() {
    const CUstream stream = make_stream();
    const CUevent event = make_event();
    Gate gate(stream);
    CHECK(cuEventRecord(event, stream) == CUDA_SUCCESS);
    CHECK(cuStreamDestroy_v2(stream) == CUDA_SUCCESS);  // returns at once
    CHECK(cuEventQuery(event) == CUDA_ERROR_NOT_READY);
    gate.open();
    CHECK(cuEventSynchronize(event) == CUDA_SUCCESS);
    CHECK(cuEventDestroy_v2(event) == CUDA_SUCCESS);
}

void test_the_legacy_stream_is_in_order_with_blocking_streams_only() {
    CUstream blocking = nullptr;
    CHECK(cuStreamCreate(&blocking, 0) == CUDA_SUCCESS);
    const CUstream free_stream = make_stream();
    const CUevent event = make_event();
    Gate gate(blocking);
    Gate free_gate(free_stream);
    CHECK(cuEventRecord(event, nullptr) == CUDA_SUCCESS);
    CHECK(stays_undone(event));
    gate.open();
    CHECK(cuEventSynchronize(event) == CUDA_SUCCESS);
    CHECK(cuStreamQuery(free_stream) == CUDA_ERROR_NOT_READY);
    free_gate.open();
    CHECK(cuStreamSynchronize(free_stream) == CUDA_SUCCESS);

    Gate legacy_gate(nullptr);
    CHECK(cuEventRecord(event, blocking) == CUDA_SUCCESS);
    CHECK(stays_undone(event));
    CHECK(cuStreamSynchronize(free_stream) == CUDA_SUCCESS);
    legacy_gate.open();
    CHECK(cuEventSynchronize(event) == CUDA_SUCCESS);
    destroy({event}, {blocking, free_stream});
}

void test_a_host_function_may_not_call_cuda() {
    const CUstream stream = make_stream();
    CUresult result = CUDA_SUCCESS;
    const auto call = [](void* told) {
        CUdeviceptr pointer = 0;
        *static_cast<CUresult*>(told) = cuMemAlloc_v2(&pointer, kBytes);
    };
    CHECK(cuLaunchHostFunc(stream, call, &result) == CUDA_SUCCESS);
    CHECK(cuStreamSynchronize(stream) == CUDA_SUCCESS);
    CHECK(result == CUDA_ERROR_NOT_PERMITTED);
    CHECK(cuStreamDestroy_v2(stream) == CUDA_SUCCESS);
}

void test_functions_are_found_by_name_and_version() {
    void* function = nullptr;
    int status = -1;
    CHECK(cuGetProcAddress_v2("cuMemAlloc", &function, 12000, 0, &status) == CUDA_SUCCESS);
    CHECK(function == reinterpret_cast<void*>(&cuMemAlloc_v2));
    CHECK(status == 0);
    CHECK(cuGetProcAddress_v2("cuGraphInstantiate", &function, 11000, 0, nullptr) == CUDA_SUCCESS);
    CHECK(function == reinterpret_cast<void*>(&cuGraphInstantiate_v2));
    CHECK(cuGetProcAddress_v2("cuGraphInstantiate", &function, 12000, 0, nullptr) == CUDA_SUCCESS);
    CHECK(function == reinterpret_cast<void*>(&cuGraphInstantiateWithFlags));
    CHECK(cuGetProcAddress_v2("cuFly", &function, 12000, 0, &status) == CUDA_ERROR_NOT_FOUND);
    CHECK(function == nullptr);
    CHECK(status == 1);
}

void test_threads_have_contexts_of_their_own() {
    const auto allocate = [] {
        CUdeviceptr pointer = 0;
        return cuMemAlloc_v2(&pointer, kBytes);
    };
    CHECK(std::async(std::launch::async, allocate).get() == CUDA_ERROR_INVALID_CONTEXT);
}

// Last but one: what failed stays failed until the context goes.
void test_a_failed_operation_fails_everything_after_it() {
    CUdeviceptr pointer = 0;
    const CUstream stream = make_stream();
    const CUevent event = make_event();
    CHECK(cuMemAlloc_v2(&pointer, kBytes) == CUDA_SUCCESS);
    dff_emulation_fail("operation", CUDA_ERROR_ILLEGAL_ADDRESS);
    bool is_run = false;
    Gate gate(stream);  // fails, and holds nothing up
    CHECK(cuLaunchHostFunc(stream, [](void* run) { *static_cast<bool*>(run) = true; }, &is_run) ==
          CUDA_SUCCESS);
    CHECK(cuEventRecord(event, stream) == CUDA_SUCCESS);
    CHECK(cuStreamSynchronize(stream) == CUDA_ERROR_ILLEGAL_ADDRESS);
    CHECK(!is_run);
    CHECK(cuEventSynchronize(event) == CUDA_ERROR_ILLEGAL_ADDRESS);
    CHECK(cuMemFree_v2(pointer) == CUDA_ERROR_ILLEGAL_ADDRESS);
    CHECK(dff_emulation_live("device") == 1);
}

void test_letting_go_of_the_context_frees_everything() {
    CUcontext context = nullptr;
    CHECK(cuDevicePrimaryCtxRelease_v2(0) == CUDA_SUCCESS);
    for (const char* kind : {"device", "pinned", "stream", "event", "graph"}) {
        CHECK(dff_emulation_live(kind) == 0);
    }
    CHECK(cuCtxSynchronize() == CUDA_ERROR_CONTEXT_IS_DESTROYED);
    CHECK(cuDevicePrimaryCtxRetain(&context, 0) == CUDA_SUCCESS);
    CHECK(cuCtxSynchronize() == CUDA_SUCCESS);
    CHECK(cuDevicePrimaryCtxRelease_v2(0) == CUDA_SUCCESS);
    CHECK(cuDevicePrimaryCtxRelease_v2(0) == CUDA_ERROR_INVALID_CONTEXT);
}

}  // namespace

int main() {
    CUcontext context = nullptr;
    int count = 0;
    CHECK(cuDeviceGetCount(&count) == CUDA_ERROR_NOT_INITIALIZED);
    CHECK(cuInit(0) == CUDA_SUCCESS);
    CHECK(cuDeviceGetCount(&count) == CUDA_SUCCESS);
    CHECK(count == 1);
    CHECK(cuDevicePrimaryCtxRetain(&context, 0) == CUDA_SUCCESS);
    CHECK(cuCtxSynchronize() == CUDA_ERROR_INVALID_CONTEXT);
    CHECK(cuCtxPushCurrent_v2(context) == CUDA_SUCCESS);

    for (const std::uint64_t jitter_us : {0, 300}) {
        dff_emulation_jitter(1, jitter_us);
        test_copies_move_bytes();
        test_new_memory_is_poisoned_and_freed_memory_unusable();
        test_pageable_memory_is_read_before_the_call_returns();
        test_memory_is_limited();
        test_streams_and_events();
        test_a_destroyed_stream_finishes_its_work();
        test_the_legacy_stream_is_in_order_with_blocking_streams_only();
        test_a_host_function_may_not_call_cuda();
        test_functions_are_found_by_name_and_version();
        test_threads_have_contexts_of_their_own();
    }
    test_a_failed_operation_fails_everything_after_it();
    test_letting_go_of_the_context_frees_everything();
    return dff_test::result();
}
