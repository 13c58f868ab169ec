// The state behind the API: devices with a primary context each, and what every call checks first.

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "graph.h"
#include "memory.h"
#include "stream.h"
#include "types.h"

namespace emulation {

// A device's primary context. It is there for ever and holds things while it is retained.
struct Context {
    explicit Context(CUdevice device, std::size_t memory_bytes)
        : device(device), memory(memory_bytes) {}

    void open();
    void close();  // waits for all streams, then frees everything

    Stream* find(CUstream handle);  // null when there is none
    Stream& legacy() { return *legacy_stream; }
    CUstream add(std::unique_ptr<Stream> stream);
    std::vector<std::shared_ptr<Record>> record_all();

    const CUdevice device;
    int retained = 0;
    Shared shared;
    Memory memory;
    std::map<CUstream, std::unique_ptr<Stream>> streams;
    std::vector<std::unique_ptr<Stream>> dying;  // destroyed by the user, not finished yet
    std::unique_ptr<Stream> legacy_stream;
    std::unique_ptr<Stream> per_thread_stream;  // one for all threads
    std::map<CUevent, Event> events;
    std::map<CUgraph, Graph> graphs;
    std::map<CUgraphExec, std::shared_ptr<const Graph>> executables;
    std::set<std::shared_ptr<Capture>> captures;
    std::uint64_t launches = 0;
};

struct Driver {
    Driver();

    // Numbers for handles and streams are never given twice: a stale one is always found out.
    std::uint64_t mint() { return next_number++; }

    std::mutex mutex;  // of everything here; never held while waiting
    bool is_initialised = false;
    std::uint64_t next_number = 1;
    std::vector<std::unique_ptr<Context>> contexts;  // by device
    std::map<std::string, std::uint64_t> counts;     // of calls, by name
    std::map<std::string, CUresult> planned;         // results that the next calls give
};

Driver& driver();

template <typename Handle>
Handle mint_handle() {
    return reinterpret_cast<Handle>(std::uintptr_t{0xD0000000} + 16 * driver().mint());
}

// The contexts that this thread has pushed.
std::vector<Context*>& context_stack();

// Counts the call, gives the result planned for it or says why it may not be made.
CUresult enter(const char* name, bool needs_init);
// The current context, or why there is none that can be used.
CUresult enter_context(Context*& context);

// An API call: `body()` runs with the lock held.
template <typename Body>
CUresult call(const char* name, const Body& body) {
    const std::lock_guard<std::mutex> lock(driver().mutex);
    const CUresult result = enter(name, true);
    return result != CUDA_SUCCESS ? result : body();
}

// An API call in the current context: `body(context)` runs with the lock held.
template <typename Body>
CUresult call_in_context(const char* name, const Body& body) {
    return call(name, [&] {
        Context* context = nullptr;
        const CUresult result = enter_context(context);
        return result != CUDA_SUCCESS ? result : body(*context);
    });
}

using Records = std::vector<std::shared_ptr<Record>>;

// An API call that may block: `body(context, records)` runs with the lock held and names what is
// waited for afterwards.
template <typename Body>
CUresult call_and_wait(const char* name, const Body& body) {
    Records records;
    Context* used = nullptr;
    const CUresult result = call_in_context(name, [&](Context& context) {
        used = &context;
        const CUresult status = body(context, records);
        if (status == CUDA_SUCCESS && !records.empty()) {
            ++driver().counts["blocking"];
        }
        return status;
    });
    if (result != CUDA_SUCCESS || records.empty()) {
        return result;
    }
    for (const auto& record : records) {
        record->wait();
    }
    return used->shared.fault;
}

// Enqueues work, or captures it. The lock is held around these.
CUresult submit(Context& context, Stream& stream, std::function<void()> work);
// CUDA_SUCCESS, or that a capture forbids calls like this now; the capture is then invalid.
CUresult check_unsafe(Context& context);
CUresult check_not_capturing(Stream& stream);
// Orders an operation of the legacy stream with all blocking streams; nothing for other streams.
CUresult fence_before(Context& context, Stream& stream);
void fence_after(Context& context, Stream& stream);

}  // namespace emulation
