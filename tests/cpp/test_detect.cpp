// Detection against its definition, written once more in double and without any of the shortcuts.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "check.h"
#include "detect/detect_cpu.h"
#include "detect/nms_cpu.h"
#include "detect/ps_pool.h"

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr double kStride = 16.0;

using Corners = std::array<double, 4>;  // x_min, y_min, x_max, y_max

struct Found {
    Corners box;
    double score;
    int label;
};

struct Maps {
    std::vector<float> objectness, deltas, class_maps, box_maps;
    dff::DetectMaps view() const {
        return {objectness.data(), deltas.data(), class_maps.data(), box_maps.data()};
    }
};

dff::DetectSettings small_settings() {
    return {5, 7, 2, 3, 100, 20, 12, 0.7f, 0.05f, 0.3f, 16.0f, {40.0f, 24.0f, 20.0f, 50.0f}};
}

Maps random_maps(const dff::DetectSettings& s, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const auto cells = static_cast<std::size_t>(s.height * s.width);
    const auto bins = static_cast<std::size_t>(s.bins * s.bins);
    Maps maps;
    maps.objectness.resize(cells * s.anchors.size() / 2);
    maps.deltas.resize(4 * maps.objectness.size());
    maps.class_maps.resize(cells * bins * static_cast<std::size_t>(s.classes + 1));
    maps.box_maps.resize(cells * bins * 4);
    for (float& value : maps.objectness) value = normal(random);
    for (float& value : maps.deltas) value = 0.3f * normal(random);
    for (float& value : maps.class_maps) value = 3.0f * normal(random);
    for (float& value : maps.box_maps) value = 0.3f * normal(random);
    return maps;
}

double overlap(const Corners& a, const Corners& b) {
    const double width = std::min(a[2], b[2]) - std::max(a[0], b[0]);
    const double height = std::min(a[3], b[3]) - std::max(a[1], b[1]);
    if (width <= 0 || height <= 0) return 0;
    const double both = width * height;
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both);
}

