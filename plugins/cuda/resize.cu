// An image from any size to a network's, in one kernel and without scratch memory: each output
// value is computed from the source, through the halvings (dff_cuda.h has the convention).
//
// A thread writes one byte: neighbours in a row read and write neighbouring bytes.

#include "common/half_pixel.h"
#include "cuda/kernels.h"
#include "cuda/launch.h"

namespace dff {
namespace {

constexpr int kChannels = 3;
constexpr int kMaxHalvings = 4;
constexpr int kBlockWidth = 64;
constexpr int kBlockHeight = 4;

enum class Rest { kNone, kBilinear, kArea };

struct DeviceResize {
    const std::uint8_t* image;
    std::uint8_t* out;
    std::int64_t row_bytes;
    std::int32_t height;  // halved
    std::int32_t width;
    std::int32_t out_height;
    std::int32_t out_width;
    Rest rest;
};

// A byte of the image halved kHalvings times, each time rounded.
template <int kHalvings>
__device__ inline int halved_byte(const std::uint8_t* from, std::int64_t row_bytes) {
    if constexpr (kHalvings == 0) {
        return __ldg(from);
    } else {
        constexpr int kHalf = 1 << (kHalvings - 1);
        int sum = 2;
        DFF_NO_UNROLL
        for (int y = 0; y < 2; ++y) {
            const std::uint8_t* row = from + y * kHalf * row_bytes;
            sum += halved_byte<kHalvings - 1>(row, row_bytes);
            sum += halved_byte<kHalvings - 1>(row + kHalf * kChannels, row_bytes);
        }
        return sum >> 2;
    }
}

template <int kHalvings>
__device__ inline int source_byte(const DeviceResize& args, std::int32_t y, std::int32_t x,
                                  std::int32_t channel) {
    const std::int64_t row = static_cast<std::int64_t>(y) << kHalvings;
    const std::int64_t column = static_cast<std::int64_t>(x) << kHalvings;
    return halved_byte<kHalvings>(
        args.image + row * args.row_bytes + column * kChannels + channel, args.row_bytes);
}

template <int kHalvings>
__device__ inline std::uint8_t bilinear(const DeviceResize& args, std::int32_t y, std::int32_t x,
                                        std::int32_t channel) {
    const HalfPixelTap<std::int32_t> rows = half_pixel_tap(y, args.height, args.out_height);
    const HalfPixelTap<std::int32_t> columns = half_pixel_tap(x, args.width, args.out_width);
    float value[2];
    DFF_UNROLL
    for (int i = 0; i < 2; ++i) {
        const std::int32_t row = i == 0 ? rows.low : rows.high;
        const int left = source_byte<kHalvings>(args, row, columns.low, channel);
        const int right = source_byte<kHalvings>(args, row, columns.high, channel);
        value[i] = mix(static_cast<float>(left), static_cast<float>(right), columns.weight);
    }
    return static_cast<std::uint8_t>(mix(value[0], value[1], rows.weight) + 0.5f);
}

// The part of one side that an output pixel covers, in 1 / pixels of a source pixel. Of sides up to
// kMaxSide, so that products of two of them fit 32 bits.
struct Area {
    std::int32_t begin;
    std::int32_t end;
    std::int32_t pixels;

