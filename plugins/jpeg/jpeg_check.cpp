// Walks through the segments of a JPEG and decodes its Huffman codes, and keeps nothing but what
// the next code's meaning depends on.
//
// Test alone: cmake -S plugins -B build && cmake --build build && ctest --test-dir build -R jpeg

#include "jpeg/jpeg_check.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <iterator>
#include <new>
#include <vector>

#include "common/simd.h"
#include "jpeg/huffman.h"

namespace dff {
namespace {

constexpr int kMaxScans = 200;  // progressive encoders make about ten

enum Marker : std::uint8_t {
    kSof0 = 0xC0,
    kSof1 = 0xC1,
    kSof2 = 0xC2,
    kDht = 0xC4,
    kSof15 = 0xCF,
    kJpg = 0xC8,
    kDac = 0xCC,
    kRst0 = 0xD0,
    kRst7 = 0xD7,
    kSoi = 0xD8,
    kEoi = 0xD9,
    kSos = 0xDA,
    kDqt = 0xDB,
    kDri = 0xDD,
    kJpegLs = 0xF7,
    kTem = 0x01,
};

int word(const std::uint8_t* at) { return at[0] << 8 | at[1]; }

struct Component {
    int id = 0;
    int h = 1, v = 1;  // sampling factors
    int table = 0;     // of quantisation
    std::int64_t blocks_w = 0, blocks_h = 0;  // that hold pixels
    int prediction = 0;
    // Of progressive pictures: for each coefficient the lowest bit that has been sent (-1: none),
    // and for each block which coefficients are not zero so far.
    std::array<std::int8_t, 64> sent_to{};
    std::vector<std::uint64_t> nonzero;
};

struct ScanComponent {
    Component* component = nullptr;
    const JpegCodes* dc = nullptr;
    const JpegCodes* ac = nullptr;
};

struct Scan {
    std::array<ScanComponent, 4> parts;
    int count = 0;
    int first = 0, last = 63;  // coefficients
    int high = 0, low = 0;     // bits of them: the scan brings them from `high` down to `low`
};

class Checker {
public:
    Checker(const std::uint8_t* data, std::int64_t size)
        : at_(data), end_(data + size) {}

    // Checks the picture that begins here, up to its end mark. Throws std::bad_alloc.
    JpegFault check_picture();

    const std::uint8_t* at() const { return at_; }
    // Of the frame header that was read; 0 before.
    int height() const { return height_; }
    int width() const { return width_; }

private:
    JpegFault read_segment(std::uint8_t marker, const std::uint8_t* body, std::int64_t size);
    JpegFault read_codes(const std::uint8_t* body, std::int64_t size);
    JpegFault read_quantisation(const std::uint8_t* body, std::int64_t size);
    JpegFault read_frame(std::uint8_t marker, const std::uint8_t* body, std::int64_t size);
    JpegFault read_scan(const std::uint8_t* body, std::int64_t size);
    const JpegCodes* codes_for(bool is_ac, int number);
    JpegFault check_progression(const Scan& scan);
    JpegFault check_data(const Scan& scan);
    JpegFault check_interval(const Scan& scan, JpegBits& bits, std::int64_t first, std::int64_t last);
    JpegFault check_sequential(const ScanComponent& part, JpegBits& bits) const;
    JpegFault check_progressive(const Scan& scan, const ScanComponent& part, JpegBits& bits,
                                std::int64_t mcu);
    JpegFault check_dc(const ScanComponent& part, int low, JpegBits& bits) const;
    JpegFault check_ac_first(const Scan& scan, const ScanComponent& part, JpegBits& bits,
                             std::uint64_t& nonzero);
    JpegFault check_ac_more(const Scan& scan, const ScanComponent& part, JpegBits& bits,
                            std::uint64_t& nonzero);
    JpegFault finish() const;

    const std::uint8_t* at_;
    const std::uint8_t* end_;

