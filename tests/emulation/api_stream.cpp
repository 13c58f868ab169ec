// Streams and events.

#include <algorithm>

#include "driver.h"
#include "driver_api.h"

using namespace emulation;

namespace {

constexpr unsigned int kNonBlocking = 1;    // CU_STREAM_NON_BLOCKING
constexpr unsigned int kDisableTiming = 2;  // CU_EVENT_DISABLE_TIMING
constexpr unsigned int kEventFlags = 7;     // all that there are

template <typename Body>
CUresult call_on_stream(const char* name, CUstream handle, const Body& body) {
    return call_in_context(name, [&](Context& context) {
        Stream* const stream = context.find(handle);
        return stream == nullptr ? CUDA_ERROR_INVALID_HANDLE : body(context, *stream);
    });
}

template <typename Body>
CUresult call_on_event(const char* name, CUevent handle, const Body& body) {
    return call_in_context(name, [&](Context& context) {
        const auto found = context.events.find(handle);
        return found == context.events.end() ? CUDA_ERROR_INVALID_HANDLE
                                             : body(context, found->second);
    });
}

CUresult create_stream(const char* name, CUstream* handle, unsigned int flags, int priority) {
    return call_in_context(name, [&](Context& context) {
        if (flags > kNonBlocking) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        const int given = std::clamp(priority, kGreatestPriority, kLeastPriority);
        *handle = context.add(std::make_unique<Stream>(driver().mint(), flags != kNonBlocking,
                                                       given, context.shared));
        return CUDA_SUCCESS;
    });
}

// Inside a capture a wait is an edge, and draws a stream that does not capture yet into it.
CUresult wait_captured(Context& context, Stream& stream, const Event& event) {
    const auto capture = event.capture.lock();
    if (capture == nullptr || context.captures.count(capture) == 0) {
        return CUDA_ERROR_CAPTURED_EVENT;  // of a capture that has ended
    }
    if (stream.capture != nullptr && stream.capture != capture) {
        stream.capture->is_valid = capture->is_valid = false;
        return CUDA_ERROR_STREAM_CAPTURE_MERGE;
    }
    if (&stream == context.legacy_stream.get()) {
        capture->is_valid = false;
        return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
    if (stream.capture == nullptr) {
        stream.capture = capture;
        stream.tail.clear();
    }
    stream.tail.insert(event.captured_tail.begin(), event.captured_tail.end());
    return CUDA_SUCCESS;
}

CUresult record(const char* name, CUevent handle, CUstream stream_handle) {
    return call_on_event(name, handle, [&](Context& context, Event& event) {
        Stream* const stream = context.find(stream_handle);
        if (stream == nullptr) {
            return CUDA_ERROR_INVALID_HANDLE;
        }
        event.is_captured = stream->capture != nullptr;
        if (event.is_captured) {
            event.capture = stream->capture;
            event.captured_tail = stream->tail;
            return stream->capture->is_valid ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        }
        const CUresult result = fence_before(context, *stream);
        if (result == CUDA_SUCCESS) {
            event.latest = stream->record();
        }
        return result;
    });
}

CUresult elapsed(const char* name, float* milliseconds, CUevent start, CUevent end) {
    return call_on_event(name, start, [&](Context& context, Event& first) {
        const auto found = context.events.find(end);
        if (found == context.events.end()) {
            return CUDA_ERROR_INVALID_HANDLE;
        }
        Event& last = found->second;
        if (first.is_captured || last.is_captured) {
            return CUDA_ERROR_CAPTURED_EVENT;
        }
        if (!first.has_timing || !last.has_timing || !first.latest || !last.latest) {
            return CUDA_ERROR_INVALID_HANDLE;
        }
        if (!first.latest->is_done() || !last.latest->is_done()) {
            return CUDA_ERROR_NOT_READY;
        }
        const std::chrono::duration<float, std::milli> time =
            last.latest->time() - first.latest->time();
        *milliseconds = time.count();
        return CUDA_SUCCESS;
    });
}

}  // namespace

CUresult cuStreamCreate(CUstream* stream, unsigned int flags) {
    return create_stream("cuStreamCreate", stream, flags, kLeastPriority);
}

CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned int flags, int priority) {
    return create_stream("cuStreamCreateWithPriority", stream, flags, priority);
}

CUresult cuStreamDestroy_v2(CUstream handle) {
    return call_in_context("cuStreamDestroy", [&](Context& context) {
        const auto found = context.streams.find(handle);
        if (found == context.streams.end()) {
            return CUDA_ERROR_INVALID_HANDLE;
        }
        if (found->second->capture != nullptr) {
            found->second->capture->is_valid = false;
        }
        found->second->close();  // what is enqueued still runs, and nobody waits for it
        context.dying.push_back(std::move(found->second));
        context.streams.erase(found);
        return CUDA_SUCCESS;
    });
}

