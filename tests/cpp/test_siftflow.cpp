// SIFT Flow against what was done to the image, its energy, and exhaustive search.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <random>
#include <vector>

#include "check.h"
#include "siftflow/siftflow_cpu.h"

namespace {

using Image = std::vector<std::uint8_t>;

constexpr std::int64_t kHeight = 48;
constexpr std::int64_t kWidth = 64;
// As kSiftFlowFast and kSiftFlowSlow, with fewer passes: this is run on emulated machines too.
constexpr dff::SiftFlowSettings kFast{4, 10, 2, 10, 5};
constexpr dff::SiftFlowSettings kSlow{3, 8, 4, 10, 5};

// A smooth random texture of which images are cut.
class Texture {
public:
    Texture() : values_(kSide * kSide) {
        std::mt19937 engine(7);
        std::uniform_real_distribution<double> uniform(0.0, 6.28);
        for (int wave = 0; wave < 40; ++wave) {
            const double fx = 0.9 * std::cos(uniform(engine));
            const double fy = 0.9 * std::cos(uniform(engine));
            const double phase = uniform(engine);
            for (std::int64_t y = 0; y < kSide; ++y)
                for (std::int64_t x = 0; x < kSide; ++x)
                    values_[index(y, x)] += std::cos(fx * static_cast<double>(x) +
                                                     fy * static_cast<double>(y) + phase);
        }
    }

