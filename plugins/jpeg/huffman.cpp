#include "jpeg/huffman.h"

#include <algorithm>

namespace dff {
namespace {

// T.81, tables K.3 to K.6: codes of each length, then the symbols.
constexpr std::uint8_t kDcLumaCounts[16] = {0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0};
constexpr std::uint8_t kDcChromaCounts[16] = {0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0};
constexpr std::uint8_t kDcSymbols[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
constexpr std::uint8_t kAcLumaCounts[16] = {0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125};
constexpr std::uint8_t kAcChromaCounts[16] = {0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 119};
constexpr std::uint8_t kAcLumaSymbols[162] = {
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07,
    0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xA1, 0x08, 0x23, 0x42, 0xB1, 0xC1, 0x15, 0x52, 0xD1, 0xF0,
    0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0A, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x25, 0x26, 0x27, 0x28,
    0x29, 0x2A, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49,
    0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69,
    0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89,
    0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7,
    0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3, 0xC4, 0xC5,
    0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA, 0xE1, 0xE2,
    0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8,
    0xF9, 0xFA};
constexpr std::uint8_t kAcChromaSymbols[162] = {
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71,
    0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xA1, 0xB1, 0xC1, 0x09, 0x23, 0x33, 0x52, 0xF0,
    0x15, 0x62, 0x72, 0xD1, 0x0A, 0x16, 0x24, 0x34, 0xE1, 0x25, 0xF1, 0x17, 0x18, 0x19, 0x1A, 0x26,
    0x27, 0x28, 0x29, 0x2A, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48,
    0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68,
    0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87,
    0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3, 0xA4, 0xA5,
    0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3,
    0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA,
    0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8,
    0xF9, 0xFA};

}  // namespace

void JpegBits::refill() {
    if (end_ - at_ >= 8) {  // eight bytes at once, unless one of them is special
        std::uint64_t word = 0;
        for (int i = 0; i < 8; ++i) {  // one load and byte swap to the compiler
            word = word << 8 | at_[i];
        }
        const std::uint64_t inverted = ~word;
        if (((inverted - 0x0101010101010101u) & ~inverted & 0x8080808080808080u) == 0) {
            const int bytes = (64 - count_) / 8;
            bits_ |= word >> count_;  // the part of a byte at the end comes again, the same
            at_ += bytes;
            count_ += 8 * bytes;
            return;
        }
    }
    while (count_ <= 56) {
        std::uint64_t byte = 0;
        if (is_at_marker()) {
            padded_ += 8;
        } else {
            byte = *at_;
            at_ += byte == 0xFF ? 2 : 1;
        }
        bits_ |= byte << (56 - count_);
        count_ += 8;
    }
}

std::int64_t JpegBits::bytes_left() const {
    std::int64_t bytes = std::max(0, count_ - padded_) / 8;
    JpegBits rest(at_, end_);
    while (!rest.is_at_marker()) {
        rest.at_ += *rest.at_ == 0xFF ? 2 : 1;
        ++bytes;
    }
    return bytes;
}

const std::uint8_t* JpegBits::segment_end() const {
    JpegBits rest(at_, end_);
    while (!rest.is_at_marker()) {
        rest.at_ += *rest.at_ == 0xFF ? 2 : 1;
    }
    return std::min(rest.at_, end_);
}

bool JpegCodes::build(const std::uint8_t* counts, const std::uint8_t* symbols, int symbol_count) {
    *this = JpegCodes{};
    std::copy_n(symbols, symbol_count, symbols_.begin());
    std::int32_t code = 0;
    std::int32_t index = 0;
    for (int length = 1; length <= 16; ++length) {
        const auto l = static_cast<std::size_t>(length);
        first_code_[l] = code;
        first_symbol_[l] = index;
        for (int i = 0; i < counts[length - 1]; ++i, ++code, ++index) {
            if (code >= 1 << length || index >= symbol_count) {
                return false;
            }
            if (length > kWindow) {
                continue;
            }
            const int spare = kWindow - length;
            std::fill_n(codes_.begin() + (static_cast<std::ptrdiff_t>(code) << spare),
                        std::ptrdiff_t{1} << spare,
                        Code{static_cast<std::uint8_t>(length),
                             symbols_[static_cast<std::size_t>(index)]});
        }
        code_end_[l] = code;
        code <<= 1;
    }
    is_defined_ = true;
    return true;
}

void JpegCodes::build_standard(bool is_ac, int number) {
    if (is_ac) {
        build(number == 0 ? kAcLumaCounts : kAcChromaCounts,
              number == 0 ? kAcLumaSymbols : kAcChromaSymbols, 162);
    } else {
        build(number == 0 ? kDcLumaCounts : kDcChromaCounts, kDcSymbols, 12);
    }
}

void JpegCodes::build_runs() {
    if (has_runs_) {
        return;
    }
    has_runs_ = true;
    constexpr std::uint32_t kMask = (1u << kWindow) - 1;
    for (std::uint32_t window = 0; window <= kMask; ++window) {
        Codes run;
        int used = 0;
        while (used < kWindow && !run.is_end) {
            const Code code = codes_[window << used & kMask];
            if (code.length == 0 || used + code.length > kWindow) {
                break;
            }
            const int size = code.symbol & 15;
            const int zeros = code.symbol >> 4;
            if (size == 0 && zeros > 0 && zeros < 15) {
                break;  // it means nothing: left to whoever takes codes one by one
            }
            run.is_end = code.symbol == 0;
            if (!run.is_end) {
                run.coefficients = static_cast<std::uint8_t>(run.coefficients + zeros + 1);
            }
            used += code.length + size;
            run.bits = static_cast<std::uint8_t>(used);
        }
        runs_[window] = run;
    }
}

int JpegCodes::take_long(JpegBits& bits) const {
    for (int length = kWindow + 1; length <= 16; ++length) {
        const auto l = static_cast<std::size_t>(length);
        const auto code = static_cast<std::int32_t>(bits.peek(length));
        if (code >= first_code_[l] && code < code_end_[l]) {
            bits.skip(length);
            return symbols_[static_cast<std::size_t>(first_symbol_[l] + code - first_code_[l])];
        }
    }
    return -1;
}

}  // namespace dff
