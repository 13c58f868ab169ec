// The Python module dff_edge._native: the CPU kernels over NumPy arrays, and DLPack capsules.
//
// nanobind checks dtype, rank, contiguity and device, and copies nothing; shapes are checked here
// again, since the kernels rely on them. dff_edge.runtime is the interface for users: its
// messages include advice. The GIL is released while a kernel runs.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "common/simd.h"
#include "decode/decode_cpu.h"
#include "detect/detect_cpu.h"
#include "detect/nms_cpu.h"
#include "jpeg/jpeg_check.h"
#include "siftflow/siftflow_cpu.h"
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

std::int64_t nms(InArray<float, 2> boxes, InArray<float, 1> scores, float threshold,
                 OutArray<std::int64_t, 1> kept) {
    if (boxes.shape(1) != 4 || boxes.shape(0) != scores.shape(0)) {
        throw nb::value_error("boxes must have shape (n, 4), scores (n)");
    }
    std::int64_t count = 0;
    dff::Status status;
    {
        nb::gil_scoped_release release;
        status = dff::nms_cpu(boxes.data(), scores.data(), length(boxes.shape(0)), threshold,
                              length(kept.shape(0)), kept.data(), &count);
    }
    raise_unless_ok(status);
    return count;
}

// The fault's name, None where there is none.
std::optional<std::string> check_jpeg(InArray<std::uint8_t, 1> data) {
    dff::JpegFault fault;
    {
        nb::gil_scoped_release release;
        fault = dff::check_jpeg(data.data(), length(data.shape(0)));
    }
    switch (fault) {
        case dff::JpegFault::kNone:
        case dff::JpegFault::kNotChecked: return std::nullopt;
        case dff::JpegFault::kNoStart: return "no_start";
        case dff::JpegFault::kBadHeader: return "bad_header";
        case dff::JpegFault::kNoTable: return "no_table";
        case dff::JpegFault::kCutOff: return "cut_off";
        case dff::JpegFault::kBadCode: return "bad_code";
        case dff::JpegFault::kBadCoefficient: return "bad_coefficient";
        case dff::JpegFault::kLeftOver: return "left_over";
        case dff::JpegFault::kBadRestart: return "bad_restart";
        case dff::JpegFault::kTooManyScans: return "too_many_scans";
        case dff::JpegFault::kOutOfMemory: throw std::bad_alloc();
    }
    throw std::logic_error("an unknown fault of a JPEG");
}

void siftflow(InArray<std::uint8_t, 2> first, InArray<std::uint8_t, 2> second,
              OutArray<float, 3> flow, bool slow, int threads) {
    const std::int64_t height = length(first.shape(0)), width = length(first.shape(1));
    if (second.shape(0) != first.shape(0) || second.shape(1) != first.shape(1) ||
        flow.shape(0) != first.shape(0) || flow.shape(1) != first.shape(1) || flow.shape(2) != 2) {
        throw nb::value_error("first and second must have shape (H, W), flow (H, W, 2)");
    }
    dff::Status status;
    {
        nb::gil_scoped_release release;
        status = dff::siftflow_cpu(first.data(), second.data(), flow.data(), height, width,
                                   slow ? dff::kSiftFlowSlow : dff::kSiftFlowFast, threads);
    }
    raise_unless_ok(status);
}

dff::DetectSettings checked(dff::DetectSettings settings) {
    raise_unless_ok(dff::check_settings(settings));
    return settings;
}

std::int64_t finish(dff::Detector& detector, InArray<float, 3> objectness, InArray<float, 3> deltas,
                    InArray<float, 3> class_maps, InArray<float, 3> box_maps,
                    OutArray<float, 2> boxes, OutArray<float, 1> scores,
                    OutArray<std::int32_t, 1> labels, int threads) {
    const dff::DetectSettings& s = detector.settings();
    const auto anchors = static_cast<std::int64_t>(s.anchors.size() / 2);
    const auto has_shape = [&s](const InArray<float, 3>& map, std::int64_t depth) {
        return length(map.shape(0)) == s.height && length(map.shape(1)) == s.width &&
               length(map.shape(2)) == depth;
    };
    if (!has_shape(objectness, anchors) || !has_shape(deltas, 4 * anchors) ||
        !has_shape(class_maps, s.bins * s.bins * (s.classes + 1)) ||
        !has_shape(box_maps, s.bins * s.bins * 4)) {
        throw nb::value_error("the maps must have the shapes that the detector was made for");
    }
    if (length(boxes.shape(0)) != s.detections || boxes.shape(1) != 4 ||
        length(scores.shape(0)) != s.detections || length(labels.shape(0)) != s.detections) {
        throw nb::value_error("boxes must have shape (D, 4), scores and labels (D)");
    }
    std::int64_t count = 0;
    dff::Status status;
    {
        nb::gil_scoped_release release;
        status = detector.finish(
            {objectness.data(), deltas.data(), class_maps.data(), box_maps.data()},
            {boxes.data(), scores.data(), labels.data()}, &count, threads);
    }
    raise_unless_ok(status);
    return count;
}

