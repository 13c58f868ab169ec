// Boxes of a frame: exclusive maxima, pixels. Decoding and overlap, once for proposals and objects.

#pragma once

#include <algorithm>
#include <cmath>

#include "common/simd.h"

namespace dff {

struct Box {
    float x_min;
    float y_min;
    float x_max;
    float y_max;
};

struct BoxCentre {
    float x;
    float y;
    float width;
    float height;
};

// A side grows to 1000/16 times its anchor's at most: exp must not overflow.
constexpr float kLargestGrowth = 4.135166556742356f;  // log(1000 / 16)

// False for NaN too.
DFF_INLINE bool is_solid(const Box& box) {
    return box.x_max > box.x_min && box.y_max > box.y_min;
}

DFF_INLINE BoxCentre centre_of(const Box& box) {
    const float width = box.x_max - box.x_min;
    const float height = box.y_max - box.y_min;
    return {box.x_min + 0.5f * width, box.y_min + 0.5f * height, width, height};
}

// deltas: (dx, dy, dw, dh), shifts in sides and logarithms of growth. NaN stays NaN.
inline Box decode_box(const BoxCentre& from, const float* deltas) {
    const float x = from.x + deltas[0] * from.width;
    const float y = from.y + deltas[1] * from.height;
    const float width = from.width * std::exp(std::min(deltas[2], kLargestGrowth));
    const float height = from.height * std::exp(std::min(deltas[3], kLargestGrowth));
    return {x - 0.5f * width, y - 0.5f * height, x + 0.5f * width, y + 0.5f * height};
}

inline Box clip_box(const Box& box, float frame_width, float frame_height) {
    // std::clamp gives NaN back as it is.
    return {std::clamp(box.x_min, 0.0f, frame_width), std::clamp(box.y_min, 0.0f, frame_height),
            std::clamp(box.x_max, 0.0f, frame_width), std::clamp(box.y_max, 0.0f, frame_height)};
}

// Intersection over union; of empty boxes and of NaN it is 0 or NaN, which is above nothing.
DFF_INLINE float iou(const Box& a, float a_area, const Box& b, float b_area) {
    const float left = a.x_min > b.x_min ? a.x_min : b.x_min;
    const float right = a.x_max < b.x_max ? a.x_max : b.x_max;
    const float top = a.y_min > b.y_min ? a.y_min : b.y_min;
    const float bottom = a.y_max < b.y_max ? a.y_max : b.y_max;
    const float width = right > left ? right - left : 0.0f;
    const float height = bottom > top ? bottom - top : 0.0f;
    const float shared = width * height;
    return shared / (a_area + b_area - shared);
}

DFF_INLINE float area_of(const Box& box) {
    return (box.x_max - box.x_min) * (box.y_max - box.y_min);
}

}  // namespace dff