// Indices that stay, best first.
std::vector<std::size_t> nms_by_definition(const std::vector<Corners>& boxes,
                                           const std::vector<double>& scores, double threshold) {
    std::vector<std::size_t> order(boxes.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
    std::vector<bool> gone(boxes.size());
    std::vector<std::size_t> kept;
    for (std::size_t i = 0; i < order.size(); ++i) {
        if (gone[order[i]]) continue;
        kept.push_back(order[i]);
        for (std::size_t j = i + 1; j < order.size(); ++j)
            if (overlap(boxes[order[i]], boxes[order[j]]) > threshold) gone[order[j]] = true;
    }
    return kept;
}

Corners move(const Corners& from, const double* d, const dff::DetectSettings& s) {
    const double grown = std::log(1000.0 / 16.0);
    const double w = from[2] - from[0];
    const double h = from[3] - from[1];
    const double x = (from[0] + from[2]) / 2 + d[0] * w;
    const double y = (from[1] + from[3]) / 2 + d[1] * h;
    const double half_w = w * std::exp(std::min(d[2], grown)) / 2;
    const double half_h = h * std::exp(std::min(d[3], grown)) / 2;
    const double frame_w = kStride * static_cast<double>(s.width);
    const double frame_h = kStride * static_cast<double>(s.height);
    return {std::clamp(x - half_w, 0.0, frame_w), std::clamp(y - half_h, 0.0, frame_h),
            std::clamp(x + half_w, 0.0, frame_w), std::clamp(y + half_h, 0.0, frame_h)};
}

// One map at a pixel: every cell has the share that is left of one cell's distance.
double sample(const float* maps, const dff::DetectSettings& s, std::int64_t depth,
              std::int64_t channel, double x, double y) {
    const double u = std::clamp(x / kStride - 0.5, 0.0, static_cast<double>(s.width - 1));
    const double v = std::clamp(y / kStride - 0.5, 0.0, static_cast<double>(s.height - 1));
    double sum = 0;
    for (std::int64_t j = 0; j < s.height; ++j)
        for (std::int64_t i = 0; i < s.width; ++i)
            sum += std::max(0.0, 1 - std::abs(static_cast<double>(j) - v)) *
                   std::max(0.0, 1 - std::abs(static_cast<double>(i) - u)) *
                   static_cast<double>(maps[(j * s.width + i) * s.bins * s.bins * depth + channel]);
    return sum;
}

std::vector<double> vote_by_definition(const float* maps, const dff::DetectSettings& s,
                                       std::int64_t depth, const Corners& box) {
    std::vector<double> votes(static_cast<std::size_t>(depth));
    const auto bins = static_cast<double>(s.bins);
    for (std::int64_t c = 0; c < depth; ++c)
        for (std::int64_t bin = 0; bin < s.bins * s.bins; ++bin)
            for (const double sy : {0.25, 0.75})
                for (const double sx : {0.25, 0.75}) {
                    const double row = static_cast<double>(bin / s.bins) + sy;
                    const double column = static_cast<double>(bin % s.bins) + sx;
                    const double x = box[0] + column * (box[2] - box[0]) / bins;
                    const double y = box[1] + row * (box[3] - box[1]) / bins;
                    votes[static_cast<std::size_t>(c)] +=
                        sample(maps, s, depth, bin * depth + c, x, y) / (4 * bins * bins);
                }
    return votes;
}

bool is_solid(const Corners& box) { return box[2] > box[0] && box[3] > box[1]; }

std::vector<Found> finish_by_definition(const Maps& maps, const dff::DetectSettings& s) {
    std::vector<Corners> anchors;
    std::vector<double> logits;
    std::vector<std::size_t> order(maps.objectness.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return maps.objectness[a] > maps.objectness[b];
    });
    order.resize(std::min(order.size(), static_cast<std::size_t>(s.proposals_before_nms)));
    const std::size_t count = s.anchors.size() / 2;
    for (const std::size_t i : order) {
        const double x = (static_cast<double>(i / count % s.width) + 0.5) * kStride;
        const double y = (static_cast<double>(i / count / s.width) + 0.5) * kStride;
        const double w = s.anchors[2 * (i % count)] / 2.0;
        const double h = s.anchors[2 * (i % count) + 1] / 2.0;
        double deltas[4];
        for (std::size_t c = 0; c < 4; ++c) deltas[c] = maps.deltas[4 * i + c];
        const Corners box = move({x - w, y - h, x + w, y + h}, deltas, s);
        if (is_solid(box)) {
            anchors.push_back(box);
            logits.push_back(maps.objectness[i]);
        }
    }
    std::vector<std::size_t> chosen = nms_by_definition(anchors, logits, s.proposal_nms);
    chosen.resize(std::min(chosen.size(), static_cast<std::size_t>(s.proposals)));
    std::vector<Corners> boxes;
    std::vector<std::vector<double>> probabilities;
    for (const std::size_t i : chosen) {
        const auto deltas = vote_by_definition(maps.box_maps.data(), s, 4, anchors[i]);
        boxes.push_back(move(anchors[i], deltas.data(), s));
        auto votes = vote_by_definition(maps.class_maps.data(), s, s.classes + 1, anchors[i]);
        double sum = 0;
        for (double& v : votes) sum += v = std::exp(v);
        for (double& v : votes) v /= sum;
        probabilities.push_back(votes);
    }
    std::vector<Found> found;
    for (int label = 0; label < s.classes; ++label) {
        std::vector<Corners> own;
        std::vector<double> scores;
        for (std::size_t i = 0; i < boxes.size(); ++i) {
            const double score = probabilities[i][static_cast<std::size_t>(label) + 1];
            if (score >= static_cast<double>(s.min_score) && is_solid(boxes[i])) {
                own.push_back(boxes[i]);
                scores.push_back(score);
            }
        }
        for (const std::size_t i : nms_by_definition(own, scores, s.nms))
            found.push_back({own[i], scores[i], label});
    }
    std::stable_sort(found.begin(), found.end(),
                     [](const Found& a, const Found& b) { return a.score > b.score; });
    found.resize(std::min(found.size(), static_cast<std::size_t>(s.detections)));
    return found;
}

struct Result {
    std::vector<float> boxes, scores;
    std::vector<std::int32_t> labels;
    bool operator==(const Result& other) const {
        return boxes == other.boxes && scores == other.scores && labels == other.labels;
    }
};

Result finish(dff::Detector& detector, const Maps& maps, int threads = 1) {
    const auto limit = static_cast<std::size_t>(detector.settings().detections);
    Result result{std::vector<float>(4 * limit), std::vector<float>(limit),
                  std::vector<std::int32_t>(limit)};
    std::int64_t count = -1;
    CHECK(detector.finish(maps.view(),
                          {result.boxes.data(), result.scores.data(), result.labels.data()},
                          &count, threads) == dff::Status::kOk);
    CHECK(count >= 0 && count <= detector.settings().detections);
    result.boxes.resize(4 * static_cast<std::size_t>(count));
    result.scores.resize(static_cast<std::size_t>(count));
    result.labels.resize(static_cast<std::size_t>(count));
    return result;
}

