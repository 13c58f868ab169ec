// Huffman codes and the bits of entropy-coded segments (ITU-T T.81, annexes C and F).

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "common/simd.h"

namespace dff {

// Bits of an entropy-coded segment, stuffed zeros taken out. It ends at a marker or at the end of
// the data; after that come zeros, and has_overrun() tells whether some were used.
class JpegBits {
public:
    JpegBits(const std::uint8_t* begin, const std::uint8_t* end) : at_(begin), end_(end) {}

    // At least 32 bits can be peeked.
    DFF_INLINE void fill() {
        if (count_ < 32) {
            refill();
        }
    }
    DFF_INLINE std::uint32_t peek(int bits) const {  // 1 to 32
        return static_cast<std::uint32_t>(bits_ >> (64 - bits));
    }
    DFF_INLINE void skip(int bits) {
        bits_ <<= bits;
        count_ -= bits;
    }
    DFF_INLINE std::uint32_t take(int bits) {  // 0 to 16
        fill();
        const std::uint32_t value = bits == 0 ? 0 : peek(bits);
        skip(bits);
        return value;
    }
    void skip_many(int bits) {
        for (; bits > 16; bits -= 16) {
            fill();
            skip(16);
        }
        fill();
        skip(bits);
    }

    bool has_overrun() const { return count_ < padded_; }

    // Whole bytes of the segment that were not used: the rest of the last one is padding.
    std::int64_t bytes_left() const;

    // Where the segment ends: at a marker, or at the end of the data.
    const std::uint8_t* segment_end() const;

private:
    bool is_at_marker() const {
        return at_ >= end_ || (at_[0] == 0xFF && (at_ + 1 >= end_ || at_[1] != 0));
    }
    void refill();

    const std::uint8_t* at_;
    const std::uint8_t* end_;
    std::uint64_t bits_ = 0;  // the next bit is the highest
    int count_ = 0;
    int padded_ = 0;  // of these, zeros from behind the end
};

// One Huffman table, prepared for look-ups.
class JpegCodes {
public:
    static constexpr int kWindow = 11;  // bits that are looked up at once

    // Contents of the next bits: whole codes in the window and the value bits after them: at
    // least one code, or none (bits 0).
    struct Codes {
        std::uint8_t bits = 0;  // all of them together
        std::uint8_t coefficients = 0;  // that they stand for
        bool is_end = false;  // the rest of the block is zero
    };

    // counts[i] codes of i + 1 bits, symbols in the order of their codes. False if there are more
    // codes than possible.
    bool build(const std::uint8_t* counts, const std::uint8_t* symbols, int symbol_count);

    // The table of T.81 annex K for luma (number 0) or chroma (1), which MJPEG cameras leave out.
    void build_standard(bool is_ac, int number);

    // Prepares look_up; the symbols are those of AC coefficients in sequential order.
    void build_runs();

    bool is_defined() const { return is_defined_; }

    DFF_INLINE Codes look_up(const JpegBits& bits) const { return runs_[bits.peek(kWindow)]; }

    // The symbol of the next code, which is skipped; -1 where there is none.
    DFF_INLINE int take(JpegBits& bits) const {
        bits.fill();
        const Code code = codes_[bits.peek(kWindow)];
        if (code.length != 0) {
            bits.skip(code.length);
            return code.symbol;
        }
        return take_long(bits);
    }

private:
    struct Code {
        std::uint8_t length = 0;  // 0: longer than the window, or none
        std::uint8_t symbol = 0;
    };

    int take_long(JpegBits& bits) const;

    bool is_defined_ = false;
    bool has_runs_ = false;
    std::array<Code, std::size_t{1} << kWindow> codes_{};
    std::array<Codes, std::size_t{1} << kWindow> runs_{};
    std::array<std::int32_t, 18> first_code_{};  // of each length
    std::array<std::int32_t, 18> code_end_{};    // one behind the last code of each length
    std::array<std::int32_t, 18> first_symbol_{};
    std::array<std::uint8_t, 256> symbols_{};
};

}  // namespace dff