CUresult cuStreamQuery(CUstream handle) {
    return call_on_stream("cuStreamQuery", handle, [&](Context& context, Stream& stream) {
        CUresult result = check_not_capturing(stream);
        if (result == CUDA_SUCCESS) {
            result = fence_before(context, stream);
        }
        if (result != CUDA_SUCCESS) {
            return result;
        }
        return stream.is_idle() ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
    });
}

CUresult cuStreamSynchronize(CUstream handle) {
    return call_and_wait("cuStreamSynchronize", [&](Context& context, Records& records) {
        Stream* const stream = context.find(handle);
        if (stream == nullptr) {
            return CUDA_ERROR_INVALID_HANDLE;
        }
        CUresult result = check_not_capturing(*stream);
        if (result == CUDA_SUCCESS) {
            result = fence_before(context, *stream);
        }
        if (result == CUDA_SUCCESS) {
            records.push_back(stream->record());
        }
        return result;
    });
}

CUresult cuStreamWaitEvent(CUstream handle, CUevent event_handle, unsigned int) {
    return call_on_event("cuStreamWaitEvent", event_handle, [&](Context& context, Event& event) {
        Stream* const stream = context.find(handle);
        if (stream == nullptr) {
            return CUDA_ERROR_INVALID_HANDLE;
        }
        if (event.is_captured) {
            return wait_captured(context, *stream, event);
        }
        if (!event.latest) {
            return CUDA_SUCCESS;  // never recorded: holds nobody up
        }
        if (stream->capture != nullptr) {
            stream->capture->is_valid = false;
            return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
        }
        const CUresult result = fence_before(context, *stream);
        if (result == CUDA_SUCCESS) {
            stream->wait(event.latest);
            fence_after(context, *stream);
        }
        return result;
    });
}

CUresult cuStreamGetFlags(CUstream handle, unsigned int* flags) {
    return call_on_stream("cuStreamGetFlags", handle, [&](Context&, Stream& stream) {
        *flags = stream.is_blocking ? 0 : kNonBlocking;
        return CUDA_SUCCESS;
    });
}

CUresult cuStreamGetPriority(CUstream handle, int* priority) {
    return call_on_stream("cuStreamGetPriority", handle, [&](Context&, Stream& stream) {
        *priority = stream.priority;
        return CUDA_SUCCESS;
    });
}

CUresult cuStreamGetId(CUstream handle, unsigned long long* id) {
    return call_on_stream("cuStreamGetId", handle, [&](Context&, Stream& stream) {
        *id = stream.id;
        return CUDA_SUCCESS;
    });
}

CUresult cuStreamGetCtx(CUstream handle, CUcontext* context_handle) {
    return call_on_stream("cuStreamGetCtx", handle, [&](Context& context, Stream&) {
        *context_handle = reinterpret_cast<CUcontext>(&context);
        return CUDA_SUCCESS;
    });
}

CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void* argument) {
    return call_on_stream("cuLaunchHostFunc", handle, [&](Context& context, Stream& stream) {
        if (function == nullptr) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        return submit(context, stream, [=] { function(argument); });
    });
}

CUresult cuEventCreate(CUevent* handle, unsigned int flags) {
    return call_in_context("cuEventCreate", [&](Context& context) {
        if (flags > kEventFlags) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        *handle = mint_handle<CUevent>();
        context.events[*handle].has_timing = (flags & kDisableTiming) == 0;
        return CUDA_SUCCESS;
    });
}

CUresult cuEventDestroy_v2(CUevent handle) {
    return call_in_context("cuEventDestroy", [&](Context& context) {
        return context.events.erase(handle) == 1 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
    });
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
    return record("cuEventRecord", event, stream);
}

CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned int) {
    return record("cuEventRecordWithFlags", event, stream);
}

CUresult cuEventQuery(CUevent handle) {
    return call_on_event("cuEventQuery", handle, [&](Context& context, Event& event) {
        if (event.is_captured) {
            return CUDA_ERROR_CAPTURED_EVENT;
        }
        const CUresult result = check_unsafe(context);
        if (result != CUDA_SUCCESS) {
            return result;
        }
        return !event.latest || event.latest->is_done() ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
    });
}

CUresult cuEventSynchronize(CUevent handle) {
    return call_and_wait("cuEventSynchronize", [&](Context& context, Records& records) {
        const auto found = context.events.find(handle);
        if (found == context.events.end()) {
            return CUDA_ERROR_INVALID_HANDLE;
        }
        if (found->second.is_captured) {
            return CUDA_ERROR_CAPTURED_EVENT;
        }
        const CUresult result = check_unsafe(context);
        if (result == CUDA_SUCCESS && found->second.latest) {
            records.push_back(found->second.latest);
        }
        return result;
    });
}

CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
    return elapsed("cuEventElapsedTime", milliseconds, start, end);
}

CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent start, CUevent end) {
    return elapsed("cuEventElapsedTime", milliseconds, start, end);
}
