// Whether a JPEG picture is whole: its markers are in order and its entropy-coded data decodes, by
// its own Huffman tables, to exactly the coefficients that the picture has. (ITU-T T.81.)
//
// A decoder conceals what is missing, and the end mark proves nothing: it stands behind filler too.
// Nothing is dequantised or transformed here, so this costs a fraction of decoding.

#pragma once

#include <cstdint>

namespace dff {

enum class JpegFault {
    kNone = 0,
    kNotChecked,      // arithmetic codes, lossless or hierarchical: only the headers were looked at
    kNoStart,         // it does not begin with a start mark
    kBadHeader,       // a segment of a wrong length, or with values that are not allowed
    kNoTable,         // a scan names a table that was not given
    kCutOff,          // the data ends, or a marker comes, before all of the picture was there
    kBadCode,         // bits that are no code of the table, or a code that has no meaning there
    kBadCoefficient,  // more than 64 coefficients in a block, or a mean that no picture has
    kLeftOver,        // data behind the last block of a scan or restart interval
    kBadRestart,      // restart markers out of order
    kTooManyScans,    // more than any encoder makes: meant to take for ever
    kOutOfMemory,
};

// Bytes behind the last block of a scan or of one of its restart intervals that are passed over,
// once a picture: widespread webcams send as many in nearly every one.
inline constexpr std::int64_t kJpegSlack = 16;

// Checks the picture in data[0 .. size), and the one behind it if that has the same size: MJPEG may
// hold both fields of a frame in one packet. What else follows is passed over.
//
// Huffman tables that are not given are those of T.81 annex K, which cameras leave out. A picture
// that lacks its end mark alone is whole. Progressive pictures take 8 bytes of memory a block of 64
// coefficients: bound the size that the header states before.
JpegFault check_jpeg(const std::uint8_t* data, std::int64_t size) noexcept;

}  // namespace dff
