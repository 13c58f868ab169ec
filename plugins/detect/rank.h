// Sorting by falling score, the lower index first where scores are equal: both in one number.

#pragma once

#include <cstdint>
#include <cstring>

namespace dff {

// Greater is better. `score` is not NaN.
inline std::uint64_t rank_of(float score, std::uint32_t index) {
    const float positive_zero = score + 0.0f;  // -0 equals 0, but its bits would sort below
    std::uint32_t bits;
    std::memcpy(&bits, &positive_zero, sizeof(bits));
    // Bits of positive floats rise with their value, those of negative ones fall.
    bits = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
    return (static_cast<std::uint64_t>(bits) << 32) | (0xffffffffu - index);
}

inline std::uint32_t ranked_index(std::uint64_t rank) {
    return 0xffffffffu - static_cast<std::uint32_t>(rank);
}

}  // namespace dff
