// The feature warp as a TensorRT layer. The kernel is cuda/warp.cu; here are TensorRT's callbacks.
// Only clone allocates, and nothing throws: all of it is called over a library's boundary.

#include "tensorrt/warp_plugin.h"

#include <cstdio>
#include <new>

#include "cuda/dff_cuda.h"
#include "cuda/kernels.h"
#include "tensorrt/log.h"

namespace dff {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::TensorFormat;

// Places of the tensors: inputs, then the output.
enum { kFeatures, kFlow, kScale, kInputs, kOut = kInputs, kTensors };
constexpr std::int32_t kFailed = 1;

const char* type_name(DataType type) {
    switch (type) {
        case DataType::kFLOAT: return "float32";
        case DataType::kHALF: return "float16";
        case DataType::kINT8: return "int8";
        default: return "another type";
    }
}

bool is_map_type(DataType type) {
    return type == DataType::kFLOAT || type == DataType::kHALF || type == DataType::kINT8;
}

// kHWC and kHWC8 are channels-last in memory; the network's dimensions stay (N, C, h, w).
bool is_map_format(DataType type, TensorFormat format, bool channels_last) {
    if (!is_map_type(type)) {
        return false;
    }
    switch (format) {
        case TensorFormat::kLINEAR: return true;
        case TensorFormat::kHWC: return !channels_last && type == DataType::kFLOAT;
        case TensorFormat::kHWC8: return !channels_last && type == DataType::kHALF;
        default: return false;
    }
}

bool has_counts(std::int32_t inputs, std::int32_t outputs) {
    if (inputs == kInputs && outputs == 1) {
        return true;
    }
    log_error("%s has %d inputs and %d outputs, expected the inputs features, flow and scale and "
              "one output.",
              kPluginName, inputs, outputs);
    return false;
}

// A dimension of -1 is not known yet, and agrees with any.
bool agree(std::int64_t a, std::int64_t b) { return a == b || a == -1 || b == -1; }

bool is_like(const Dims& dims, const Dims& features, std::int32_t channel_axis,
             std::int64_t channels) {
    if (dims.nbDims != 4) {
        return false;
    }
    for (std::int32_t axis = 0; axis < 4; ++axis) {
        if (!agree(dims.d[axis], axis == channel_axis ? channels : features.d[axis])) {
            return false;
        }
    }
    return true;
}

struct ShapeText {
    explicit ShapeText(const Dims& dims);
    char text[64];
};

ShapeText::ShapeText(const Dims& dims) {
    if (dims.nbDims != 4) {
        std::snprintf(text, sizeof(text), "%d axes", dims.nbDims);
        return;
    }
    std::snprintf(text, sizeof(text), "(%lld, %lld, %lld, %lld)",
                  static_cast<long long>(dims.d[0]), static_cast<long long>(dims.d[1]),
                  static_cast<long long>(dims.d[2]), static_cast<long long>(dims.d[3]));
}

// Dims of the four tensors.
bool has_shapes(const Dims* const (&dims)[kTensors], bool channels_last) {
    const Dims& features = *dims[kFeatures];
    const char* axes = channels_last ? "(N, h, w, C)" : "(N, C, h, w)";
    if (features.nbDims != 4) {
        log_error("%s: features has %s, expected four, %s with channels_last=%d.", kPluginName,
                  ShapeText(features).text, axes, channels_last ? 1 : 0);
        return false;
    }
    const std::int32_t channel_axis = channels_last ? 3 : 1;
    const std::int64_t channels = features.d[channel_axis];
    constexpr const char* kNames[kTensors] = {"features", "flow", "scale", "the output"};
    for (int tensor = kFlow; tensor < kTensors; ++tensor) {
        const std::int64_t wanted = tensor == kFlow ? 2 : channels;
        if (!is_like(*dims[tensor], features, channel_axis, wanted)) {
            log_error("%s: %s has the shape %s, expected that of features %s, %s, with %lld "
                      "channels. Check channels_last and the inputs' order: features, flow, scale.",
                      kPluginName, kNames[tensor], ShapeText(*dims[tensor]).text, axes,
                      ShapeText(features).text, static_cast<long long>(wanted));
            return false;
        }
    }
    return true;
}

int element_of(DataType type) {
    switch (type) {
        case DataType::kFLOAT: return DFF_FLOAT32;
        case DataType::kHALF: return DFF_FLOAT16;
        case DataType::kINT8: return DFF_INT8;
        default: return -1;  // refused by warp_cuda
    }
}

}  // namespace

WarpPlugin::WarpPlugin(bool channels_last, float scale_step) noexcept
    : channels_last_(channels_last ? 1 : 0),
      scale_step_(scale_step),
      fields_{{kChannelsLastField, &channels_last_, nvinfer1::PluginFieldType::kINT32, 1},
              {kScaleStepField, &scale_step_, nvinfer1::PluginFieldType::kFLOAT32, 1}},
      collection_{2, fields_} {}

nvinfer1::IPluginCapability* WarpPlugin::getCapabilityInterface(
    nvinfer1::PluginCapabilityType type) noexcept {
    switch (type) {
        case nvinfer1::PluginCapabilityType::kCORE:
            return static_cast<nvinfer1::IPluginV3OneCore*>(this);
        case nvinfer1::PluginCapabilityType::kBUILD:
            return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
        case nvinfer1::PluginCapabilityType::kRUNTIME:
            return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
    }
    return nullptr;
}

