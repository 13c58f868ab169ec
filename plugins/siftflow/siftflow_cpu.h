// SIFT Flow on the CPU: dense correspondence of two images, coarse to fine.

#pragma once

#include <cstdint>

#include "common/status.h"
#include "siftflow/matching.h"

namespace dff {

struct SiftFlowSettings {
    int levels;          // sizes of the images, each half of the one before; fewer for small ones
    int top_radius;      // of the search window at the coarsest level, pixels
    int radius;          // at the finest; one more for each level above
    int top_iterations;  // of belief propagation at the coarsest level
    int iterations;      // at the others
};

// Weights and settings of the authors' demonstration; t is ours, about the mean difference of the
// descriptors of unrelated noise (1470). Their code has no t but for what lies outside, doubles eta
// with every level, and sends fewer messages at finer levels.
constexpr SiftFlowWeights kSiftFlowWeights = {1500.f, 0.005f * 255, 2.f * 255, 40.f * 255};
constexpr SiftFlowSettings kSiftFlowFast = {4, 10, 2, 60, 30};
constexpr SiftFlowSettings kSiftFlowSlow = {4, 15, 5, 120, 60};
constexpr int kSiftFlowCell = 3;  // pixels of a cell of a descriptor

// flow (height, width, 2) = whole (u, v) in pixels for which second(p + (u, v)) looks like first(p).
// Grey images (height, width) of at least 8 x 8 pixels. Equal for any number of threads.
Status siftflow_cpu(const std::uint8_t* first, const std::uint8_t* second, float* flow,
                    std::int64_t height, std::int64_t width, const SiftFlowSettings& settings,
                    int threads) noexcept;

}  // namespace dff
