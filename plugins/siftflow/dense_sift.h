// Dense SIFT: a descriptor of the gradients around every pixel.

#pragma once

#include <cstdint>
#include <vector>

namespace dff {

constexpr int kSiftCells = 4;  // cells of a descriptor, each way
constexpr int kSiftAngles = 8;
constexpr int kSiftSize = kSiftCells * kSiftCells * kSiftAngles;

// Descriptors (height, width, 128) as bytes.
struct SiftImage {
    std::int64_t height = 0;
    std::int64_t width = 0;
    std::vector<std::uint8_t> values;

    const std::uint8_t* at(std::int64_t y, std::int64_t x) const {
        return values.data() + (y * width + x) * kSiftSize;
    }
};

// Descriptors of a grey image (height, width). Each pixel's gradient goes to the two nearest of 8
// angles and, with weights that fall linearly to zero over `cell` pixels, to the cells around it.
// A descriptor has unit length, no value above 0.2 of it (and unit length again), and is stored as
// 255 times its values; where there is no gradient it is zero. The image goes on beyond its border
// as its outermost pixels. Throws std::bad_alloc.
SiftImage dense_sift(const std::uint8_t* grey, std::int64_t height, std::int64_t width, int cell,
                     int threads);

// Half the size each way, rounded down: means of 2 x 2 descriptors. Throws std::bad_alloc.
SiftImage halve(const SiftImage& image, int threads);

}  // namespace dff
