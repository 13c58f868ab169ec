// Stream capture, graphs, and what a capture forbids meanwhile.

#include "driver.h"
#include "driver_api.h"

using namespace emulation;

namespace {

constexpr int kGlobal = static_cast<int>(CaptureMode::kGlobal);
constexpr int kRelaxed = static_cast<int>(CaptureMode::kRelaxed);

// How much this thread minds captures: by default those in global mode of any thread.
thread_local CaptureMode tls_thread_mode = CaptureMode::kGlobal;

bool forbids_unsafe_calls(const Capture& capture) {
    const bool is_own = capture.thread == std::this_thread::get_id();
    if (tls_thread_mode == CaptureMode::kRelaxed || capture.mode == CaptureMode::kRelaxed) {
        return false;
    }
    return is_own ||
           (tls_thread_mode == CaptureMode::kGlobal && capture.mode == CaptureMode::kGlobal);
}

CUresult instantiate(const char* name, CUgraphExec* executable, CUgraph graph) {
    return call_in_context(name, [&](Context& context) {
        const auto found = context.graphs.find(graph);
        if (found == context.graphs.end()) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        *executable = mint_handle<CUgraphExec>();
        context.executables[*executable] = std::make_shared<const Graph>(found->second);
        return CUDA_SUCCESS;
    });
}

template <typename Body>
CUresult call_on_executable(const char* name, CUgraphExec executable, CUstream handle,
                            const Body& body) {
    return call_in_context(name, [&](Context& context) {
        const auto found = context.executables.find(executable);
        Stream* const stream = context.find(handle);
        if (found == context.executables.end() || stream == nullptr) {
            return CUDA_ERROR_INVALID_HANDLE;
        }
        return body(context, found->second, *stream);
    });
}

}  // namespace

namespace emulation {

CUresult check_unsafe(Context& context) {
    CUresult result = CUDA_SUCCESS;
    for (const auto& capture : context.captures) {
        if (forbids_unsafe_calls(*capture)) {
            capture->is_valid = false;
            result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        }
    }
    return result;
}

}  // namespace emulation

CUresult cuStreamBeginCapture_v2(CUstream handle, int mode) {
    return call_in_context("cuStreamBeginCapture", [&](Context& context) {
        Stream* const stream = context.find(handle);
        if (stream == nullptr) {
            return CUDA_ERROR_INVALID_HANDLE;
        }
        if (mode < kGlobal || mode > kRelaxed) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        if (stream == context.legacy_stream.get()) {
            return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        }
        if (stream->capture != nullptr) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        stream->capture = std::make_shared<Capture>(stream, static_cast<CaptureMode>(mode));
        stream->tail.clear();
        context.captures.insert(stream->capture);
        return CUDA_SUCCESS;
    });
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph* graph) {
    return call_in_context("cuStreamEndCapture", [&](Context& context) {
        Stream* const stream = context.find(handle);
        if (stream == nullptr) {
            return CUDA_ERROR_INVALID_HANDLE;
        }
        *graph = nullptr;
        const auto capture = stream->capture;
        if (capture == nullptr) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        if (capture->mode != CaptureMode::kRelaxed &&
            capture->thread != std::this_thread::get_id()) {
            return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
        }
        if (stream != capture->origin) {
            capture->is_valid = false;
            return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
        }
        const bool is_joined = capture->is_joined(stream->tail);
        const auto release = [&](Stream& member) {
            if (member.capture == capture) {
                member.capture = nullptr;
                member.tail.clear();
            }
        };
        release(*context.per_thread_stream);
        for (const auto& item : context.streams) {
            release(*item.second);
        }
        context.captures.erase(capture);
        if (!capture->is_valid) {
            return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        }
        if (!is_joined) {
            return CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
        }
        *graph = mint_handle<CUgraph>();
        context.graphs[*graph] = std::move(capture->graph);
        return CUDA_SUCCESS;
    });
}

CUresult cuStreamIsCapturing(CUstream handle, int* status) {
    return call_in_context("cuStreamIsCapturing", [&](Context& context) {
        Stream* const stream = context.find(handle);
        if (stream == nullptr) {
            return CUDA_ERROR_INVALID_HANDLE;
        }
        *status = stream->capture == nullptr ? 0 : stream->capture->is_valid ? 1 : 2;
        return CUDA_SUCCESS;
    });
}

CUresult cuThreadExchangeStreamCaptureMode(int* mode) {
    return call("cuThreadExchangeStreamCaptureMode", [&] {
        if (*mode < kGlobal || *mode > kRelaxed) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        const CaptureMode before = tls_thread_mode;
        tls_thread_mode = static_cast<CaptureMode>(*mode);
        *mode = static_cast<int>(before);
        return CUDA_SUCCESS;
    });
}

CUresult cuGraphInstantiate_v2(CUgraphExec* executable, CUgraph graph, void**, char*, std::size_t) {
    return instantiate("cuGraphInstantiate", executable, graph);
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec* executable, CUgraph graph, unsigned long long) {
    return instantiate("cuGraphInstantiate", executable, graph);
}

CUresult cuGraphUpload(CUgraphExec executable, CUstream stream) {
    return call_on_executable("cuGraphUpload", executable, stream,
                              [](Context&, const auto&, Stream&) { return CUDA_SUCCESS; });
}

CUresult cuGraphLaunch(CUgraphExec executable, CUstream handle) {
    return call_on_executable(
        "cuGraphLaunch", executable, handle,
        [](Context& context, const std::shared_ptr<const Graph>& graph, Stream& stream) {
            const std::uint64_t seed = context.shared.jitter.seed ^ mix_bits(++context.launches);
            return submit(context, stream, [graph, seed] { run_graph(*graph, seed); });
        });
}

CUresult cuGraphDestroy(CUgraph graph) {
    return call_in_context("cuGraphDestroy", [&](Context& context) {
        return context.graphs.erase(graph) == 1 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    });
}

CUresult cuGraphExecDestroy(CUgraphExec executable) {
    return call_in_context("cuGraphExecDestroy", [&](Context& context) {
        return context.executables.erase(executable) == 1 ? CUDA_SUCCESS
                                                          : CUDA_ERROR_INVALID_HANDLE;
    });
}
