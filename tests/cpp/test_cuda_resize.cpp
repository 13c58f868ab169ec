// The CUDA resize, through its C interface, against its convention done step by step: halve the
// whole image while it can be, then interpolate or average. Runs on a GPU, or emulated.

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "check.h"
#include "cuda/dff_cuda.h"
#include "device_array.h"

namespace {

using dff_test::DeviceArray;

struct Image {
    std::int64_t height;
    std::int64_t width;
    std::vector<std::uint8_t> bytes;  // (height, width, 3)

    int at(std::int64_t y, std::int64_t x, std::int64_t c) const {
        return bytes[static_cast<std::size_t>((y * width + x) * 3 + c)];
    }
};

Image random_image(std::int64_t height, std::int64_t width, unsigned seed) {
    std::mt19937 engine(seed);
    std::uniform_int_distribution<int> byte(0, 255);
    Image image{height, width, {}};
    for (std::int64_t i = 0; i < height * width * 3; ++i)
        image.bytes.push_back(static_cast<std::uint8_t>(byte(engine)));
    return image;
}

Image halve(const Image& from) {
    Image to{from.height / 2, from.width / 2, {}};
    for (std::int64_t y = 0; y < to.height; ++y)
        for (std::int64_t x = 0; x < to.width; ++x)
            for (int c = 0; c < 3; ++c) {
                const int sum = from.at(2 * y, 2 * x, c) + from.at(2 * y, 2 * x + 1, c) +
                                from.at(2 * y + 1, 2 * x, c) + from.at(2 * y + 1, 2 * x + 1, c);
                to.bytes.push_back(static_cast<std::uint8_t>((sum + 2) / 4));
            }
    return to;
}

// The share of each source position in one output position, along one side.
std::vector<double> weights(std::int64_t position, std::int64_t from, std::int64_t to,
                            bool is_area) {
    std::vector<double> weight(static_cast<std::size_t>(from));
    const double factor = static_cast<double>(from) / static_cast<double>(to);
    const double centre =
        std::clamp((static_cast<double>(position) + 0.5) * factor - 0.5, 0.0,
                   static_cast<double>(from - 1));
    const double begin = static_cast<double>(position) * factor;
    const double end = begin + factor;
    for (std::int64_t i = 0; i < from; ++i) {
        const auto at = static_cast<double>(i);
        const double covered = std::max(0.0, std::min(end, at + 1.0) - std::max(begin, at));
        weight[static_cast<std::size_t>(i)] =
            is_area ? covered / factor : std::max(0.0, 1.0 - std::abs(at - centre));
    }
    return weight;
}

// Not rounded.
std::vector<double> resize_by_definition(Image image, std::int64_t height, std::int64_t width) {
    while (image.height % 2 == 0 && image.width % 2 == 0 && image.height / 2 >= height &&
           image.width / 2 >= width) {
        image = halve(image);
    }
    const double shrink_y = static_cast<double>(image.height) / static_cast<double>(height);
    const double shrink_x = static_cast<double>(image.width) / static_cast<double>(width);
    const bool is_area =
        std::max(shrink_y, shrink_x) > 2.25 && std::min(shrink_y, shrink_x) > 1.0;
    std::vector<double> out;
    for (std::int64_t y = 0; y < height; ++y) {
        const std::vector<double> rows = weights(y, image.height, height, is_area);
        for (std::int64_t x = 0; x < width; ++x) {
            const std::vector<double> columns = weights(x, image.width, width, is_area);
            for (int c = 0; c < 3; ++c) {
                double sum = 0.0;
                for (std::int64_t j = 0; j < image.height; ++j)
                    for (std::int64_t i = 0; i < image.width; ++i)
                        sum += rows[static_cast<std::size_t>(j)] *
                               columns[static_cast<std::size_t>(i)] * image.at(j, i, c);
                out.push_back(sum);
            }
        }
    }
    return out;
}

std::vector<std::uint8_t> resize(const Image& image, std::int64_t height, std::int64_t width,
                                 std::int64_t gap_bytes = 0) {
    const std::int64_t row_bytes = image.width * 3 + gap_bytes;
    std::vector<std::uint8_t> rows;
    for (std::int64_t y = 0; y < image.height; ++y) {
        const auto begin = image.bytes.begin() + y * image.width * 3;
        rows.insert(rows.end(), begin, begin + image.width * 3);
        if (y + 1 < image.height) rows.insert(rows.end(), gap_bytes, std::uint8_t{0xEE});
    }
    DeviceArray<std::uint8_t> from(rows, 1);  // a frame may start anywhere
    DeviceArray<std::uint8_t> to(std::vector<std::uint8_t>(height * width * 3, 0xAA), 1);
    CHECK(dff_cuda_resize(from.data(), image.height, image.width, row_bytes, to.data(), height,
                          width, nullptr) == DFF_OK);
    return to.values();
}

double greatest_error(const std::vector<std::uint8_t>& got, const std::vector<double>& exact) {
    double error = 0.0;
    for (std::size_t i = 0; i < got.size(); ++i)
        error = std::max(error, std::abs(static_cast<double>(got[i]) - exact[i]));
    return error;
}

struct Sizes {
    std::int64_t height, width, out_height, out_width;
};

void test_matches_the_convention() {
    const Sizes all[] = {
        {5, 7, 5, 7},      // as it is
        {10, 14, 5, 7},    // one halving
        {24, 40, 3, 5},    // three
        {48, 64, 3, 4},    // four
        {20, 28, 9, 13},   // one and a bit
        {11, 13, 7, 9},    // bilinear, smaller
        {5, 7, 12, 15},    // bilinear, larger
        {30, 5, 7, 9},     // one side shrinks far, the other grows: bilinear
        {31, 45, 7, 9},    // areas
        {27, 18, 12, 8},   // 2.25 exactly: bilinear still
        {28, 18, 12, 8},   // the height just beyond: areas
        {27, 19, 12, 8},   // the width just beyond: areas
        {68, 92, 7, 9},    // two halvings, then areas
        {1, 1, 3, 2},
        {9, 1, 4, 1},
    };
    unsigned seed = 1;
    for (const Sizes& s : all) {
        const Image image = random_image(s.height, s.width, seed++);
        const std::vector<std::uint8_t> got = resize(image, s.out_height, s.out_width);
        const std::vector<double> exact = resize_by_definition(image, s.out_height, s.out_width);
        CHECK(greatest_error(got, exact) <= 0.5 + 1e-4);  // rounded once behind the halvings
        CHECK(resize(image, s.out_height, s.out_width, 5) == got);
    }
}

void test_many_halvings_stay_within_a_level() {
    // A fifth and sixth halving are done as one mean, and their roundings are saved.
    const Image image = random_image(192, 128, 7);
    const std::vector<double> exact = resize_by_definition(image, 3, 2);
    CHECK(greatest_error(resize(image, 3, 2), exact) <= 1.0);
}

void test_halving_by_hand() {
    const Image image{2, 2, {0, 1, 255, 1, 1, 255, 0, 1, 255, 1, 0, 254}};
    CHECK(resize(image, 1, 1) == (std::vector<std::uint8_t>{1, 1, 255}));  // 0.5, 0.75, 254.75
}

void test_sizes_that_are_refused() {
    std::uint8_t byte = 0;
    for (const Sizes& s : {Sizes{0, 1, 1, 1}, {1, 0, 1, 1}, {1, 1, 0, 1}, {1, 1, 1, 0},
                           {32769, 1, 1, 1}, {1, 1, 1, 32769}}) {
        CHECK(dff_cuda_resize(&byte, s.height, s.width, 3 * s.width, &byte, s.out_height,
                              s.out_width, nullptr) == DFF_BAD_SIZE);
    }
    CHECK(dff_cuda_resize(&byte, 1, 2, 5, &byte, 1, 1, nullptr) == DFF_BAD_SIZE);
    CHECK(dff_cuda_resize(nullptr, 1, 1, 3, &byte, 1, 1, nullptr) == DFF_NULL_POINTER);
    CHECK(dff_cuda_resize(&byte, 1, 1, 3, nullptr, 1, 1, nullptr) == DFF_NULL_POINTER);
}

}  // namespace

int main() {
    dff_test::skip_without_device();
    test_matches_the_convention();
    test_many_halvings_stay_within_a_level();
    test_halving_by_hand();
    test_sizes_that_are_refused();
    return dff_test::result();
}
