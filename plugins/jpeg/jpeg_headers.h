// The headers of a JPEG: markers, tables, frame and scans (ITU-T T.81, annex B).

#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "jpeg/huffman.h"
#include "jpeg/jpeg_check.h"

namespace dff {

enum JpegMarker : std::uint8_t {
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

inline int jpeg_word(const std::uint8_t* at) { return at[0] << 8 | at[1]; }

struct JpegComponent {
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

struct JpegScanComponent {
    JpegComponent* component = nullptr;
    const JpegCodes* dc = nullptr;
    const JpegCodes* ac = nullptr;
};

struct JpegScan {
    std::array<JpegScanComponent, 4> parts;
    int count = 0;
    int first = 0, last = 63;  // coefficients
    int high = 0, low = 0;     // bits of them: the scan brings them from `high` down to `low`
};

// Contents of one picture's headers so far.
class JpegHeaders {
public:
    // Reads the body of a segment that is not a scan. Throws std::bad_alloc.
    JpegFault read_segment(std::uint8_t marker, const std::uint8_t* body, std::int64_t size);

    // Reads the header of a scan, whose parts point into this object.
    JpegFault read_scan(const std::uint8_t* body, std::int64_t size, JpegScan* scan);

    // At the end of the picture: checks that all of it was there.
    JpegFault finish() const;

    bool is_progressive() const { return is_progressive_; }
    int precision() const { return precision_; }
    int height() const { return height_; }  // 0 before the frame's header
    int width() const { return width_; }
    std::int64_t mcus() const { return mcus_; }  // of a scan that interleaves components
    int restart_interval() const { return restart_interval_; }  // in MCUs; 0: none
    int scans() const { return scans_; }
    // Of quantisation of a component's means; not 0 when a scan was read.
    int dc_step(const JpegComponent& component) const {
        return dc_step_[static_cast<std::size_t>(component.table)];
    }

private:
    JpegFault read_codes(const std::uint8_t* body, std::int64_t size);
    JpegFault read_quantisation(const std::uint8_t* body, std::int64_t size);
    JpegFault read_frame(std::uint8_t marker, const std::uint8_t* body, std::int64_t size);
    const JpegCodes* codes_for(bool is_ac, int number);
    JpegFault check_progression(const JpegScan& scan);

    std::array<JpegCodes, 4> dc_codes_, ac_codes_;
    std::array<int, 4> dc_step_{};  // 0: no such table
    std::vector<JpegComponent> components_;
    std::array<bool, 4> is_seen_{};  // in a scan
    bool has_frame_ = false;
    bool is_progressive_ = false;
    int precision_ = 8;
    int height_ = 0, width_ = 0;
    std::int64_t mcus_ = 0;
    int restart_interval_ = 0;
    int scans_ = 0;
};

}  // namespace dff
