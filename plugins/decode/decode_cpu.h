// Decoding of score maps to labels on the CPU: bilinear upsampling and argmax in one pass.

#pragma once

#include <cstdint>

#include "common/status.h"

namespace dff {

struct DecodeSize {
    std::int64_t height;      // h of the score maps
    std::int64_t width;       // w
    std::int64_t classes;     // K, 1 to 256
    std::int64_t out_height;  // H_out of the label map
    std::int64_t out_width;   // W_out
};

// labels[Y, X] = argmax over k of the scores (h, w, K) interpolated at the cell coordinates
//   v = (Y + 0.5) * h / H_out - 0.5 clamped to [0, h - 1], u likewise over x.
// The lowest class wins a tie. A NaN score never wins, whoever else has one; where every score
// is NaN the label is 0. A cell of weight zero changes nothing. No score map of the output's size
// is made: scratch is of the size of the cells.
//
// confidence, if not null: the softmax probability of that class, taken at the cells and
// interpolated in the same way, as round(255 p). A NaN score counts as -infinity in it; where all
// of a cell do, its probabilities are 0.
Status decode_cpu(const float* scores, std::uint8_t* labels, std::uint8_t* confidence,
                  DecodeSize size, int threads) noexcept;

}  // namespace dff
