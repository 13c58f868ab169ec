// The warp by definition, for the tests of every build of it, and cases to try them on.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "warp/warp_cpu.h"

namespace dff_test {

// Channels-last float32 maps; flow (N, h, w, 2).
struct Case {
    dff::WarpSize size;
    std::vector<float> features, flow, scale;
};

inline std::int64_t cells(const dff::WarpSize& s) { return s.batch * s.height * s.width; }

inline Case random_case(dff::WarpSize size, float max_flow, unsigned seed) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal;
    std::uniform_real_distribution<float> uniform(-max_flow, max_flow);
    Case c{size, {}, {}, {}};
    for (std::int64_t i = 0; i < cells(size) * size.channels; ++i) {
        c.features.push_back(normal(engine));
        c.scale.push_back(normal(engine));
    }
    for (std::int64_t i = 0; i < cells(size) * 2; ++i) {
        c.flow.push_back(max_flow == 0.0f ? 0.0f : uniform(engine));
    }
    return c;
}

// Slow and literal: the sum over every cell q of the map, G(q, p + M(p)) f(q), times the scale.
inline std::vector<double> warp_by_definition(const Case& c, bool scaled) {
    const auto [batch, height, width, channels] = c.size;
    std::vector<double> out(c.features.size(), 0.0);
    for (std::int64_t n = 0; n < batch; ++n)
        for (std::int64_t y = 0; y < height; ++y)
            for (std::int64_t x = 0; x < width; ++x) {
                const std::int64_t p = (n * height + y) * width + x;
                const double px = static_cast<double>(x) + static_cast<double>(c.flow[2 * p]);
                const double py = static_cast<double>(y) + static_cast<double>(c.flow[2 * p + 1]);
                for (std::int64_t qy = 0; qy < height; ++qy)
                    for (std::int64_t qx = 0; qx < width; ++qx) {
                        const double g =
                            std::max(0.0, 1.0 - std::abs(static_cast<double>(qx) - px)) *
                            std::max(0.0, 1.0 - std::abs(static_cast<double>(qy) - py));
                        const std::int64_t q = (n * height + qy) * width + qx;
                        for (std::int64_t k = 0; k < channels; ++k)
                            out[p * channels + k] +=
                                g * static_cast<double>(c.features[q * channels + k]);
                    }
                for (std::int64_t k = 0; scaled && k < channels; ++k)
                    out[p * channels + k] *= static_cast<double>(c.scale[p * channels + k]);
            }
    return out;
}

}  // namespace dff_test