void test_matches_the_definition() {
    dff::DetectSettings settings = small_settings();
    for (unsigned seed = 0; seed < 8; ++seed) {
        settings.bins = seed % 2 == 0 ? 3 : 4;
        settings.proposals_before_nms = seed < 4 ? 40 : 100;  // fewer and more than there are
        settings.min_score = seed % 4 < 2 ? 0.05f : 0.3f;
        dff::Detector detector(settings);
        const Maps maps = random_maps(settings, seed);
        const auto expected = finish_by_definition(maps, settings);
        const Result found = finish(detector, maps);
        CHECK(found.scores.size() == expected.size());
        CHECK(expected.size() > 1);
        for (std::size_t i = 0; i < std::min(expected.size(), found.scores.size()); ++i) {
            CHECK(found.labels[i] == expected[i].label);
            CHECK(std::abs(found.scores[i] - expected[i].score) < 1e-5);
            for (std::size_t c = 0; c < 4; ++c)
                CHECK(std::abs(found.boxes[4 * i + c] - expected[i].box[c]) < 1e-3);
        }
    }
}

void test_threads_and_used_scratch_change_nothing() {
    const dff::DetectSettings settings = small_settings();
    dff::Detector used(settings);
    finish(used, random_maps(settings, 7));
    const Maps maps = random_maps(settings, 8);
    dff::Detector fresh(settings);
    const Result expected = finish(fresh, maps);
    for (const int threads : {1, 2, 3, 64}) CHECK(finish(used, maps, threads) == expected);
}

// Anchor by anchor: 20 x 20 in a frame of one row of three cells, 48 x 16 pixels.
void test_equal_scores_by_hand() {
    const dff::DetectSettings settings{1, 3, 2, 1, 9, 9, 9, 0.5f, 0.1f, 0.5f, 16.0f, {8.0f, 8.0f}};
    Maps maps;
    maps.objectness = {-0.0f, 0.0f, 0.0f};
    maps.deltas.assign(12, 0.0f);
    maps.class_maps.assign(9, 0.0f);  // a third for the background and each class
    maps.box_maps.assign(12, 0.0f);
    dff::Detector detector(settings);
    const Result found = finish(detector, maps);
    CHECK((found.labels == std::vector<std::int32_t>{0, 0, 0, 1, 1, 1}));
    CHECK((found.boxes == std::vector<float>{4,  4, 12, 12, 20, 4, 28, 12, 36, 4, 44, 12,
                                             4,  4, 12, 12, 20, 4, 28, 12, 36, 4, 44, 12}));
    for (const float score : found.scores) CHECK(std::abs(score - 1.0f / 3.0f) < 1e-6f);
}

// The best anchor leaves the frame: the only proposal is the next one.
void test_empty_boxes_take_no_proposal() {
    const dff::DetectSettings settings{1, 3, 1, 1, 9, 1, 9, 0.5f, 0.1f, 0.5f, 16.0f, {8.0f, 8.0f}};
    Maps maps;
    maps.objectness = {1.0f, 3.0f, 2.0f};
    maps.deltas.assign(12, 0.0f);
    maps.deltas[4] = 100.0f;
    maps.class_maps.assign(6, 0.0f);
    maps.box_maps.assign(12, 0.0f);
    dff::Detector detector(settings);
    CHECK((finish(detector, maps).boxes == std::vector<float>{36, 4, 44, 12}));
}

void test_growth_is_limited() {
    const float deltas[] = {0.0f, 0.5f, 9.0f, 0.0f};
    const dff::Box box = dff::decode_box({0.0f, 0.0f, 2.0f, 4.0f}, deltas);
    CHECK(std::abs(box.x_max - 62.5f) < 1e-4f && box.x_min == -box.x_max);
    CHECK(box.y_min == 0.0f && box.y_max == 4.0f);
}

// What is not finite is dropped, the rest stays; nothing outside the maps is read.
void test_values_that_are_not_finite() {
    const dff::DetectSettings settings = small_settings();
    dff::Detector detector(settings);
    std::mt19937 random(3);
    const float bad[] = {kNan, kInf, -kInf, 3e38f, -3e38f};
    for (unsigned seed = 0; seed < 30; ++seed) {
        Maps maps = random_maps(settings, seed);
        const unsigned share = seed < 15 ? 10 : 1;
        for (auto* map : {&maps.objectness, &maps.deltas, &maps.class_maps, &maps.box_maps})
            for (float& value : *map)
                if (random() % share == 0) value = bad[random() % 5];
        const Result found = finish(detector, maps);
        for (std::size_t i = 0; i < found.scores.size(); ++i) {
            CHECK(found.scores[i] >= settings.min_score && found.scores[i] <= 1.0f);
            CHECK(found.boxes[4 * i] >= 0.0f && found.boxes[4 * i + 2] <= 112.0f);
            CHECK(found.boxes[4 * i] < found.boxes[4 * i + 2]);
            CHECK(found.boxes[4 * i + 1] < found.boxes[4 * i + 3]);
        }
    }
    Maps maps = random_maps(settings, 1);
    std::fill(maps.objectness.begin(), maps.objectness.end(), kNan);
    CHECK(finish(detector, maps).scores.empty());
    maps = random_maps(settings, 1);
    maps.objectness[3] = kNan;
    Maps without = maps;
    without.objectness[3] = -1e30f;
    CHECK(finish(detector, maps) == finish(detector, without));
}

