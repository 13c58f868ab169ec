// The bilinear feature warp, once. Included by every build of the warp; nothing else computes it.
//
// Eq. (1)-(3) of Zhu et al., CVPR 2017, arXiv:1611.07715. Coordinates are feature cells: (0, 0)
// is the centre of the top-left cell, x grows right, y grows down. Reads outside the map are
// zero, as q in Eq. (1) covers the map only.
//
// The weights G(q, p + M(p)) depend on the cell p, not on the channel: they are found once per
// cell, and the C channels are blended with them.
//
// No array is indexed by a value that is known at run time only: a GPU keeps such an array in
// memory, not in registers.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "common/host_device.h"

namespace dff {

struct MapSize {
    std::int32_t height;
    std::int32_t width;
};

// Cells and positions are counted in 32 bits, positions up to a whole side outside the map.
constexpr std::int64_t kMaxCells = 0x7FFFFFFF;
constexpr std::int64_t kMaxMapSide = 0x3FFFFFFF;

// Both sizes at least 0.
DFF_HOST_DEVICE bool has_countable_cells(std::int64_t height, std::int64_t width) {
    return height <= kMaxMapSide && width <= kMaxMapSide &&
           (width == 0 || height <= kMaxCells / width);
}

// The cells q with G(q, p + M(p)) > 0: at most four. Cells of weight zero are left out rather
// than multiplied, or an infinite or NaN neighbour would reach a cell that does not depend on it.
struct Corners {
    std::int32_t cell[4];  // y * w + x inside one map; times C is the offset of its channels
    float weight[4];
    int count;  // 0, 1, 2 or 4
};

// One axis: the one or two positions between which p + displacement lies. A single one is there
// twice.
struct Taps {
    std::int32_t position[2];
    float weight[2];
    int count;
};

DFF_HOST_DEVICE Taps taps_at(std::int32_t position, float displacement, std::int32_t size) {
    // Any larger displacement leaves the map from every position. Negated, so that NaN, which
    // fails every comparison, leaves here too and never reaches the integer cast.
    const float reach = static_cast<float>(size);
    if (!(displacement > -reach && displacement < reach)) {
        return {{0, 0}, {0.0f, 0.0f}, 0};
    }
    // The displacement is split, not the sum: p + M(p) in float32 would lose bits of M(p).
    const float whole = floorf(displacement);
    const float fraction = displacement - whole;  // in [0, 1]; 1 when M(p) is a tiny negative
    const std::int32_t first = position + static_cast<std::int32_t>(whole);
    const bool has_first = first >= 0 && first < size && 1.0f - fraction > 0.0f;
    const bool has_second = first >= -1 && first + 1 < size && fraction > 0.0f;
    return {{has_first ? first : first + 1, has_second ? first + 1 : first},
            {has_first ? 1.0f - fraction : fraction, has_second ? fraction : 1.0f - fraction},
            static_cast<int>(has_first) + static_cast<int>(has_second)};
}

// The corners of cell (y, x) under the displacement (dx, dy), Eq. (2).
DFF_HOST_DEVICE Corners corners_at(
    std::int32_t y, std::int32_t x, float dx, float dy, MapSize size) {
    const Taps rows = taps_at(y, dy, size.height);
    const Taps columns = taps_at(x, dx, size.width);
    const int count = rows.count * columns.count;
    if (count == 0) {  // the positions may lie outside
        return {{0, 0, 0, 0}, {0.0f, 0.0f, 0.0f, 0.0f}, 0};
    }
    const std::int32_t above = rows.position[0] * size.width;
    const std::int32_t below = rows.position[1] * size.width;
    const bool has_right = columns.count == 2;
    return {{above + columns.position[0],
             has_right ? above + columns.position[1] : below + columns.position[0],
             below + columns.position[0],
             below + columns.position[1]},
            {rows.weight[0] * columns.weight[0],
             has_right ? rows.weight[0] * columns.weight[1] : rows.weight[1] * columns.weight[0],
             rows.weight[1] * columns.weight[0],
             rows.weight[1] * columns.weight[1]},
            count};
}

// Eq. (2) for one channel: the sum over kCount corners, of which `value` is that channel. The
// first product starts the sum, not 0 + product, which would turn -0 into +0.
template <int kCount>
DFF_HOST_DEVICE float weighted_sum(const float* weight, const float* value) {
    float sum = weight[0] * value[0];
    for (int k = 1; k < kCount; ++k) {
        sum += weight[k] * value[k];
    }
    return sum;
}

// To the nearest whole number, ties to even, of |value| < 2^22. A float32 from 2^23 on has no bits
// for a fraction: the addition rounds, and the lowest bits hold the number.
DFF_HOST_DEVICE std::int32_t round_half_even(float value) {
    constexpr std::int32_t kWholeBits = 0x4B400000;  // of 1.5 * 2^23
    const float shifted = value + 12582912.0f;
    std::int32_t bits;
    memcpy(&bits, &shifted, sizeof(bits));
    return bits - kWholeBits;
}

// To int8 as in QuantizeLinear: the nearest, ties to even, clipped to the range.
DFF_HOST_DEVICE std::int8_t round_to_int8(float value) {
    return static_cast<std::int8_t>(round_half_even(fminf(fmaxf(value, -128.0f), 127.0f)));
}

}  // namespace dff
