// Decoding against its definition: interpolate every score at every pixel, then take the best.

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "decode/decode_cpu.h"

namespace {

// Pixels whose two best scores are closer than this may go either way in float32.
constexpr double kTie = 1e-5;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

std::vector<std::uint8_t> decode(const std::vector<float>& scores, dff::DecodeSize size,
                                 int threads = 1) {
    std::vector<std::uint8_t> labels(static_cast<std::size_t>(size.out_height * size.out_width),
                                     255);
    CHECK(dff::decode_cpu(scores.data(), labels.data(), nullptr, size, threads) == dff::Status::kOk);
    return labels;
}

double coordinate(std::int64_t pixel, std::int64_t cells, std::int64_t pixels) {
    const double u = (static_cast<double>(pixel) + 0.5) * static_cast<double>(cells) /
                         static_cast<double>(pixels) - 0.5;
    return std::clamp(u, 0.0, static_cast<double>(cells - 1));
}

// Label by definition, or -1 where the two best are too close to call.
int label_by_definition(const std::vector<float>& scores, dff::DecodeSize s, std::int64_t y,
                        std::int64_t x) {
    const double v = coordinate(y, s.height, s.out_height);
    const double u = coordinate(x, s.width, s.out_width);
    int label = -1;
    double best = -1e300;
    double second = -1e300;
    for (std::int64_t k = 0; k < s.classes; ++k) {
        double sum = 0.0;
        for (std::int64_t j = 0; j < s.height; ++j)
            for (std::int64_t i = 0; i < s.width; ++i)
                sum += std::max(0.0, 1.0 - std::abs(static_cast<double>(j) - v)) *
                       std::max(0.0, 1.0 - std::abs(static_cast<double>(i) - u)) *
                       static_cast<double>(scores[(j * s.width + i) * s.classes + k]);
        if (sum > best) {
            second = best;
            best = sum;
            label = static_cast<int>(k);
        } else {
            second = std::max(second, sum);
        }
    }
    return best - second < kTie ? -1 : label;
}

void test_matches_the_definition() {
    const dff::DecodeSize sizes[] = {
        {5, 7, 19, 80, 112},  // stride 16
        {5, 7, 3, 37, 41},    // odd ratios
        {3, 4, 5, 3, 4},      // same size: cell centres
        {3, 4, 5, 9, 12},     // odd stride: some pixels on cell centres
        {9, 11, 6, 4, 5},     // shrinking
        {1, 1, 4, 6, 5},      // one cell
        {1, 6, 4, 7, 90},     // one row
        {6, 1, 4, 90, 1},     // one column
        {2, 2, 256, 21, 300}, // all labels; spans longer than a block
        {4, 4, 1, 9, 9},      // one class
    };
    unsigned seed = 1;
    for (const dff::DecodeSize& s : sizes) {
        std::mt19937 engine(seed++);
        std::normal_distribution<float> normal;
        std::vector<float> scores(static_cast<std::size_t>(s.height * s.width * s.classes));
        for (float& score : scores) score = normal(engine);
        const std::vector<std::uint8_t> labels = decode(scores, s);
        int wrong = 0;
        int compared = 0;
        for (std::int64_t y = 0; y < s.out_height; ++y)
            for (std::int64_t x = 0; x < s.out_width; ++x) {
                const int expected = label_by_definition(scores, s, y, x);
                if (expected >= 0) {
                    ++compared;
                    wrong += expected != labels[static_cast<std::size_t>(y * s.out_width + x)];
                }
            }
        CHECK(wrong == 0);
        CHECK(compared * 100 >= 95 * s.out_height * s.out_width);
        CHECK(labels == decode(scores, s, 3));
        CHECK(labels == decode(scores, s, 100));
    }
}

void test_the_lowest_class_wins_a_tie() {
    // Classes 1 and 2 are equal everywhere; class 0 is below, or above in the last cell.
    const std::vector<float> scores = {0, 1, 1, 0, 1, 1, 2, 1, 1};
    const std::vector<std::uint8_t> expected = {1, 1, 1, 1, 1, 1, 0, 0, 0};
    CHECK(decode(scores, {1, 3, 3, 1, 9}) == expected);
}

void test_nan_never_wins() {
    // Left cell: class 0 is NaN. Right cell: all are. Between them every class mixes with NaN.
    const std::vector<float> scores = {kNan, 1, 2, kNan, kNan, kNan};
    const std::vector<std::uint8_t> labels = decode(scores, {1, 2, 3, 1, 4});
    CHECK(labels[0] == 2);  // on the left cell alone: the weight of the right one is zero
    CHECK(labels[1] == 0 && labels[2] == 0 && labels[3] == 0);
    CHECK(decode({kNan, -kInf}, {1, 1, 2, 1, 1})[0] == 1);
    CHECK(decode({kNan, kInf, 3, kNan, kInf, 3}, {1, 2, 3, 1, 8}) ==
          std::vector<std::uint8_t>(8, 1));
    CHECK(decode({-kInf, -kInf}, {1, 1, 2, 1, 1})[0] == 0);
}

void test_confidence_by_hand() {
    // Two classes that differ by log 3 in the left cell and are equal in the right one: 3/4, 1/2.
    const std::vector<float> scores = {std::log(3.0f), 0.0f, 5.0f, 5.0f};
    std::vector<std::uint8_t> labels(4);
    std::vector<std::uint8_t> confidence(4);
    for (const int threads : {1, 3}) {
        CHECK(dff::decode_cpu(scores.data(), labels.data(), confidence.data(), {1, 2, 2, 1, 4},
                              threads) == dff::Status::kOk);
        CHECK(labels == std::vector<std::uint8_t>(4, 0));
        // Weights of the right cell: 0, 1/4, 3/4, 1; 255 times 12/16, 11/16, 9/16, 8/16.
        CHECK(confidence == (std::vector<std::uint8_t>{191, 175, 143, 128}));
    }
}

void test_sizes_that_are_refused() {
    float score = 0.0f;
    std::uint8_t label = 0;
    for (const dff::DecodeSize& s : {dff::DecodeSize{0, 1, 1, 1, 1},
                                     {1, 0, 1, 1, 1},
                                     {1, 1, 0, 1, 1},
                                     {1, 1, 257, 1, 1},
                                     {1, 1, 1, -1, 1}}) {
        CHECK(dff::decode_cpu(&score, &label, nullptr, s, 1) == dff::Status::kBadSize);
    }
    CHECK(dff::decode_cpu(nullptr, &label, nullptr, {1, 1, 1, 1, 1}, 1) == dff::Status::kNullPointer);
    CHECK(dff::decode_cpu(nullptr, nullptr, nullptr, {1, 1, 1, 0, 1}, 1) == dff::Status::kOk);
}

}  // namespace

int main() {
    test_matches_the_definition();
    test_the_lowest_class_wins_a_tie();
    test_nan_never_wins();
    test_confidence_by_hand();
    test_sizes_that_are_refused();
    return dff_test::result();
}
