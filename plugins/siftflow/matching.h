// One level of SIFT Flow: the best displacements within a window, by belief propagation.

#pragma once

#include <cstdint>
#include <vector>

#include "siftflow/dense_sift.h"

namespace dff {

constexpr int kMaxRadius = 31;  // of a search window
constexpr int kMaxStates = 2 * kMaxRadius + 1;

// Weights of Eq. 1 of SIFT Flow; descriptors are bytes.
struct SiftFlowWeights {
    float match_limit;   // t, the most that two descriptors may cost
    float displacement;  // eta, for each pixel of |u| and |v|
    float smoothness;    // alpha, for each pixel that neighbours differ by
    float smooth_limit;  // d, the most that two neighbours may cost
};

// Whole displacements (height, width) in pixels from the first image to the second.
struct Displacements {
    std::vector<std::int32_t> u;
    std::vector<std::int32_t> v;
};

// E(w) = sum over p of min(|s1(p) - s2(p + w(p))|_1, t)          outside s2 the cost is t
//      + sum over p of eta (|u(p)| + |v(p)|)
//      + sum over neighbours p, q of min(alpha |u(p) - u(q)|, d) + min(alpha |v(p) - v(q)|, d)
double siftflow_energy(const SiftImage& first, const SiftImage& second,
                       const Displacements& displacements, const SiftFlowWeights& weights);

// Changes displacements by at most `radius` (0 to kMaxRadius) each way towards the least energy, by `iterations` of
// min-sum belief propagation. Equal for any number of threads. Throws std::bad_alloc.
void refine_displacements(const SiftImage& first, const SiftImage& second,
                          Displacements& displacements, const SiftFlowWeights& weights, int radius,
                          int iterations, int threads);

}  // namespace dff
