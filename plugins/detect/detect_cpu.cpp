// R-FCN after its learned maps: the stages of detect_cpu.h, in order.
//
// Test alone: cmake -S plugins -B build && cmake --build build && ctest --test-dir build -R detect

#include "detect/detect_cpu.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "common/parallel.h"
#include "decode/decode_math.h"
#include "detect/ps_pool.h"
#include "detect/rank.h"

namespace dff {
namespace {

constexpr std::int64_t kMaxCells = 4096;  // along a side; keeps every product far from its limits
constexpr std::int64_t kMaxAnchors = 256;
constexpr std::int64_t kMaxBoxes = 1 << 20;

bool is_in(std::int64_t value, std::int64_t high) { return value >= 1 && value <= high; }

std::size_t anchor_count(const DetectSettings& s) {
    return static_cast<std::size_t>(s.height * s.width) * (s.anchors.size() / 2);
}

std::size_t proposal_limit(const DetectSettings& s) {
    const auto considered = std::min<std::int64_t>(s.proposals_before_nms, s.proposals);
    return std::min(anchor_count(s), static_cast<std::size_t>(considered));
}

// The best `limit` of the ranks, in order.
void keep_best(std::vector<std::uint64_t>& ranks, std::size_t limit) {
    if (ranks.size() > limit) {
        const auto end = ranks.begin() + static_cast<std::ptrdiff_t>(limit);
        std::nth_element(ranks.begin(), end, ranks.end(), std::greater<>());
        ranks.resize(limit);
    }
    std::sort(ranks.begin(), ranks.end(), std::greater<>());
}

// Votes become probabilities.
void softmax(float* votes, std::int64_t classes) {
    const auto count = static_cast<std::int32_t>(classes);
    const float best = greatest([votes](std::int32_t k) { return votes[k]; }, count);
    float sum = 0.0f;
    for (std::int64_t k = 0; k < classes; ++k) {
        votes[k] = softmax_share(votes[k], best);
        sum += votes[k];
    }
    for (std::int64_t k = 0; k < classes; ++k) {
        votes[k] = sum > 0.0f ? votes[k] / sum : 0.0f;
    }
}

}  // namespace

Status check_settings(const DetectSettings& s) noexcept {
    const std::size_t anchors = s.anchors.size() / 2;
    const bool fits = is_in(s.height, kMaxCells) && is_in(s.width, kMaxCells) &&
                      is_in(s.classes, kMaxClasses) && is_in(s.bins, kMaxBins) &&
                      is_in(s.proposals_before_nms, kMaxBoxes) && is_in(s.proposals, kMaxBoxes) &&
                      is_in(s.detections, kMaxBoxes) && s.anchors.size() % 2 == 0 &&
                      is_in(static_cast<std::int64_t>(anchors), kMaxAnchors);
    if (!fits || !(s.stride > 0.0f)) {
        return Status::kBadSize;
    }
    // Ranks hold an index of 32 bits.
    const auto boxes = static_cast<std::int64_t>(proposal_limit(s)) * s.classes;
    const auto limit = static_cast<std::int64_t>(std::numeric_limits<std::int32_t>::max());
    return static_cast<std::int64_t>(anchor_count(s)) > limit || boxes > limit ? Status::kBadSize
                                                                                : Status::kOk;
}

Detector::Detector(const DetectSettings& settings)
    : settings_(settings), kept_(proposal_limit(settings)) {
    const std::size_t proposals = proposal_limit(settings_);
    const auto classes = static_cast<std::size_t>(settings_.classes);
    ranks_.reserve(anchor_count(settings_));
    found_.reserve(proposals * classes);
    proposals_.reserve(proposals);
    boxes_.resize(proposals);
    probabilities_.resize(proposals * (classes + 1));
}

Status Detector::finish(const DetectMaps& maps, const DetectOut& out, std::int64_t* count,
                        int threads) noexcept {
    if (maps.objectness == nullptr || maps.deltas == nullptr || maps.class_maps == nullptr ||
        maps.box_maps == nullptr || out.boxes == nullptr || out.scores == nullptr ||
        out.labels == nullptr || count == nullptr) {
        return Status::kNullPointer;
    }
    propose(maps);
    classify(maps, threads);
    suppress();
    const std::size_t proposals = proposals_.size();
    for (std::size_t i = 0; i < found_.size(); ++i) {
        const std::size_t index = ranked_index(found_[i]);
        const std::size_t label = index / proposals;
        const std::size_t proposal = index % proposals;
        const Box& box = boxes_[proposal];
        out.boxes[4 * i] = box.x_min;
        out.boxes[4 * i + 1] = box.y_min;
        out.boxes[4 * i + 2] = box.x_max;
        out.boxes[4 * i + 3] = box.y_max;
        out.scores[i] = probabilities_[proposal * (settings_.classes + 1) + label + 1];
        out.labels[i] = static_cast<std::int32_t>(label);
    }
    *count = static_cast<std::int64_t>(found_.size());
    return Status::kOk;
}

void Detector::propose(const DetectMaps& maps) {
    const std::size_t anchors = anchor_count(settings_);
    ranks_.clear();
    for (std::size_t i = 0; i < anchors; ++i) {
        const float logit = maps.objectness[i];
        if (logit == logit) {
            ranks_.push_back(rank_of(logit, static_cast<std::uint32_t>(i)));
        }
    }
    keep_best(ranks_, static_cast<std::size_t>(settings_.proposals_before_nms));
    proposals_.clear();
    kept_.clear();
    const std::size_t limit = proposal_limit(settings_);
    for (const std::uint64_t rank : ranks_) {
        const Box box = anchor_box(maps, ranked_index(rank));
        if (is_solid(box) && kept_.offer(box, settings_.proposal_nms)) {
            proposals_.push_back(box);
            if (proposals_.size() == limit) {
                break;
            }
        }
    }
}

Box Detector::anchor_box(const DetectMaps& maps, std::size_t index) const {
    const std::size_t anchors = settings_.anchors.size() / 2;
    const std::size_t cell = index / anchors;
    const float* sides = settings_.anchors.data() + 2 * (index % anchors);
    const auto width = static_cast<std::size_t>(settings_.width);
    const float x = (static_cast<float>(cell % width) + 0.5f) * settings_.stride;
    const float y = (static_cast<float>(cell / width) + 0.5f) * settings_.stride;
    return clipped(decode_box({x, y, sides[0], sides[1]}, maps.deltas + 4 * index));
}

Box Detector::clipped(const Box& box) const {
    return clip_box(box, static_cast<float>(settings_.width) * settings_.stride,
                    static_cast<float>(settings_.height) * settings_.stride);
}

void Detector::classify(const DetectMaps& maps, int threads) {
    const auto count = static_cast<std::int64_t>(proposals_.size());
    split_rows(count, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            classify_one(maps, static_cast<std::size_t>(i));
        }
    });
}

