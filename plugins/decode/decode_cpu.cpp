// Fused bilinear upsampling and argmax.
//
// Between two cell centres the scores are straight lines, along a row as along a column. Where
// one class wins at both ends, it wins all the way (a sum of two wins is a win). So the winner of
// each cell is found once; an output row takes it over where the cells above and below agree, and
// is cut into spans between the same left and right cell, which are filled where those agree.
// Where they do not, a third class can only win where it is above the crossing of the two winners'
// lines. Mostly none is, and only those two are interpolated; else all classes are.
//
// The confidence is interpolated between the cells' softmax, which is taken once a cell too.
//
// Test alone: cmake -S plugins -B build && cmake --build build && ctest --test-dir build -R decode

#include "decode/decode_cpu.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <vector>

#include "common/half_pixel.h"
#include "common/parallel.h"
#include "decode/decode_math.h"

namespace dff {
namespace {

using Tap = HalfPixelTap<std::int64_t>;

// Consecutive pixels of a row between the same two cells.
struct Span {
    std::int64_t begin;
    std::int64_t end;
    std::int64_t low;
    std::int64_t high;
};

struct DecodeArgs {
    const float* scores;          // (h, w, K)
    const std::uint8_t* winners;  // (h, w), the best class of each cell
    const float* probabilities;   // (h, w, K), or null
    std::uint8_t* confidence;     // (H_out, W_out), or null
    std::uint8_t* labels;  // (H_out, W_out)
    DecodeSize size;
    const Span* spans;
    std::int64_t span_count;
    const float* weights;  // (W_out), of the right cell; a block of zeros follows
};

// Of one output row.
struct RowScratch {
    float* scores;           // (w, K), interpolated between two rows of cells
    std::uint8_t* is_mixed;  // (w), whether the cell's are; most are never read
    std::uint8_t* winner;    // (w)
};

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The lowest class of the greatest score of a cell.
inline std::uint8_t cell_winner(const float* cell, std::int64_t classes) {
    return argmax([cell](std::int32_t k) { return cell[k]; }, static_cast<std::int32_t>(classes));
}

// Four pixels in a vector of the compiler's own (GCC and Clang): the width that every target has.
constexpr int kLanes = 4;
typedef float Floats __attribute__((vector_size(kLanes * sizeof(float))));
typedef std::int32_t Ints __attribute__((vector_size(kLanes * sizeof(std::int32_t))));
constexpr int kVectors = 4;  // side by side: one alone would wait for its own comparisons
constexpr int kBlock = kVectors * kLanes;

// The pixels of a span whose ends disagree. Pixels go in blocks, classes inside: each class is one
// straight line over the block, and the best so far stays in registers. `weights` can be read up
// to a whole block beyond the last pixel.
inline void interpolate_span(const float* left, const float* right,
                                        const float* weights, std::int64_t pixels,
                                        std::int64_t classes, std::uint8_t* labels) {
    for (std::int64_t begin = 0; begin < pixels; begin += kBlock) {
        Floats weight[kVectors];
        Floats best[kVectors];
        Ints winner[kVectors];
        std::memcpy(weight, weights + begin, sizeof(weight));
        for (int v = 0; v < kVectors; ++v) {
            best[v] = Floats{} - kInfinity;
            winner[v] = Ints{} - 1;
        }
        for (std::int64_t k = 0; k < classes; ++k) {
            const Ints label = Ints{} + static_cast<std::int32_t>(k);
            for (int v = 0; v < kVectors; ++v) {
                const Floats score = (1.0f - weight[v]) * left[k] + weight[v] * right[k];  // mix()
                const Ints wins = score > best[v];
                best[v] = wins ? score : best[v];
                winner[v] = wins ? label : winner[v];
            }
        }
        std::int32_t found[kBlock];
        std::memcpy(found, winner, sizeof(found));
        const std::int64_t count = std::min<std::int64_t>(kBlock, pixels - begin);
        for (std::int64_t i = 0; i < count; ++i) {
            labels[begin + i] = static_cast<std::uint8_t>(found[i]);
            if (found[i] < 0) {
                labels[begin + i] = argmax(
                    [&](std::int32_t k) { return mix(left[k], right[k], weights[begin + i]); },
                    static_cast<std::int32_t>(classes));
            }
        }
    }
}

// The two winners of a span whose ends disagree.
struct Rivals {
    std::uint8_t left;
    std::uint8_t right;
};

// Whether no third class wins anywhere between two cells: the greater of the winners' lines is
// convex, and a straight line that is below it at both ends and at its kink is below it all the
// way. Near ties and scores that are not finite return false.
inline bool are_alone(const float* left, const float* right, Rivals rivals, std::int64_t classes) {
    const float ahead = left[rivals.left] - left[rivals.right];
    const float behind = right[rivals.right] - right[rivals.left];
    if (!(ahead > 0.0f && behind > 0.0f && ahead + behind < kInfinity)) {
        return false;
    }
    const float kink = ahead / (ahead + behind);
    const float highest = mix(left[rivals.left], right[rivals.left], kink);
    const float rounding = 1e-5f * (std::abs(left[rivals.left]) + std::abs(right[rivals.left]) +
                                    std::abs(left[rivals.right]) + std::abs(right[rivals.right]));
    const float bound = highest - rounding;
    int above = 0;
    for (std::int64_t k = 0; k < classes; ++k) {
        above += mix(left[k], right[k], kink) < bound ? 0 : 1;  // NaN counts as above
    }
    return above == 2;  // the rivals themselves
}

// The pixels between two cells, of two classes alone.
inline void interpolate_rivals(const float* left, const float* right, Rivals rivals,
                               const float* weights, std::int64_t pixels, std::uint8_t* labels) {
    const float left_from = left[rivals.left];
    const float left_to = right[rivals.left];
    const float right_from = left[rivals.right];
    const float right_to = right[rivals.right];
    const std::uint8_t at_tie = std::min(rivals.left, rivals.right);
    for (std::int64_t i = 0; i < pixels; ++i) {
        const float one = mix(left_from, left_to, weights[i]);
        const float other = mix(right_from, right_to, weights[i]);
        const std::uint8_t label = one > other ? rivals.left : rivals.right;
        labels[i] = one == other ? at_tie : label;
    }
}

// Whether class k, which wins at both ends, wins at every point between them. A class that is
// NaN at an end is NaN between; an infinite winner may meet an infinity of the other sign.
inline bool wins_between(const float* left, const float* right, std::int64_t k) {
    return std::isfinite(left[k]) && std::isfinite(right[k]);
}

// The same for a class that wins in the left and the right cell of an output row.
inline bool wins_across(const DecodeArgs& args, const Tap& tap, const Span& span, std::int64_t k) {
    const std::int64_t classes = args.size.classes;
    const auto at = [&](std::int64_t row, std::int64_t x) {
        return args.scores + (row * args.size.width + x) * classes;
    };
    return wins_between(at(tap.low, span.low), at(tap.low, span.high), k) &&
           wins_between(at(tap.high, span.low), at(tap.high, span.high), k);
}

// The scores of a cell of an output row, interpolated on first use.
inline const float* cell_scores(const DecodeArgs& args, const RowScratch& scratch, const Tap& tap,
                                std::int64_t x) {
    const std::int64_t classes = args.size.classes;
    const float* upper = args.scores + (tap.low * args.size.width + x) * classes;
    if (tap.high == tap.low) {
        return upper;
    }
    float* mixed = scratch.scores + x * classes;
    if (scratch.is_mixed[x] == 0) {
        const float* lower = args.scores + (tap.high * args.size.width + x) * classes;
        for (std::int64_t k = 0; k < classes; ++k) {
            mixed[k] = mix(upper[k], lower[k], tap.weight);
        }
        scratch.is_mixed[x] = 1;
    }
    return mixed;
}

// The best class of each cell of an output row.
inline void find_winners(const DecodeArgs& args, const RowScratch& scratch, const Tap& tap) {
    const std::int64_t width = args.size.width;
    const std::int64_t classes = args.size.classes;
    const std::uint8_t* above = args.winners + tap.low * width;
    const std::uint8_t* below = args.winners + tap.high * width;
    for (std::int64_t x = 0; x < width; ++x) {
        const float* upper = args.scores + (tap.low * width + x) * classes;
        const float* lower = args.scores + (tap.high * width + x) * classes;
        if (above[x] == below[x] && wins_between(upper, lower, above[x])) {
            scratch.winner[x] = above[x];
        } else {
            scratch.winner[x] = cell_winner(cell_scores(args, scratch, tap, x), classes);
        }
    }
}

// The probability of each pixel's label, interpolated between four cells, as a byte.
inline void write_confidence(const DecodeArgs& args, const Tap& tap, std::int64_t y) {
    const DecodeSize& size = args.size;
    const std::uint8_t* labels = args.labels + y * size.out_width;
    std::uint8_t* confidence = args.confidence + y * size.out_width;
    const float* above = args.probabilities + tap.low * size.width * size.classes;
    const float* below = args.probabilities + tap.high * size.width * size.classes;
    for (std::int64_t s = 0; s < args.span_count; ++s) {
        const Span span = args.spans[s];
        const std::int64_t left = span.low * size.classes;
        const std::int64_t right = span.high * size.classes;
        for (std::int64_t x = span.begin; x < span.end; ++x) {
            const std::int64_t k = labels[x];
            const float low = mix(above[left + k], below[left + k], tap.weight);
            const float high = mix(above[right + k], below[right + k], tap.weight);
            confidence[x] = probability_to_byte(mix(low, high, args.weights[x]));
        }
    }
}

void decode_rows(const DecodeArgs& args, RowScratch scratch, std::int64_t begin,
                 std::int64_t end) {
    const DecodeSize& size = args.size;
    for (std::int64_t y = begin; y < end; ++y) {
        const Tap tap = half_pixel_tap(y, size.height, size.out_height);
        std::fill_n(scratch.is_mixed, size.width, std::uint8_t{0});
        find_winners(args, scratch, tap);
        std::uint8_t* labels = args.labels + y * size.out_width;
        for (std::int64_t s = 0; s < args.span_count; ++s) {
            const Span span = args.spans[s];
            const std::uint8_t winner = scratch.winner[span.low];
            bool is_filled = span.low == span.high;
            if (!is_filled && winner == scratch.winner[span.high]) {
                is_filled = wins_across(args, tap, span, winner);
            }
            if (is_filled) {
                std::fill(labels + span.begin, labels + span.end, winner);
                continue;
            }
            const float* left = cell_scores(args, scratch, tap, span.low);
            const float* right = cell_scores(args, scratch, tap, span.high);
            const float* weights = args.weights + span.begin;
            const std::int64_t pixels = span.end - span.begin;
            const Rivals rivals{winner, scratch.winner[span.high]};
            if (are_alone(left, right, rivals, size.classes)) {
                interpolate_rivals(left, right, rivals, weights, pixels, labels + span.begin);
            } else {
                interpolate_span(left, right, weights, pixels, size.classes, labels + span.begin);
            }
        }
        if (args.confidence != nullptr) {
            write_confidence(args, tap, y);
        }
    }
}

// Softmax of a cell's scores.
void softmax(const float* scores, float* probabilities, std::int64_t classes) {
    const float best = greatest([scores](std::int32_t k) { return scores[k]; },
                                static_cast<std::int32_t>(classes));
    float sum = 0.0f;
    for (std::int64_t k = 0; k < classes; ++k) {
        probabilities[k] = softmax_share(scores[k], best);
        sum += probabilities[k];
    }
    for (std::int64_t k = 0; k < classes; ++k) {
        probabilities[k] = sum > 0.0f ? probabilities[k] / sum : 0.0f;
    }
}

std::vector<Span> cut_spans(const DecodeSize& size, std::vector<float>& weights) {
    std::vector<Span> spans;
    for (std::int64_t x = 0; x < size.out_width; ++x) {
        const Tap tap = half_pixel_tap(x, size.width, size.out_width);
        weights[static_cast<std::size_t>(x)] = tap.weight;
        const bool continues = !spans.empty() && spans.back().low == tap.low &&
                               spans.back().high == tap.high;
        if (continues) {
            spans.back().end = x + 1;
        } else {
            spans.push_back({x, x + 1, tap.low, tap.high});
        }
    }
    return spans;
}

Status decode_checked(const float* scores, std::uint8_t* labels, std::uint8_t* confidence,
                      const DecodeSize& size, int threads) {
    const auto cells = static_cast<std::size_t>(size.height * size.width);
    const auto classes = static_cast<std::size_t>(size.classes);
    std::vector<std::uint8_t> winners(cells);
    for (std::size_t i = 0; i < cells; ++i) {
        winners[i] = cell_winner(scores + i * classes, size.classes);
    }
    std::vector<float> probabilities(confidence != nullptr ? cells * classes : 0);
    for (std::size_t i = 0; confidence != nullptr && i < cells; ++i) {
        softmax(scores + i * classes, probabilities.data() + i * classes, size.classes);
    }
    std::vector<float> weights(static_cast<std::size_t>(size.out_width + kBlock));
    const std::vector<Span> spans = cut_spans(size, weights);
    const DecodeArgs args{scores,
                          winners.data(),
                          probabilities.data(),
                          confidence,
                          labels,
                          size,
                          spans.data(),
                          static_cast<std::int64_t>(spans.size()),
                          weights.data()};
    std::atomic<bool> out_of_memory{false};
    split_rows(size.out_height, threads, [&](std::int64_t begin, std::int64_t end) {
        try {
            const auto width = static_cast<std::size_t>(size.width);
            std::vector<float> mixed(width * classes);
            std::vector<std::uint8_t> is_mixed(width);
            std::vector<std::uint8_t> winner(width);
            decode_rows(args, {mixed.data(), is_mixed.data(), winner.data()}, begin, end);
        } catch (const std::bad_alloc&) {
            out_of_memory = true;
        }
    });
    return out_of_memory ? Status::kOutOfMemory : Status::kOk;
}

}  // namespace

Status decode_cpu(const float* scores, std::uint8_t* labels, std::uint8_t* confidence,
                  DecodeSize size, int threads) noexcept {
    if (size.height < 1 || size.width < 1 || size.classes < 1 || size.classes > kMaxClasses ||
        size.out_height < 0 || size.out_width < 0) {
        return Status::kBadSize;
    }
    if (size.out_height == 0 || size.out_width == 0) {
        return Status::kOk;
    }
    if (scores == nullptr || labels == nullptr) {
        return Status::kNullPointer;
    }
    try {
        return decode_checked(scores, labels, confidence, size, threads);
    } catch (const std::bad_alloc&) {
        return Status::kOutOfMemory;
    }
}

}  // namespace dff