    // Pixel (y, x) of the image is at (y + top, x + left) of the texture.
    Image cut(std::int64_t top, std::int64_t left) const {
        Image image;
        for (std::int64_t y = 0; y < kHeight; ++y)
            for (std::int64_t x = 0; x < kWidth; ++x)
                image.push_back(static_cast<std::uint8_t>(std::clamp(
                    128.0 + 15.0 * values_[index(y + top + 32, x + left + 32)], 0.0, 255.0)));
        return image;
    }

private:
    static constexpr std::int64_t kSide = 128;
    static std::size_t index(std::int64_t y, std::int64_t x) {
        return static_cast<std::size_t>(y * kSide + x);
    }
    std::vector<double> values_;
};

std::vector<float> flow_of(const Image& first, const Image& second, int threads = 1,
                           dff::SiftFlowSettings settings = kFast) {
    std::vector<float> flow(2 * first.size(), -99.f);
    CHECK(dff::siftflow_cpu(first.data(), second.data(), flow.data(), kHeight, kWidth, settings,
                            threads) == dff::Status::kOk);
    return flow;
}

// Share of the pixels that stay in the second image and have exactly this flow.
double share_with(const std::vector<float>& flow, int u, int v) {
    int right = 0;
    int inside = 0;
    for (std::int64_t y = 0; y < kHeight; ++y)
        for (std::int64_t x = 0; x < kWidth; ++x) {
            if (x + u < 0 || x + u >= kWidth || y + v < 0 || y + v >= kHeight) continue;
            const auto p = static_cast<std::size_t>(y * kWidth + x);
            ++inside;
            right += flow[2 * p] == static_cast<float>(u) && flow[2 * p + 1] == static_cast<float>(v);
        }
    return static_cast<double>(right) / inside;
}

void test_a_translation_is_found() {
    const Texture texture;
    const Image second = texture.cut(0, 0);
    const int translations[][2] = {{0, 0}, {1, 0}, {5, -3}, {-12, 7}};
    for (const auto& [u, v] : translations) {
        // What the first image shows at p the second one shows at p + (u, v).
        const Image first = texture.cut(v, u);
        CHECK(share_with(flow_of(first, second), u, v) > 0.95);
    }
    CHECK(share_with(flow_of(texture.cut(-3, 5), second, 1, kSlow), 5, -3) > 0.95);
}

void test_no_number_of_threads_changes_the_result() {
    const Texture texture;
    const Image first = texture.cut(4, -6);
    const Image second = texture.cut(0, 0);
    const std::vector<float> flow = flow_of(first, second);
    CHECK(flow == flow_of(first, second, 3));
    CHECK(flow == flow_of(first, second, 100));
}

dff::Displacements displacements(std::size_t pixels) {
    return {std::vector<std::int32_t>(pixels), std::vector<std::int32_t>(pixels)};
}

void test_energy_by_hand() {
    dff::SiftImage first{2, 2, std::vector<std::uint8_t>(4 * dff::kSiftSize)};
    dff::SiftImage second = first;
    second.values[0] = 7;                       // pixel (0, 0), by 7
    second.values[3 * dff::kSiftSize] = 200;    // pixel (1, 1), by 200: cut off at 50
    const dff::SiftFlowWeights weights{50.f, 0.5f, 3.f, 10.f};
    dff::Displacements w = displacements(4);
    CHECK(dff::siftflow_energy(first, second, w, weights) == 7 + 50);
    w.u[1] = -1;  // pixel (0, 1) looks at (0, 0)
    w.v[2] = 9;   // pixel (1, 0) looks outside
    // Matching 7 + 7 + 50 + 50, displacement (1 + 9) / 2, u differs by 1 from two neighbours, v by
    // 9, cut off, from two.
    CHECK(dff::siftflow_energy(first, second, w, weights) == 114 + 5 + 2 * 3 + 2 * 10);
}

void test_energy_falls_to_that_of_the_truth() {
    const Texture texture;
    const auto first = dff::dense_sift(texture.cut(-2, 3).data(), kHeight, kWidth, 3, 1);
    const auto second = dff::dense_sift(texture.cut(0, 0).data(), kHeight, kWidth, 3, 1);
    const auto pixels = static_cast<std::size_t>(kHeight * kWidth);
    dff::Displacements found = displacements(pixels);
    const double still = dff::siftflow_energy(first, second, found, dff::kSiftFlowWeights);
    dff::refine_displacements(first, second, found, dff::kSiftFlowWeights, 4, 1, 1);
    const double once = dff::siftflow_energy(first, second, found, dff::kSiftFlowWeights);
    found = displacements(pixels);
    dff::refine_displacements(first, second, found, dff::kSiftFlowWeights, 4, 20, 1);
    const double often = dff::siftflow_energy(first, second, found, dff::kSiftFlowWeights);
    dff::Displacements truth{std::vector<std::int32_t>(pixels, 3),
                             std::vector<std::int32_t>(pixels, -2)};
    const double true_energy = dff::siftflow_energy(first, second, truth, dff::kSiftFlowWeights);
    CHECK(once < 0.5 * still);
    CHECK(often <= once);
    CHECK(often <= 1.05 * true_energy);
}

// On a chain of pixels of one row, whose second images are one row too, u alone is free and min-sum
// propagation is exact: compared with all displacements there are.
void test_a_chain_is_solved_exactly() {
    constexpr int kPixels = 5;
    std::mt19937 engine(3);
    const dff::SiftFlowWeights weights{90.f, 2.f, 11.f, 25.f};
    for (int round = 0; round < 20; ++round) {
        dff::SiftImage first{1, kPixels, std::vector<std::uint8_t>(kPixels * dff::kSiftSize)};
        dff::SiftImage second = first;
        for (int p = 0; p < kPixels; ++p) {
            first.values[static_cast<std::size_t>(p * dff::kSiftSize)] = engine() % 100;
            second.values[static_cast<std::size_t>(p * dff::kSiftSize)] = engine() % 100;
        }
        double least = 1e300;
        for (int code = 0; code < 243; ++code) {  // 3^5
            dff::Displacements w = displacements(kPixels);
            for (int p = 0, rest = code; p < kPixels; ++p, rest /= 3) {
                w.u[static_cast<std::size_t>(p)] = rest % 3 - 1;
            }
            least = std::min(least, dff::siftflow_energy(first, second, w, weights));
        }
        dff::Displacements found = displacements(kPixels);
        dff::refine_displacements(first, second, found, weights, 1, 12, 1);
        const double energy = dff::siftflow_energy(first, second, found, weights);
        CHECK(energy <= least + 1e-3);
    }
}

void test_descriptor_of_an_edge() {
    // Dark on the left, bright from x = 8 on: all gradients point to the right, angle 4 of 8 from
    // -pi on; only cells near the edge have any.
    Image image;
    for (std::int64_t y = 0; y < 16; ++y)
        for (std::int64_t x = 0; x < 16; ++x) image.push_back(x < 8 ? 20 : 220);
    const dff::SiftImage sift = dff::dense_sift(image.data(), 16, 16, 3, 1);
    const std::uint8_t* descriptor = sift.at(8, 8);
    double squares = 0.0;
    for (int i = 0; i < dff::kSiftSize; ++i) {
        if (i % dff::kSiftAngles != 4) CHECK(descriptor[i] == 0);
        squares += descriptor[i] * descriptor[i];
    }
    CHECK(std::abs(std::sqrt(squares) - 255) < 8);
    CHECK(descriptor[0 * 8 + 4] < descriptor[1 * 8 + 4]);  // the outer cell, the inner one
    const std::uint8_t* flat = sift.at(8, 0);
    CHECK(std::all_of(flat, flat + dff::kSiftSize, [](std::uint8_t value) { return value == 0; }));
}

void test_halves_are_means() {
    dff::SiftImage image{3, 4, std::vector<std::uint8_t>(12 * dff::kSiftSize)};
    const int values[] = {1, 2, 10, 20, 3, 5, 30, 41, 9, 9, 9, 9};
    for (std::size_t p = 0; p < 12; ++p) image.values[p * dff::kSiftSize + 127] = values[p];
    const dff::SiftImage half = dff::halve(image, 1);
    CHECK(half.height == 1 && half.width == 2);
    CHECK(half.at(0, 0)[127] == 3);   // 11 / 4
    CHECK(half.at(0, 1)[127] == 25);  // 101 / 4
}

void test_sizes_that_are_refused() {
    const Image image(64, 9);
    std::vector<float> flow(128);
    const auto run = [&](std::int64_t height, std::int64_t width, dff::SiftFlowSettings settings) {
        return dff::siftflow_cpu(image.data(), image.data(), flow.data(), height, width, settings, 1);
    };
    CHECK(run(8, 8, dff::kSiftFlowFast) == dff::Status::kOk);
    CHECK(std::all_of(flow.begin(), flow.end(), [](float value) { return value == 0.f; }));
    CHECK(run(7, 8, dff::kSiftFlowFast) == dff::Status::kBadSize);
    CHECK(run(8, -8, dff::kSiftFlowFast) == dff::Status::kBadSize);
    CHECK(run(std::int64_t{1} << 40, 1 << 20, dff::kSiftFlowFast) == dff::Status::kBadSize);
    CHECK(run(8, 8, {0, 1, 1, 1, 1}) == dff::Status::kBadSize);
    CHECK(run(8, 8, {4, 40, 1, 1, 1}) == dff::Status::kBadSize);
    CHECK(run(8, 8, {4, 4, 30, 1, 1}) == dff::Status::kBadSize);
    CHECK(dff::siftflow_cpu(image.data(), nullptr, flow.data(), 8, 8, dff::kSiftFlowFast, 1) ==
          dff::Status::kNullPointer);
}

}  // namespace

int main() {
    test_descriptor_of_an_edge();
    test_halves_are_means();
    test_energy_by_hand();
    test_a_chain_is_solved_exactly();
    test_energy_falls_to_that_of_the_truth();
    test_a_translation_is_found();
    test_no_number_of_threads_changes_the_result();
    test_sizes_that_are_refused();
    return dff_test::result();
}
