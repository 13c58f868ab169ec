// Belief propagation on two layers, one of u and one of v: of a window of n x n displacements a
// pixel has 2 n states instead of n * n. The layers meet in the cost of matching, which is of both.
//
// A layer is swept along its rows, to the right and back, then along its columns. What a sweep
// along a row reads was written in that row or before the sweep; so rows (columns) go to threads,
// and no thread changes the result.
//
// Source: Liu, Yuen, Torralba, SIFT Flow: Dense Correspondence across Scenes and Its Applications,
//     TPAMI 2011, Eq. 1 and section 2.2.

#include "siftflow/matching.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "common/parallel.h"
#include "common/simd.h"

namespace dff {
namespace {

enum From { kLeft, kRight, kAbove, kBelow, kOther, kSenders };  // kOther: the other layer

std::size_t count(std::int64_t n) { return static_cast<std::size_t>(n); }

DFF_CLONES int distance(const std::uint8_t* a, const std::uint8_t* b) {
    int sum = 0;
    for (int i = 0; i < kSiftSize; ++i) sum += std::abs(a[i] - b[i]);
    return sum;
}

float match_cost(const SiftImage& first, const SiftImage& second, std::int64_t y, std::int64_t x,
                 std::int64_t u, std::int64_t v, float limit) {
    if (y + v < 0 || y + v >= second.height || x + u < 0 || x + u >= second.width) return limit;
    const int sum = distance(first.at(y, x), second.at(y + v, x + u));
    return std::min(static_cast<float>(sum), limit);
}

// The components of the displacements in one direction, as a field of messages.
class Layer {
public:
    Layer(std::vector<std::int32_t>& middles, std::int64_t height, std::int64_t width, int states,
          const SiftFlowWeights& weights)
        : middles_(middles), height_(height), width_(width), states_(states), weights_(weights),
          messages_(count(height * width * kSenders * states)) {}

    float* message(std::int64_t pixel, From sender) {
        return messages_.data() + (pixel * kSenders + sender) * states_;
    }

    // Belief of a pixel about its states: displacement cost and all messages but one.
    void belief(std::int64_t pixel, From without, float* out) const {
        const int first = middles_[count(pixel)] - states_ / 2;
        for (int s = 0; s < states_; ++s) {
            out[s] = weights_.displacement * static_cast<float>(std::abs(first + s));
        }
        const float* incoming = messages_.data() + pixel * kSenders * states_;
        for (int sender = 0; sender < kSenders; ++sender, incoming += states_) {
            if (sender == without) continue;
            for (int s = 0; s < states_; ++s) out[s] += incoming[s];
        }
    }

    void sweep(int threads) {
        split_rows(height_, threads, [this](std::int64_t begin, std::int64_t end) {
            float known[kMaxStates];
            for (std::int64_t y = begin; y < end; ++y) {
                const std::int64_t row = y * width_;
                for (std::int64_t x = 0; x + 1 < width_; ++x) {
                    send(row + x, row + x + 1, kRight, kLeft, known);
                }
                for (std::int64_t x = width_ - 1; x > 0; --x) {
                    send(row + x, row + x - 1, kLeft, kRight, known);
                }
            }
        });
        split_rows(width_, threads, [this](std::int64_t begin, std::int64_t end) {
            float known[kMaxStates];
            for (std::int64_t y = 0; y + 1 < height_; ++y) {
                for (std::int64_t p = y * width_ + begin; p < y * width_ + end; ++p) {
                    send(p, p + width_, kBelow, kAbove, known);
                }
            }
            for (std::int64_t y = height_ - 1; y > 0; --y) {
                for (std::int64_t p = y * width_ + begin; p < y * width_ + end; ++p) {
                    send(p, p - width_, kAbove, kBelow, known);
                }
            }
        });
    }

    // The best state of each pixel becomes its displacement.
    void decide() {
        float known[kMaxStates];
        for (std::int64_t p = 0; p < height_ * width_; ++p) {
            belief(p, kSenders, known);
            const auto best = std::min_element(known, known + states_) - known;
            middles_[count(p)] += static_cast<std::int32_t>(best) - states_ / 2;
        }
    }

private:
    // Sends a message to `to`: the belief of `from`, less the message from `to`: for each state of
    // `to` the least over the states of `from`. Messages are relative to their least value, so that
    // they stay small.
    void send(std::int64_t from, std::int64_t to, From receiver, From sender, float* known) {
        belief(from, receiver, known);
        float* out = message(to, sender);
        const std::int32_t apart = middles_[count(to)] - middles_[count(from)];
        const float least = *std::min_element(known, known + states_);
        for (int t = 0; t < states_; ++t) {
            float best = least + weights_.smooth_limit;
            for (int s = 0; s < states_; ++s) {
                const float step = static_cast<float>(std::abs(apart + t - s));
                best = std::min(best, known[s] + weights_.smoothness * step);
            }
            out[t] = best - least;
        }
    }

