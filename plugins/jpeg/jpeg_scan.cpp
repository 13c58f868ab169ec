#include "jpeg/jpeg_scan.h"

#include <algorithm>
#include <cstdlib>

#include "common/simd.h"

namespace dff {
namespace {

// All AC coefficients of a block in sequential order: only their number is checked.
DFF_INLINE JpegFault check_ac(const JpegCodes& codes, JpegBits& bits) {
    int k = 1;
    while (k < 64) {
        bits.fill();
        const JpegCodes::Codes next = codes.look_up(bits);
        if (next.bits != 0 && k + next.coefficients < 64) {
            bits.skip(next.bits);
            if (next.is_end) {
                return JpegFault::kNone;
            }
            k += next.coefficients;
            continue;
        }
        const int symbol = codes.take(bits);  // one only: the block may end behind it
        if (symbol == 0) {
            return JpegFault::kNone;
        }
        const int size = symbol & 15;
        const int zeros = symbol >> 4;
        if (symbol < 0 || (size == 0 && zeros != 15)) {
            return JpegFault::kBadCode;
        }
        bits.skip(size);
        k += zeros + 1;
    }
    return k == 64 ? JpegFault::kNone : JpegFault::kBadCoefficient;
}

}  // namespace

JpegFault JpegScanCheck::check(const std::uint8_t** position, const std::uint8_t* end) {
    const std::uint8_t*& at = *position;
    const JpegComponent& only = *scan_.parts[0].component;
    const std::int64_t mcus =
        scan_.count == 1 ? only.blocks_w * only.blocks_h : headers_.mcus();
    const bool has_restarts = headers_.restart_interval() > 0;
    const std::int64_t interval = has_restarts ? headers_.restart_interval() : mcus;
    int restart = 0;
    for (std::int64_t first = 0; first < mcus; first += interval) {
        if (first > 0) {
            while (end - at >= 2 && at[0] == 0xFF && at[1] == 0xFF) {
                ++at;
            }
            if (end - at < 2) {
                return JpegFault::kCutOff;
            }
            if (at[1] < kRst0 || at[1] > kRst7) {
                return JpegFault::kCutOff;  // another marker, before all was there
            }
            if (at[1] != kRst0 + restart) {
                return JpegFault::kBadRestart;
            }
            at += 2;
            restart = (restart + 1) % 8;
        }
        for (int i = 0; i < scan_.count; ++i) {
            scan_.parts[static_cast<std::size_t>(i)].component->prediction = 0;
        }
        run_ = 0;
        JpegBits bits(at, end);
        const JpegFault fault = check_interval(bits, first, std::min(first + interval, mcus));
        const std::int64_t left = bits.bytes_left();
        at = bits.segment_end();
        if (fault != JpegFault::kNone) {
            return fault;
        }
        if (run_ != 0) {
            return JpegFault::kBadCode;
        }
        if (left > 0) {
            if (left > kJpegSlack || !*has_slack_) {
                return JpegFault::kLeftOver;
            }
            *has_slack_ = false;
        }
    }
    if (end - at > 2 && has_restarts && at[1] == kRst0 + restart && at[2] == 0xFF) {
        at += 2;  // one behind the last interval too
    }
    return JpegFault::kNone;
}

JpegFault JpegScanCheck::check_interval(JpegBits& bits, std::int64_t first, std::int64_t last) {
    for (std::int64_t mcu = first; mcu < last; ++mcu) {
        for (int i = 0; i < scan_.count; ++i) {
            const JpegScanComponent& part = scan_.parts[static_cast<std::size_t>(i)];
            const int blocks =
                scan_.count == 1 ? 1 : part.component->h * part.component->v;
            for (int n = 0; n < blocks; ++n) {
                const JpegFault fault = headers_.is_progressive()
                                            ? check_progressive(part, bits, mcu)
                                            : check_sequential(part, bits);
                if (fault != JpegFault::kNone) {
                    return bits.has_overrun() ? JpegFault::kCutOff : fault;
                }
            }
        }
        if (bits.has_overrun()) {
            return JpegFault::kCutOff;
        }
    }
    return JpegFault::kNone;
}

JpegFault JpegScanCheck::check_sequential(const JpegScanComponent& part, JpegBits& bits) const {
    const JpegFault fault = check_dc(part, 0, bits);
    return fault == JpegFault::kNone ? check_ac(*part.ac, bits) : fault;
}

// AC coefficients come for one component alone: then an MCU is one block.
JpegFault JpegScanCheck::check_progressive(const JpegScanComponent& part, JpegBits& bits,
                                           std::int64_t mcu) {
    if (scan_.first == 0) {
        if (scan_.high == 0) {
            return check_dc(part, scan_.low, bits);
        }
        bits.take(1);
        return JpegFault::kNone;
    }
    std::uint64_t& nonzero = part.component->nonzero[static_cast<std::size_t>(mcu)];
    return scan_.high == 0 ? check_ac_first(part, bits, nonzero)
                          : check_ac_more(part, bits, nonzero);
}

JpegFault JpegScanCheck::check_dc(const JpegScanComponent& part, int low, JpegBits& bits) const {
    const int size = part.dc->take(bits);
    if (size < 0 || size > headers_.precision() + 3) {
        return JpegFault::kBadCode;
    }
    if (size > 0) {  // its bits are there: fill() gives 32, a code takes 16 of them
        const auto value = static_cast<int>(bits.peek(size));
        bits.skip(size);
        part.component->prediction += value < 1 << (size - 1) ? value + 1 - (1 << size) : value;
    }
    // The mean of a block lies within the samples' range, which is 2^precision / 2 on both sides of
    // zero and comes eightfold; a step more for quantisation, and 8 for the rounding of encoders.
    const std::int64_t step = headers_.dc_step(*part.component);
    const std::int64_t value = std::int64_t{part.component->prediction} * (1 << low) * step;
    const std::int64_t limit = (std::int64_t{4} << headers_.precision()) + (step << low) + 8;
    return std::abs(value) <= limit ? JpegFault::kNone : JpegFault::kBadCoefficient;
}

JpegFault JpegScanCheck::check_ac_first(const JpegScanComponent& part, JpegBits& bits,
                                        std::uint64_t& nonzero) {
    if (run_ > 0) {
        --run_;
        return JpegFault::kNone;
    }
    for (int k = scan_.first; k <= scan_.last; ++k) {
        const int symbol = part.ac->take(bits);
        if (symbol < 0) {
            return JpegFault::kBadCode;
        }
        const int run = symbol >> 4;
        const int size = symbol & 15;
        if (size == 0 && run < 15) {
            run_ = (std::int64_t{1} << run) + static_cast<std::int64_t>(bits.take(run)) - 1;
            return JpegFault::kNone;
        }
        k += run;
        if (k > scan_.last) {
            return JpegFault::kBadCoefficient;
        }
        if (size > 0) {
            bits.take(size);
            nonzero |= std::uint64_t{1} << k;
        }
    }
    return JpegFault::kNone;
}

JpegFault JpegScanCheck::check_ac_more(const JpegScanComponent& part, JpegBits& bits,
                                       std::uint64_t& nonzero) {
    int k = scan_.first;
    while (run_ == 0 && k <= scan_.last) {
        const int symbol = part.ac->take(bits);
        if (symbol < 0) {
            return JpegFault::kBadCode;
        }
        int run = symbol >> 4;
        const int size = symbol & 15;
        if (size > 1) {
            return JpegFault::kBadCode;
        }
        if (size == 1) {
            bits.take(1);  // its sign
        } else if (run < 15) {
            run_ = (std::int64_t{1} << run) + static_cast<std::int64_t>(bits.take(run));
            break;
        }
        // Over `run` coefficients that are zero so far; the others each have a bit here.
        for (; k <= scan_.last; ++k) {
            if ((nonzero >> k & 1) != 0) {
                bits.take(1);
            } else if (run-- == 0) {
                break;
            }
        }
        if (size == 1) {
            if (k > scan_.last) {
                return JpegFault::kBadCoefficient;
            }
            nonzero |= std::uint64_t{1} << k;
        }
        ++k;
    }
    if (run_ > 0) {
        --run_;
        for (; k <= scan_.last; ++k) {
            if ((nonzero >> k & 1) != 0) {
                bits.take(1);
            }
        }
    }
    return JpegFault::kNone;
}

}  // namespace dff
