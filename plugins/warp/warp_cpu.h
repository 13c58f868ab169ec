// Feature warp with scale on the CPU: float32, channels-last.

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
// with scale one or null gives the bits of the features. The rows are split over `threads`; the
// result does not depend on how many. An empty map is done at once.
Status warp_cpu(const float* features, const float* flow, const float* scale, float* out,
                WarpSize size, int threads) noexcept;

}  // namespace dff
