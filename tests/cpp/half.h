// float16 by its definition, for tests: IEEE 754 binary16, rounded to nearest, ties to even.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace dff_test {

inline double half_value(std::uint16_t bits) {
    const int exponent = bits >> 10 & 31;
    const int fraction = bits & 1023;
    const double sign = bits >> 15 ? -1.0 : 1.0;
    if (exponent == 31) {
        return fraction ? std::numeric_limits<double>::quiet_NaN()
                        : sign * std::numeric_limits<double>::infinity();
    }
    return exponent ? sign * std::ldexp(1024 + fraction, exponent - 25)
                    : sign * std::ldexp(fraction, -24);
}

// The nearest float16, found among all of them.
inline std::uint16_t nearest_half(double value) {
    if (std::isnan(value)) {
        return 0x7FFF;
    }
    static const std::vector<double> finite = [] {
        std::vector<double> values;
        for (int bits = 0; bits < 0x7C00; ++bits) {
            values.push_back(half_value(static_cast<std::uint16_t>(bits)));
        }
        values.push_back(65536.0);  // where infinity counts from
        return values;
    }();
    const double magnitude = std::min(std::abs(value), 65536.0);
    const auto above = std::lower_bound(finite.begin(), finite.end(), magnitude);
    auto best = above;
    if (above != finite.begin()) {
        const auto below = above - 1;
        const double from_below = magnitude - *below;
        const double from_above = *above - magnitude;
        const bool is_below_even = (below - finite.begin()) % 2 == 0;
        if (from_below < from_above || (from_below == from_above && is_below_even)) {
            best = below;
        }
    }
    const int sign = std::signbit(value) ? 0x8000 : 0;
    return static_cast<std::uint16_t>(sign | static_cast<int>(best - finite.begin()));
}

}  // namespace dff_test