    __device__ std::int32_t overlap(std::int32_t position) const {
        const std::int32_t low = position * pixels;
        const std::int32_t high = low + pixels;
        return (high < end ? high : end) - (low > begin ? low : begin);
    }
};

template <int kHalvings>
__device__ inline std::uint8_t area_mean(const DeviceResize& args, std::int32_t y, std::int32_t x,
                                         std::int32_t channel) {
    const Area rows{y * args.height, (y + 1) * args.height, args.out_height};
    const Area columns{x * args.width, (x + 1) * args.width, args.out_width};
    const std::int32_t whole = args.height * args.width;
    std::int64_t sum = whole / 2;  // rounds
    for (std::int32_t row = rows.begin / rows.pixels; row * rows.pixels < rows.end; ++row) {
        std::int32_t row_sum = 0;  // at most 255 times the width
        for (std::int32_t column = columns.begin / columns.pixels;
             column * columns.pixels < columns.end; ++column) {
            row_sum += columns.overlap(column) * source_byte<kHalvings>(args, row, column, channel);
        }
        sum += static_cast<std::int64_t>(rows.overlap(row)) * row_sum;
    }
    return static_cast<std::uint8_t>(sum / whole);
}

template <int kHalvings>
__global__ void resize_bytes(const DeviceResize args) {
    const std::int32_t at = blockIdx.x * blockDim.x + threadIdx.x;
    const std::int32_t y = blockIdx.y * blockDim.y + threadIdx.y;
    if (at >= args.out_width * kChannels || y >= args.out_height) {
        return;
    }
    const std::int32_t x = at / kChannels;
    const std::int32_t channel = at - x * kChannels;
    std::uint8_t* out = args.out + static_cast<std::int64_t>(y) * args.out_width * kChannels + at;
    switch (args.rest) {
        case Rest::kNone:
            *out = static_cast<std::uint8_t>(source_byte<kHalvings>(args, y, x, channel));
            break;
        case Rest::kBilinear: *out = bilinear<kHalvings>(args, y, x, channel); break;
        default: *out = area_mean<kHalvings>(args, y, x, channel); break;
    }
}

bool can_halve(std::int64_t side, std::int64_t wanted) {
    return side % 2 == 0 && side / 2 >= wanted;
}

Rest rest_of(std::int64_t height, std::int64_t width, const ResizeSize& size) {
    if (height == size.out_height && width == size.out_width) {
        return Rest::kNone;
    }
    const bool shrinks = height > size.out_height && width > size.out_width;
    // 2.25 times: beyond, bilinear interpolation skips more than a tenth of the pixels.
    const bool is_far = 4 * height > 9 * size.out_height || 4 * width > 9 * size.out_width;
    return shrinks && is_far ? Rest::kArea : Rest::kBilinear;
}

bool is_side(std::int64_t side) { return side >= 1 && side <= kMaxSide; }

}  // namespace

int resize_cuda(const std::uint8_t* image, const ResizeSize& size, std::uint8_t* out,
                void* stream) noexcept {
    if (!is_side(size.height) || !is_side(size.width) || !is_side(size.out_height) ||
        !is_side(size.out_width) || size.row_bytes < size.width * kChannels) {
        return DFF_BAD_SIZE;
    }
    if (image == nullptr || out == nullptr) {
        return DFF_NULL_POINTER;
    }
    std::int64_t height = size.height;
    std::int64_t width = size.width;
    int halvings = 0;
    while (halvings < kMaxHalvings && can_halve(height, size.out_height) &&
           can_halve(width, size.out_width)) {
        height /= 2;
        width /= 2;
        ++halvings;
    }
    using Kernel = void (*)(DeviceResize);
    constexpr Kernel kKernels[kMaxHalvings + 1] = {&resize_bytes<0>, &resize_bytes<1>,
                                                   &resize_bytes<2>, &resize_bytes<3>,
                                                   &resize_bytes<4>};
    const auto blocks = [](std::int64_t threads, int block) {
        return static_cast<unsigned>((threads + block - 1) / block);
    };
    const DeviceResize args{image,
                            out,
                            size.row_bytes,
                            static_cast<std::int32_t>(height),
                            static_cast<std::int32_t>(width),
                            static_cast<std::int32_t>(size.out_height),
                            static_cast<std::int32_t>(size.out_width),
                            rest_of(height, width, size)};
    return launch(kKernels[halvings],
                  dim3{blocks(size.out_width * kChannels, kBlockWidth),
                       blocks(size.out_height, kBlockHeight), 1},
                  dim3{kBlockWidth, kBlockHeight, 1}, args, stream);
}

}  // namespace dff
