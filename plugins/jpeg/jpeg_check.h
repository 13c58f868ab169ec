// Check of a JPEG picture: its markers must be in order and its entropy-coded data must decode, by
// its own Huffman tables, to exactly the coefficients of the picture. (ITU-T T.81.)
//
// A decoder conceals missing data, and the end mark proves nothing: it stands behind filler too.
// Nothing is dequantised or transformed here, so this costs a fraction of decoding.

#pragma once

#include <cstdint>

namespace dff {

enum class JpegFault {
    kNone = 0,
    kNotChecked,      // arithmetic codes, lossless or hierarchical: only the headers were checked
    kNoStart,         // it does not begin with a start mark
    kBadHeader,       // a segment of a wrong length, or with values that are not allowed
    kNoTable,         // a scan names a table that was not given
    kCutOff,          // the data ends, or a marker comes, before all of the picture was there
    kBadCode,         // bits that are no code of the table, or a code that has no meaning there
    kBadCoefficient,  // more than 64 coefficients in a block, or an impossible mean
    kLeftOver,        // data behind the last block of a scan or restart interval
    kBadRestart,      // restart markers out of order
    kTooManyScans,    // more than any encoder makes: meant to take for ever
    kOutOfMemory,
};

// Bytes after the last block of a scan or of one of its restart intervals that are ignored,
// once per picture: widespread webcams send as many in nearly every one.
inline constexpr std::int64_t kJpegSlack = 16;

// Checks the picture in data[0 .. size), and the one behind it if that has the same size: MJPEG may
// hold both fields of a frame in one packet. Other data after it is ignored.
//
// Huffman tables that are missing are those of T.81 annex K, which cameras leave out. A picture
// that lacks only its end mark is intact. Progressive pictures need 8 bytes of memory per 64
// coefficients: check the size that the header states first.
JpegFault check_jpeg(const std::uint8_t* data, std::int64_t size) noexcept;

}  // namespace dff
