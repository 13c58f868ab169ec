// Captures and graphs of the emulated driver against what CUDA's documentation says of them.

#include <cstring>
#include <future>
#include <vector>

#include "../cpp/check.h"
#include "driver_api.h"
#include "handles.h"

using namespace dff_test;
using namespace emulation;

namespace {

constexpr int kThreadLocal = 1;  // CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
constexpr int kGlobal = 0;

void test_a_graph_replays_its_work() {
    Memory memory;
    const CUstream stream = make_stream();
    CUgraph graph = nullptr;
    CUgraphExec executable = nullptr;
    int status = -1;
    CHECK(cuStreamBeginCapture_v2(stream, kThreadLocal) == CUDA_SUCCESS);
    CHECK(cuStreamIsCapturing(stream, &status) == CUDA_SUCCESS);
    CHECK(status == 1);
    CHECK(cuMemcpyHtoDAsync_v2(memory.device, memory.host, kBytes, stream) == CUDA_SUCCESS);
    CHECK(cuMemsetD8Async(memory.device, 1, 1, stream) == CUDA_SUCCESS);
    CHECK(cuStreamEndCapture(stream, &graph) == CUDA_SUCCESS);
    CHECK(cuGraphInstantiateWithFlags(&executable, graph, 0) == CUDA_SUCCESS);
    CHECK(cuGraphDestroy(graph) == CUDA_SUCCESS);
    for (unsigned char value : {3, 4}) {
        std::memset(memory.host, value, kBytes);
        CHECK(cuGraphLaunch(executable, stream) == CUDA_SUCCESS);
        CHECK(cuMemcpyDtoHAsync_v2(memory.host, memory.device, kBytes, stream) == CUDA_SUCCESS);
        CHECK(cuStreamSynchronize(stream) == CUDA_SUCCESS);
        CHECK(memory.host[0] == 1);
        memory.host[0] = value;
        CHECK(memory.holds(value));
    }
    CHECK(cuGraphExecDestroy(executable) == CUDA_SUCCESS);
    CHECK(cuGraphLaunch(executable, stream) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(cuStreamDestroy_v2(stream) == CUDA_SUCCESS);
}

void test_a_capture_of_the_threads_default_stream_ends() {
    const auto stream = reinterpret_cast<CUstream>(std::uintptr_t{2});
    CUgraph graph = nullptr;
    int status = -1;
    CHECK(cuStreamBeginCapture_v2(stream, kThreadLocal) == CUDA_SUCCESS);
    CHECK(cuStreamEndCapture(stream, &graph) == CUDA_SUCCESS);
    CHECK(cuStreamIsCapturing(stream, &status) == CUDA_SUCCESS);
    CHECK(status == 0);
    CHECK(cuStreamSynchronize(stream) == CUDA_SUCCESS);
    CHECK(cuGraphDestroy(graph) == CUDA_SUCCESS);
}

// A fork by an event and a join by another; without the join the capture is refused.
void test_a_capture_takes_in_streams_that_wait_for_it() {
    const CUstream origin = make_stream();
    const CUstream side = make_stream();
    const CUevent forked = make_event();
    const CUevent joined = make_event();
    for (const bool joins : {true, false}) {
        std::vector<int> seen;
        CUgraph graph = nullptr;
        const auto note = [](void* list) { static_cast<std::vector<int>*>(list)->push_back(1); };
        CHECK(cuStreamBeginCapture_v2(origin, kThreadLocal) == CUDA_SUCCESS);
        CHECK(cuEventRecord(forked, origin) == CUDA_SUCCESS);
        CHECK(cuStreamWaitEvent(side, forked, 0) == CUDA_SUCCESS);
        CHECK(cuLaunchHostFunc(side, note, &seen) == CUDA_SUCCESS);
        CHECK(cuEventQuery(forked) == CUDA_ERROR_CAPTURED_EVENT);
        if (joins) {
            CHECK(cuEventRecord(joined, side) == CUDA_SUCCESS);
            CHECK(cuStreamWaitEvent(origin, joined, 0) == CUDA_SUCCESS);
        }
        CHECK(cuStreamEndCapture(origin, &graph) ==
              (joins ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_UNJOINED));
        CHECK(seen.empty());
        if (joins) {
            CUgraphExec executable = nullptr;
            CHECK(cuGraphInstantiateWithFlags(&executable, graph, 0) == CUDA_SUCCESS);
            CHECK(cuGraphLaunch(executable, side) == CUDA_SUCCESS);
            CHECK(cuStreamSynchronize(side) == CUDA_SUCCESS);
            CHECK(seen.size() == 1);
            CHECK(cuGraphExecDestroy(executable) == CUDA_SUCCESS);
            CHECK(cuGraphDestroy(graph) == CUDA_SUCCESS);
        }
    }
    destroy({forked, joined}, {origin, side});
}

// What no edge orders runs in more than one order.
void test_a_graph_promises_its_edges_and_no_more() {
    static std::vector<int> seen;
    const CUstream origin = make_stream();
    const CUstream side = make_stream();
    const CUevent forked = make_event();
    const CUevent joined = make_event();
    CUgraph graph = nullptr;
    CUgraphExec executable = nullptr;
    const auto note_a = [](void*) { seen.push_back(0); };
    const auto note_b = [](void*) { seen.push_back(1); };
    CHECK(cuStreamBeginCapture_v2(origin, kThreadLocal) == CUDA_SUCCESS);
    CHECK(cuEventRecord(forked, origin) == CUDA_SUCCESS);
    CHECK(cuStreamWaitEvent(side, forked, 0) == CUDA_SUCCESS);
    CHECK(cuLaunchHostFunc(origin, note_a, nullptr) == CUDA_SUCCESS);
    CHECK(cuLaunchHostFunc(side, note_b, nullptr) == CUDA_SUCCESS);
    CHECK(cuEventRecord(joined, side) == CUDA_SUCCESS);
    CHECK(cuStreamWaitEvent(origin, joined, 0) == CUDA_SUCCESS);
    CHECK(cuStreamEndCapture(origin, &graph) == CUDA_SUCCESS);
    CHECK(cuGraphInstantiateWithFlags(&executable, graph, 0) == CUDA_SUCCESS);
    int first_counts[2] = {0, 0};
    for (int launch = 0; launch < 32; ++launch) {
        seen.clear();
        CHECK(cuGraphLaunch(executable, origin) == CUDA_SUCCESS);
        CHECK(cuStreamSynchronize(origin) == CUDA_SUCCESS);
        CHECK(seen.size() == 2);
        ++first_counts[seen.front()];
    }
    CHECK(first_counts[0] > 0);
    CHECK(first_counts[1] > 0);
    CHECK(cuGraphExecDestroy(executable) == CUDA_SUCCESS);
    CHECK(cuGraphDestroy(graph) == CUDA_SUCCESS);
    destroy({forked, joined}, {origin, side});
}

// A capture forbids allocations, of its thread in thread-local mode and of all in global mode, and
// waiting for its streams; what was forbidden makes it invalid.
void test_a_capture_forbids_what_cuda_forbids() {
    CUdeviceptr pointer = 0;
    CUgraph graph = nullptr;
    const CUstream stream = make_stream();
    const auto allocate = [](CUdeviceptr* result) {
        CUcontext context = nullptr;
        CHECK(cuDevicePrimaryCtxRetain(&context, 0) == CUDA_SUCCESS);
        CHECK(cuCtxSetCurrent(context) == CUDA_SUCCESS);
        const CUresult status = cuMemAlloc_v2(result, kBytes);
        CHECK(cuDevicePrimaryCtxRelease_v2(0) == CUDA_SUCCESS);
        return status;
    };

    CHECK(cuStreamBeginCapture_v2(stream, kThreadLocal) == CUDA_SUCCESS);
    CHECK(std::async(std::launch::async, allocate, &pointer).get() == CUDA_SUCCESS);
    CHECK(cuStreamEndCapture(stream, &graph) == CUDA_SUCCESS);
    CHECK(cuGraphDestroy(graph) == CUDA_SUCCESS);
    CHECK(cuMemFree_v2(pointer) == CUDA_SUCCESS);

    CHECK(cuStreamBeginCapture_v2(stream, kGlobal) == CUDA_SUCCESS);
    CHECK(std::async(std::launch::async, allocate, &pointer).get() ==
          CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    CHECK(cuStreamEndCapture(stream, &graph) == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    CHECK(graph == nullptr);

    CHECK(cuStreamBeginCapture_v2(stream, kThreadLocal) == CUDA_SUCCESS);
    CHECK(cuMemAlloc_v2(&pointer, kBytes) == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    CHECK(cuStreamEndCapture(stream, &graph) == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);

    CHECK(cuStreamBeginCapture_v2(stream, kThreadLocal) == CUDA_SUCCESS);
    CHECK(cuStreamSynchronize(stream) == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    CHECK(cuMemsetD8Async(pointer, 0, 0, stream) == CUDA_SUCCESS);  // of nothing
    CHECK(cuLaunchHostFunc(stream, [](void*) {}, nullptr) ==
          CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    CHECK(cuStreamEndCapture(stream, &graph) == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    CHECK(cuStreamSynchronize(stream) == CUDA_SUCCESS);  // as before
    CHECK(cuStreamBeginCapture_v2(nullptr, kThreadLocal) == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    CHECK(cuStreamDestroy_v2(stream) == CUDA_SUCCESS);
}

void test_outside_work_cannot_be_waited_for_in_a_capture() {
    const CUstream stream = make_stream();
    const CUstream other = make_stream();
    const CUevent event = make_event();
    CUgraph graph = nullptr;
    CHECK(cuEventRecord(event, other) == CUDA_SUCCESS);
    CHECK(cuStreamBeginCapture_v2(stream, kThreadLocal) == CUDA_SUCCESS);
    CHECK(cuStreamWaitEvent(stream, event, 0) == CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    CHECK(cuStreamEndCapture(stream, &graph) == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    destroy({event}, {stream, other});
}

}  // namespace

int main() {
    CUcontext context = nullptr;
    CHECK(cuInit(0) == CUDA_SUCCESS);
    CHECK(cuDevicePrimaryCtxRetain(&context, 0) == CUDA_SUCCESS);
    CHECK(cuCtxPushCurrent_v2(context) == CUDA_SUCCESS);

    for (const std::uint64_t jitter_us : {0, 300}) {
        dff_emulation_jitter(1, jitter_us);
        test_a_graph_replays_its_work();
        test_a_capture_of_the_threads_default_stream_ends();
        test_a_capture_takes_in_streams_that_wait_for_it();
        test_a_graph_promises_its_edges_and_no_more();
        test_a_capture_forbids_what_cuda_forbids();
        test_outside_work_cannot_be_waited_for_in_a_capture();
    }
    CHECK(cuDevicePrimaryCtxRelease_v2(0) == CUDA_SUCCESS);
    return dff_test::result();
}
