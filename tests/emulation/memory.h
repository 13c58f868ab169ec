// Device memory and pinned host memory, both of this process, both known by their address ranges.
//
// New memory is filled with 0xCD and freed memory with 0xDD; what was freed is kept for a while,
// so that a copy that somebody forgot, and memory used after it was freed, show in the result.

#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>

namespace emulation {

enum class MemoryKind { kDevice, kPinned, kRegistered };

struct MemoryRange {
    std::uintptr_t start;
    std::size_t bytes;
    MemoryKind kind;
    std::uint64_t id;  // never given twice
};

// Not thread-safe: the driver's lock is held around every call.
class Memory {
public:
    explicit Memory(std::size_t capacity_bytes) : capacity_bytes_(capacity_bytes) {}
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    ~Memory() { clear(); }

    // The address, or 0 when device memory of this capacity has no room for it.
    std::uintptr_t allocate(std::size_t bytes, MemoryKind kind);
    // Take note of memory that belongs to the caller.
    void register_host(std::uintptr_t start, std::size_t bytes);
    // False when no range of this kind starts there.
    bool free(std::uintptr_t start, MemoryKind kind);
    // The range that holds all of these bytes.
    std::optional<MemoryRange> find(std::uintptr_t start, std::size_t bytes) const;
    void clear();

    std::size_t capacity_bytes() const { return capacity_bytes_; }
    std::size_t used_bytes() const { return used_bytes_; }
    std::size_t count(MemoryKind kind) const;

private:
    void bury(std::uintptr_t start, std::size_t bytes);

    std::size_t capacity_bytes_;
    std::size_t used_bytes_ = 0;  // of device memory
    std::size_t buried_bytes_ = 0;
    std::uint64_t next_id_ = 1;
    std::map<std::uintptr_t, MemoryRange> ranges_;
    std::deque<std::pair<std::uintptr_t, std::size_t>> buried_;
};

}  // namespace emulation
