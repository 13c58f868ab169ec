// Greedy non-maximum suppression on the CPU.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/status.h"
#include "detect/box.h"

namespace dff {

// The boxes kept so far. Boxes are offered from the best to the worst.
class KeptBoxes {
public:
    // Throws std::bad_alloc.
    explicit KeptBoxes(std::size_t capacity);

    void clear() { count_ = 0; }
    std::size_t count() const { return count_; }

    // Keeps the box unless a kept one overlaps it by more than `threshold`, and returns
    // whether it did. count() must be below the capacity.
    bool offer(const Box& box, float threshold);

private:
    bool overlaps(const Box& box, float threshold) const;

    // A column each, so that a vector holds one side of several boxes.
    std::vector<float> x_min_, y_min_, x_max_, y_max_, area_;
    std::size_t count_ = 0;
};

// kept[0 .. *kept_count): indices of the kept boxes (n, 4), by falling score; of equal scores
// the lower index first. A box is suppressed if a kept one overlaps it by an IoU above `threshold`.
// At most `limit` are kept; kept has room for min(n, limit). A NaN score never is. Empty boxes and
// those of NaN overlap nothing.
Status nms_cpu(const float* boxes, const float* scores, std::int64_t n, float threshold,
               std::int64_t limit, std::int64_t* kept, std::int64_t* kept_count) noexcept;

}  // namespace dff