    std::vector<std::int32_t>& middles_;
    const std::int64_t height_;
    const std::int64_t width_;
    const int states_;
    const SiftFlowWeights weights_;
    std::vector<float> messages_;  // (pixels, senders, states)
};

// Cost of every pair of states of every pixel, (pixels, states of v, states of u).
std::vector<float> match_costs(const SiftImage& first, const SiftImage& second,
                               const Displacements& middles, float limit, int radius,
                               int threads) {
    const int states = 2 * radius + 1;
    std::vector<float> costs(count(first.height * first.width * states * states));
    split_rows(first.height, threads, [&](std::int64_t begin, std::int64_t end) {
        float* out = costs.data() + begin * first.width * states * states;
        for (std::int64_t y = begin; y < end; ++y) {
            for (std::int64_t x = 0; x < first.width; ++x) {
                const std::size_t p = count(y * first.width + x);
                for (int j = -radius; j <= radius; ++j) {
                    for (int i = -radius; i <= radius; ++i, ++out) {
                        *out = match_cost(first, second, y, x, middles.u[p] + i,
                                          middles.v[p] + j, limit);
                    }
                }
            }
        }
    });
    return costs;
}

// Each pixel of one layer sends its belief to the other layer, through the cost of matching.
// `step` and `other_step` are the distances of states in the costs of a pixel.
void tell(Layer& from, Layer& to, const std::vector<float>& costs, std::int64_t pixels, int states,
          int step, int other_step, int threads) {
    split_rows(pixels, threads, [&](std::int64_t begin, std::int64_t end) {
        float known[kMaxStates];
        for (std::int64_t p = begin; p < end; ++p) {
            from.belief(p, kOther, known);
            const float* cost = costs.data() + p * states * states;
            float* out = to.message(p, kOther);
            for (int t = 0; t < states; ++t) {
                float best = std::numeric_limits<float>::infinity();
                for (int s = 0; s < states; ++s) {
                    best = std::min(best, known[s] + cost[t * other_step + s * step]);
                }
                out[t] = best;
            }
            const float least = *std::min_element(out, out + states);
            for (int t = 0; t < states; ++t) out[t] -= least;
        }
    });
}

}  // namespace

double siftflow_energy(const SiftImage& first, const SiftImage& second,
                       const Displacements& displacements, const SiftFlowWeights& weights) {
    const auto& [u, v] = displacements;
    const auto apart = [&weights](std::int32_t a, std::int32_t b) {
        return std::min(weights.smoothness * static_cast<float>(std::abs(a - b)),
                        weights.smooth_limit);
    };
    double energy = 0.0;
    for (std::int64_t y = 0; y < first.height; ++y) {
        for (std::int64_t x = 0; x < first.width; ++x) {
            const std::size_t p = count(y * first.width + x);
            energy += match_cost(first, second, y, x, u[p], v[p], weights.match_limit);
            energy += weights.displacement * static_cast<float>(std::abs(u[p]) + std::abs(v[p]));
            if (x + 1 < first.width) {
                energy += apart(u[p], u[p + 1]) + apart(v[p], v[p + 1]);
            }
            if (y + 1 < first.height) {
                const std::size_t below = p + count(first.width);
                energy += apart(u[p], u[below]) + apart(v[p], v[below]);
            }
        }
    }
    return energy;
}

void refine_displacements(const SiftImage& first, const SiftImage& second,
                          Displacements& displacements, const SiftFlowWeights& weights, int radius,
                          int iterations, int threads) {
    const int states = 2 * radius + 1;
    const std::int64_t pixels = first.height * first.width;
    const std::vector<float> costs =
        match_costs(first, second, displacements, weights.match_limit, radius, threads);
    Layer u(displacements.u, first.height, first.width, states, weights);
    Layer v(displacements.v, first.height, first.width, states, weights);
    for (int i = 0; i < iterations; ++i) {
        tell(v, u, costs, pixels, states, states, 1, threads);
        u.sweep(threads);
        tell(u, v, costs, pixels, states, 1, states, threads);
        v.sweep(threads);
    }
    u.decide();
    v.decide();
}

}  // namespace dff
