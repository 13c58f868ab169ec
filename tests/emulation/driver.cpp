#include "driver.h"

#include <cstdlib>

namespace emulation {

namespace {

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
    const char* text = std::getenv(variable);
    return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

constexpr std::uint64_t kDefaultMemoryBytes = std::uint64_t{8} << 30;

CUstream legacy_handle() { return reinterpret_cast<CUstream>(std::uintptr_t{1}); }
CUstream per_thread_handle() { return reinterpret_cast<CUstream>(std::uintptr_t{2}); }

}  // namespace

Driver::Driver() {
    const std::uint64_t devices = number_from("DFF_EMULATION_DEVICES", 1);
    const std::uint64_t memory = number_from("DFF_EMULATION_MEMORY_BYTES", kDefaultMemoryBytes);
    for (std::uint64_t i = 0; i < devices; ++i) {
        contexts.push_back(std::make_unique<Context>(static_cast<CUdevice>(i), memory));
        contexts.back()->shared.jitter.seed = number_from("DFF_EMULATION_SEED", 0);
        contexts.back()->shared.jitter.max_us = number_from("DFF_EMULATION_JITTER_US", 0);
    }
}

Driver& driver() {
    // Never freed: streams' threads may outlive the main program's static objects.
    static Driver* const instance = new Driver;
    return *instance;
}

std::vector<Context*>& context_stack() {
    thread_local std::vector<Context*> stack;
    return stack;
}

CUresult enter(const char* name, bool needs_init) {
    Driver& state = driver();
    ++state.counts[name];
    const auto planned = state.planned.find(name);
    if (planned != state.planned.end()) {
        const CUresult result = planned->second;
        state.planned.erase(planned);
        return result;
    }
    if (is_stream_thread()) {
        return CUDA_ERROR_NOT_PERMITTED;  // called by a host function
    }
    return needs_init && !state.is_initialised ? CUDA_ERROR_NOT_INITIALIZED : CUDA_SUCCESS;
}

CUresult enter_context(Context*& context) {
    if (context_stack().empty() || context_stack().back() == nullptr) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    context = context_stack().back();
    return context->retained == 0 ? CUDA_ERROR_CONTEXT_IS_DESTROYED
                                  : static_cast<CUresult>(context->shared.fault);
}

void Context::open() {
    shared.fault = CUDA_SUCCESS;
    shared.next_fault = CUDA_SUCCESS;
    legacy_stream = std::make_unique<Stream>(driver().mint(), true, 0, shared);
    per_thread_stream = std::make_unique<Stream>(driver().mint(), true, 0, shared);
}

void Context::close() {
    for (const auto& capture : captures) {
        capture->is_valid = false;
    }
    captures.clear();
    // All before any is joined: they may wait for each other.
    for (const auto& record : record_all()) {
        record->wait();
    }
    streams.clear();
    dying.clear();
    legacy_stream.reset();
    per_thread_stream.reset();
    events.clear();
    graphs.clear();
    executables.clear();
    memory.clear();
}

Stream* Context::find(CUstream handle) {
    if (handle == nullptr || handle == legacy_handle()) {
        return legacy_stream.get();
    }
    if (handle == per_thread_handle()) {
        return per_thread_stream.get();
    }
    const auto found = streams.find(handle);
    return found == streams.end() ? nullptr : found->second.get();
}

CUstream Context::add(std::unique_ptr<Stream> stream) {
    for (std::size_t i = dying.size(); i-- > 0;) {
        if (dying[i]->is_finished()) {
            dying.erase(dying.begin() + static_cast<std::ptrdiff_t>(i));
        }
    }
    if (stream->is_blocking) {
        stream->wait(legacy().record());
    }
    const auto handle = mint_handle<CUstream>();
    streams[handle] = std::move(stream);
    return handle;
}

Records Context::record_all() {
    Records records{legacy().record(), per_thread_stream->record()};
    for (const auto& item : streams) {
        records.push_back(item.second->record());
    }
    return records;
}

CUresult submit(Context& context, Stream& stream, std::function<void()> work) {
    if (stream.capture != nullptr) {
        if (!stream.capture->is_valid) {
            return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        }
        auto& nodes = stream.capture->graph.nodes;
        nodes.push_back({std::move(work), stream.tail});
        stream.tail = {nodes.size() - 1};
        return CUDA_SUCCESS;
    }
    const CUresult result = fence_before(context, stream);
    if (result != CUDA_SUCCESS) {
        return result;
    }
    stream.enqueue(std::move(work));
    fence_after(context, stream);
    return CUDA_SUCCESS;
}

CUresult check_not_capturing(Stream& stream) {
    if (stream.capture == nullptr) {
        return CUDA_SUCCESS;
    }
    stream.capture->is_valid = false;
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

CUresult fence_before(Context& context, Stream& stream) {
    if (&stream != context.legacy_stream.get()) {
        return CUDA_SUCCESS;
    }
    for (const auto& item : context.streams) {
        Stream& other = *item.second;
        if (other.is_blocking && other.capture != nullptr) {
            other.capture->is_valid = false;
            return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
        }
    }
    for (const auto& item : context.streams) {
        if (item.second->is_blocking) {
            stream.wait(item.second->record());
        }
    }
    return CUDA_SUCCESS;
}

void fence_after(Context& context, Stream& stream) {
    if (&stream != context.legacy_stream.get()) {
        return;
    }
    const auto record = stream.record();
    for (const auto& item : context.streams) {
        if (item.second->is_blocking) {
            item.second->wait(record);
        }
    }
}

}  // namespace emulation
