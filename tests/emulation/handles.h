// Streams, events and memory of the emulated driver, for its tests.

#pragma once

#include <algorithm>
#include <cstddef>
#include <future>
#include <initializer_list>

#include "../cpp/check.h"
#include "driver_api.h"

namespace dff_test {

constexpr std::size_t kBytes = 64;
constexpr unsigned int kNonBlocking = 1;

// Holds a stream up until it is opened.
class Gate {
public:
    explicit Gate(CUstream stream) {
        CHECK(cuLaunchHostFunc(stream, &Gate::pass, this) == emulation::CUDA_SUCCESS);
    }
    void open() { promise_.set_value(); }

private:
    static void pass(void* gate) { static_cast<Gate*>(gate)->promise_.get_future().wait(); }
    std::promise<void> promise_;
};

inline CUstream make_stream() {
    CUstream stream = nullptr;
    CHECK(cuStreamCreate(&stream, kNonBlocking) == emulation::CUDA_SUCCESS);
    return stream;
}

inline CUevent make_event() {
    CUevent event = nullptr;
    CHECK(cuEventCreate(&event, 0) == emulation::CUDA_SUCCESS);
    return event;
}

inline void destroy(std::initializer_list<CUevent> events,
                    std::initializer_list<CUstream> streams) {
    for (const CUevent event : events) {
        CHECK(cuEventDestroy_v2(event) == emulation::CUDA_SUCCESS);
    }
    for (const CUstream stream : streams) {
        CHECK(cuStreamDestroy_v2(stream) == emulation::CUDA_SUCCESS);
    }
}

struct Memory {
    CUdeviceptr device = 0;
    unsigned char* host = nullptr;  // pinned

    Memory() {
        void* pinned = nullptr;
        CHECK(cuMemAlloc_v2(&device, kBytes) == emulation::CUDA_SUCCESS);
        CHECK(cuMemHostAlloc(&pinned, kBytes, 0) == emulation::CUDA_SUCCESS);
        host = static_cast<unsigned char*>(pinned);
    }
    ~Memory() {
        CHECK(cuMemFree_v2(device) == emulation::CUDA_SUCCESS);
        CHECK(cuMemFreeHost(host) == emulation::CUDA_SUCCESS);
    }
    bool holds(unsigned char value) const {
        return std::all_of(host, host + kBytes, [=](unsigned char byte) { return byte == value; });
    }
};

}  // namespace dff_test
