// Feature warp with scale on the CPU. The maths is warp_math.h; here are the loops.
//
// Test alone: cmake -S plugins -B build && cmake --build build && ctest --test-dir build -R warp

#include "warp/warp_cpu.h"

#include <algorithm>

#include "common/parallel.h"
#include "common/simd.h"
#include "warp/warp_math.h"

namespace dff {
namespace {

// Element types of a map, and the computation of one block of channels of a cell: the sum of kCount
// corners, times the scale.
template <int kCount, typename Element>
struct Sources {
    const Element* in[kCount];
    float weight[kCount];
    const Element* scale;  // or null
};

struct FloatMap {
    using Element = float;

    DFF_INLINE float zero() const { return 0.0f; }

    template <int kCount, bool kScaled>
    DFF_INLINE void blend(const Sources<kCount, float>& from, float* __restrict out,
                          std::int64_t channels) const {
        for (std::int64_t c = 0; c < channels; ++c) {
            float value[kCount];
            for (int k = 0; k < kCount; ++k) {
                value[k] = from.in[k][c];
            }
            const float sum = weighted_sum<kCount>(from.weight, value);
            out[c] = kScaled ? from.scale[c] * sum : sum;
        }
    }
};

struct ByteMap {
    using Element = std::uint8_t;

    ByteLevels levels;

    DFF_INLINE std::uint8_t zero() const { return levels.features_zero; }

    template <int kCount, bool kScaled>
    DFF_INLINE void blend(const Sources<kCount, std::uint8_t>& from, std::uint8_t* __restrict out,
                          std::int64_t channels) const {
        // Locals: a byte that is written might be part of anything that is read by reference.
        const Sources<kCount, std::uint8_t> own = from;
        const std::int32_t zero = levels.features_zero;
        const float scale_zero = static_cast<float>(levels.scale_zero);
        const float scale_step = levels.scale_step;
        float offset = own.weight[0];
        for (int k = 1; k < kCount; ++k) {
            offset += own.weight[k];
        }
        offset *= static_cast<float>(zero);
        const float low = static_cast<float>(-zero);
        const float high = static_cast<float>(255 - zero);
        for (std::int64_t c = 0; c < channels; ++c) {
            float value[kCount];
            for (int k = 0; k < kCount; ++k) {
                value[k] = static_cast<float>(own.in[k][c]);
            }
            float sum = weighted_sum<kCount>(own.weight, value) - offset;
            if (kScaled) {
                sum *= scale_step * (static_cast<float>(own.scale[c]) - scale_zero);
            }
            sum = sum < low ? low : sum;
            sum = sum > high ? high : sum;
            out[c] = static_cast<std::uint8_t>(round_half_even(sum) + zero);
        }
    }
};

template <typename Map>
struct WarpArgs {
    using Element = typename Map::Element;

    const Element* features;  // (N, h, w, C)
    const float* flow;        // (N, h, w, 2)
    const Element* scale;     // (N, h, w, C) or null
    Element* out;             // (N, h, w, C)
    WarpSize size;
    Map map;
};

template <int kCount, bool kScaled, typename Map>
DFF_INLINE void blend(const Map& map, const typename Map::Element* features,
                      const Corners& corners, const typename Map::Element* scale,
                      typename Map::Element* out, std::int64_t channels) {
    Sources<kCount, typename Map::Element> from;
    for (int k = 0; k < kCount; ++k) {
        from.in[k] = features + static_cast<std::int64_t>(corners.cell[k]) * channels;
        from.weight[k] = corners.weight[k];
    }
    from.scale = scale;
    map.template blend<kCount, kScaled>(from, out, channels);
}

template <bool kScaled, typename Map>
DFF_INLINE void warp_cell(const Map& map, const typename Map::Element* features,
                          const Corners& corners, const typename Map::Element* scale,
                          typename Map::Element* out, std::int64_t channels) {
    switch (corners.count) {
        case 0: std::fill_n(out, channels, map.zero()); break;
        case 1: blend<1, kScaled>(map, features, corners, scale, out, channels); break;
        case 2: blend<2, kScaled>(map, features, corners, scale, out, channels); break;
        default: blend<4, kScaled>(map, features, corners, scale, out, channels); break;
    }
}

// Rows are counted through the batch: row r is row r % h of map r / h.
template <bool kScaled, typename Map>
DFF_INLINE void warp_rows(const WarpArgs<Map>& args, std::int64_t begin, std::int64_t end) {
    const MapSize map_size{static_cast<std::int32_t>(args.size.height),
                           static_cast<std::int32_t>(args.size.width)};
    const std::int64_t channels = args.size.channels;
    for (std::int64_t row = begin; row < end; ++row) {
        const std::int64_t n = row / map_size.height;
        const auto y = static_cast<std::int32_t>(row % map_size.height);
        const auto* features =
            args.features + n * args.size.height * args.size.width * channels;
        for (std::int32_t x = 0; x < map_size.width; ++x) {
            const std::int64_t cell = row * map_size.width + x;
            const Corners corners =
                corners_at(y, x, args.flow[2 * cell], args.flow[2 * cell + 1], map_size);
            warp_cell<kScaled>(args.map, features, corners,
                               kScaled ? args.scale + cell * channels : nullptr,
                               args.out + cell * channels, channels);
        }
    }
}

DFF_CLONES void rows_of(const WarpArgs<FloatMap>& args, std::int64_t begin, std::int64_t end) {
    args.scale == nullptr ? warp_rows<false>(args, begin, end) : warp_rows<true>(args, begin, end);
}

DFF_CLONES void rows_of(const WarpArgs<ByteMap>& args, std::int64_t begin, std::int64_t end) {
    args.scale == nullptr ? warp_rows<false>(args, begin, end) : warp_rows<true>(args, begin, end);
}

template <typename Map>
Status warp(const WarpArgs<Map>& args, int threads) {
    const WarpSize& size = args.size;
    if (size.batch < 0 || size.height < 0 || size.width < 0 || size.channels < 0 ||
        !has_countable_cells(size.height, size.width)) {
        return Status::kBadSize;
    }
    if (size.batch == 0 || size.height == 0 || size.width == 0 || size.channels == 0) {
        return Status::kOk;
    }
    if (args.features == nullptr || args.flow == nullptr || args.out == nullptr) {
        return Status::kNullPointer;
    }
    split_rows(size.batch * size.height, threads, [&args](std::int64_t begin, std::int64_t end) {
        rows_of(args, begin, end);
    });
    return Status::kOk;
}

}  // namespace

Status warp_cpu(const float* features, const float* flow, const float* scale, float* out,
                WarpSize size, int threads) noexcept {
    return warp(WarpArgs<FloatMap>{features, flow, scale, out, size, {}}, threads);
}

Status warp_bytes_cpu(const std::uint8_t* features, const float* flow, const std::uint8_t* scale,
                      std::uint8_t* out, WarpSize size, ByteLevels levels, int threads) noexcept {
    return warp(WarpArgs<ByteMap>{features, flow, scale, out, size, {levels}}, threads);
}

}  // namespace dff
