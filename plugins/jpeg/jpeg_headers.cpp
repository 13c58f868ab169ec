#include "jpeg/jpeg_headers.h"

#include <algorithm>

namespace dff {
namespace {

constexpr int kMaxScans = 200;  // progressive encoders make about ten

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

JpegFault JpegHeaders::read_segment(std::uint8_t marker, const std::uint8_t* body,
                                    std::int64_t size) {
    switch (marker) {
        case kDht: return read_codes(body, size);
        case kDqt: return read_quantisation(body, size);
        case kDri:
            if (size < 2) {
                return JpegFault::kBadHeader;
            }
            restart_interval_ = jpeg_word(body);
            return JpegFault::kNone;
        case kDac:
        case kJpegLs: return JpegFault::kNotChecked;
        default: break;
    }
    if (marker >= kSof0 && marker <= kSof15 && marker != kJpg) {
        return read_frame(marker, body, size);
    }
    return JpegFault::kNone;  // application data and comments
}

JpegFault JpegHeaders::read_codes(const std::uint8_t* body, std::int64_t size) {
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

JpegFault JpegHeaders::read_quantisation(const std::uint8_t* body, std::int64_t size) {
    while (size > 0) {
        const bool is_wide = (body[0] >> 4) != 0;
        const int number = body[0] & 15;
        const int length = is_wide ? 129 : 65;
        if (body[0] >> 4 > 1 || number > 3 || size < length) {
            return JpegFault::kBadHeader;
        }
        const int step = is_wide ? jpeg_word(body + 1) : body[1];
        if (step == 0) {
            return JpegFault::kBadHeader;
        }
        dc_step_[static_cast<std::size_t>(number)] = step;
        body += length;
        size -= length;
    }
    return JpegFault::kNone;
}

JpegFault JpegHeaders::read_frame(std::uint8_t marker, const std::uint8_t* body,
                                  std::int64_t size) {
    if (has_frame_ || size < 6) {
        return JpegFault::kBadHeader;
    }
    if (marker != kSof0 && marker != kSof1 && marker != kSof2) {
        return JpegFault::kNotChecked;
    }
    has_frame_ = true;
    is_progressive_ = marker == kSof2;
    precision_ = body[0];
    height_ = jpeg_word(body + 1);
    width_ = jpeg_word(body + 3);
    const int count = body[5];
    if ((precision_ != 8 && precision_ != 12) || width_ == 0 || count < 1 || count > 4 ||
        size < 6 + 3 * count) {
        return JpegFault::kBadHeader;
    }
    if (height_ == 0) {  // it is told behind the first scan (DNL), which no decoder of ours reads
        return JpegFault::kNotChecked;
    }
    components_.resize(static_cast<std::size_t>(count));
    int max_h = 1, max_v = 1;
    for (int i = 0; i < count; ++i) {
        JpegComponent& component = components_[static_cast<std::size_t>(i)];
        const std::uint8_t* entry = body + 6 + 3 * i;
        component.id = entry[0];
        component.h = entry[1] >> 4;
        component.v = entry[1] & 15;
        component.table = entry[2];
        if (component.h < 1 || component.h > 4 || component.v < 1 || component.v > 4 ||
            component.table > 3) {
            return JpegFault::kBadHeader;
        }
        max_h = std::max(max_h, component.h);
        max_v = std::max(max_v, component.v);
    }
    mcus_ = divide_up(width_, 8 * max_h) * divide_up(height_, 8 * max_v);
    for (JpegComponent& component : components_) {
        component.blocks_w = divide_up(divide_up(std::int64_t{width_} * component.h, max_h), 8);
        component.blocks_h = divide_up(divide_up(std::int64_t{height_} * component.v, max_v), 8);
        component.sent_to.fill(-1);
        if (is_progressive_) {
            component.nonzero.resize(
                static_cast<std::size_t>(component.blocks_w * component.blocks_h));
        }
    }
    return JpegFault::kNone;
}

JpegFault JpegHeaders::read_scan(const std::uint8_t* body, std::int64_t size, JpegScan* read) {
    if (!has_frame_ || size < 1) {
        return JpegFault::kBadHeader;
    }
    if (++scans_ > kMaxScans) {
        return JpegFault::kTooManyScans;
    }
    JpegScan& scan = *read;
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
        JpegScanComponent& part = scan.parts[static_cast<std::size_t>(i)];
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
    return is_progressive_ ? check_progression(scan) : JpegFault::kNone;
}

// The table that a scan names, null where there is none.
const JpegCodes* JpegHeaders::codes_for(bool is_ac, int number) {
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
JpegFault JpegHeaders::check_progression(const JpegScan& scan) {
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

JpegFault JpegHeaders::finish() const {
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

}  // namespace dff
