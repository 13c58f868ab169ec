// The CPU warp against Eq. (1)-(3) written as the double sum of the paper.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "warp/warp_cpu.h"
#include "warp_reference.h"

namespace {

// float32: four products, three sums and a scale of values within about 4.
constexpr double kTolerance = 1e-5;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

using dff_test::Case;
using dff_test::cells;
using dff_test::random_case;
using dff_test::warp_by_definition;

std::vector<float> warp(const Case& c, bool scaled, int threads = 1) {
    std::vector<float> out(c.features.size(), kNan);
    CHECK(dff::warp_cpu(c.features.data(), c.flow.data(), scaled ? c.scale.data() : nullptr,
                        out.data(), c.size, threads) == dff::Status::kOk);
    return out;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() &&
           (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

bool all_zero(const std::vector<float>& values) {
    return std::all_of(values.begin(), values.end(), [](float v) { return v == 0.0f; });
}

void test_matches_the_definition() {
    const dff::WarpSize sizes[] = {{1, 5, 7, 3},  {2, 7, 5, 13}, {1, 1, 9, 4},
                                   {1, 9, 1, 17}, {1, 1, 1, 1},  {3, 2, 2, 33}};
    unsigned seed = 1;
    for (const dff::WarpSize& size : sizes) {
        for (const float max_flow : {0.0f, 0.5f, 3.0f, 50.0f}) {
            for (const bool scaled : {false, true}) {
                const Case c = random_case(size, max_flow, seed++);
                const std::vector<double> expected = warp_by_definition(c, scaled);
                const std::vector<float> got = warp(c, scaled);
                double error = 0.0;
                for (std::size_t i = 0; i < got.size(); ++i)
                    error = std::max(error, std::abs(static_cast<double>(got[i]) - expected[i]));
                CHECK(error <= kTolerance);
                CHECK(same_bits(got, warp(c, scaled, 3)));
                CHECK(same_bits(got, warp(c, scaled, 100)));
            }
        }
    }
}

void test_zero_flow_is_the_identity_to_the_bit() {
    Case c = random_case({2, 5, 7, 13}, 0.0f, 77);
    c.features[20] = kInf;
    c.features[100] = -kInf;
    c.features[200] = kNan;
    c.features[300] = -0.0f;
    c.features[301] = std::numeric_limits<float>::denorm_min();
    CHECK(same_bits(warp(c, false), c.features));
    std::fill(c.scale.begin(), c.scale.end(), 1.0f);
    CHECK(same_bits(warp(c, true), c.features));
    std::fill(c.flow.begin(), c.flow.end(), -0.0f);
    CHECK(same_bits(warp(c, true), c.features));
}

void test_a_flow_that_is_not_finite_or_leaves_the_map_gives_zero() {
    for (const float bad : {kNan, kInf, -kInf, 1e30f, -1e30f, 9.3e18f, 7.0f, -7.0f}) {
        for (const int axis : {0, 1}) {
            Case c = random_case({1, 7, 7, 5}, 0.0f, 5);
            c.scale[3] = kInf;
            for (std::size_t i = static_cast<std::size_t>(axis); i < c.flow.size(); i += 2)
                c.flow[i] = bad;
            CHECK(all_zero(warp(c, false)));
            CHECK(all_zero(warp(c, true)));
        }
    }
}

void test_a_tiny_negative_flow_reads_the_cell_itself() {
    Case c = random_case({1, 3, 3, 2}, 0.0f, 6);
    std::fill(c.flow.begin(), c.flow.end(), -std::numeric_limits<float>::denorm_min());
    CHECK(same_bits(warp(c, false), c.features));
}

struct ByteCase {
    dff::WarpSize size;
    std::vector<std::uint8_t> features, scale;
    std::vector<float> flow;
    dff::ByteLevels levels;
};

ByteCase random_bytes(dff::WarpSize size, float max_flow, dff::ByteLevels levels, unsigned seed) {
    std::mt19937 engine(seed);
    std::uniform_int_distribution<int> byte(0, 255);
    ByteCase c{size, {}, {}, random_case(size, max_flow, seed).flow, levels};
    for (std::int64_t i = 0; i < cells(size) * size.channels; ++i) {
        c.features.push_back(static_cast<std::uint8_t>(byte(engine)));
        c.scale.push_back(static_cast<std::uint8_t>(byte(engine)));
    }
    return c;
}

std::vector<std::uint8_t> warp_bytes(const ByteCase& c, bool scaled, int threads = 1) {
    std::vector<std::uint8_t> out(c.features.size(), 0xAA);
    CHECK(dff::warp_bytes_cpu(c.features.data(), c.flow.data(), scaled ? c.scale.data() : nullptr,
                              out.data(), c.size, c.levels, threads) == dff::Status::kOk);
    return out;
}

// The values that the bytes mean, in units of the features' step.
Case values_of(const ByteCase& c) {
    Case values{c.size, {}, c.flow, {}};
    for (const std::uint8_t byte : c.features)
        values.features.push_back(static_cast<float>(byte - c.levels.features_zero));
    for (const std::uint8_t byte : c.scale)
        values.scale.push_back(c.levels.scale_step * static_cast<float>(byte - c.levels.scale_zero));
    return values;
}

void test_bytes_match_the_definition_rounded_once() {
    const dff::WarpSize sizes[] = {{1, 5, 7, 3},  {2, 7, 5, 130}, {1, 1, 9, 32},
                                   {1, 9, 1, 17}, {1, 1, 1, 1},   {3, 2, 2, 33}};
    const dff::ByteLevels all_levels[] = {{0, 20, 0.0125f}, {131, 0, 0.0039f}, {255, 255, 1.0f}};
    unsigned seed = 1000;
    for (const dff::WarpSize& size : sizes) {
        for (const float max_flow : {0.0f, 0.5f, 3.0f}) {
            for (const dff::ByteLevels& levels : all_levels) {
                for (const bool scaled : {false, true}) {
                    const ByteCase c = random_bytes(size, max_flow, levels, seed++);
                    const std::vector<double> value = warp_by_definition(values_of(c), scaled);
                    const std::vector<std::uint8_t> got = warp_bytes(c, scaled);
                    for (std::size_t i = 0; i < got.size(); ++i) {
                        const double exact = std::clamp(value[i] + levels.features_zero, 0.0, 255.0);
                        // float32 knows values up to 65025 to a few thousandths.
                        CHECK(std::abs(static_cast<double>(got[i]) - exact) <= 0.51);
                    }
                    CHECK(got == warp_bytes(c, scaled, 3));
                }
            }
        }
    }
}

void test_bytes_of_zero_flow_and_scale_one_are_the_features() {
    for (const int n : {1, 3, 77, 100, 254}) {  // one is n steps of 1 / n
        ByteCase c = random_bytes({2, 5, 7, 41}, 0.0f, {9, 1, 1.0f / static_cast<float>(n)}, 4);
        CHECK(warp_bytes(c, false) == c.features);
        std::fill(c.scale.begin(), c.scale.end(), static_cast<std::uint8_t>(1 + n));
        CHECK(warp_bytes(c, true) == c.features);
    }
}

void test_bytes_round_to_even_and_stop_at_the_ends() {
    // Half of one cell and half of the next: 1.5, 2.5 and 254.5 lie between two bytes.
    ByteCase c{{1, 1, 2, 3}, {1, 2, 254, 2, 3, 255}, {}, {0.5f, 0.0f, 0.0f, 0.0f}, {0, 0, 1.0f}};
    std::vector<std::uint8_t> out = warp_bytes(c, false);
    CHECK(out == (std::vector<std::uint8_t>{2, 2, 254, 2, 3, 255}));
    c.scale = {255, 200, 2, 1, 0, 2};
    out = warp_bytes(c, true);
    CHECK(out == (std::vector<std::uint8_t>{255, 255, 255, 2, 0, 255}));
    c.levels = {128, 0, 1.0f};  // values from -128 to 127
    c.scale.assign(6, 200);
    out = warp_bytes(c, true);
    CHECK(out == (std::vector<std::uint8_t>{0, 0, 255, 0, 0, 255}));
}

void test_bytes_of_a_flow_that_leaves_the_map_mean_zero() {
    for (const float bad : {kNan, kInf, -kInf, 1e30f, 7.0f, -7.0f}) {
        ByteCase c = random_bytes({1, 7, 7, 21}, 0.0f, {77, 3, 0.5f}, 5);
        for (std::size_t i = 0; i < c.flow.size(); i += 2) c.flow[i] = bad;
        CHECK(warp_bytes(c, true) == std::vector<std::uint8_t>(c.features.size(), 77));
    }
}

void test_empty_and_wrong_sizes() {
    float one = 1.0f;
    std::uint8_t byte = 1;
    CHECK(dff::warp_bytes_cpu(nullptr, nullptr, nullptr, nullptr, {1, 2, 2, 0}, {}, 1) ==
          dff::Status::kOk);
    CHECK(dff::warp_bytes_cpu(&byte, &one, nullptr, nullptr, {1, 1, 1, 1}, {}, 1) ==
          dff::Status::kNullPointer);
    for (const dff::WarpSize& size :
         {dff::WarpSize{0, 2, 2, 2}, {1, 0, 2, 2}, {1, 2, 0, 2}, {1, 2, 2, 0}}) {
        CHECK(dff::warp_cpu(nullptr, nullptr, nullptr, nullptr, size, 4) == dff::Status::kOk);
    }
    CHECK(dff::warp_cpu(&one, &one, nullptr, &one, {1, -1, 1, 1}, 1) == dff::Status::kBadSize);
    for (const dff::WarpSize& size :
         {dff::WarpSize{1, 1 << 16, 1 << 15, 1}, {1, 1 << 30, 1, 1}, {1, 0, 1 << 30, 1}}) {
        CHECK(dff::warp_cpu(&one, &one, nullptr, &one, size, 1) == dff::Status::kBadSize);
    }
    CHECK(dff::warp_cpu(&one, nullptr, nullptr, &one, {1, 1, 1, 1}, 1) ==
          dff::Status::kNullPointer);
}

}  // namespace

int main() {
    test_matches_the_definition();
    test_zero_flow_is_the_identity_to_the_bit();
    test_a_flow_that_is_not_finite_or_leaves_the_map_gives_zero();
    test_a_tiny_negative_flow_reads_the_cell_itself();
    test_bytes_match_the_definition_rounded_once();
    test_bytes_of_zero_flow_and_scale_one_are_the_features();
    test_bytes_round_to_even_and_stop_at_the_ends();
    test_bytes_of_a_flow_that_leaves_the_map_mean_zero();
    test_empty_and_wrong_sizes();
    return dff_test::result();
}
