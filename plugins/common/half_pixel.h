// Maps a position of one grid to the two neighbours in another that covers the same area:
//     u = (position + 0.5) * cells / pixels - 0.5, clamped to [0, cells - 1].
// Used for resizing and for decoding.

#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace dff {

// Limit of both grids' sides, for 32-bit positions: the numerators below fit then.
constexpr std::int64_t kMaxSide = 32768;

template <typename Int>
struct HalfPixelTap {
    Int low;
    Int high;      // equal to low where the weight of the upper cell is zero
    float weight;  // of `high`
};

// In integers up to the last division: exact, and GPUs are slow in float64.
template <typename Int>
DFF_HOST_DEVICE HalfPixelTap<Int> half_pixel_tap(Int position, Int cells, Int pixels) {
    const Int denominator = 2 * pixels;
    const Int numerator = (2 * position + 1) * cells - pixels;
    if (numerator <= 0) {
        return {0, 0, 0.0f};
    }
    const Int low = numerator / denominator;
    const Int rest = numerator - low * denominator;
    if (low >= cells - 1 || rest == 0) {
        const Int cell = low < cells - 1 ? low : cells - 1;
        return {cell, cell, 0.0f};
    }
    return {low, low + 1, static_cast<float>(rest) / static_cast<float>(denominator)};
}

// Between two values.
DFF_HOST_DEVICE float mix(float low, float high, float weight) {
    return (1.0f - weight) * low + weight * high;
}

}  // namespace dff
