// Common parts of decoding on CPU and GPU: the class of a pixel, and its confidence.

#pragma once

#include <cmath>
#include <cstdint>

#include "common/half_pixel.h"
#include "common/host_device.h"

namespace dff {

constexpr std::int64_t kMaxClasses = 256;  // range of a uint8 label

// Lowest class of the greatest score; `>` is false for NaN, which therefore never wins. If
// nothing is above -infinity, the first class that is not NaN wins.
template <typename ScoreAt>
DFF_HOST_DEVICE std::uint8_t argmax(const ScoreAt& score_at, std::int32_t classes) {
    float best = -INFINITY;
    std::int32_t label = -1;
    for (std::int32_t k = 0; k < classes; ++k) {
        const float score = score_at(k);
        if (score > best || (label < 0 && score == best)) {
            best = score;
            label = k;
        }
    }
    return static_cast<std::uint8_t>(label < 0 ? 0 : label);
}

// Softmax of a cell is its shares over their sum; where that is zero, every class has 0. A NaN
// counts as -infinity, and infinite scores share the whole.
template <typename ScoreAt>
DFF_HOST_DEVICE float greatest(const ScoreAt& score_at, std::int32_t classes) {
    float best = -INFINITY;
    for (std::int32_t k = 0; k < classes; ++k) {
        const float score = score_at(k);
        best = score > best ? score : best;
    }
    return best;
}

DFF_HOST_DEVICE float softmax_share(float score, float best) {
    if (!(score > -INFINITY)) {
        return 0.0f;
    }
    return score == best ? 1.0f : expf(score - best);
}

DFF_HOST_DEVICE std::uint8_t probability_to_byte(float probability) {
    return static_cast<std::uint8_t>(255.0f * probability + 0.5f);
}

}  // namespace dff
