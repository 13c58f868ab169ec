// The entropy-coded data of a scan (ITU-T T.81, annexes F and G).

#pragma once

#include <cstdint>

#include "jpeg/huffman.h"
#include "jpeg/jpeg_check.h"
#include "jpeg/jpeg_headers.h"

namespace dff {

// Decodes the codes of a scan, and keeps only the state that later codes depend on.
class JpegScanCheck {
public:
    // Both must outlive this object. `has_slack`: whether surplus bytes may still be
    // ignored in this picture; set to false where some were.
    JpegScanCheck(const JpegHeaders& headers, const JpegScan& scan, bool* has_slack)
        : headers_(headers), scan_(scan), has_slack_(has_slack) {}

    // Checks the data from *at on, and moves *at behind it.
    JpegFault check(const std::uint8_t** at, const std::uint8_t* end);

private:
    JpegFault check_interval(JpegBits& bits, std::int64_t first, std::int64_t last);
    JpegFault check_sequential(const JpegScanComponent& part, JpegBits& bits) const;
    JpegFault check_progressive(const JpegScanComponent& part, JpegBits& bits, std::int64_t mcu);
    JpegFault check_dc(const JpegScanComponent& part, int low, JpegBits& bits) const;
    JpegFault check_ac_first(const JpegScanComponent& part, JpegBits& bits, std::uint64_t& nonzero);
    JpegFault check_ac_more(const JpegScanComponent& part, JpegBits& bits, std::uint64_t& nonzero);

    const JpegHeaders& headers_;
    const JpegScan& scan_;
    bool* has_slack_;
    std::int64_t run_ = 0;  // blocks that are at their end (EOBRUN)
};

}  // namespace dff
