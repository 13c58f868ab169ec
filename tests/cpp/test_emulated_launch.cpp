// Emulated kernels: launches that a device refuses are refused. On streams of the emulated driver:
// refused without it, in the order of the stream, and again at each launch of a graph. The argument
// is the driver's library.

#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "check.h"
#include "cuda/dff_cuda.h"
#include "cuda/launch.h"
#include "emulation/driver_api.h"

namespace {

constexpr std::int64_t kChannels = 8;
constexpr std::size_t kBytes = 2 * kChannels * sizeof(float);  // a map of 1 x 2 cells

void* library = nullptr;

template <typename Function>
Function* find(Function*, const char* name) {
    auto* function = reinterpret_cast<Function*>(dlsym(library, name));
    if (function == nullptr) {
        std::fprintf(stderr, "the driver lacks %s\n", name);
        std::exit(1);
    }
    return function;
}

#define CALL(name) find(&name, #name)

struct Memory {
    Memory() { CHECK(CALL(cuMemAlloc_v2)(&pointer, kBytes) == 0); }
    ~Memory() { CHECK(CALL(cuMemFree_v2)(pointer) == 0); }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    CUdeviceptr pointer = 0;
};

int warp(CUdeviceptr features, CUdeviceptr flow, CUdeviceptr out, CUstream stream) {
    return dff_cuda_warp(reinterpret_cast<void*>(features), reinterpret_cast<float*>(flow), nullptr,
                         reinterpret_cast<void*>(out), 1, 1, 2, kChannels, DFF_FLOAT32,
                         DFF_CHANNELS_LAST, 1.0f, stream);
}

// 1, 2, 3, ... plus an offset.
std::vector<float> make_features(float offset) {
    std::vector<float> features;
    for (int i = 1; i <= 2 * kChannels; ++i) features.push_back(offset + static_cast<float>(i));
    return features;
}

// A flow of one cell to the right: the first cell has the second one's features, the second none.
std::vector<float> shifted(const std::vector<float>& features) {
    std::vector<float> out(features.begin() + kChannels, features.end());
    out.resize(2 * kChannels, 0.0f);
    return out;
}

const std::vector<float> kFlow = {1.0f, 0.0f, 1.0f, 0.0f};

void test_without_the_driver_a_stream_is_refused() {
    float values[2 * kChannels] = {};
    char not_a_stream = 0;
    const auto address = reinterpret_cast<CUdeviceptr>(values);
    const int status = warp(address, address, address, reinterpret_cast<CUstream>(&not_a_stream));
    CHECK(status > DFF_CUDA_ERROR);
    CHECK(std::strstr(dff_cuda_message(status), "emulated driver") != nullptr);
}

void no_work(int) {}

void test_a_launch_that_a_device_refuses_is_refused() {
    const dim3 one{1, 1, 1};
    CHECK(dff::launch(&no_work, one, one, 0, nullptr) == DFF_OK);
    CHECK(dff::launch(&no_work, one, {16, 8, 8}, 0, nullptr) == DFF_OK);
    for (const dim3 grid : {dim3{0, 1, 1}, {0x80000000u, 1, 1}, {1, 65536, 1}, {1, 1, 65536}}) {
        CHECK(dff::launch(&no_work, grid, one, 0, nullptr) == DFF_CUDA_ERROR + 9);
    }
    for (const dim3 block : {dim3{0, 1, 1}, {1025, 1, 1}, {1, 1025, 1}, {1, 1, 65}, {32, 33, 1}}) {
        CHECK(dff::launch(&no_work, one, block, 0, nullptr) == DFF_CUDA_ERROR + 9);
    }
    CHECK(std::strstr(dff_cuda_message(DFF_CUDA_ERROR + 9), "more blocks or threads") != nullptr);
}

void test_kernels_keep_the_order_of_their_stream(CUstream stream) {
    CALL(dff_emulation_jitter)(1, 300);
    const Memory features, flow, middle, out;
    for (int round = 0; round < 20; ++round) {
        const std::vector<float> values = make_features(static_cast<float>(round));
        std::vector<float> got(2 * kChannels);
        CHECK(CALL(cuMemcpyHtoDAsync_v2)(features.pointer, values.data(), kBytes, stream) == 0);
        CHECK(CALL(cuMemcpyHtoDAsync_v2)(flow.pointer, kFlow.data(), 16, stream) == 0);
        CHECK(warp(features.pointer, flow.pointer, middle.pointer, stream) == DFF_OK);
        CHECK(warp(middle.pointer, flow.pointer, out.pointer, stream) == DFF_OK);
        CHECK(CALL(cuMemcpyDtoHAsync_v2)(got.data(), middle.pointer, kBytes, stream) == 0);
        CHECK(CALL(cuStreamSynchronize)(stream) == 0);
        CHECK(got == shifted(values));
        CHECK(CALL(cuMemcpyDtoH_v2)(got.data(), out.pointer, kBytes) == 0);
        CHECK(got == shifted(shifted(values)));
    }
}

void test_a_graph_runs_its_kernel_again(CUstream stream) {
    const Memory features, flow, out;
    CHECK(CALL(cuMemcpyHtoD_v2)(flow.pointer, kFlow.data(), 16) == 0);
    CUgraph graph = nullptr;
    CUgraphExec executable = nullptr;
    CHECK(CALL(cuStreamBeginCapture_v2)(stream, 0) == 0);
    CHECK(warp(features.pointer, flow.pointer, out.pointer, stream) == DFF_OK);
    CHECK(CALL(cuStreamEndCapture)(stream, &graph) == 0);
    CHECK(CALL(cuGraphInstantiateWithFlags)(&executable, graph, 0) == 0);
    for (int round = 0; round < 3; ++round) {
        const std::vector<float> values = make_features(static_cast<float>(10 * round));
        std::vector<float> got(2 * kChannels);
        CHECK(CALL(cuMemcpyHtoDAsync_v2)(features.pointer, values.data(), kBytes, stream) == 0);
        CHECK(CALL(cuGraphLaunch)(executable, stream) == 0);
        CHECK(CALL(cuMemcpyDtoHAsync_v2)(got.data(), out.pointer, kBytes, stream) == 0);
        CHECK(CALL(cuStreamSynchronize)(stream) == 0);
        CHECK(got == shifted(values));
    }
    CHECK(CALL(cuGraphExecDestroy)(executable) == 0);
    CHECK(CALL(cuGraphDestroy)(graph) == 0);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: %s LIBCUDA\n", argv[0]);
        return 2;
    }
    test_without_the_driver_a_stream_is_refused();
    test_a_launch_that_a_device_refuses_is_refused();
    library = dlopen(argv[1], RTLD_NOW);
    if (library == nullptr) {
        std::fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    CUcontext context = nullptr;
    CUstream stream = nullptr;
    CHECK(CALL(cuInit)(0) == 0);
    CHECK(CALL(cuDevicePrimaryCtxRetain)(&context, 0) == 0);
    CHECK(CALL(cuCtxSetCurrent)(context) == 0);
    CHECK(CALL(cuStreamCreate)(&stream, 1) == 0);
    test_kernels_keep_the_order_of_their_stream(stream);
    test_a_graph_runs_its_kernel_again(stream);
    CHECK(CALL(cuStreamDestroy_v2)(stream) == 0);
    CHECK(CALL(cuDevicePrimaryCtxRelease_v2)(0) == 0);
    return dff_test::result();
}
