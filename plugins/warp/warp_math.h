// The bilinear feature warp, once. Included by every build of the warp; nothing else computes it.
//
// Eq. (1)-(3) of Zhu et al., CVPR 2017, arXiv:1611.07715. Coordinates are feature cells: (0, 0)
// is the centre of the top-left cell, x grows right, y grows down. Reads outside the map are
// zero, as q in Eq. (1) covers the map only.
//
// The weights G(q, p + M(p)) depend on the cell p, not on the channel: they are found once per
// cell, and the C channels are blended with them.
//
// Letters: N batch, h x w feature map, C channels. Maps are channels-last.

#pragma once

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define DFF_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define DFF_HOST_DEVICE inline __attribute__((always_inline))
#endif

namespace dff {

struct MapSize {
    std::int64_t height;
    std::int64_t width;
};

// The cells q with G(q, p + M(p)) > 0: at most four. Cells of weight zero are left out rather
// than multiplied, or an infinite or NaN neighbour would reach a cell that it has no part in.
struct Corners {
    std::int64_t cell[4];  // y * w + x inside one map; times C is the offset of its channels
    float weight[4];
    int count;  // 0, 1, 2 or 4
};

// One axis: the one or two positions between which p + displacement lies.
struct Taps {
    std::int64_t position[2];
    float weight[2];
    int count;
};

DFF_HOST_DEVICE Taps taps_at(std::int64_t position, float displacement, std::int64_t size) {
    Taps taps{{0, 0}, {0.0f, 0.0f}, 0};
    // Any larger displacement leaves the map from every position. Negated, so that NaN, which
    // fails every comparison, leaves here too and never reaches the integer cast.
    const float reach = static_cast<float>(size);
    if (!(displacement > -reach && displacement < reach)) {
        return taps;
    }
    // The displacement is split, not the sum: p + M(p) in float32 would lose bits of M(p).
    const float whole = floorf(displacement);
    const float fraction = displacement - whole;  // in [0, 1]; 1 when M(p) is a tiny negative
    const std::int64_t first = position + static_cast<std::int64_t>(whole);
    const float weights[2] = {1.0f - fraction, fraction};
    for (int i = 0; i < 2; ++i) {
        const std::int64_t candidate = first + i;
        if (candidate >= 0 && candidate < size && weights[i] > 0.0f) {
            taps.position[taps.count] = candidate;
            taps.weight[taps.count] = weights[i];
            ++taps.count;
        }
    }
    return taps;
}

// The corners of cell (y, x) under the displacement (dx, dy), Eq. (2).
DFF_HOST_DEVICE Corners corners_at(
    std::int64_t y, std::int64_t x, float dx, float dy, MapSize size) {
    Corners corners{{0, 0, 0, 0}, {0.0f, 0.0f, 0.0f, 0.0f}, 0};
    const Taps rows = taps_at(y, dy, size.height);
    const Taps columns = taps_at(x, dx, size.width);
    for (int i = 0; i < rows.count; ++i) {
        for (int j = 0; j < columns.count; ++j) {
            corners.cell[corners.count] = rows.position[i] * size.width + columns.position[j];
            corners.weight[corners.count] = rows.weight[i] * columns.weight[j];
            ++corners.count;
        }
    }
    return corners;
}

}  // namespace dff
