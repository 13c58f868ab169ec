// Feature warp with scale on the CPU. The maths is warp_math.h; here is the loop.
//
// Test alone: cmake -S plugins -B build && cmake --build build && ctest --test-dir build -R warp

#include "warp/warp_cpu.h"

#include <algorithm>
#include <cstring>

#include "common/parallel.h"
#include "warp/warp_math.h"

namespace dff {
namespace {

struct WarpArgs {
    const float* features;  // (N, h, w, C)
    const float* flow;      // (N, h, w, 2)
    const float* scale;     // (N, h, w, C) or null
    float* out;             // (N, h, w, C)
    WarpSize size;
};

// One cell: the weighted sum of kCount corners over all channels, times the scale. The first
// product starts the sum, not 0 + product, which would turn -0 into +0.
template <int kCount, bool kScaled>
inline void blend(const float* __restrict map, const Corners& corners,
                             const float* __restrict scale, float* __restrict out,
                             std::int64_t channels) {
    const float* in[kCount];
    float weight[kCount];
    for (int k = 0; k < kCount; ++k) {
        in[k] = map + corners.cell[k] * channels;
        weight[k] = corners.weight[k];
    }
    for (std::int64_t c = 0; c < channels; ++c) {
        float sum = weight[0] * in[0][c];
        for (int k = 1; k < kCount; ++k) {
            sum += weight[k] * in[k][c];
        }
        out[c] = kScaled ? scale[c] * sum : sum;
    }
}

template <bool kScaled>
inline void warp_cell(const float* map, const Corners& corners, const float* scale,
                                 float* out, std::int64_t channels) {
    switch (corners.count) {
        case 0: std::fill_n(out, channels, 0.0f); break;
        case 1: blend<1, kScaled>(map, corners, scale, out, channels); break;
        case 2: blend<2, kScaled>(map, corners, scale, out, channels); break;
        default: blend<4, kScaled>(map, corners, scale, out, channels); break;
    }
}

// Rows are counted through the batch: row r is row r % h of map r / h.
template <bool kScaled>
inline void warp_rows(const WarpArgs& args, std::int64_t begin, std::int64_t end) {
    const MapSize map_size{args.size.height, args.size.width};
    const std::int64_t channels = args.size.channels;
    for (std::int64_t row = begin; row < end; ++row) {
        const std::int64_t n = row / map_size.height;
        const std::int64_t y = row % map_size.height;
        const float* map = args.features + n * map_size.height * map_size.width * channels;
        for (std::int64_t x = 0; x < map_size.width; ++x) {
            const std::int64_t cell = row * map_size.width + x;
            const Corners corners =
                corners_at(y, x, args.flow[2 * cell], args.flow[2 * cell + 1], map_size);
            warp_cell<kScaled>(map, corners, kScaled ? args.scale + cell * channels : nullptr,
                               args.out + cell * channels, channels);
        }
    }
}

void warp_rows_plain(const WarpArgs& args, std::int64_t begin, std::int64_t end) {
    warp_rows<false>(args, begin, end);
}

void warp_rows_scaled(const WarpArgs& args, std::int64_t begin, std::int64_t end) {
    warp_rows<true>(args, begin, end);
}

}  // namespace

Status warp_cpu(const float* features, const float* flow, const float* scale, float* out,
                WarpSize size, int threads) noexcept {
    if (size.batch < 0 || size.height < 0 || size.width < 0 || size.channels < 0) {
        return Status::kBadSize;
    }
    if (size.batch == 0 || size.height == 0 || size.width == 0 || size.channels == 0) {
        return Status::kOk;
    }
    if (features == nullptr || flow == nullptr || out == nullptr) {
        return Status::kNullPointer;
    }
    const WarpArgs args{features, flow, scale, out, size};
    split_rows(size.batch * size.height, threads, [&args](std::int64_t begin, std::int64_t end) {
        if (args.scale == nullptr) {
            warp_rows_plain(args, begin, end);
        } else {
            warp_rows_scaled(args, begin, end);
        }
    });
    return Status::kOk;
}

}  // namespace dff
