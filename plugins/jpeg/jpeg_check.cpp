// Walks through the segments of a JPEG.
//
// Test alone: cmake -S plugins -B build && cmake --build build && ctest --test-dir build -R jpeg

#include "jpeg/jpeg_check.h"

#include <algorithm>
#include <iterator>
#include <new>

#include "jpeg/jpeg_headers.h"
#include "jpeg/jpeg_scan.h"

namespace dff {
namespace {

class Checker {
public:
    Checker(const std::uint8_t* data, std::int64_t size) : at_(data), end_(data + size) {}

    // Checks the picture that begins here, up to its end mark. Throws std::bad_alloc.
    JpegFault check_picture();

    const std::uint8_t* at() const { return at_; }
    const JpegHeaders& headers() const { return headers_; }

private:
    const std::uint8_t* at_;
    const std::uint8_t* end_;
    JpegHeaders headers_;
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
            return headers_.finish();
        }
        const std::uint8_t marker = *at_++;
        if (marker == kEoi) {
            return headers_.finish();
        }
        if (marker == 0 || marker == kTem) {
            continue;
        }
        if (marker == kSoi || (marker >= kRst0 && marker <= kRst7)) {
            return headers_.scans() > 0 ? JpegFault::kBadRestart : JpegFault::kBadHeader;
        }
        if (end_ - at_ < 2 || end_ - at_ < jpeg_word(at_)) {
            return JpegFault::kCutOff;
        }
        const int length = jpeg_word(at_);
        if (length < 2) {
            return JpegFault::kBadHeader;
        }
        const std::uint8_t* body = at_ + 2;
        at_ += length;
        JpegFault fault = JpegFault::kNone;
        if (marker == kSos) {
            JpegScan scan;
            fault = headers_.read_scan(body, length - 2, &scan);
            if (fault == JpegFault::kNone) {
                fault = JpegScanCheck(headers_, scan, &has_slack_).check(&at_, end_);
            }
        } else {
            fault = headers_.read_segment(marker, body, length - 2);
        }
        if (fault != JpegFault::kNone) {
            return fault;
        }
    }
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
        const bool is_field = second.headers().height() == first.headers().height() &&
                              second.headers().width() == first.headers().width();
        return is_field ? second_fault : JpegFault::kNone;
    } catch (const std::bad_alloc&) {
        return JpegFault::kOutOfMemory;
    }
}

}  // namespace dff