nvinfer1::IPluginV3* WarpPlugin::clone() noexcept {
    auto* copy = new (std::nothrow) WarpPlugin(channels_last_ != 0, scale_step_);
    if (copy == nullptr) {
        log_error("%s: no memory for a copy of the plugin.", kPluginName);
    }
    return copy;
}

std::int32_t WarpPlugin::getOutputDataTypes(DataType* outputs, std::int32_t output_count,
                                            const DataType* inputs,
                                            std::int32_t input_count) const noexcept {
    if (!has_counts(input_count, output_count)) {
        return kFailed;
    }
    if (!is_map_type(inputs[kFeatures]) || inputs[kScale] != inputs[kFeatures]) {
        log_error("%s: features is %s and scale is %s, expected float32, float16 or int8 for both.",
                  kPluginName, type_name(inputs[kFeatures]), type_name(inputs[kScale]));
        return kFailed;
    }
    if (inputs[kFlow] != DataType::kFLOAT) {
        log_error("%s: flow is %s, expected float32 whatever the maps are: float16 would lose "
                  "parts of a cell. Put a Cast before it.",
                  kPluginName, type_name(inputs[kFlow]));
        return kFailed;
    }
    outputs[0] = inputs[kFeatures];
    return 0;
}

std::int32_t WarpPlugin::getOutputShapes(const nvinfer1::DimsExprs* inputs,
                                         std::int32_t input_count, const nvinfer1::DimsExprs*,
                                         std::int32_t, nvinfer1::DimsExprs* outputs,
                                         std::int32_t output_count,
                                         nvinfer1::IExprBuilder&) noexcept {
    if (!has_counts(input_count, output_count)) {
        return kFailed;
    }
    outputs[0] = inputs[kFeatures];
    return 0;
}

bool WarpPlugin::supportsFormatCombination(std::int32_t position,
                                           const nvinfer1::DynamicPluginTensorDesc* tensors,
                                           std::int32_t input_count,
                                           std::int32_t output_count) noexcept {
    if (!has_counts(input_count, output_count) || position < 0 || position >= kTensors) {
        return false;
    }
    const nvinfer1::PluginTensorDesc& asked = tensors[position].desc;
    switch (position) {
        case kFeatures: return is_map_format(asked.type, asked.format, channels_last_ != 0);
        case kFlow:
            return asked.type == DataType::kFLOAT && asked.format == TensorFormat::kLINEAR;
        default:
            return asked.type == tensors[kFeatures].desc.type &&
                   asked.format == tensors[kFeatures].desc.format;
    }
}

std::int32_t WarpPlugin::configurePlugin(const nvinfer1::DynamicPluginTensorDesc* inputs,
                                         std::int32_t input_count,
                                         const nvinfer1::DynamicPluginTensorDesc* outputs,
                                         std::int32_t output_count) noexcept {
    const bool is_known =
        has_counts(input_count, output_count) &&
        has_shapes({&inputs[kFeatures].desc.dims, &inputs[kFlow].desc.dims,
                    &inputs[kScale].desc.dims, &outputs[0].desc.dims},
                   channels_last_ != 0);
    return is_known ? 0 : kFailed;
}

// Shapes, types and formats are part of the key already; the step changes no timing.
const char* WarpPlugin::getTimingCacheID() noexcept {
    return channels_last_ != 0 ? "channels_last=1" : "channels_last=0";
}

std::int32_t WarpPlugin::onShapeChange(const nvinfer1::PluginTensorDesc* inputs,
                                       std::int32_t input_count,
                                       const nvinfer1::PluginTensorDesc* outputs,
                                       std::int32_t output_count) noexcept {
    const bool is_known = has_counts(input_count, output_count) &&
                          has_shapes({&inputs[kFeatures].dims, &inputs[kFlow].dims,
                                      &inputs[kScale].dims, &outputs[0].dims},
                                     channels_last_ != 0);
    return is_known ? 0 : kFailed;
}

std::int32_t WarpPlugin::enqueue(const nvinfer1::PluginTensorDesc* input_descs,
                                 const nvinfer1::PluginTensorDesc*, const void* const* inputs,
                                 void* const* outputs, void*, cudaStream_t stream) noexcept {
    const nvinfer1::PluginTensorDesc& features = input_descs[kFeatures];
    const Dims& dims = features.dims;
    const bool channels_last = channels_last_ != 0;
    const std::int64_t channels = dims.d[channels_last ? 3 : 1];
    const bool is_padded = features.format == TensorFormat::kHWC8;
    const CudaWarp warp{
        inputs[kFeatures],
        static_cast<const float*>(inputs[kFlow]),
        inputs[kScale],
        outputs[0],
        dims.d[0],
        dims.d[channels_last ? 1 : 2],
        dims.d[channels_last ? 2 : 3],
        is_padded ? (channels + 7) / 8 * 8 : channels,  // the padding is warped like the rest
        element_of(features.type),
        channels_last || features.format != TensorFormat::kLINEAR,
        channels_last,
        scale_step_};
    const int status = warp_cuda(warp, stream);
    if (status != DFF_OK) {
        log_error("%s: the kernel was not launched on %s features %s: %s.", kPluginName,
                  type_name(features.type), ShapeText(dims).text, dff_cuda_message(status));
    }
    return status;
}

nvinfer1::IPluginV3* WarpPlugin::attachToContext(nvinfer1::IPluginResourceContext*) noexcept {
    return clone();
}

const nvinfer1::PluginFieldCollection* WarpPlugin::getFieldsToSerialize() noexcept {
    return &collection_;
}

}  // namespace dff
