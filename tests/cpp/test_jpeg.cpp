// JPEGs that are written here bit by bit, whole and damaged in every way that has a name.

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "check.h"
#include "jpeg/jpeg_check.h"

namespace {

using dff::JpegFault;
using Bytes = std::vector<std::uint8_t>;

Bytes operator+(Bytes a, const Bytes& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

JpegFault check(const Bytes& data) {
    return dff::check_jpeg(data.data(), static_cast<std::int64_t>(data.size()));
}

const Bytes kStart{0xFF, 0xD8};
const Bytes kEnd{0xFF, 0xD9};

Bytes segment(std::uint8_t marker, const Bytes& body) {
    const std::size_t length = body.size() + 2;
    return Bytes{0xFF, marker, static_cast<std::uint8_t>(length >> 8),
                 static_cast<std::uint8_t>(length)} + body;
}

Bytes quantisation(std::uint8_t step) { return segment(0xDB, Bytes{0} + Bytes(64, step)); }

Bytes frame(int width, int height, std::uint8_t kind = 0xC0, int components = 1,
            std::uint8_t sampling = 0x11) {
    Bytes body{8,
               static_cast<std::uint8_t>(height >> 8),
               static_cast<std::uint8_t>(height),
               static_cast<std::uint8_t>(width >> 8),
               static_cast<std::uint8_t>(width),
               static_cast<std::uint8_t>(components)};
    for (int i = 1; i <= components; ++i) {
        const std::uint8_t factors = i == 1 ? sampling : 0x11;
        body = body + Bytes{static_cast<std::uint8_t>(i), factors, 0};
    }
    return segment(kind, body);
}

Bytes scan(int components = 1, std::uint8_t first = 0, std::uint8_t last = 63,
           std::uint8_t bits = 0, std::uint8_t only = 1) {
    Bytes body{static_cast<std::uint8_t>(components)};
    for (int i = 0; i < components; ++i) {
        body = body + Bytes{static_cast<std::uint8_t>(components == 1 ? only : i + 1), 0};
    }
    return segment(0xDA, body + Bytes{first, last, bits});
}

// Bits as text, "01 1", padded with ones and stuffed.
class Data {
public:
    Data& operator<<(const char* bits) {
        for (; *bits != 0; ++bits) {
            if (*bits != ' ') {
                push(*bits == '1');
            }
        }
        return *this;
    }
    Bytes bytes() {
        Data padded = *this;
        while (padded.count_ != 0) {
            padded.push(true);
        }
        return padded.bytes_;
    }

private:
    void push(bool bit) {
        byte_ = static_cast<std::uint8_t>(byte_ << 1 | (bit ? 1 : 0));
        if (++count_ == 8) {
            bytes_.push_back(byte_);
            if (byte_ == 0xFF) {
                bytes_.push_back(0);
            }
            count_ = 0;
        }
    }
    Bytes bytes_;
    std::uint8_t byte_ = 0;
    int count_ = 0;
};

// Codes of T.81, tables K.3 and K.5: a DC difference of 0, of 1 (size 1, bit 1), a block's end.
constexpr const char* kFlat = "00 1010";
constexpr const char* kBrighter = "010 1 1010";
// A coefficient of -1 (run 0, size 1: "00", bit 0), and a run of sixteen zeros.
constexpr const char* kMinusOne = "00 0";
constexpr const char* kSixteenZeros = "11111111001";

Bytes flat_blocks(int count) {
    Data data;
    for (int i = 0; i < count; ++i) {
        data << kFlat;
    }
    return data.bytes();
}

Bytes grey(const Bytes& data, int width = 16, int height = 8) {
    return kStart + quantisation(1) + frame(width, height) + scan() + data + kEnd;
}

void test_whole_pictures() {
    CHECK(check(grey(flat_blocks(2))) == JpegFault::kNone);
    CHECK(check(grey(flat_blocks(2), 9, 1)) == JpegFault::kNone);  // parts of blocks are blocks
    Data data;
    data << kBrighter << "00 " << kSixteenZeros << kSixteenZeros << kSixteenZeros;
    for (int i = 0; i < 15; ++i) {
        data << kMinusOne;  // the 64th coefficient: no end of block is sent
    }
    CHECK(check(grey(data.bytes())) == JpegFault::kNone);
    // Fill bytes before markers, application data, junk between segments, junk behind the end.
    CHECK(check(kStart + Bytes{0xFF} + segment(0xE0, {1, 2, 3}) + Bytes{0, 7} + quantisation(1) +
                frame(16, 8) + scan() + flat_blocks(2) + Bytes{0xFF, 0xFF} + kEnd +
                Bytes{1, 2, 3, 0xFF, 0xD8, 0xFF, 4}) == JpegFault::kNone);
    // All is there but for the end mark.
    const Bytes whole = grey(flat_blocks(2));
    CHECK(check(Bytes(whole.begin(), whole.end() - 2)) == JpegFault::kNone);
}

void test_what_is_missing_is_seen() {
    const Bytes whole = grey(flat_blocks(12), 96, 8);
    for (std::size_t size = 0; size + 2 < whole.size(); ++size) {
        const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
        CHECK(check(cut) != JpegFault::kNone);
        CHECK(check(cut + kEnd) != JpegFault::kNone);
    }
    CHECK(check(grey(flat_blocks(11), 96, 8)) == JpegFault::kCutOff);
    CHECK(check(kStart + kEnd) == JpegFault::kCutOff);
    CHECK(check(kStart + quantisation(1) + frame(16, 8) + kEnd) == JpegFault::kCutOff);
    // Three components, of which one comes in no scan.
    const Bytes two = kStart + quantisation(1) + frame(8, 8, 0xC0, 3) + scan(1) + flat_blocks(1) +
                      scan(1, 0, 63, 0, 2) + flat_blocks(1);
    CHECK(check(two + kEnd) == JpegFault::kCutOff);
    CHECK(check(two + scan(1, 0, 63, 0, 3) + flat_blocks(1) + kEnd) == JpegFault::kNone);
}

void test_what_is_too_much_is_seen() {
    const Bytes slack(static_cast<std::size_t>(dff::kJpegSlack), 0);
    CHECK(check(grey(flat_blocks(2) + slack)) == JpegFault::kNone);
    CHECK(check(grey(flat_blocks(2) + slack + Bytes{0})) == JpegFault::kLeftOver);
    Data data;
    data << "00";
    for (int i = 0; i < 62; ++i) {
        data << kMinusOne;
    }
    data << kSixteenZeros << kFlat;
    CHECK(check(grey(data.bytes())) == JpegFault::kBadCoefficient);
    // "11111111 11111111" is no code of K.5.
    CHECK(check(grey(Bytes{0x3F, 0xFF, 0, 0xFF, 0, 0xFF, 0})) == JpegFault::kBadCode);
}

void test_means_that_no_picture_has_are_seen() {
    // Differences of 511 (size 9, code 1111110): twice are in range (1024).
    const char* step = "1111110 111111111 1010";
    CHECK(check(grey((Data() << step << step).bytes())) == JpegFault::kNone);
    const char* small = "110 11111 1010";  // 31
    CHECK(check(grey((Data() << step << step << small).bytes(), 24, 8)) ==
          JpegFault::kBadCoefficient);
    const Bytes coarse = kStart + quantisation(4) + frame(8, 8) + scan();
    CHECK(check(coarse + (Data() << step).bytes() + kEnd) == JpegFault::kBadCoefficient);
}

void test_restart_markers() {
    const Bytes head = kStart + quantisation(1) + segment(0xDD, {0, 1}) + frame(24, 8) + scan();
    const Bytes block = flat_blocks(1);
    const Bytes rst0{0xFF, 0xD0}, rst1{0xFF, 0xD1}, rst2{0xFF, 0xD2};
    CHECK(check(head + block + rst0 + block + rst1 + block + kEnd) == JpegFault::kNone);
    CHECK(check(head + block + rst0 + block + rst1 + block + rst2 + kEnd) == JpegFault::kNone);
    CHECK(check(head + block + rst0 + block + rst2 + block + kEnd) == JpegFault::kBadRestart);
    CHECK(check(head + block + rst0 + block + kEnd) == JpegFault::kCutOff);
    CHECK(check(head + block + rst0 + rst1 + block + kEnd) == JpegFault::kCutOff);
    CHECK(check(grey(flat_blocks(1) + rst0 + flat_blocks(1))) == JpegFault::kCutOff);
    CHECK(check(grey(flat_blocks(2) + rst1)) == JpegFault::kBadRestart);
    // The prediction begins anew: 511 five times over is out of range only without restarts.
    const Bytes bright = (Data() << "1111110 111111111 1010").bytes();
    CHECK(check(head + bright + rst0 + bright + rst1 + bright + kEnd) == JpegFault::kNone);
    // Of webcams: a few bytes too many before one of the markers, not before several.
    const Bytes extra{1, 2, 3};
    CHECK(check(head + block + rst0 + block + extra + rst1 + block + kEnd) == JpegFault::kNone);
    CHECK(check(head + block + extra + rst0 + block + extra + rst1 + block + kEnd) ==
          JpegFault::kLeftOver);
}

void test_headers() {
    CHECK(dff::check_jpeg(nullptr, 5) == JpegFault::kNoStart);
    CHECK(check({}) == JpegFault::kNoStart);
    CHECK(check(Bytes(64, 0) + grey(flat_blocks(2))) == JpegFault::kNoStart);
    CHECK(check(kStart + frame(16, 8) + scan() + flat_blocks(2) + kEnd) == JpegFault::kNoTable);
    CHECK(check(kStart + quantisation(1) + scan() + flat_blocks(2) + kEnd) ==
          JpegFault::kBadHeader);
    CHECK(check(kStart + quantisation(1) + frame(0, 8) + scan() + kEnd) == JpegFault::kBadHeader);
    CHECK(check(kStart + quantisation(1) + frame(16, 8) + scan(1, 0, 63, 0, 9) + flat_blocks(2) +
                kEnd) == JpegFault::kBadHeader);
    CHECK(check(kStart + Bytes{0xFF, 0xDB, 0, 1} + grey(flat_blocks(2))) == JpegFault::kBadHeader);
    // More codes of one bit than there are.
    CHECK(check(kStart + segment(0xC4, Bytes{0, 3} + Bytes(15, 0) + Bytes{1, 2, 3}) + kEnd) ==
          JpegFault::kBadHeader);
    // Arithmetic codes, and a height that comes later.
    CHECK(check(kStart + quantisation(1) + frame(16, 8, 0xC9) + scan() + Bytes{1, 2} + kEnd) ==
          JpegFault::kNotChecked);
    CHECK(check(kStart + quantisation(1) + frame(16, 0) + scan() + Bytes{1, 2} + kEnd) ==
          JpegFault::kNotChecked);
}

void test_codes_of_the_file_are_used() {
    // One code: "0" is a difference of 0; of AC "0" is the end.
    const Bytes codes = segment(0xC4, Bytes{0x00, 1} + Bytes(15, 0) + Bytes{0}) +
                        segment(0xC4, Bytes{0x10, 1} + Bytes(15, 0) + Bytes{0});
    const Bytes head = kStart + quantisation(1) + codes + frame(64, 64) + scan();
    CHECK(check(head + Bytes(16, 0) + kEnd) == JpegFault::kNone);  // 64 blocks, two bits each
    CHECK(check(head + Bytes(15, 0) + kEnd) == JpegFault::kCutOff);
    CHECK(check(head + Bytes(7, 0) + Bytes{0x20} + Bytes(8, 0) + kEnd) == JpegFault::kBadCode);
}

void test_sampling() {
    // 4:2:0 of 17 x 9: two MCUs of four, one and one block.
    const Bytes head = kStart + quantisation(1) + frame(17, 9, 0xC0, 3, 0x22) + scan(3);
    CHECK(check(head + flat_blocks(12) + kEnd) == JpegFault::kNone);
    CHECK(check(head + flat_blocks(11) + kEnd) == JpegFault::kCutOff);
    // Without interleaving the luma has 3 x 2 blocks that hold pixels, the chroma 2 x 1.
    const Bytes start = kStart + quantisation(1) + frame(17, 9, 0xC0, 3, 0x22);
    CHECK(check(start + scan(1) + flat_blocks(6) + scan(1, 0, 63, 0, 2) + flat_blocks(2) +
                scan(1, 0, 63, 0, 3) + flat_blocks(2) + kEnd) == JpegFault::kNone);
    CHECK(check(start + scan(1) + flat_blocks(5) + scan(1, 0, 63, 0, 2) + flat_blocks(2) +
                scan(1, 0, 63, 0, 3) + flat_blocks(2) + kEnd) == JpegFault::kCutOff);
}

void test_fields_of_one_size_belong_together() {
    const Bytes field = grey(flat_blocks(2));
    const Bytes cut(field.begin(), field.end() - 3);
    CHECK(check(field + field) == JpegFault::kNone);
    CHECK(check(field + cut) == JpegFault::kCutOff);
    const Bytes thumbnail = grey(flat_blocks(1), 8, 8);
    CHECK(check(field + Bytes(thumbnail.begin(), thumbnail.end() - 3)) == JpegFault::kNone);
}

// 16 x 8, grey, progressive: DC down to bit 1, its last bit; AC down to bit 2, bit 1, bit 0.
struct Progressive {
    Bytes head = kStart + quantisation(1) + frame(16, 8, 0xC2);
    Bytes dc = scan(1, 0, 0, 0x01) + (Data() << "010 1 00").bytes();
    Bytes dc_more = scan(1, 0, 0, 0x10) + (Data() << "1 0").bytes();
    // First block: coefficients 1 and 3 (one zero before it: "1100"), the end. Second: nothing.
    Bytes ac = scan(1, 1, 63, 0x02) + (Data() << "00 0 1100 1 1010 1010").bytes();
    // First block: a new coefficient with no zero before it ("00", sign 1), which is 2; behind that
    // a bit for 1, which is passed on the way. The end, and a bit for 3, which comes behind it.
    Bytes ac_more = scan(1, 1, 63, 0x21) + (Data() << "00 1 1  1010 0  1010").bytes();
    // The end, and a bit for 1, 2 and 3 each: were 2 forgotten, the second block began a bit early.
    Bytes ac_last = scan(1, 1, 63, 0x10) + (Data() << "1010 101  1010").bytes();

    Bytes all() const { return head + dc + dc_more + ac + ac_more + ac_last + kEnd; }
};

void test_progressive() {
    const Progressive p;
    CHECK(check(p.all()) == JpegFault::kNone);
    const Bytes whole = p.all();
    for (std::size_t size = 0; size + 2 < whole.size(); ++size) {
        const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
        CHECK(check(cut) != JpegFault::kNone);
        CHECK(check(cut + kEnd) != JpegFault::kNone);
    }
    // A scan left out is seen, at the end mark or where the next one goes on from it.
    CHECK(check(p.head + p.dc + p.dc_more + p.ac + kEnd) == JpegFault::kCutOff);
    CHECK(check(p.head + p.dc + p.dc_more + kEnd) == JpegFault::kCutOff);
    CHECK(check(p.head + p.dc + p.dc_more + p.ac + p.ac_last + kEnd) == JpegFault::kBadHeader);
    CHECK(check(p.head + p.dc + p.dc + kEnd) == JpegFault::kBadHeader);
    // Coefficients behind the end of the band: a run of 16 three times, then one more.
    const Bytes long_run = scan(1, 1, 63, 0x01) + (Data() << kSixteenZeros << kSixteenZeros
                                                          << kSixteenZeros << kSixteenZeros)
                                                      .bytes();
    CHECK(check(p.head + p.dc + p.dc_more + long_run + kEnd) == JpegFault::kBadCoefficient);
}

void test_runs_of_ended_blocks() {
    // AC codes "0" and "10": EOB1, two or three blocks (a bit says), and a coefficient of size 1.
    const Bytes codes = segment(0xC4, Bytes{0x10, 1, 1} + Bytes(14, 0) + Bytes{0x10, 0x01});
    const Bytes head = kStart + quantisation(1) + codes + frame(40, 8, 0xC2) + scan(1, 0, 0, 0) +
                       (Data() << "00 00 00 00 00").bytes();
    const auto with = [&head](const char* bits) {
        return check(head + scan(1, 1, 63, 0) + (Data() << bits).bytes() + kEnd);
    };
    CHECK(with("0 0  0 1") == JpegFault::kNone);         // two and three blocks
    CHECK(with("0 1  0 0") == JpegFault::kNone);         // three and two
    CHECK(with("10 1 0 0  0 1") == JpegFault::kNone);    // a coefficient before the first end
    CHECK(with("0 1  0 1") == JpegFault::kBadCode);      // six, and there are five
    CHECK(with("0 1") == JpegFault::kBadCode);           // padding bits are no code
}

void test_endless_scans_are_refused() {
    Bytes data = kStart + quantisation(1) + frame(16, 8);
    for (int i = 0; i < 300; ++i) {
        data = data + scan() + flat_blocks(2);
    }
    CHECK(check(data + kEnd) == JpegFault::kTooManyScans);
}

// Nothing is read outside the data, whatever stands there; for the sanitizers.
void test_any_bytes_are_taken() {
    std::mt19937 random(5);
    const Bytes restarted = kStart + quantisation(1) + segment(0xDD, {0, 1}) + frame(24, 8) +
                            scan() + flat_blocks(1) + Bytes{0xFF, 0xD0} + flat_blocks(1) +
                            Bytes{0xFF, 0xD1} + flat_blocks(1) + kEnd;
    for (const Bytes& whole : {grey(flat_blocks(2)), Progressive().all(), restarted}) {
        for (int i = 0; i < 3000; ++i) {
            Bytes data = whole;
            for (int flips = 0; flips < 1 + i % 4; ++flips) {
                data[random() % data.size()] = static_cast<std::uint8_t>(random());
            }
            data.resize(random() % 4 == 0 ? random() % (data.size() + 1) : data.size());
            data.shrink_to_fit();
            check(data);
        }
    }
}

}  // namespace

int main() {
    test_whole_pictures();
    test_what_is_missing_is_seen();
    test_what_is_too_much_is_seen();
    test_means_that_no_picture_has_are_seen();
    test_restart_markers();
    test_headers();
    test_codes_of_the_file_are_used();
    test_sampling();
    test_fields_of_one_size_belong_together();
    test_progressive();
    test_runs_of_ended_blocks();
    test_endless_scans_are_refused();
    test_any_bytes_are_taken();
    return dff_test::result();
}
