// Creates WarpPlugins, and exports them from the library: its creators, and a slot for TensorRT's
// logger. tensorrt/exports.map hides everything else.

#include "tensorrt/warp_creator.h"

#include <cmath>
#include <cstring>
#include <new>
#include <optional>

#include "tensorrt/log.h"

namespace dff {
namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;

// Returns one value of a type, or none and a logged message. Fields come from files: the official
// sample trusts them; here type and length are checked. In an engine they lie at any address.
template <typename Value>
std::optional<Value> value_of(const PluginField& field, PluginFieldType type,
                              const char* type_name) {
    if (field.type != type || field.length != 1 || field.data == nullptr) {
        log_error("%s: field %s is of type %d and length %d%s, expected one %s.", kPluginName,
                  field.name, static_cast<int>(field.type), field.length,
                  field.data == nullptr ? " without data" : "", type_name);
        return std::nullopt;
    }
    Value value;
    std::memcpy(&value, field.data, sizeof(value));
    return value;
}

struct Attributes {
    bool channels_last = true;
    float scale_step = 1.0f;
    bool has_channels_last = false;
    bool has_scale_step = false;

    bool read(const PluginField& field);
};

bool Attributes::read(const PluginField& field) {
    const char* name = field.name == nullptr ? "" : field.name;
    const bool is_channels_last = std::strcmp(name, kChannelsLastField) == 0;
    const bool is_scale_step = std::strcmp(name, kScaleStepField) == 0;
    if (!is_channels_last && !is_scale_step) {
        log_error("%s: field \"%s\" is unknown, expected %s or %s.", kPluginName, name,
                  kChannelsLastField, kScaleStepField);
        return false;
    }
    bool& is_read = is_channels_last ? has_channels_last : has_scale_step;
    if (is_read) {
        log_error("%s: field %s is there twice, expected it once.", kPluginName, name);
        return false;
    }
    is_read = true;
    if (is_channels_last) {
        const auto value = value_of<std::int32_t>(field, PluginFieldType::kINT32, "int32");
        if (value && *value != 0 && *value != 1) {
            log_error("%s: %s is %d, expected 1 for (N, h, w, C) or 0 for (N, C, h, w).",
                      kPluginName, name, *value);
            return false;
        }
        channels_last = value == 1;
        return value.has_value();
    }
    const auto value = value_of<float>(field, PluginFieldType::kFLOAT32, "float32");
    if (value && !(*value > 0.0f && std::isfinite(*value))) {
        log_error("%s: %s is %g, expected a finite number above zero.", kPluginName, name,
                  static_cast<double>(*value));
        return false;
    }
    scale_step = value.value_or(0.0f);
    return value.has_value();
}

}  // namespace

WarpPluginCreator::WarpPluginCreator() noexcept
    : fields_{{kChannelsLastField, nullptr, PluginFieldType::kINT32, 1},
              {kScaleStepField, nullptr, PluginFieldType::kFLOAT32, 1}},
      collection_{2, fields_} {}

nvinfer1::IPluginV3* WarpPluginCreator::createPlugin(
    const char*, const nvinfer1::PluginFieldCollection* fields,
    nvinfer1::TensorRTPhase phase) noexcept {
    if (fields == nullptr || (fields->nbFields > 0 && fields->fields == nullptr)) {
        log_error("%s: the collection of fields is null, expected one, which may be empty.",
                  kPluginName);
        return nullptr;
    }
    Attributes attributes;
    for (std::int32_t i = 0; i < fields->nbFields; ++i) {
        if (!attributes.read(fields->fields[i])) {
            return nullptr;
        }
    }
    const bool has_all = attributes.has_channels_last && attributes.has_scale_step;
    if (phase == nvinfer1::TensorRTPhase::kRUNTIME && !has_all) {
        log_error("%s: the engine lacks %s, expected both fields. It was built with another plugin "
                  "of this name: build it again.",
                  kPluginName, attributes.has_channels_last ? kScaleStepField : kChannelsLastField);
        return nullptr;
    }
    auto* plugin =
        new (std::nothrow) WarpPlugin(attributes.channels_last, attributes.scale_step);
    if (plugin == nullptr) {
        log_error("%s: no memory for the plugin.", kPluginName);
    }
    return plugin;
}

}  // namespace dff

extern "C" {

__attribute__((visibility("default"))) nvinfer1::IPluginCreatorInterface* const* getCreators(
    std::int32_t& count) {
    static dff::WarpPluginCreator creator;
    static nvinfer1::IPluginCreatorInterface* const creators[] = {&creator};
    count = 1;
    return creators;
}

__attribute__((visibility("default"))) void setLoggerFinder(nvinfer1::ILoggerFinder* finder) {
    dff::keep_logger_finder(finder);
}

}  // extern "C"
