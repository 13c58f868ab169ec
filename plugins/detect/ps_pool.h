// Position-sensitive pooling and voting: each of the k x k bins of a box reads maps of its own.

#pragma once

#include <cstdint>

#include "detect/box.h"

namespace dff {

constexpr std::int64_t kMaxBins = 15;  // k

struct BinMaps {
    const float* maps;      // (h, w, k * k, depth), bins row by row
    std::int64_t height;    // h
    std::int64_t width;     // w
    std::int64_t bins;      // k
    std::int64_t depth;
    float stride;           // frame pixels per cell
};

// vote[0 .. depth): the mean over the bins of the box of the mean of 2 x 2 bilinear samples, which
// lie at 1/4 and 3/4 of the bin along x as along y. A sample at pixel p is at cell p / stride - 0.5,
// clamped to the map. The box is finite and lies within the frame.
void vote(const BinMaps& maps, const Box& box, float* vote);

}  // namespace dff
