// Fused bilinear upsampling and argmax on the device: a thread computes one pixel and loops over
// the classes. Its neighbours read the same cells, from the L1 cache. Each score equals that in
// decode/decode_cpu.cpp to the bit.

#include "cuda/kernels.h"
#include "cuda/launch.h"
#include "decode/decode_math.h"

namespace dff {
namespace {

constexpr int kBlockWidth = 32;
constexpr int kBlockHeight = 8;

struct DeviceDecode {
    const float* scores;  // (h, w, K)
    std::uint8_t* labels;
    std::uint8_t* confidence;  // or null
    std::int32_t height;
    std::int32_t width;
    std::int32_t classes;
    std::int32_t out_height;
    std::int32_t out_width;
};

// The scores of the four cells around a pixel; the same ones twice where a weight is zero.
struct Cells {
    const float* above[2];  // left, right
    const float* below[2];
    HalfPixelTap<std::int32_t> row;
    HalfPixelTap<std::int32_t> column;

    // Along the rows first, and a cell of weight zero is left out, for it may be NaN.
    __device__ float side(int i, std::int32_t k) const {
        const float upper = __ldg(above[i] + k);
        return row.low == row.high ? upper : mix(upper, __ldg(below[i] + k), row.weight);
    }

    __device__ float score(std::int32_t k) const {
        const float left = side(0, k);
        return column.low == column.high ? left : mix(left, side(1, k), column.weight);
    }
};

__device__ inline Cells cells_at(const DeviceDecode& args, std::int32_t y, std::int32_t x) {
    const HalfPixelTap<std::int32_t> row = half_pixel_tap(y, args.height, args.out_height);
    const HalfPixelTap<std::int32_t> column = half_pixel_tap(x, args.width, args.out_width);
    const auto cell = [&args](std::int32_t cell_y, std::int32_t cell_x) {
        const std::int64_t index = static_cast<std::int64_t>(cell_y) * args.width + cell_x;
        return args.scores + index * args.classes;
    };
    return {{cell(row.low, column.low), cell(row.low, column.high)},
            {cell(row.high, column.low), cell(row.high, column.high)},
            row,
            column};
}

// Softmax of one cell at class k.
__device__ inline float probability(const float* scores, std::int32_t classes, std::int32_t k) {
    const float best = greatest([=](std::int32_t i) { return __ldg(scores + i); }, classes);
    float sum = 0.0f;
    for (std::int32_t i = 0; i < classes; ++i) {
        sum += softmax_share(__ldg(scores + i), best);
    }
    return sum > 0.0f ? softmax_share(__ldg(scores + k), best) / sum : 0.0f;
}

__device__ inline std::uint8_t confidence_of(const Cells& cells, std::int32_t classes,
                                             std::int32_t k) {
    float side[2];
    DFF_UNROLL
    for (int i = 0; i < 2; ++i) {
        side[i] = mix(probability(cells.above[i], classes, k),
                      probability(cells.below[i], classes, k), cells.row.weight);
    }
    return probability_to_byte(mix(side[0], side[1], cells.column.weight));
}

__global__ void decode_pixels(const DeviceDecode args) {
    const std::int32_t x = blockIdx.x * blockDim.x + threadIdx.x;
    const std::int32_t y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= args.out_width || y >= args.out_height) {
        return;
    }
    const Cells cells = cells_at(args, y, x);
    const std::uint8_t label =
        argmax([&cells](std::int32_t k) { return cells.score(k); }, args.classes);
    const std::int64_t pixel = static_cast<std::int64_t>(y) * args.out_width + x;
    args.labels[pixel] = label;
    if (args.confidence != nullptr) {
        args.confidence[pixel] = confidence_of(cells, args.classes, label);
    }
}

}  // namespace

int decode_cuda(const float* scores, std::uint8_t* labels, std::uint8_t* confidence,
                const DecodeSize& size, void* stream) noexcept {
    if (size.height < 1 || size.width < 1 || size.classes < 1 || size.out_height < 0 ||
        size.out_width < 0 || size.height > kMaxSide || size.width > kMaxSide ||
        size.classes > kMaxClasses || size.out_height > kMaxSide || size.out_width > kMaxSide) {
        return DFF_BAD_SIZE;
    }
    if (size.out_height == 0 || size.out_width == 0) {
        return DFF_OK;
    }
    if (scores == nullptr || labels == nullptr) {
        return DFF_NULL_POINTER;
    }
    if (reinterpret_cast<std::uintptr_t>(scores) % sizeof(float) != 0) {
        return DFF_MISALIGNED;
    }
    const DeviceDecode args{scores,
                            labels,
                            confidence,
                            static_cast<std::int32_t>(size.height),
                            static_cast<std::int32_t>(size.width),
                            static_cast<std::int32_t>(size.classes),
                            static_cast<std::int32_t>(size.out_height),
                            static_cast<std::int32_t>(size.out_width)};
    const auto blocks = [](std::int64_t pixels, int block) {
        return static_cast<unsigned>((pixels + block - 1) / block);
    };
    const dim3 grid{blocks(size.out_width, kBlockWidth), blocks(size.out_height, kBlockHeight), 1};
    return launch(&decode_pixels, grid, dim3{kBlockWidth, kBlockHeight, 1}, args, stream);
}

}  // namespace dff
