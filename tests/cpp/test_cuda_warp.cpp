// The CUDA warp, through its C interface, against the double sum of Eq. (1)-(3), against the CPU
// kernel, and against itself in the other layout. Runs on a GPU, or emulated (device_array.h).

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "cuda/dff_cuda.h"
#include "device_array.h"
#include "half.h"
#include "warp/warp_cpu.h"
#include "warp_elements.h"
#include "warp_reference.h"

namespace {

using dff_test::Case;
using dff_test::DeviceArray;
using dff_test::Half;
using dff_test::half_value;
using dff_test::kCode;
using dff_test::kScaleStep;
using dff_test::Maps;
using dff_test::nearest_half;
using dff_test::random_case;
using dff_test::same_bits;
using dff_test::to_maps;
using dff_test::to_planar;
using dff_test::warp_by_definition;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

template <typename Element>
std::vector<Element> warp(const Maps<Element>& maps, bool scaled, int layout = DFF_CHANNELS_LAST,
                          std::size_t shift = 0) {
    DeviceArray<Element> features(maps.features, shift);
    DeviceArray<Element> scale(maps.scale, shift);
    DeviceArray<float> flow(maps.flow);
    std::vector<Element> junk(maps.features.size());
    std::memset(junk.data(), 0x5A, junk.size() * sizeof(Element));
    DeviceArray<Element> out(junk, shift);
    const auto [batch, height, width, channels] = maps.size;
    CHECK(dff_cuda_warp(features.data(), flow.data(), scaled ? scale.data() : nullptr, out.data(),
                        batch, height, width, channels, kCode<Element>, layout, kScaleStep,
                        nullptr) == DFF_OK);
    return out.values();
}

const dff::WarpSize kSizes[] = {
    {1, 5, 7, 3},     // one element at a time
    {2, 7, 5, 13},    // odd
    {1, 1, 9, 4},     // one 16-byte pack of float32
    {1, 9, 1, 17},
    {1, 1, 1, 1},
    {3, 2, 2, 33},    // more than a warp of single elements
    {1, 6, 4, 8},     // one pack of float16
    {1, 33, 20, 16},  // one pack of int8; more rows than a block
    {2, 3, 5, 1024},  // several blocks for the channels of a cell
    {1, 3, 3, 520},   // the last of them not full
};

template <typename Element>
void test_matches_the_definition() {
    unsigned seed = 1;
    for (const dff::WarpSize& size : kSizes) {
        for (const float max_flow : {0.0f, 0.5f, 3.0f, 50.0f}) {
            for (const bool scaled : {false, true}) {
                const Maps<Element> maps = to_maps<Element>(random_case(size, max_flow, seed++));
                const std::vector<double> expected =
                    warp_by_definition(dff_test::to_values(maps), scaled);
                CHECK(dff_test::count_wrong(warp(maps, scaled), expected) == 0);
            }
        }
    }
}

template <typename Element>
void test_planar_is_channels_last_transposed() {
    unsigned seed = 500;
    for (const dff::WarpSize& size : kSizes) {
        const auto [batch, height, width, channels] = size;
        for (const bool scaled : {false, true}) {
            const Maps<Element> maps = to_maps<Element>(random_case(size, 2.0f, seed++));
            const Maps<Element> planar{size,
                                       to_planar(maps.features, batch, height * width, channels),
                                       to_planar(maps.scale, batch, height * width, channels),
                                       to_planar(maps.flow, batch, height * width, 2)};
            CHECK(same_bits(warp(planar, scaled, DFF_PLANAR),
                            to_planar(warp(maps, scaled), batch, height * width, channels)));
        }
    }
}

template <typename Element>
void test_single_elements_and_packs_give_the_same_bits() {
    const Maps<Element> maps = to_maps<Element>(random_case({2, 5, 7, 64}, 2.0f, 9));
    CHECK(same_bits(warp(maps, true), warp(maps, true, DFF_CHANNELS_LAST, 1)));
    CHECK(same_bits(warp(maps, false), warp(maps, false, DFF_CHANNELS_LAST, 1)));
}

void test_float32_has_the_bits_of_the_cpu_kernel() {
    unsigned seed = 900;
    // The last size is large enough for a thread to do several rows.
    std::vector<dff::WarpSize> sizes(std::begin(kSizes), std::end(kSizes));
    sizes.push_back({8, 63, 64, 128});
    for (const dff::WarpSize& size : sizes) {
        for (const bool scaled : {false, true}) {
            const Case c = random_case(size, 2.5f, seed++);
            std::vector<float> expected(c.features.size());
            CHECK(dff::warp_cpu(c.features.data(), c.flow.data(),
                                scaled ? c.scale.data() : nullptr, expected.data(), size,
                                1) == dff::Status::kOk);
            CHECK(same_bits(warp(to_maps<float>(c), scaled), expected));
        }
    }
}

void test_int8_has_the_bytes_of_the_cpu_kernel() {
    // Where no value is below zero, int8 and uint8 of zero point 0 are the same bytes.
    const dff::WarpSize size{2, 5, 7, 48};
    Maps<std::int8_t> maps = to_maps<std::int8_t>(random_case(size, 2.0f, 31));
    for (std::int8_t& q : maps.features) q = static_cast<std::int8_t>(std::abs(q / 2));
    for (std::int8_t& q : maps.scale) q = static_cast<std::int8_t>(std::abs(q / 2));
    const std::vector<std::uint8_t> features(maps.features.begin(), maps.features.end());
    const std::vector<std::uint8_t> scale(maps.scale.begin(), maps.scale.end());
    std::vector<std::uint8_t> expected(features.size());
    CHECK(dff::warp_bytes_cpu(features.data(), maps.flow.data(), scale.data(), expected.data(),
                              size, {0, 0, kScaleStep}, 1) == dff::Status::kOk);
    CHECK(*std::max_element(expected.begin(), expected.end()) <= 127);
    const std::vector<std::int8_t> got = warp(maps, true);
    CHECK(std::equal(got.begin(), got.end(), expected.begin(), expected.end()));
}

void test_zero_flow_is_the_identity_to_the_bit() {
    Maps<float> maps = to_maps<float>(random_case({2, 5, 7, 13}, 0.0f, 77));
    maps.features[20] = kInf;
    maps.features[100] = -kInf;
    maps.features[300] = -0.0f;
    maps.features[301] = std::numeric_limits<float>::denorm_min();
    CHECK(same_bits(warp(maps, false), maps.features));
    std::fill(maps.scale.begin(), maps.scale.end(), 1.0f);
    CHECK(same_bits(warp(maps, true), maps.features));
    std::fill(maps.flow.begin(), maps.flow.end(), -0.0f);
    CHECK(same_bits(warp(maps, true), maps.features));
    maps.features[200] = kNan;  // CUDA has one NaN: its own
    CHECK(std::isnan(warp(maps, true)[200]));
}

void test_zero_flow_is_the_identity_of_every_float16() {
    Maps<Half> maps{{1, 16, 16, 256}, {}, {}, std::vector<float>(512)};
    for (int bits = 0; bits < 65536; ++bits) maps.features.push_back(static_cast<Half>(bits));
    maps.scale.assign(65536, nearest_half(1.0));
    for (const bool scaled : {false, true}) {
        const std::vector<Half> got = warp(maps, scaled);
        int wrong = 0;
        for (std::size_t i = 0; i < got.size(); ++i) {
            const bool is_right = std::isnan(half_value(maps.features[i]))
                                      ? std::isnan(half_value(got[i]))
                                      : got[i] == maps.features[i];
            wrong += is_right ? 0 : 1;
        }
        CHECK(wrong == 0);
    }
}

void test_float16_is_rounded_to_nearest_even() {
    // The mean of two random float16 is exact in float64, and mostly in float32: then what is
    // stored is the nearest float16.
    std::mt19937 engine(3);
    std::uniform_int_distribution<int> any(0, 0xFFFF);
    Maps<Half> maps{{1, 1, 2, 50000}, {}, {}, {0.5f, 0.0f, 0.0f, 0.0f}};
    for (int i = 0; i < 100000; ++i) maps.features.push_back(static_cast<Half>(any(engine)));
    const std::vector<Half> got = warp(maps, false);
    int wrong = 0;
    int compared = 0;
    for (std::size_t i = 0; i < 50000; ++i) {
        const double mean = 0.5 * half_value(maps.features[i]) +
                            0.5 * half_value(maps.features[i + 50000]);
        if (static_cast<double>(static_cast<float>(mean)) == mean) {
            ++compared;
            wrong += got[i] == nearest_half(mean) ? 0 : 1;
        }
    }
    CHECK(wrong == 0);
    CHECK(compared > 25000);
    // By hand: from 2048 on every second number is there, and below 2^-14 every multiple of 2^-24.
    const double tiny = std::ldexp(1.0, -24);
    const double hand[][3] = {
        {2048, 2050, 2048}, {2050, 2052, 2052}, {tiny, 0, 0}, {3 * tiny, 0, 2 * tiny}};
    for (const auto& [a, b, mean] : hand) {
        Maps<Half> two{{1, 1, 2, 1}, {nearest_half(a), nearest_half(b)}, {}, {0.5f, 0, 0, 0}};
        CHECK(half_value(warp(two, false)[0]) == mean);
    }
    Maps<Half> large{{1, 1, 1, 1}, {nearest_half(60000)}, {nearest_half(2)}, {0, 0}};
    CHECK(std::isinf(half_value(warp(large, true)[0])));
}

template <typename Element>
void test_a_flow_that_is_not_finite_or_leaves_the_map_gives_zero() {
    for (const float bad : {kNan, kInf, -kInf, 1e30f, -1e30f, 9.3e18f, 7.0f, -7.0f}) {
        for (const int axis : {0, 1}) {
            for (const int layout : {DFF_CHANNELS_LAST, DFF_PLANAR}) {
                Maps<Element> maps = to_maps<Element>(random_case({1, 7, 7, 16}, 0.0f, 5));
                if (kCode<Element> == DFF_FLOAT32) maps.scale[3] = static_cast<Element>(kInf);
                const std::size_t stride = layout == DFF_PLANAR ? 1 : 2;
                const std::size_t first = layout == DFF_PLANAR ? axis * 49 : axis;
                for (std::size_t i = 0; i < 49; ++i) maps.flow[first + i * stride] = bad;
                CHECK(same_bits(warp(maps, true, layout),
                                std::vector<Element>(maps.features.size(), Element{0})));
            }
        }
    }
}

void test_a_cell_of_weight_zero_is_not_read() {
    // Two of four cells are infinite. From the first, whole displacements lead to the last; from
    // the second, one that is next to nothing to the left.
    Maps<float> maps{{1, 2, 2, 4}, std::vector<float>(16, kInf), {}, std::vector<float>(8)};
    std::fill_n(maps.features.begin() + 4, 4, 7.0f);
    std::fill_n(maps.features.begin() + 12, 4, 5.0f);
    maps.flow = {1.0f, 1.0f, -std::numeric_limits<float>::denorm_min(), 0.0f, 0, 0, 0, 0};
    const std::vector<float> got = warp(maps, false);
    CHECK(std::all_of(got.begin(), got.begin() + 4, [](float v) { return v == 5.0f; }));
    CHECK(std::all_of(got.begin() + 4, got.begin() + 8, [](float v) { return v == 7.0f; }));
}

void test_int8_rounds_to_even_and_stops_at_the_ends() {
    // Half of one cell and half of the next: 1.5, 2.5, -1.5, -2.5 lie between two bytes.
    Maps<std::int8_t> maps{
        {1, 1, 2, 4}, {1, 2, -1, -2, 2, 3, -2, -3}, {}, {0.5f, 0.0f, 0.0f, 0.0f}};
    CHECK(warp(maps, false) == (std::vector<std::int8_t>{2, 2, -2, -2, 2, 3, -2, -3}));
    // 80 steps of 0.0125 are one, -127 about -1.59.
    maps = {{1, 1, 1, 6}, {127, -128, 100, -100, 100, 3}, {80, 80, 127, 127, -127, 0}, {0, 0}};
    CHECK(warp(maps, true) == (std::vector<std::int8_t>{127, -128, 127, -128, -128, 0}));
}

void test_a_map_taller_than_a_grid_is_warped_to_its_end() {
    // Blocks of eight rows of which each thread does four: 65535 of them end before this map does.
    const std::int64_t height = 65535 * 8 * 4 + 5;
    Maps<std::int8_t> maps{{1, height, 1, 1}, {}, {}, std::vector<float>(2 * height)};
    for (std::int64_t y = 0; y < height; ++y) {
        maps.features.push_back(static_cast<std::int8_t>(y % 101));
    }
    CHECK(warp(maps, false) == maps.features);
}

void test_what_is_refused() {
    float one = 1.0f;
    const auto call = [&one](dff::WarpSize s, int element, int layout, const void* features,
                             const float* flow, void* out, float step) {
        return dff_cuda_warp(features, flow, &one, out, s.batch, s.height, s.width, s.channels,
                             element, layout, step, nullptr);
    };
    for (const dff::WarpSize& s : {dff::WarpSize{-1, 1, 1, 1},
                                   {1, -1, 1, 1},
                                   {1, 1, -1, 1},
                                   {1, 1, 1, -1},
                                   {65536, 1, 1, 1},
                                   {1, 1 << 16, 1 << 15, 1},
                                   {1, 1, 1, std::int64_t{1} << 31}}) {
        CHECK(call(s, DFF_FLOAT32, DFF_CHANNELS_LAST, &one, &one, &one, 1.0f) == DFF_BAD_SIZE);
    }
    CHECK(call({1, 1, 1, 524281}, 0, DFF_PLANAR, &one, &one, &one, 1.0f) == DFF_BAD_SIZE);
    for (const dff::WarpSize& s :
         {dff::WarpSize{0, 2, 2, 2}, {1, 0, 2, 2}, {1, 2, 0, 2}, {1, 2, 2, 0}}) {
        CHECK(call(s, DFF_FLOAT32, DFF_CHANNELS_LAST, nullptr, nullptr, nullptr, 1.0f) == DFF_OK);
    }
    const dff::WarpSize cell{1, 1, 1, 1};
    CHECK(call(cell, 0, 0, nullptr, &one, &one, 1.0f) == DFF_NULL_POINTER);
    CHECK(call(cell, 0, 0, &one, nullptr, &one, 1.0f) == DFF_NULL_POINTER);
    CHECK(call(cell, 0, 0, &one, &one, nullptr, 1.0f) == DFF_NULL_POINTER);
    CHECK(call(cell, 3, 0, &one, &one, &one, 1.0f) == DFF_BAD_ELEMENT);
    CHECK(call(cell, 0, 2, &one, &one, &one, 1.0f) == DFF_BAD_LAYOUT);
    const char* odd = reinterpret_cast<const char*>(&one) + 1;
    CHECK(call(cell, 0, 0, odd, &one, &one, 1.0f) == DFF_MISALIGNED);
    CHECK(call(cell, 1, 0, odd, &one, &one, 1.0f) == DFF_MISALIGNED);
    for (const float step : {0.0f, -1.0f, kNan, kInf}) {
        CHECK(call(cell, DFF_INT8, 0, &one, &one, &one, step) == DFF_BAD_SCALE_STEP);
    }
    for (int status = DFF_OK; status <= DFF_BAD_SCALE_STEP; ++status) {
        CHECK(std::strstr(dff_cuda_message(status), "unknown status") == nullptr);
    }
    CHECK(std::strstr(dff_cuda_message(99), "unknown status") != nullptr);
    CHECK(std::strlen(dff_cuda_message(DFF_CUDA_ERROR + 1)) > 0);
}

template <typename Element>
void test_every_element() {
    test_matches_the_definition<Element>();
    test_planar_is_channels_last_transposed<Element>();
    test_single_elements_and_packs_give_the_same_bits<Element>();
    test_a_flow_that_is_not_finite_or_leaves_the_map_gives_zero<Element>();
}

}  // namespace

int main() {
    dff_test::skip_without_device();
    test_every_element<float>();
    test_every_element<Half>();
    test_every_element<std::int8_t>();
    test_float32_has_the_bits_of_the_cpu_kernel();
    test_int8_has_the_bytes_of_the_cpu_kernel();
    test_zero_flow_is_the_identity_to_the_bit();
    test_zero_flow_is_the_identity_of_every_float16();
    test_float16_is_rounded_to_nearest_even();
    test_a_cell_of_weight_zero_is_not_read();
    test_int8_rounds_to_even_and_stops_at_the_ends();
    test_a_map_taller_than_a_grid_is_warped_to_its_end();
    test_what_is_refused();
    return dff_test::result();
}
