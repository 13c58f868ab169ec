// Chosen delays: every operation waits a pseudo-random time before it runs, so that an order that
// nothing enforces comes out wrong. The same seed gives the same delays.

#pragma once

#include <atomic>
#include <cstdint>

namespace emulation {

// One step of SplitMix64 (Steele et al., OOPSLA 2014): well mixed bits of any number.
inline std::uint64_t mix_bits(std::uint64_t value) {
    value += 0x9E3779B97F4A7C15ull;
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ull;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBull;
    return value ^ (value >> 31);
}

struct Jitter {
    std::atomic<std::uint64_t> seed{0};
    std::atomic<std::uint64_t> max_us{0};

    // Of the count-th operation of a stream.
    std::uint64_t delay_us(std::uint64_t stream, std::uint64_t count) const {
        const std::uint64_t limit = max_us;
        return limit == 0 ? 0 : mix_bits(seed ^ mix_bits(stream ^ mix_bits(count))) % (limit + 1);
    }
};

}  // namespace emulation
