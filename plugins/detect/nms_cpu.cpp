// Greedy non-maximum suppression: each box is compared with those that were kept before it.
//
// Test alone: cmake -S plugins -B build && cmake --build build && ctest --test-dir build -R detect

#include "detect/nms_cpu.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <new>

#include "common/simd.h"
#include "detect/rank.h"

namespace dff {
namespace {

constexpr std::size_t kBlock = 32;  // boxes compared before the result is checked

struct Columns {
    const float* x_min;
    const float* y_min;
    const float* x_max;
    const float* y_max;
    const float* area;
};

DFF_CLONES bool overlaps_any(const Columns& kept, std::size_t count, const Box& box,
                             float threshold) {
    const Box own = box;
    const float area = area_of(own);
    for (std::size_t begin = 0; begin < count; begin += kBlock) {
        const std::size_t end = std::min(begin + kBlock, count);
        int hits = 0;
        for (std::size_t i = begin; i < end; ++i) {
            const Box other{kept.x_min[i], kept.y_min[i], kept.x_max[i], kept.y_max[i]};
            hits |= iou(own, area, other, kept.area[i]) > threshold ? 1 : 0;
        }
        if (hits != 0) {
            return true;
        }
    }
    return false;
}

}  // namespace

KeptBoxes::KeptBoxes(std::size_t capacity)
    : x_min_(capacity), y_min_(capacity), x_max_(capacity), y_max_(capacity), area_(capacity) {}

bool KeptBoxes::overlaps(const Box& box, float threshold) const {
    return overlaps_any({x_min_.data(), y_min_.data(), x_max_.data(), y_max_.data(), area_.data()},
                        count_, box, threshold);
}

bool KeptBoxes::offer(const Box& box, float threshold) {
    if (overlaps(box, threshold)) {
        return false;
    }
    x_min_[count_] = box.x_min;
    y_min_[count_] = box.y_min;
    x_max_[count_] = box.x_max;
    y_max_[count_] = box.y_max;
    area_[count_] = area_of(box);
    ++count_;
    return true;
}

Status nms_cpu(const float* boxes, const float* scores, std::int64_t n, float threshold,
               std::int64_t limit, std::int64_t* kept, std::int64_t* kept_count) noexcept {
    if (n < 0 || n > std::numeric_limits<std::int32_t>::max() || limit < 0) {
        return Status::kBadSize;
    }
    if (kept_count == nullptr) {
        return Status::kNullPointer;
    }
    *kept_count = 0;
    if (n == 0 || limit == 0) {
        return Status::kOk;
    }
    if (boxes == nullptr || scores == nullptr || kept == nullptr) {
        return Status::kNullPointer;
    }
    try {
        std::vector<std::uint64_t> ranks;
        ranks.reserve(static_cast<std::size_t>(n));
        for (std::int64_t i = 0; i < n; ++i) {
            if (scores[i] == scores[i]) {
                ranks.push_back(rank_of(scores[i], static_cast<std::uint32_t>(i)));
            }
        }
        std::sort(ranks.begin(), ranks.end(), std::greater<>());
        KeptBoxes stay(static_cast<std::size_t>(std::min(n, limit)));
        for (const std::uint64_t rank : ranks) {
            const std::int64_t index = ranked_index(rank);
            const float* box = boxes + 4 * index;
            if (stay.offer({box[0], box[1], box[2], box[3]}, threshold)) {
                kept[(*kept_count)++] = index;
                if (*kept_count == limit) {
                    break;
                }
            }
        }
    } catch (const std::bad_alloc&) {
        return Status::kOutOfMemory;
    }
    return Status::kOk;
}

}  // namespace dff
