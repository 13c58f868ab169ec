// The feature warp as a TensorRT layer: features, flow, scale -> warped features.
//
//   DffWarp, version 1, namespace "" (TensorRT 10.3 ignores the domain of an ONNX node)
//   channels_last  int32, 1 (default): maps are (N, h, w, C), flow (N, h, w, 2); 0: maps are
//                  (N, C, h, w), flow (N, 2, h, w)
//   scale_step     float32, default 1: value of a step of an int8 scale field
//
// Maps are float32, float16 or int8, all three of one type and format; flow is float32. In int8
// features and output share their step. The result is of the features' type, as strong typing
// requires; Q and DQ stand before and after the layer. See plugins/cuda/dff_cuda.h for the rest.

#pragma once

#include <NvInferRuntime.h>

#include <cstdint>

namespace dff {

constexpr char kPluginName[] = "DffWarp";
constexpr char kPluginVersion[] = "1";
constexpr char kPluginNamespace[] = "";
constexpr char kChannelsLastField[] = "channels_last";
constexpr char kScaleStepField[] = "scale_step";

class WarpPlugin final : public nvinfer1::IPluginV3,
                         public nvinfer1::IPluginV3OneCore,
                         public nvinfer1::IPluginV3OneBuild,
                         public nvinfer1::IPluginV3OneRuntime {
  public:
    WarpPlugin(bool channels_last, float scale_step) noexcept;
    // The fields to serialise point into the object.
    WarpPlugin(const WarpPlugin&) = delete;
    WarpPlugin& operator=(const WarpPlugin&) = delete;
    ~WarpPlugin() override = default;

    // IPluginV3
    nvinfer1::IPluginCapability* getCapabilityInterface(
        nvinfer1::PluginCapabilityType type) noexcept override;
    nvinfer1::IPluginV3* clone() noexcept override;

    // IPluginV3OneCore
    const char* getPluginName() const noexcept override { return kPluginName; }
    const char* getPluginVersion() const noexcept override { return kPluginVersion; }
    const char* getPluginNamespace() const noexcept override { return kPluginNamespace; }

    // IPluginV3OneBuild
    std::int32_t getNbOutputs() const noexcept override { return 1; }
    std::int32_t getOutputDataTypes(nvinfer1::DataType* outputs, std::int32_t output_count,
                                    const nvinfer1::DataType* inputs,
                                    std::int32_t input_count) const noexcept override;
    std::int32_t getOutputShapes(const nvinfer1::DimsExprs* inputs, std::int32_t input_count,
                                 const nvinfer1::DimsExprs* shape_inputs,
                                 std::int32_t shape_input_count, nvinfer1::DimsExprs* outputs,
                                 std::int32_t output_count,
                                 nvinfer1::IExprBuilder& builder) noexcept override;
    bool supportsFormatCombination(std::int32_t position,
                                   const nvinfer1::DynamicPluginTensorDesc* tensors,
                                   std::int32_t input_count,
                                   std::int32_t output_count) noexcept override;
    std::int32_t configurePlugin(const nvinfer1::DynamicPluginTensorDesc* inputs,
                                 std::int32_t input_count,
                                 const nvinfer1::DynamicPluginTensorDesc* outputs,
                                 std::int32_t output_count) noexcept override;
    const char* getTimingCacheID() noexcept override;

    // IPluginV3OneRuntime
    std::int32_t onShapeChange(const nvinfer1::PluginTensorDesc* inputs, std::int32_t input_count,
                               const nvinfer1::PluginTensorDesc* outputs,
                               std::int32_t output_count) noexcept override;
    std::int32_t enqueue(const nvinfer1::PluginTensorDesc* input_descs,
                         const nvinfer1::PluginTensorDesc* output_descs,
                         const void* const* inputs, void* const* outputs, void* workspace,
                         cudaStream_t stream) noexcept override;
    nvinfer1::IPluginV3* attachToContext(
        nvinfer1::IPluginResourceContext* context) noexcept override;
    const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override;

  private:
    std::int32_t channels_last_;
    float scale_step_;
    nvinfer1::PluginField fields_[2];
    nvinfer1::PluginFieldCollection collection_;
};

}  // namespace dff
