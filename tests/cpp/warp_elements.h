// Maps of float32, float16 and int8, for the tests of the CUDA warp and of the TensorRT plugin:
// made from values, read as values, and how far from the exact result they may be.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "cuda/dff_cuda.h"
#include "half.h"
#include "warp_reference.h"

namespace dff_test {

// float32: four products, three sums and a scale of values within about 4.
constexpr double kTolerance = 1e-5;
constexpr float kScaleStep = 0.0125f;

using Half = std::uint16_t;

template <typename Element>
inline constexpr int kCode = DFF_FLOAT32;
template <>
inline constexpr int kCode<Half> = DFF_FLOAT16;
template <>
inline constexpr int kCode<std::int8_t> = DFF_INT8;

template <typename Element>
struct Maps {
    dff::WarpSize size;
    std::vector<Element> features, scale;
    std::vector<float> flow;
};

// What the kernel is given, from values, and what that means: int8 in units of the features' step.
template <typename Element>
Maps<Element> to_maps(const Case& c) {
    Maps<Element> maps{c.size, {}, {}, c.flow};
    const auto element = [](float value, float step) -> Element {
        if constexpr (std::is_same_v<Element, Half>) {
            return nearest_half(static_cast<double>(value));
        } else if constexpr (std::is_same_v<Element, std::int8_t>) {
            return static_cast<std::int8_t>(std::clamp(std::rint(value / step), -128.0f, 127.0f));
        } else {
            return value;
        }
    };
    for (const float value : c.features) maps.features.push_back(element(value, 0.05f));
    for (const float value : c.scale) maps.scale.push_back(element(value, kScaleStep));
    return maps;
}

template <typename Element>
Case to_values(const Maps<Element>& maps) {
    Case c{maps.size, {}, maps.flow, {}};
    const auto value = [](Element element, float step) {
        if constexpr (std::is_same_v<Element, Half>) {
            return static_cast<float>(half_value(element));
        } else if constexpr (std::is_same_v<Element, std::int8_t>) {
            return step * static_cast<float>(element);
        } else {
            return element;
        }
    };
    for (const Element element : maps.features) c.features.push_back(value(element, 1.0f));
    for (const Element element : maps.scale) c.scale.push_back(value(element, kScaleStep));
    return c;
}

// The distance from the exact result that rounding to the element explains.
template <typename Element>
double tolerance_at(double exact) {
    if constexpr (std::is_same_v<Element, Half>) {
        return std::max(std::ldexp(1.0, -25), std::abs(exact) * std::ldexp(1.0, -11)) + kTolerance;
    } else if constexpr (std::is_same_v<Element, std::int8_t>) {
        return 0.5 + 1e-3;  // float32 knows values up to 128 * 128 to a thousandth
    } else {
        return kTolerance;
    }
}

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() &&
           (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// How many elements are further from the exact values than that.
template <typename Element>
int count_wrong(const std::vector<Element>& got, const std::vector<double>& expected) {
    const std::vector<float> values = to_values(Maps<Element>{{}, got, {}, {}}).features;
    int wrong = got.size() == expected.size() ? 0 : 1;
    for (std::size_t i = 0; i < got.size() && i < expected.size(); ++i) {
        const bool is_int8 = std::is_same_v<Element, std::int8_t>;
        const double exact = is_int8 ? std::clamp(expected[i], -128.0, 127.0) : expected[i];
        const double error = std::abs(static_cast<double>(values[i]) - exact);
        wrong += error <= tolerance_at<Element>(exact) ? 0 : 1;
    }
    return wrong;
}

// (N, h, w, C) to (N, C, h, w).
template <typename T>
std::vector<T> to_planar(const std::vector<T>& from, std::int64_t batch, std::int64_t plane,
                         std::int64_t channels) {
    std::vector<T> to(from.size());
    for (std::int64_t n = 0; n < batch; ++n)
        for (std::int64_t p = 0; p < plane; ++p)
            for (std::int64_t c = 0; c < channels; ++c)
                to[(n * channels + c) * plane + p] = from[(n * plane + p) * channels + c];
    return to;
}

}  // namespace dff_test
