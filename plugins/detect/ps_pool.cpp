// The mean of 2 x 2 bilinear samples is a sum over rows times columns of cells, so that each axis is
// computed once a box; samples of a small bin share cells, which are read once.
//
// Test alone: cmake -S plugins -B build && cmake --build build && ctest --test-dir build -R detect

#include "detect/ps_pool.h"

#include <algorithm>
#include <cmath>

#include "common/simd.h"

namespace dff {
namespace {

constexpr int kSamples = 2;  // along each axis
constexpr int kMaxTaps = 2 * kSamples;

// The cells that the samples of one bin read along one axis, and their weights.
struct Taps {
    int count = 0;
    std::int64_t cell[kMaxTaps];
    float weight[kMaxTaps];

    DFF_INLINE void add(std::int64_t at, float share) {
        for (int i = 0; i < count; ++i) {
            if (cell[i] == at) {
                weight[i] += share;
                return;
            }
        }
        cell[count] = at;
        weight[count] = share;
        ++count;
    }
};

DFF_INLINE Taps taps_of(float low, float side, std::int64_t bin, const BinMaps& maps,
                    std::int64_t cells) {
    Taps taps;
    const float bin_side = side / static_cast<float>(maps.bins);
    for (int s = 0; s < kSamples; ++s) {
        const float share = (static_cast<float>(s) + 0.5f) / kSamples;
        const float pixel = low + (static_cast<float>(bin) + share) * bin_side;
        const float u = std::clamp(pixel / maps.stride - 0.5f, 0.0f, static_cast<float>(cells - 1));
        const auto cell = static_cast<std::int64_t>(u);
        const float weight = u - static_cast<float>(cell);
        taps.add(cell, (1.0f - weight) / kSamples);
        if (weight > 0.0f) {
            taps.add(cell + 1, weight / kSamples);
        }
    }
    return taps;
}

// to[0 .. kCount) gets the weighted sum of the values under a bin's taps; it stays in registers.
template <int kCount>
DFF_INLINE void add_taps(const float* const* from, const float* weights, int taps,
                         std::int64_t begin, float* to) {
    float sum[kCount];
    for (int c = 0; c < kCount; ++c) {
        sum[c] = to[begin + c];
    }
    for (int t = 0; t < taps; ++t) {
        const float* values = from[t] + begin;
        for (int c = 0; c < kCount; ++c) {
            sum[c] += weights[t] * values[c];
        }
    }
    for (int c = 0; c < kCount; ++c) {
        to[begin + c] = sum[c];
    }
}

DFF_INLINE void add_bin(const float* const* from, const float* weights, int taps,
                        std::int64_t depth, float* to) {
    std::int64_t c = 0;
    for (; c + 16 <= depth; c += 16) {
        add_taps<16>(from, weights, taps, c, to);
    }
    for (; c + 4 <= depth; c += 4) {
        add_taps<4>(from, weights, taps, c, to);
    }
    for (; c < depth; ++c) {
        add_taps<1>(from, weights, taps, c, to);
    }
}

DFF_CLONES void add_bins(const BinMaps& maps, const Box& box, float* vote) {
    const std::int64_t bins = maps.bins;
    const std::int64_t cell_length = bins * bins * maps.depth;
    const float width = box.x_max - box.x_min;
    const float height = box.y_max - box.y_min;
    Taps columns[kMaxBins];
    for (std::int64_t j = 0; j < bins; ++j) {
        columns[j] = taps_of(box.x_min, width, j, maps, maps.width);
    }
    for (std::int64_t i = 0; i < bins; ++i) {
        const Taps rows = taps_of(box.y_min, height, i, maps, maps.height);
        for (std::int64_t j = 0; j < bins; ++j) {
            const float* bin = maps.maps + (i * bins + j) * maps.depth;
            const float* from[kMaxTaps * kMaxTaps];
            float weights[kMaxTaps * kMaxTaps];
            int taps = 0;
            for (int r = 0; r < rows.count; ++r) {
                for (int c = 0; c < columns[j].count; ++c) {
                    const std::int64_t cell = rows.cell[r] * maps.width + columns[j].cell[c];
                    from[taps] = bin + cell * cell_length;
                    weights[taps++] = rows.weight[r] * columns[j].weight[c];
                }
            }
            add_bin(from, weights, taps, maps.depth, vote);
        }
    }
}

}  // namespace

void vote(const BinMaps& maps, const Box& box, float* vote) {
    std::fill_n(vote, maps.depth, 0.0f);
    add_bins(maps, box, vote);
    const float share = 1.0f / static_cast<float>(maps.bins * maps.bins);
    for (std::int64_t c = 0; c < maps.depth; ++c) {
        vote[c] *= share;
    }
}

}  // namespace dff
