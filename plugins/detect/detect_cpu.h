// R-FCN after its learned maps, on the CPU: proposals, position-sensitive votes, detections.
//
// Dai et al., "R-FCN", NIPS 2016; section 4 of Zhu et al., CVPR 2017, arXiv:1611.07715.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/status.h"
#include "detect/box.h"
#include "detect/nms_cpu.h"

namespace dff {

struct DetectSettings {
    std::int64_t height;   // h of the maps
    std::int64_t width;    // w
    std::int64_t classes;  // K, without the background
    std::int64_t bins;     // k
    std::int64_t proposals_before_nms;
    std::int64_t proposals;
    std::int64_t detections;  // D
    float proposal_nms;
    float min_score;
    float nms;
    float stride;  // frame pixels per cell
    std::vector<float> anchors;  // (A, 2), width and height in pixels
};

// The learned outputs of the task network. Standard deviations of the deltas are folded in.
struct DetectMaps {
    const float* objectness;  // (h, w, A), logits
    const float* deltas;      // (h, w, A, 4)
    const float* class_maps;  // (h, w, k * k, 1 + K), background first
    const float* box_maps;    // (h, w, k * k, 4)
};

struct DetectOut {
    float* boxes;          // (D, 4), pixels of the network's frame
    float* scores;         // (D)
    std::int32_t* labels;  // (D), 0 to K - 1
};

// kBadSize: a size that is not positive, or maps and numbers of boxes beyond any use.
Status check_settings(const DetectSettings& settings) noexcept;

// Scratch for one frame at a time: two threads must not use the same one.
class Detector {
public:
    // `settings` have been checked. Throws std::bad_alloc.
    explicit Detector(const DetectSettings& settings);

    const DetectSettings& settings() const { return settings_; }

    // Proposals are the best anchors by objectness, decoded and clipped to the frame; empty ones
    // are dropped, the rest passes NMS. Each gets the softmax of its class votes and the box
    // of its box votes. Detections that score at least min_score pass NMS class by
    // class; the best of all classes are written, by falling score, and counted in *count.
    //
    // Ties: the lower anchor, the lower proposal; of two classes the lower. An anchor whose
    // objectness is NaN, and a box that is not finite, are dropped; a NaN vote has probability 0.
    // The result is the same for any number of threads.
    Status finish(const DetectMaps& maps, const DetectOut& out, std::int64_t* count,
                  int threads) noexcept;

private:
    void propose(const DetectMaps& maps);
    void classify(const DetectMaps& maps, int threads);
    void classify_one(const DetectMaps& maps, std::size_t proposal);
    void suppress();
    Box anchor_box(const DetectMaps& maps, std::size_t index) const;
    Box clipped(const Box& box) const;

    DetectSettings settings_;
    std::vector<std::uint64_t> ranks_;    // of anchors, then of the proposals in one class
    std::vector<std::uint64_t> found_;    // of class * proposals + proposal
    std::vector<Box> proposals_;
    std::vector<Box> boxes_;              // of the objects, by proposal
    std::vector<float> probabilities_;    // (proposals, 1 + K)
    KeptBoxes kept_;
};

}  // namespace dff
