// Element types of maps on the device: float, __half and int8, and packs of 16 bytes of them.

#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cuda/launch.h"
#include "warp/warp_math.h"

namespace dff {

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(__half value) { return __half2float(value); }
__device__ inline float to_float(std::int8_t value) { return static_cast<float>(value); }

template <typename Element>
__device__ inline Element from_float(float value);
template <>
__device__ inline float from_float<float>(float value) {
    return value;
}
template <>
__device__ inline __half from_float<__half>(float value) {
    return __float2half_rn(value);
}
template <>
__device__ inline std::int8_t from_float<std::int8_t>(float value) {
    return round_to_int8(value);
}

// One int8 of a word. By an addition: a GPU does several in the time of one conversion. The lowest
// bits of 2^23 + 128 + value are the byte with its sign bit turned.
__device__ inline float int8_to_float(unsigned word, unsigned i) {
    const unsigned bits = __byte_perm(word ^ 0x80808080u, 0x4B000000u, 0x7650u + i);
    float shifted;
    memcpy(&shifted, &bits, sizeof(shifted));
    return shifted - 8388736.0f;
}

// Returns the value of an element of the scale field.
template <typename Element>
__device__ inline float scale_value(float scale, float step) {
    return std::is_same_v<Element, std::int8_t> ? step * scale : scale;
}

// Elements that are loaded and stored at once: 16 bytes, or one where kSize is 1. The words stay
// packed until an element is read: sixteen int8 would take sixteen registers.
template <typename Element, int kSize>
class Pack {
    static_assert(kSize * sizeof(Element) == 16, "a pack is one element or 16 bytes");
    static constexpr int kPerWord = 4 / sizeof(Element);
    static constexpr int kBits = 8 * sizeof(Element);
    unsigned word_[4];

  public:
    __device__ static Pack zeros() { return Pack(uint4{0, 0, 0, 0}); }  // zero in every element
    // Memory that neighbouring cells read too, and that no kernel writes meanwhile.
    __device__ static Pack load(const Element* from) {
        return Pack(__ldg(reinterpret_cast<const uint4*>(from)));
    }
    // Memory that is read once: it leaves the caches first.
    __device__ static Pack load_once(const Element* from) {
        return Pack(__ldcs(reinterpret_cast<const uint4*>(from)));
    }
    __device__ void store(Element* to) const {
        __stcs(reinterpret_cast<uint4*>(to), uint4{word_[0], word_[1], word_[2], word_[3]});
    }

    // Both are for constant i, after unrolling. Little-endian, as every CUDA machine is.
    __device__ float value(int i) const {
        const unsigned word = word_[i / kPerWord];
        if constexpr (std::is_same_v<Element, std::int8_t>) {
            return int8_to_float(word, i % kPerWord);
        } else {
            const unsigned bits = word >> (i % kPerWord * kBits % 32);
            Element element;
            memcpy(&element, &bits, sizeof(element));
            return to_float(element);
        }
    }
    // The element must be zero before.
    __device__ void set(int i, Element element) {
        unsigned bits = 0;
        memcpy(&bits, &element, sizeof(element));
        word_[i / kPerWord] |= bits << (i % kPerWord * kBits % 32);
    }

    Pack() = default;  // not initialised: elements that are not loaded are not read

  private:
    __device__ explicit Pack(uint4 bits) : word_{bits.x, bits.y, bits.z, bits.w} {}
};

template <typename Element>
class Pack<Element, 1> {
    Element element_;

  public:
    __device__ static Pack zeros() { return Pack(from_float<Element>(0.0f)); }
    __device__ static Pack load(const Element* from) { return Pack(__ldg(from)); }
    __device__ static Pack load_once(const Element* from) { return Pack(__ldcs(from)); }
    __device__ void store(Element* to) const { __stcs(to, element_); }

    __device__ float value(int) const { return to_float(element_); }
    __device__ void set(int, Element element) { element_ = element; }

    Pack() = default;

  private:
    __device__ explicit Pack(Element element) : element_(element) {}
};

}  // namespace dff