    std::array<JpegCodes, 4> dc_codes_, ac_codes_;
    std::array<int, 4> dc_step_{};  // of quantisation; 0: no such table
    std::vector<Component> components_;
    bool has_frame_ = false;
    bool is_progressive_ = false;
    int precision_ = 8;
    int height_ = 0, width_ = 0;
    int max_h_ = 1, max_v_ = 1;
    std::int64_t mcus_w_ = 0, mcus_h_ = 0;
    int restart_interval_ = 0;
    int scans_ = 0;
    std::array<bool, 4> is_seen_{};
    std::int64_t run_ = 0;  // blocks that are at their end (EOBRUN)
    bool has_slack_ = true;
};

JpegFault Checker::check_picture() {
    if (end_ - at_ < 2 || at_[0] != 0xFF || at_[1] != kSoi) {
        return JpegFault::kNoStart;
    }
    at_ += 2;
    while (true) {
        at_ = std::find(at_, end_, 0xFF);  // whatever stands between segments is no part of them
        at_ = std::find_if(at_, end_, [](std::uint8_t byte) { return byte != 0xFF; });
        if (at_ >= end_) {
            return finish();
        }
        const std::uint8_t marker = *at_++;
        if (marker == kEoi) {
            return finish();
        }
        if (marker == 0 || marker == kTem) {
            continue;
        }
        if (marker == kSoi || (marker >= kRst0 && marker <= kRst7)) {
            return scans_ > 0 ? JpegFault::kBadRestart : JpegFault::kBadHeader;
        }
        if (end_ - at_ < 2 || end_ - at_ < word(at_)) {
            return JpegFault::kCutOff;
        }
        const int length = word(at_);
        if (length < 2) {
            return JpegFault::kBadHeader;
        }
        const std::uint8_t* body = at_ + 2;
        at_ += length;
        const JpegFault fault = read_segment(marker, body, length - 2);
        if (fault != JpegFault::kNone) {
            return fault;
        }
    }
}

JpegFault Checker::read_segment(std::uint8_t marker, const std::uint8_t* body, std::int64_t size) {
    switch (marker) {
        case kDht: return read_codes(body, size);
        case kDqt: return read_quantisation(body, size);
        case kDri:
            if (size < 2) {
                return JpegFault::kBadHeader;
            }
            restart_interval_ = word(body);
            return JpegFault::kNone;
        case kSos: return read_scan(body, size);
        case kDac:
        case kJpegLs: return JpegFault::kNotChecked;
        default: break;
    }
    if (marker >= kSof0 && marker <= kSof15 && marker != kJpg) {
        return read_frame(marker, body, size);
    }
    return JpegFault::kNone;  // application data and comments
}

JpegFault Checker::read_codes(const std::uint8_t* body, std::int64_t size) {
    while (size > 0) {
        if (size < 17) {
            return JpegFault::kBadHeader;
        }
        const int kind = body[0] >> 4;
        const auto number = static_cast<std::size_t>(body[0] & 15);
        int symbols = 0;
        for (int i = 1; i <= 16; ++i) {
            symbols += body[i];
        }
        if (kind > 1 || number > 3 || symbols > 256 || size < 17 + symbols) {
            return JpegFault::kBadHeader;
        }
        JpegCodes& codes = kind == 0 ? dc_codes_[number] : ac_codes_[number];
        if (!codes.build(body + 1, body + 17, symbols)) {
            return JpegFault::kBadHeader;
        }
        body += 17 + symbols;
        size -= 17 + symbols;
    }
    return JpegFault::kNone;
}

JpegFault Checker::read_quantisation(const std::uint8_t* body, std::int64_t size) {
    while (size > 0) {
        const bool is_wide = (body[0] >> 4) != 0;
        const int number = body[0] & 15;
        const int length = is_wide ? 129 : 65;
        if (body[0] >> 4 > 1 || number > 3 || size < length) {
            return JpegFault::kBadHeader;
        }
        const int step = is_wide ? word(body + 1) : body[1];
        if (step == 0) {
            return JpegFault::kBadHeader;
        }
        dc_step_[static_cast<std::size_t>(number)] = step;
        body += length;
        size -= length;
    }
    return JpegFault::kNone;
}

JpegFault Checker::read_frame(std::uint8_t marker, const std::uint8_t* body, std::int64_t size) {
    if (has_frame_ || size < 6) {
        return JpegFault::kBadHeader;
    }
    if (marker != kSof0 && marker != kSof1 && marker != kSof2) {
        return JpegFault::kNotChecked;
    }
    has_frame_ = true;
    is_progressive_ = marker == kSof2;
    precision_ = body[0];
    height_ = word(body + 1);
    width_ = word(body + 3);
    const int count = body[5];
    if ((precision_ != 8 && precision_ != 12) || width_ == 0 || count < 1 || count > 4 ||
        size < 6 + 3 * count) {
        return JpegFault::kBadHeader;
    }
    if (height_ == 0) {  // it is told behind the first scan (DNL), which no decoder of ours reads
        return JpegFault::kNotChecked;
    }
    components_.resize(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) {
        Component& component = components_[static_cast<std::size_t>(i)];
        const std::uint8_t* entry = body + 6 + 3 * i;
        component.id = entry[0];
        component.h = entry[1] >> 4;
        component.v = entry[1] & 15;
        component.table = entry[2];
        if (component.h < 1 || component.h > 4 || component.v < 1 || component.v > 4 ||
            component.table > 3) {
            return JpegFault::kBadHeader;
        }
        max_h_ = std::max(max_h_, component.h);
        max_v_ = std::max(max_v_, component.v);
    }
    const auto divide_up = [](std::int64_t a, std::int64_t b) { return (a + b - 1) / b; };
    mcus_w_ = divide_up(width_, 8 * max_h_);
    mcus_h_ = divide_up(height_, 8 * max_v_);
    for (Component& component : components_) {
        component.blocks_w = divide_up(divide_up(std::int64_t{width_} * component.h, max_h_), 8);
        component.blocks_h = divide_up(divide_up(std::int64_t{height_} * component.v, max_v_), 8);
        component.sent_to.fill(-1);
        if (is_progressive_) {
            component.nonzero.resize(
                static_cast<std::size_t>(component.blocks_w * component.blocks_h));
        }
    }
    return JpegFault::kNone;
}

JpegFault Checker::read_scan(const std::uint8_t* body, std::int64_t size) {
    if (!has_frame_ || size < 1) {
        return JpegFault::kBadHeader;
    }
    if (++scans_ > kMaxScans) {
        return JpegFault::kTooManyScans;
    }
    Scan scan;
    scan.count = body[0];
    if (scan.count < 1 || scan.count > 4 || size < 4 + 2 * scan.count) {
        return JpegFault::kBadHeader;
    }
    const std::uint8_t* tail = body + 1 + 2 * scan.count;
    if (is_progressive_) {
        scan.first = tail[0];
        scan.last = tail[1];
        scan.high = tail[2] >> 4;
        scan.low = tail[2] & 15;
        if (scan.last > 63 || scan.first > scan.last || (scan.first == 0 && scan.last != 0) ||
            (scan.first > 0 && scan.count != 1)) {
            return JpegFault::kBadHeader;
        }
    }
    for (int i = 0; i < scan.count; ++i) {
        const std::uint8_t* entry = body + 1 + 2 * i;
        ScanComponent& part = scan.parts[static_cast<std::size_t>(i)];
        for (std::size_t c = 0; c < components_.size(); ++c) {
            if (components_[c].id == entry[0] && part.component == nullptr) {
                part.component = &components_[c];
                is_seen_[c] = true;
            }
        }
        const int dc = entry[1] >> 4;
        const int ac = entry[1] & 15;
        if (part.component == nullptr || dc > 3 || ac > 3) {
            return JpegFault::kBadHeader;
        }
        const bool needs_dc = scan.first == 0 && scan.high == 0;
        const bool needs_ac = scan.last > 0;
        part.dc = needs_dc ? codes_for(false, dc) : nullptr;
        part.ac = needs_ac ? codes_for(true, ac) : nullptr;
        if ((needs_dc && part.dc == nullptr) || (needs_ac && part.ac == nullptr) ||
            dc_step_[static_cast<std::size_t>(part.component->table)] == 0) {
            return JpegFault::kNoTable;
        }
    }
    if (is_progressive_) {
        if (const JpegFault fault = check_progression(scan); fault != JpegFault::kNone) {
            return fault;
        }
    }
    return check_data(scan);
}

// The table that a scan names, null where there is none.
const JpegCodes* Checker::codes_for(bool is_ac, int number) {
    JpegCodes& codes = (is_ac ? ac_codes_ : dc_codes_)[static_cast<std::size_t>(number)];
    if (!codes.is_defined() && number < 2) {
        codes.build_standard(is_ac, number);
    }
    if (!codes.is_defined()) {
        return nullptr;
    }
    if (is_ac && !is_progressive_) {
        codes.build_runs();
    }
    return &codes;
}

// Each coefficient comes first from the top down to some bit, then bit by bit.
JpegFault Checker::check_progression(const Scan& scan) {
    for (int i = 0; i < scan.count; ++i) {
        auto& sent_to = scan.parts[static_cast<std::size_t>(i)].component->sent_to;
        for (int k = scan.first; k <= scan.last; ++k) {
            auto& bit = sent_to[static_cast<std::size_t>(k)];
            const bool is_first = scan.high == 0 && bit < 0;
            const bool is_next = scan.high > 0 && bit == scan.high && scan.low == scan.high - 1;
            if ((!is_first && !is_next) || scan.low > 13) {
                return JpegFault::kBadHeader;
            }
            bit = static_cast<std::int8_t>(scan.low);
        }
    }
    return JpegFault::kNone;
}

JpegFault Checker::check_data(const Scan& scan) {
    const Component& only = *scan.parts[0].component;
    const std::int64_t mcus =
        scan.count == 1 ? only.blocks_w * only.blocks_h : mcus_w_ * mcus_h_;
    const std::int64_t interval = restart_interval_ > 0 ? restart_interval_ : mcus;
    int restart = 0;
    for (std::int64_t first = 0; first < mcus; first += interval) {
        if (first > 0) {
            while (end_ - at_ >= 2 && at_[0] == 0xFF && at_[1] == 0xFF) {
                ++at_;
            }
            if (end_ - at_ < 2) {
                return JpegFault::kCutOff;
            }
            if (at_[1] < kRst0 || at_[1] > kRst7) {
                return JpegFault::kCutOff;  // another marker, before all was there
            }
            if (at_[1] != kRst0 + restart) {
                return JpegFault::kBadRestart;
            }
            at_ += 2;
            restart = (restart + 1) % 8;
        }
        for (int i = 0; i < scan.count; ++i) {
            scan.parts[static_cast<std::size_t>(i)].component->prediction = 0;
        }
        run_ = 0;
        JpegBits bits(at_, end_);
        const JpegFault fault = check_interval(scan, bits, first, std::min(first + interval, mcus));
        const std::int64_t left = bits.bytes_left();
        at_ = bits.segment_end();
        if (fault != JpegFault::kNone) {
            return fault;
        }
        if (run_ != 0) {
            return JpegFault::kBadCode;
        }
        if (left > 0) {
            if (left > kJpegSlack || !has_slack_) {
                return JpegFault::kLeftOver;
            }
            has_slack_ = false;
        }
    }
    if (end_ - at_ > 2 && restart_interval_ > 0 && at_[1] == kRst0 + restart && at_[2] == 0xFF) {
        at_ += 2;  // one behind the last interval too
    }
    return JpegFault::kNone;
}

JpegFault Checker::check_interval(const Scan& scan, JpegBits& bits, std::int64_t first,
                                  std::int64_t last) {
    for (std::int64_t mcu = first; mcu < last; ++mcu) {
        for (int i = 0; i < scan.count; ++i) {
            const ScanComponent& part = scan.parts[static_cast<std::size_t>(i)];
            const int blocks =
                scan.count == 1 ? 1 : part.component->h * part.component->v;
            for (int n = 0; n < blocks; ++n) {
                const JpegFault fault = is_progressive_
                                            ? check_progressive(scan, part, bits, mcu)
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

// All AC coefficients of a block in sequential order: only how many they are is looked at.
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

JpegFault Checker::check_sequential(const ScanComponent& part, JpegBits& bits) const {
    const JpegFault fault = check_dc(part, 0, bits);
    return fault == JpegFault::kNone ? check_ac(*part.ac, bits) : fault;
}

// AC coefficients come for one component alone: then an MCU is one block.
JpegFault Checker::check_progressive(const Scan& scan, const ScanComponent& part, JpegBits& bits,
                                     std::int64_t mcu) {
    if (scan.first == 0) {
        if (scan.high == 0) {
            return check_dc(part, scan.low, bits);
        }
        bits.take(1);
        return JpegFault::kNone;
    }
    std::uint64_t& nonzero = part.component->nonzero[static_cast<std::size_t>(mcu)];
    return scan.high == 0 ? check_ac_first(scan, part, bits, nonzero)
                          : check_ac_more(scan, part, bits, nonzero);
}

JpegFault Checker::check_dc(const ScanComponent& part, int low, JpegBits& bits) const {
    const int size = part.dc->take(bits);
    if (size < 0 || size > precision_ + 3) {
        return JpegFault::kBadCode;
    }
    if (size > 0) {  // its bits are there: fill() gives 32, a code takes 16 of them
        const auto value = static_cast<int>(bits.peek(size));
        bits.skip(size);
        part.component->prediction += value < 1 << (size - 1) ? value + 1 - (1 << size) : value;
    }
    // The mean of a block lies within the samples' range, which is 2^precision / 2 on both sides of
    // zero and comes eightfold; a step more for quantisation, and 8 for the rounding of encoders.
    const std::int64_t step = dc_step_[static_cast<std::size_t>(part.component->table)];
    const std::int64_t value = std::int64_t{part.component->prediction} * (1 << low) * step;
    const std::int64_t limit = (std::int64_t{4} << precision_) + (step << low) + 8;
    return std::abs(value) <= limit ? JpegFault::kNone : JpegFault::kBadCoefficient;
}

JpegFault Checker::check_ac_first(const Scan& scan, const ScanComponent& part, JpegBits& bits,
                                  std::uint64_t& nonzero) {
    if (run_ > 0) {
        --run_;
        return JpegFault::kNone;
    }
    for (int k = scan.first; k <= scan.last; ++k) {
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
        if (k > scan.last) {
            return JpegFault::kBadCoefficient;
        }
        if (size > 0) {
            bits.take(size);
            nonzero |= std::uint64_t{1} << k;
        }
    }
    return JpegFault::kNone;
}

JpegFault Checker::check_ac_more(const Scan& scan, const ScanComponent& part, JpegBits& bits,
                                 std::uint64_t& nonzero) {
    int k = scan.first;
    while (run_ == 0 && k <= scan.last) {
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
        for (; k <= scan.last; ++k) {
            if ((nonzero >> k & 1) != 0) {
                bits.take(1);
            } else if (run-- == 0) {
                break;
            }
        }
        if (size == 1) {
            if (k > scan.last) {
                return JpegFault::kBadCoefficient;
            }
            nonzero |= std::uint64_t{1} << k;
        }
        ++k;
    }
    if (run_ > 0) {
        --run_;
        for (; k <= scan.last; ++k) {
            if ((nonzero >> k & 1) != 0) {
                bits.take(1);
            }
        }
    }
    return JpegFault::kNone;
}

// At the end mark, or at the end of the data: whether all was there.
JpegFault Checker::finish() const {
    for (std::size_t c = 0; c < components_.size(); ++c) {
        if (!is_seen_[c]) {
            return JpegFault::kCutOff;
        }
        if (is_progressive_) {
            for (const std::int8_t bit : components_[c].sent_to) {
                if (bit != 0) {
                    return JpegFault::kCutOff;
                }
            }
        }
    }
    return has_frame_ ? JpegFault::kNone : JpegFault::kCutOff;
}

}  // namespace

JpegFault check_jpeg(const std::uint8_t* data, std::int64_t size) noexcept {
    if (data == nullptr || size <= 0) {
        return JpegFault::kNoStart;
    }
    try {
        Checker first(data, size);
        const JpegFault fault = first.check_picture();
        if (fault != JpegFault::kNone) {
            return fault;
        }
        constexpr std::uint8_t kStart[] = {0xFF, kSoi, 0xFF};
        const std::uint8_t* next =
            std::search(first.at(), data + size, std::begin(kStart), std::end(kStart));
        if (next == data + size) {
            return JpegFault::kNone;
        }
        Checker second(next, data + size - next);
        const JpegFault second_fault = second.check_picture();
        const bool is_field =
            second.height() == first.height() && second.width() == first.width();
        return is_field ? second_fault : JpegFault::kNone;
    } catch (const std::bad_alloc&) {
        return JpegFault::kOutOfMemory;
    }
}

}  // namespace dff