// An array of another library, on any device: the contents of its DLPack capsule.
class DlpackTensor {
public:
    explicit DlpackTensor(nb::ndarray<nb::ro> array) : array_(std::move(array)) {}

    std::uintptr_t pointer() const { return reinterpret_cast<std::uintptr_t>(array_.data()); }
    std::tuple<int, int> device() const { return {array_.device_type(), array_.device_id()}; }
    std::tuple<int, int, int> dtype() const {
        const nb::dlpack::dtype dtype = array_.dtype();
        return {dtype.code, dtype.bits, dtype.lanes};
    }
    std::vector<std::int64_t> shape() const {
        std::vector<std::int64_t> shape;
        for (std::size_t i = 0; i < array_.ndim(); ++i) {
            shape.push_back(length(array_.shape(i)));
        }
        return shape;
    }
    std::vector<std::int64_t> strides() const {
        std::vector<std::int64_t> strides;
        for (std::size_t i = 0; i < array_.ndim(); ++i) {
            strides.push_back(array_.stride(i));
        }
        return strides;
    }

private:
    nb::ndarray<nb::ro> array_;
};

nb::object export_dlpack(nb::handle owner, std::uintptr_t pointer,
                         const std::vector<std::size_t>& shape, int code, int bits,
                         int device_type, int device_id) {
    const nb::dlpack::dtype dtype{static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(bits),
                                  1};
    nb::ndarray<> array(reinterpret_cast<void*>(pointer), shape.size(), shape.data(), owner,
                        nullptr, dtype, device_type, device_id);
    return array.cast();
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

    m.def("check_jpeg", &check_jpeg, nb::arg("data").noconvert(),
          "Name what is wrong with the JPEG in data uint8 (n), None where it is whole.");
    m.def("siftflow", &siftflow, nb::arg("first").noconvert(), nb::arg("second").noconvert(),
          nb::arg("flow").noconvert(), nb::arg("slow"), nb::arg("threads"),
          "Write the flow of grey images uint8 (H, W), from the first to the second, in pixels.");

    m.def("nms", &nms, nb::arg("boxes").noconvert(), nb::arg("scores").noconvert(),
          nb::arg("threshold"), nb::arg("kept").noconvert(),
          "Write the indices of the boxes (n, 4) that stay into kept, give their number.");
    nb::class_<dff::Detector>(m, "Detector", "R-FCN behind its maps; scratch for one frame.")
        .def("__init__",
             [](dff::Detector* self, std::int64_t height, std::int64_t width, std::int64_t classes,
                std::int64_t bins, std::vector<float> anchors, std::int64_t proposals_before_nms,
                std::int64_t proposals, std::int64_t detections, float proposal_nms,
                float min_score, float nms, float stride) {
                 new (self) dff::Detector(checked(
                     {height, width, classes, bins, proposals_before_nms, proposals, detections,
                      proposal_nms, min_score, nms, stride, std::move(anchors)}));
             },
             nb::arg("height"), nb::arg("width"), nb::arg("classes"), nb::arg("bins"),
             nb::arg("anchors"), nb::arg("proposals_before_nms"), nb::arg("proposals"),
             nb::arg("detections"), nb::arg("proposal_nms"), nb::arg("min_score"), nb::arg("nms"),
             nb::arg("stride"))
        .def("finish", &finish, nb::arg("objectness").noconvert(), nb::arg("deltas").noconvert(),
             nb::arg("class_maps").noconvert(), nb::arg("box_maps").noconvert(),
             nb::arg("boxes").noconvert(), nb::arg("scores").noconvert(),
             nb::arg("labels").noconvert(), nb::arg("threads"),
             "Write the detections of a frame into boxes, scores and labels, give their number.");

    nb::class_<DlpackTensor>(m, "DlpackTensor", "An array of another library; it keeps its memory.")
        .def_prop_ro("pointer", &DlpackTensor::pointer, "Address of the first element.")
        .def_prop_ro("device", &DlpackTensor::device, "DLDeviceType and number.")
        .def_prop_ro("dtype", &DlpackTensor::dtype, "DLDataTypeCode, bits, lanes.")
        .def_prop_ro("shape", &DlpackTensor::shape)
        .def_prop_ro("strides", &DlpackTensor::strides, "In elements.");
    m.def("import_dlpack", [](nb::ndarray<nb::ro> capsule) { return DlpackTensor(capsule); },
          nb::arg("capsule").noconvert(), "Take the array of a DLPack capsule, which is used up.");
    m.def("export_dlpack", &export_dlpack, nb::arg("owner"), nb::arg("pointer"), nb::arg("shape"),
          nb::arg("code"), nb::arg("bits"), nb::arg("device_type"), nb::arg("device_id"),
          "A DLPack capsule of contiguous memory that owner keeps.");
}
