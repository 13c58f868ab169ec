// The Python module dff_edge._native: the CPU kernels over NumPy arrays.
//
// nanobind checks dtype, rank, contiguity and device, and copies nothing; shapes are checked here
// once more, since the kernels trust them. dff_edge.runtime is the interface for users: its
// messages say what to do. The GIL is released while a kernel runs.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>

#include "common/simd.h"
#include "decode/decode_cpu.h"
#include "warp/warp_cpu.h"

namespace nb = nanobind;

namespace {

template <typename T, int kRank>
using InArray = nb::ndarray<const T, nb::ndim<kRank>, nb::c_contig, nb::device::cpu>;
template <typename T, int kRank>
using OutArray = nb::ndarray<T, nb::ndim<kRank>, nb::c_contig, nb::device::cpu>;

template <typename A, typename B>
bool same_shape(const A& a, const B& b, std::size_t axes) {
    for (std::size_t i = 0; i < axes; ++i) {
        if (a.shape(i) != b.shape(i)) {
            return false;
        }
    }
    return true;
}

std::int64_t length(std::size_t shape) { return static_cast<std::int64_t>(shape); }

void raise_unless_ok(dff::Status status) {
    switch (status) {
        case dff::Status::kOk: return;
        case dff::Status::kOutOfMemory: throw std::bad_alloc();
        default: throw nb::value_error(dff::status_text(status));
    }
}

// Element is float or a byte; kernel takes the checked arrays' data and the size.
template <typename Element, typename Kernel>
void warp_arrays(const InArray<Element, 4>& features, const InArray<float, 4>& flow,
                 const std::optional<InArray<Element, 4>>& scale, const OutArray<Element, 4>& out,
                 const Kernel& kernel) {
    if (!same_shape(flow, features, 3) || flow.shape(3) != 2) {
        throw nb::value_error("flow must have the shape (N, h, w, 2) of features (N, h, w, C)");
    }
    if (scale && !same_shape(*scale, features, 4)) {
        throw nb::value_error("scale must have the shape of features");
    }
    if (!same_shape(out, features, 4)) {
        throw nb::value_error("out must have the shape of features");
    }
    const dff::WarpSize size{length(features.shape(0)), length(features.shape(1)),
                             length(features.shape(2)), length(features.shape(3))};
    const Element* scale_data = scale ? scale->data() : nullptr;
    dff::Status status;
    {
        nb::gil_scoped_release release;
        status = kernel(features.data(), flow.data(), scale_data, out.data(), size);
    }
    raise_unless_ok(status);
}

void warp(InArray<float, 4> features, InArray<float, 4> flow,
          std::optional<InArray<float, 4>> scale, OutArray<float, 4> out, int threads) {
    warp_arrays<float>(features, flow, scale, out, [=](auto... arguments) {
        return dff::warp_cpu(arguments..., threads);
    });
}

void warp_bytes(InArray<std::uint8_t, 4> features, InArray<float, 4> flow,
                std::optional<InArray<std::uint8_t, 4>> scale, OutArray<std::uint8_t, 4> out,
                std::uint8_t features_zero, std::uint8_t scale_zero, float scale_step,
                int threads) {
    const dff::ByteLevels levels{features_zero, scale_zero, scale_step};
    warp_arrays<std::uint8_t>(features, flow, scale, out, [=](auto... arguments) {
        return dff::warp_bytes_cpu(arguments..., levels, threads);
    });
}

void decode(InArray<float, 3> scores, OutArray<std::uint8_t, 2> out,
            std::optional<OutArray<std::uint8_t, 2>> confidence, int threads) {
    if (confidence && !same_shape(*confidence, out, 2)) {
        throw nb::value_error("confidence must have the shape of out");
    }
    const dff::DecodeSize size{length(scores.shape(0)), length(scores.shape(1)),
                               length(scores.shape(2)), length(out.shape(0)),
                               length(out.shape(1))};
    std::uint8_t* confidence_data = confidence ? confidence->data() : nullptr;
    dff::Status status;
    {
        nb::gil_scoped_release release;
        status = dff::decode_cpu(scores.data(), out.data(), confidence_data, size, threads);
    }
    raise_unless_ok(status);
}

}  // namespace

NB_MODULE(_native, m) {
    m.doc() = "CPU kernels of dff-edge. Use them through dff_edge.runtime.";
    m.def("warp", &warp, nb::arg("features").noconvert(), nb::arg("flow").noconvert(),
          nb::arg("scale").noconvert().none(), nb::arg("out").noconvert(), nb::arg("threads"),
          "Warp float32 features (N, h, w, C) along flow (N, h, w, 2), times scale, into out.");
    m.def("warp_bytes", &warp_bytes, nb::arg("features").noconvert(), nb::arg("flow").noconvert(),
          nb::arg("scale").noconvert().none(), nb::arg("out").noconvert(),
          nb::arg("features_zero"), nb::arg("scale_zero"), nb::arg("scale_step"),
          nb::arg("threads"), "The same over uint8: value = step * (byte - zero).");
    m.def("simd", &dff::simd_name, "The instruction set that the kernels run with on this CPU.");
    m.def("decode", &decode, nb::arg("scores").noconvert(), nb::arg("out").noconvert(),
          nb::arg("confidence").noconvert().none(), nb::arg("threads"),
          "Interpolate float32 scores (h, w, K) to the size of out, uint8 (H, W), and argmax.");
}
