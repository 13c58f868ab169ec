// What tests ask of the emulation itself.

#include "driver.h"
#include "driver_api.h"

using namespace emulation;

void dff_emulation_jitter(std::uint64_t seed, std::uint64_t max_us) {
    for (const auto& context : driver().contexts) {
        context->shared.jitter.seed = seed;
        context->shared.jitter.max_us = max_us;
    }
}

std::uint64_t dff_emulation_count(const char* name) {
    const std::lock_guard<std::mutex> lock(driver().mutex);
    const auto found = driver().counts.find(name);
    return found == driver().counts.end() ? 0 : found->second;
}

std::uint64_t dff_emulation_live(const char* kind) {
    const std::lock_guard<std::mutex> lock(driver().mutex);
    const std::string wanted = kind;
    std::uint64_t count = 0;
    for (const auto& context : driver().contexts) {
        count += wanted == "device"   ? context->memory.count(MemoryKind::kDevice)
                 : wanted == "pinned" ? context->memory.count(MemoryKind::kPinned)
                 : wanted == "stream" ? context->streams.size()
                 : wanted == "event"  ? context->events.size()
                 : wanted == "graph"  ? context->graphs.size() + context->executables.size()
                                      : 0;
    }
    return count;
}

void dff_emulation_fail(const char* name, CUresult result) {
    const std::lock_guard<std::mutex> lock(driver().mutex);
    if (std::string(name) == "operation") {
        for (const auto& context : driver().contexts) {
            context->shared.next_fault = result;
        }
        return;
    }
    driver().planned[name] = result;
}
