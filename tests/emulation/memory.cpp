#include "memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace emulation {

namespace {

constexpr std::size_t kAlignment = 512;  // that of cuMemAlloc
constexpr std::size_t kMaxBuriedBytes = std::size_t{64} << 20;
constexpr int kNewByte = 0xCD;
constexpr int kFreedByte = 0xDD;

}  // namespace

std::uintptr_t Memory::allocate(std::size_t bytes, MemoryKind kind) {
    if (kind == MemoryKind::kDevice && bytes > capacity_bytes_ - used_bytes_) {
        return 0;
    }
    void* memory = nullptr;
    if (posix_memalign(&memory, kAlignment, bytes) != 0) {
        return 0;
    }
    std::memset(memory, kNewByte, bytes);
    const auto start = reinterpret_cast<std::uintptr_t>(memory);
    ranges_[start] = {start, bytes, kind, next_id_++};
    if (kind == MemoryKind::kDevice) {
        used_bytes_ += bytes;
    }
    return start;
}

void Memory::register_host(std::uintptr_t start, std::size_t bytes) {
    ranges_[start] = {start, bytes, MemoryKind::kRegistered, next_id_++};
}

bool Memory::free(std::uintptr_t start, MemoryKind kind) {
    const auto found = ranges_.find(start);
    if (found == ranges_.end() || found->second.kind != kind) {
        return false;
    }
    const std::size_t bytes = found->second.bytes;
    ranges_.erase(found);
    if (kind == MemoryKind::kDevice) {
        used_bytes_ -= bytes;
    }
    if (kind != MemoryKind::kRegistered) {
        bury(start, bytes);
    }
    return true;
}

std::optional<MemoryRange> Memory::find(std::uintptr_t start, std::size_t bytes) const {
    auto after = ranges_.upper_bound(start);
    if (after == ranges_.begin()) {
        return std::nullopt;
    }
    const MemoryRange& range = (--after)->second;
    const std::size_t offset = start - range.start;
    if (offset >= range.bytes || bytes > range.bytes - offset) {
        return std::nullopt;
    }
    return range;
}

std::size_t Memory::count(MemoryKind kind) const {
    return static_cast<std::size_t>(std::count_if(
        ranges_.begin(), ranges_.end(), [=](const auto& item) { return item.second.kind == kind; }));
}

void Memory::clear() {
    while (!ranges_.empty()) {
        free(ranges_.begin()->first, ranges_.begin()->second.kind);
    }
    for (const auto& [start, bytes] : buried_) {
        std::free(reinterpret_cast<void*>(start));
    }
    buried_.clear();
    buried_bytes_ = 0;
}

void Memory::bury(std::uintptr_t start, std::size_t bytes) {
    std::memset(reinterpret_cast<void*>(start), kFreedByte, bytes);
    buried_.emplace_back(start, bytes);
    buried_bytes_ += bytes;
    while (buried_bytes_ > kMaxBuriedBytes) {
        const auto [oldest, oldest_bytes] = buried_.front();
        std::free(reinterpret_cast<void*>(oldest));
        buried_bytes_ -= oldest_bytes;
        buried_.pop_front();
    }
}

}  // namespace emulation