void Detector::classify_one(const DetectMaps& maps, std::size_t proposal) {
    const DetectSettings& s = settings_;
    const Box& box = proposals_[proposal];
    float* votes = probabilities_.data() + proposal * static_cast<std::size_t>(s.classes + 1);
    vote({maps.class_maps, s.height, s.width, s.bins, s.classes + 1, s.stride}, box, votes);
    softmax(votes, s.classes + 1);
    float deltas[4];
    vote({maps.box_maps, s.height, s.width, s.bins, 4, s.stride}, box, deltas);
    boxes_[proposal] = clipped(decode_box(centre_of(box), deltas));
}

void Detector::suppress() {
    const std::size_t proposals = proposals_.size();
    const auto classes = static_cast<std::size_t>(settings_.classes);
    found_.clear();
    for (std::size_t label = 0; label < classes; ++label) {
        ranks_.clear();
        for (std::size_t i = 0; i < proposals; ++i) {
            const float score = probabilities_[i * (classes + 1) + label + 1];
            if (score >= settings_.min_score && is_solid(boxes_[i])) {
                ranks_.push_back(rank_of(score, static_cast<std::uint32_t>(i)));
            }
        }
        std::sort(ranks_.begin(), ranks_.end(), std::greater<>());
        kept_.clear();
        for (const std::uint64_t rank : ranks_) {
            const std::size_t i = ranked_index(rank);
            if (kept_.offer(boxes_[i], settings_.nms)) {
                const auto index = static_cast<std::uint32_t>(label * proposals + i);
                found_.push_back(rank_of(probabilities_[i * (classes + 1) + label + 1], index));
            }
        }
    }
    keep_best(found_, static_cast<std::size_t>(settings_.detections));
}

}  // namespace dff
