// Feature warp with scale on the CPU: channels-last, float32 or bytes.

#pragma once

#include <cstdint>

#include "common/status.h"

namespace dff {

struct WarpSize {
    std::int64_t batch;
    std::int64_t height;
    std::int64_t width;
    std::int64_t channels;
};

// out[n, y, x, c] = scale[n, y, x, c] * sum_q G(q, p + flow[n, p]) features[n, q, c], p = (y, x).
//
// features, out: (N, h, w, C). flow: (N, h, w, 2), (dx, dy) in feature cells from the current to
// the key frame. scale: (N, h, w, C), or null for one everywhere. `out` overlaps no input.
// A NaN or infinite flow, and one that leaves the map, gives zero, whatever the scale. Zero flow
// with scale one or null copies the features to the bit. The rows are split over `threads`, whose
// number does not change the result. An empty map returns at once; one of 2^31 cells or more, or
// with a side of 2^30 or more, is refused.
Status warp_cpu(const float* features, const float* flow, const float* scale, float* out,
                WarpSize size, int threads) noexcept;

// Quantisation: value = step * (byte - zero).
struct ByteLevels {
    std::uint8_t features_zero;  // features and out share their step, which cancels
    std::uint8_t scale_zero;
    float scale_step;
};

// The same over bytes. The value of each output is computed in float32 and rounded once, to the
// nearest byte, ties to even, and clipped to the range.
Status warp_bytes_cpu(const std::uint8_t* features, const float* flow, const std::uint8_t* scale,
                      std::uint8_t* out, WarpSize size, ByteLevels levels, int threads) noexcept;

}  // namespace dff
