// Dense SIFT by separable filters: a map of each angle, smoothed once for all cells, from which a
// descriptor takes its 4 x 4 cells.
//
// Source: Lowe, Distinctive Image Features from Scale-Invariant Keypoints, IJCV 2004, section 6.
// Differs from it: no Gaussian window and no rotation, as in SIFT Flow (Liu et al., TPAMI 2011).

#include "siftflow/dense_sift.h"

#include <algorithm>
#include <cmath>

#include "common/parallel.h"

namespace dff {
namespace {

constexpr float kPi = 3.14159265358979f;
constexpr float kLargest = 0.2f;   // of a descriptor of unit length
constexpr float kNoGradient = 4.f; // levels; a shorter descriptor is of noise, and shrinks

std::size_t count(std::int64_t n) { return static_cast<std::size_t>(n); }

// Gradient magnitude by angle, (height, width, 8).
void write_angles(const std::uint8_t* grey, std::int64_t height, std::int64_t width,
                  std::int64_t begin, std::int64_t end, float* angles) {
    for (std::int64_t y = begin; y < end; ++y) {
        const std::uint8_t* above = grey + std::max<std::int64_t>(y - 1, 0) * width;
        const std::uint8_t* row = grey + y * width;
        const std::uint8_t* below = grey + std::min(y + 1, height - 1) * width;
        for (std::int64_t x = 0; x < width; ++x) {
            const float dx = 0.5f * static_cast<float>(row[std::min(x + 1, width - 1)] -
                                                       row[std::max<std::int64_t>(x - 1, 0)]);
            const float dy = 0.5f * static_cast<float>(below[x] - above[x]);
            float* out = angles + (y * width + x) * kSiftAngles;
            std::fill(out, out + kSiftAngles, 0.f);
            const float turn = (std::atan2(dy, dx) + kPi) * (kSiftAngles / (2 * kPi));
            const float first = std::floor(turn);
            const float share = turn - first;
            const float magnitude = std::sqrt(dx * dx + dy * dy);
            const int angle = static_cast<int>(first) % kSiftAngles;
            out[angle] += magnitude * (1 - share);
            out[(angle + 1) % kSiftAngles] += magnitude * share;
        }
    }
}

// One row or column of the triangle filter: out[i] = sum of weight(k) * in[i + k], |k| < cell.
// `step` is the distance of neighbours in floats; all angles of a place are next to each other.
void smooth_line(const float* in, float* out, std::int64_t length, std::int64_t step, int cell) {
    for (std::int64_t i = 0; i < length; ++i) {
        float sum[kSiftAngles] = {};
        for (int k = 1 - cell; k < cell; ++k) {
            const float weight = 1.f - static_cast<float>(std::abs(k)) / static_cast<float>(cell);
            const float* from = in + std::clamp<std::int64_t>(i + k, 0, length - 1) * step;
            for (int a = 0; a < kSiftAngles; ++a) sum[a] += weight * from[a];
        }
        std::copy(sum, sum + kSiftAngles, out + i * step);
    }
}

void write_descriptor(float* values, std::uint8_t* out) {
    float squares = 0.f;
    for (int i = 0; i < kSiftSize; ++i) squares += values[i] * values[i];
    const float length = std::sqrt(squares) + kNoGradient;
    squares = 0.f;
    for (int i = 0; i < kSiftSize; ++i) {
        values[i] = std::min(values[i] / length, kLargest);
        squares += values[i] * values[i];
    }
    const float clipped = std::max(std::sqrt(squares), 1e-6f);
    // Short descriptors stay short: only the norm lost by clipping is restored.
    const float factor = 255.f * std::min(1.f, (length - kNoGradient) / length) / clipped;
    for (int i = 0; i < kSiftSize; ++i) {
        out[i] = static_cast<std::uint8_t>(std::min(values[i] * factor + 0.5f, 255.f));
    }
}

}  // namespace

SiftImage dense_sift(const std::uint8_t* grey, std::int64_t height, std::int64_t width, int cell,
                     int threads) {
    std::vector<float> angles(count(height * width * kSiftAngles));
    std::vector<float> smooth(angles.size());
    split_rows(height, threads, [&](std::int64_t begin, std::int64_t end) {
        write_angles(grey, height, width, begin, end, angles.data());
        for (std::int64_t y = begin; y < end; ++y) {
            const std::int64_t row = y * width * kSiftAngles;
            smooth_line(angles.data() + row, smooth.data() + row, width, kSiftAngles, cell);
        }
    });
    split_rows(width, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t x = begin; x < end; ++x) {
            smooth_line(smooth.data() + x * kSiftAngles, angles.data() + x * kSiftAngles, height,
                        width * kSiftAngles, cell);
        }
    });
    SiftImage image{height, width, std::vector<std::uint8_t>(count(height * width * kSiftSize))};
    split_rows(height, threads, [&](std::int64_t begin, std::int64_t end) {
        float values[kSiftSize];
        for (std::int64_t y = begin; y < end; ++y) {
            for (std::int64_t x = 0; x < width; ++x) {
                float* next = values;
                for (int j = 0; j < kSiftCells; ++j) {
                    for (int i = 0; i < kSiftCells; ++i, next += kSiftAngles) {
                        // Even numbers of cells have their middle between two pixels at best.
                        const int dy = (2 * j - kSiftCells + 1) * cell / 2;
                        const int dx = (2 * i - kSiftCells + 1) * cell / 2;
                        const std::int64_t v = std::clamp<std::int64_t>(y + dy, 0, height - 1);
                        const std::int64_t u = std::clamp<std::int64_t>(x + dx, 0, width - 1);
                        const float* from = angles.data() + (v * width + u) * kSiftAngles;
                        std::copy(from, from + kSiftAngles, next);
                    }
                }
                write_descriptor(values, image.values.data() + (y * width + x) * kSiftSize);
            }
        }
    });
    return image;
}

SiftImage halve(const SiftImage& image, int threads) {
    SiftImage half{image.height / 2, image.width / 2, {}};
    half.values.resize(count(half.height * half.width * kSiftSize));
    split_rows(half.height, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t y = begin; y < end; ++y) {
            for (std::int64_t x = 0; x < half.width; ++x) {
                const std::uint8_t* a = image.at(2 * y, 2 * x);
                const std::uint8_t* b = image.at(2 * y + 1, 2 * x);
                std::uint8_t* out = half.values.data() + (y * half.width + x) * kSiftSize;
                for (int i = 0; i < kSiftSize; ++i) {  // the right neighbour lies behind each
                    out[i] = static_cast<std::uint8_t>(
                        (a[i] + a[i + kSiftSize] + b[i] + b[i + kSiftSize] + 2) / 4);
                }
            }
        }
    });
    return half;
}

}  // namespace dff