void test_nms_by_hand() {
    // 0 and 1 share 8 of 16 pixels; 2 is far away; 3 is 0 once more; 4 and 5 overlap nothing.
    const std::vector<float> boxes{0, 0, 4, 4, 0, 0, 4, 2, 9, 9, 10, 10, 0, 0, 4, 4,
                                   1, 1, 1, 3, kNan, 0, 4, 4};
    const std::vector<float> scores{0.5f, 0.9f, 0.1f, 0.5f, 0.7f, 0.6f};
    const auto kept = [&](float threshold, std::int64_t limit, std::vector<float> own) {
        std::vector<std::int64_t> indices(6);
        std::int64_t count = 0;
        CHECK(dff::nms_cpu(boxes.data(), own.data(), 6, threshold, limit, indices.data(),
                           &count) == dff::Status::kOk);
        indices.resize(static_cast<std::size_t>(count));
        return indices;
    };
    using Indices = std::vector<std::int64_t>;
    CHECK((kept(0.5f, 6, scores) == Indices{1, 4, 5, 0, 2}));  // 0.5 is not above 0.5
    CHECK((kept(0.49f, 6, scores) == Indices{1, 4, 5, 2}));
    CHECK((kept(1.0f, 6, scores) == Indices{1, 4, 5, 0, 3, 2}));
    CHECK((kept(0.5f, 3, scores) == Indices{1, 4, 5}));
    CHECK((kept(0.5f, 0, scores) == Indices{}));
    CHECK((kept(0.5f, 6, {kNan, kNan, kNan, kNan, kNan, -kInf}) == Indices{5}));
}

void test_nms_matches_the_definition() {
    std::mt19937 random(5);
    std::uniform_real_distribution<float> side(0.0f, 50.0f);
    constexpr std::int64_t kCount = 300;
    std::vector<float> boxes;
    std::vector<Corners> corners;
    std::vector<float> scores;
    for (std::int64_t i = 0; i < kCount; ++i) {
        const float x = side(random);
        const float y = side(random);
        const float box[] = {x, y, x + side(random), y + side(random)};
        boxes.insert(boxes.end(), box, box + 4);
        corners.push_back({box[0], box[1], box[2], box[3]});
        scores.push_back(static_cast<float>(random() % 20));  // many are equal
    }
    const std::vector<double> wide(scores.begin(), scores.end());
    const auto expected = nms_by_definition(corners, wide, 0.6);
    std::vector<std::int64_t> kept(kCount);
    std::int64_t count = 0;
    dff::nms_cpu(boxes.data(), scores.data(), kCount, 0.6f, kCount, kept.data(), &count);
    CHECK(std::vector<std::size_t>(kept.begin(), kept.begin() + count) == expected);
}

void test_what_is_refused() {
    std::int64_t count = 0;
    CHECK(dff::nms_cpu(nullptr, nullptr, 0, 0.5f, 1, nullptr, &count) == dff::Status::kOk);
    CHECK(dff::nms_cpu(nullptr, nullptr, -1, 0.5f, 1, nullptr, &count) == dff::Status::kBadSize);
    CHECK(dff::nms_cpu(nullptr, nullptr, 1, 0.5f, 1, nullptr, &count) ==
          dff::Status::kNullPointer);
    CHECK(dff::check_settings(small_settings()) == dff::Status::kOk);
    const auto refused = [](auto&& change) {
        dff::DetectSettings settings = small_settings();
        change(settings);
        return dff::check_settings(settings) == dff::Status::kBadSize;
    };
    CHECK(refused([](auto& s) { s.height = 0; }));
    CHECK(refused([](auto& s) { s.width = 4097; }));
    CHECK(refused([](auto& s) { s.classes = 257; }));
    CHECK(refused([](auto& s) { s.bins = 16; }));
    CHECK(refused([](auto& s) { s.proposals = 0; }));
    CHECK(refused([](auto& s) { s.anchors.pop_back(); }));
    CHECK(refused([](auto& s) { s.anchors.clear(); }));
    CHECK(refused([](auto& s) { s.stride = kNan; }));
    dff::Detector detector(small_settings());
    CHECK(detector.finish({}, {}, &count, 1) == dff::Status::kNullPointer);
}

}  // namespace

int main() {
    test_matches_the_definition();
    test_threads_and_used_scratch_change_nothing();
    test_equal_scores_by_hand();
    test_empty_boxes_take_no_proposal();
    test_growth_is_limited();
    test_values_that_are_not_finite();
    test_nms_by_hand();
    test_nms_matches_the_definition();
    test_what_is_refused();
    return dff_test::result();
}
