// From the coarsest level to the finest: the displacements of a level, doubled, are the middles of
// the search windows at the next.
//
// Source: Liu, Yuen, Torralba, SIFT Flow: Dense Correspondence across Scenes and Its Applications,
//     TPAMI 2011, section 2.3.
//
// Test alone: cmake -S plugins -B build && cmake --build build && ctest --test-dir build -R siftflow

#include "siftflow/siftflow_cpu.h"

#include <algorithm>
#include <new>
#include <vector>

namespace dff {
namespace {

constexpr std::int64_t kMinSide = 8;          // of a level, pixels
constexpr std::int64_t kMaxPixels = 1 << 26;  // of an image: sizes in bytes stay far below 2^63

constexpr int kMaxLevels = 16;

using Pyramid = std::vector<SiftImage>;  // finest first

Pyramid make_pyramid(const std::uint8_t* grey, std::int64_t height, std::int64_t width, int levels,
                     int threads) {
    Pyramid pyramid;
    pyramid.push_back(dense_sift(grey, height, width, kSiftFlowCell, threads));
    while (static_cast<int>(pyramid.size()) < levels &&
           std::min(pyramid.back().height, pyramid.back().width) >= 2 * kMinSide) {
        pyramid.push_back(halve(pyramid.back(), threads));
    }
    return pyramid;
}

// Displacements of an image of twice the size, whose last row or column may have no pixel below.
std::vector<std::int32_t> doubled(const std::vector<std::int32_t>& values, const SiftImage& coarse,
                                  const SiftImage& fine) {
    std::vector<std::int32_t> result;
    result.reserve(static_cast<std::size_t>(fine.height * fine.width));
    for (std::int64_t y = 0; y < fine.height; ++y) {
        const std::int64_t row = std::min(y / 2, coarse.height - 1) * coarse.width;
        for (std::int64_t x = 0; x < fine.width; ++x) {
            const std::int64_t from = row + std::min(x / 2, coarse.width - 1);
            result.push_back(2 * values[static_cast<std::size_t>(from)]);
        }
    }
    return result;
}

Displacements match(const Pyramid& first, const Pyramid& second, const SiftFlowSettings& settings,
                    int threads) {
    const std::size_t top = first.size() - 1;
    const auto pixels = static_cast<std::size_t>(first[top].height * first[top].width);
    Displacements found{std::vector<std::int32_t>(pixels), std::vector<std::int32_t>(pixels)};
    refine_displacements(first[top], second[top], found, kSiftFlowWeights, settings.top_radius,
                         settings.top_iterations, threads);
    for (std::size_t level = top; level-- > 0;) {
        found = {doubled(found.u, first[level + 1], first[level]),
                 doubled(found.v, first[level + 1], first[level])};
        refine_displacements(first[level], second[level], found, kSiftFlowWeights,
                             settings.radius + static_cast<int>(level), settings.iterations,
                             threads);
    }
    return found;
}

}  // namespace

Status siftflow_cpu(const std::uint8_t* first, const std::uint8_t* second, float* flow,
                    std::int64_t height, std::int64_t width, const SiftFlowSettings& settings,
                    int threads) noexcept {
    if (height < kMinSide || width < kMinSide || height > kMaxPixels / width ||
        settings.levels < 1 || settings.levels > kMaxLevels || settings.radius < 0 ||
        settings.radius + settings.levels > kMaxRadius || settings.top_radius < 0 ||
        settings.top_radius > kMaxRadius) {
        return Status::kBadSize;
    }
    if (first == nullptr || second == nullptr || flow == nullptr) {
        return Status::kNullPointer;
    }
    try {
        const Displacements found =
            match(make_pyramid(first, height, width, settings.levels, threads),
                  make_pyramid(second, height, width, settings.levels, threads), settings, threads);
        for (std::size_t p = 0; p < found.u.size(); ++p) {
            flow[2 * p] = static_cast<float>(found.u[p]);
            flow[2 * p + 1] = static_cast<float>(found.v[p]);
        }
    } catch (const std::bad_alloc&) {
        return Status::kOutOfMemory;
    }
    return Status::kOk;
}

}  // namespace dff
