// The CUDA decoding, through its C interface, against the CPU kernel, which test_decode.cpp holds
// against the definition. Runs on a GPU, or emulated.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "cuda/dff_cuda.h"
#include "decode/decode_cpu.h"
#include "device_array.h"

namespace {

using dff_test::DeviceArray;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

struct Decoded {
    std::vector<std::uint8_t> labels;
    std::vector<std::uint8_t> confidence;
};

Decoded decode_cuda(const std::vector<float>& scores, const dff::DecodeSize& s) {
    const std::vector<std::uint8_t> junk(s.out_height * s.out_width, 0xAA);
    DeviceArray<float> from(scores);
    DeviceArray<std::uint8_t> labels(junk);
    DeviceArray<std::uint8_t> alone(junk);
    DeviceArray<std::uint8_t> confidence(junk);
    CHECK(dff_cuda_decode(from.data(), s.height, s.width, s.classes, labels.data(), s.out_height,
                          s.out_width, confidence.data(), nullptr) == DFF_OK);
    CHECK(dff_cuda_decode(from.data(), s.height, s.width, s.classes, alone.data(), s.out_height,
                          s.out_width, nullptr, nullptr) == DFF_OK);
    CHECK(alone.values() == labels.values());
    return {labels.values(), confidence.values()};
}

Decoded decode_cpu(const std::vector<float>& scores, const dff::DecodeSize& s) {
    Decoded out{std::vector<std::uint8_t>(s.out_height * s.out_width),
                std::vector<std::uint8_t>(s.out_height * s.out_width)};
    CHECK(dff::decode_cpu(scores.data(), out.labels.data(), out.confidence.data(), s, 1) ==
          dff::Status::kOk);
    return out;
}

void test_agrees_with_the_cpu_kernel() {
    const dff::DecodeSize sizes[] = {
        {5, 7, 19, 80, 112},    // stride 16
        {8, 16, 20, 128, 256},
        {5, 7, 3, 37, 41},      // odd ratios
        {3, 4, 5, 3, 4},        // same size
        {3, 4, 5, 9, 12},       // some pixels on cell centres
        {9, 11, 6, 4, 5},       // shrinking
        {1, 1, 4, 6, 5},        // one cell
        {1, 6, 4, 7, 90},       // one row
        {6, 1, 4, 90, 1},       // one column
        {2, 2, 256, 21, 300},   // all labels
        {4, 4, 1, 9, 9},        // one class
    };
    unsigned seed = 1;
    for (const dff::DecodeSize& s : sizes) {
        std::mt19937 engine(seed++);
        std::normal_distribution<float> normal(0.0f, 3.0f);
        std::vector<float> scores(static_cast<std::size_t>(s.height * s.width * s.classes));
        for (float& score : scores) score = normal(engine);
        const Decoded got = decode_cuda(scores, s);
        const Decoded expected = decode_cpu(scores, s);
        CHECK(got.labels == expected.labels);
        for (std::size_t i = 0; i < got.labels.size(); ++i) {
            // exp() of CPU and GPU differ in the last bits
            CHECK(std::abs(got.confidence[i] - expected.confidence[i]) <= 1);
        }
    }
}

void test_ties_nan_and_infinities_as_the_cpu_kernel_has_them() {
    struct Row {
        std::vector<float> scores;
        dff::DecodeSize size;
        std::vector<std::uint8_t> labels;
    };
    const Row rows[] = {
        {{0, 1, 1, 0, 1, 1, 2, 1, 1}, {1, 3, 3, 1, 9}, {1, 1, 1, 1, 1, 1, 0, 0, 0}},
        {{kNan, 1, 2, kNan, kNan, kNan}, {1, 2, 3, 1, 4}, {2, 0, 0, 0}},
        // The fifth pixel lies on the centre of the second cell: the third has no part in it.
        {{0, 1, 0, 1, kNan, kNan}, {1, 3, 2, 1, 9}, {1, 1, 1, 1, 1, 0, 0, 0, 0}},
        {{kNan, -kInf}, {1, 1, 2, 1, 1}, {1}},
        {{-kInf, -kInf}, {1, 1, 2, 1, 1}, {0}},
        {{kNan, kInf, 3, kNan, kInf, 3}, {1, 2, 3, 1, 4}, {1, 1, 1, 1}},
    };
    for (const Row& row : rows) {
        const Decoded got = decode_cuda(row.scores, row.size);
        CHECK(got.labels == row.labels);
        CHECK(got.confidence == decode_cpu(row.scores, row.size).confidence);
    }
}

void test_confidence_by_hand() {
    // Two classes that differ by log 3 in the left cell and are equal in the right one: 3/4, 1/2.
    // Weights of the right cell: 0, 1/4, 3/4, 1; 255 times 12/16, 11/16, 9/16, 8/16.
    const Decoded got = decode_cuda({std::log(3.0f), 0.0f, 5.0f, 5.0f}, {1, 2, 2, 1, 4});
    CHECK(got.labels == std::vector<std::uint8_t>(4, 0));
    CHECK(got.confidence == (std::vector<std::uint8_t>{191, 175, 143, 128}));
}

void test_what_is_refused() {
    float score = 0.0f;
    std::uint8_t label = 0;
    const auto call = [](const dff::DecodeSize& s, const float* scores, std::uint8_t* labels) {
        return dff_cuda_decode(scores, s.height, s.width, s.classes, labels, s.out_height,
                               s.out_width, nullptr, nullptr);
    };
    for (const dff::DecodeSize& s : {dff::DecodeSize{0, 1, 1, 1, 1},
                                     {1, 0, 1, 1, 1},
                                     {1, 1, 0, 1, 1},
                                     {1, 1, 257, 1, 1},
                                     {1, 1, 1, -1, 1},
                                     {1, 32769, 1, 1, 1},
                                     {1, 1, 1, 1, 32769}}) {
        CHECK(call(s, &score, &label) == DFF_BAD_SIZE);
    }
    CHECK(call({1, 1, 1, 1, 1}, nullptr, &label) == DFF_NULL_POINTER);
    CHECK(call({1, 1, 1, 1, 1}, &score, nullptr) == DFF_NULL_POINTER);
    CHECK(call({1, 1, 1, 0, 1}, nullptr, nullptr) == DFF_OK);
    const char* odd = reinterpret_cast<const char*>(&score) + 1;
    CHECK(call({1, 1, 1, 1, 1}, reinterpret_cast<const float*>(odd), &label) == DFF_MISALIGNED);
}

}  // namespace

int main() {
    dff_test::skip_without_device();
    test_agrees_with_the_cpu_kernel();
    test_ties_nan_and_infinities_as_the_cpu_kernel_has_them();
    test_confidence_by_hand();
    test_what_is_refused();
    return dff_test::result();
}
