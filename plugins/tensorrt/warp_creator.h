// Creates WarpPlugins from the attributes of an ONNX node, or from the fields of an engine.

#pragma once

#include <NvInferRuntime.h>

#include "tensorrt/warp_plugin.h"

namespace dff {

class WarpPluginCreator final : public nvinfer1::IPluginCreatorV3One {
  public:
    WarpPluginCreator() noexcept;

    // Returns null, with a logged message, for a field that is unknown, duplicate, of another type
    // or length, or out of range; an engine must have all fields of getFieldsToSerialize.
    nvinfer1::IPluginV3* createPlugin(const char* name,
                                      const nvinfer1::PluginFieldCollection* fields,
                                      nvinfer1::TensorRTPhase phase) noexcept override;
    const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override {
        return &collection_;
    }
    const char* getPluginName() const noexcept override { return kPluginName; }
    const char* getPluginVersion() const noexcept override { return kPluginVersion; }
    const char* getPluginNamespace() const noexcept override { return kPluginNamespace; }

  private:
    nvinfer1::PluginField fields_[2];
    nvinfer1::PluginFieldCollection collection_;
};

}  // namespace dff
