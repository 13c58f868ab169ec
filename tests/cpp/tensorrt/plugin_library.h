// The plugin library as TensorRT uses it, for its tests: loaded, asked for its creator, given a
// logger. Needs TensorRT's headers only.

#pragma once

#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "warp_elements.h"

namespace dff_test {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;
using nvinfer1::TensorFormat;
using nvinfer1::TensorRTPhase;

class Logger final : public nvinfer1::ILogger {
  public:
    void log(Severity severity, const char* message) noexcept override {
        CHECK(severity == Severity::kERROR);
        text = message;
    }
    std::string text;
};

class LoggerFinder final : public nvinfer1::ILoggerFinder {
  public:
    nvinfer1::ILogger* findLogger() override { return &logger; }
    Logger logger;
};

inline LoggerFinder finder;

// Whether the last message has the words; it is forgotten.
inline bool has_logged(const char* words) {
    const bool found = finder.logger.text.find(words) != std::string::npos;
    if (!found) {
        std::fprintf(stderr, "logged: \"%s\"\n", finder.logger.text.c_str());
    }
    finder.logger.text.clear();
    return found;
}

using Plugin = std::unique_ptr<nvinfer1::IPluginV3>;

struct Capabilities {
    explicit Capabilities(nvinfer1::IPluginV3& plugin)
        : core(static_cast<nvinfer1::IPluginV3OneCore*>(
              plugin.getCapabilityInterface(nvinfer1::PluginCapabilityType::kCORE))),
          build(static_cast<nvinfer1::IPluginV3OneBuild*>(
              plugin.getCapabilityInterface(nvinfer1::PluginCapabilityType::kBUILD))),
          runtime(static_cast<nvinfer1::IPluginV3OneRuntime*>(
              plugin.getCapabilityInterface(nvinfer1::PluginCapabilityType::kRUNTIME))) {}
    nvinfer1::IPluginV3OneCore* core;
    nvinfer1::IPluginV3OneBuild* build;
    nvinfer1::IPluginV3OneRuntime* runtime;
};

inline nvinfer1::IPluginCreatorV3One* creator = nullptr;

inline void load(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: %s LIBRARY\n", argv[0]);
        std::exit(2);
    }
    const char* path = argv[1];
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        std::fprintf(stderr, "%s\n", dlerror());
        std::exit(1);
    }
    using GetCreators = nvinfer1::IPluginCreatorInterface* const* (*)(std::int32_t&);
    using SetLoggerFinder = void (*)(nvinfer1::ILoggerFinder*);
    const auto get_creators = reinterpret_cast<GetCreators>(dlsym(library, "getCreators"));
    const auto set_logger_finder =
        reinterpret_cast<SetLoggerFinder>(dlsym(library, "setLoggerFinder"));
    if (get_creators == nullptr || set_logger_finder == nullptr) {
        std::fprintf(stderr, "%s lacks getCreators or setLoggerFinder\n", path);
        std::exit(1);
    }
    CHECK(dlsym(library, "dff_cuda_warp") == nullptr);
    set_logger_finder(nullptr);  // passed over
    set_logger_finder(&finder);
    LoggerFinder later;
    set_logger_finder(&later);  // the first one stays
    std::int32_t count = 0;
    nvinfer1::IPluginCreatorInterface* const* creators = get_creators(count);
    CHECK(count == 1);
    creator = static_cast<nvinfer1::IPluginCreatorV3One*>(creators[0]);
    CHECK(get_creators(count)[0] == creators[0]);
}

inline Plugin create(std::vector<PluginField> fields, TensorRTPhase phase = TensorRTPhase::kBUILD) {
    const PluginFieldCollection collection{static_cast<std::int32_t>(fields.size()),
                                           fields.data()};
    return Plugin(creator->createPlugin("layer", &collection, phase));
}

inline PluginField channels_last_field(const std::int32_t& value) {
    return {"channels_last", &value, PluginFieldType::kINT32, 1};
}

inline PluginField scale_step_field(const float& value) {
    return {"scale_step", &value, PluginFieldType::kFLOAT32, 1};
}

inline Plugin create(std::int32_t channels_last, float scale_step = kScaleStep) {
    return create({channels_last_field(channels_last), scale_step_field(scale_step)});
}

struct Form {
    DataType type;
    TensorFormat format;
    bool operator==(const Form& other) const {
        return type == other.type && format == other.format;
    }
};

inline Dims dims(std::vector<std::int64_t> sizes) {
    Dims result{};
    result.nbDims = static_cast<std::int32_t>(sizes.size());
    std::copy(sizes.begin(), sizes.end(), result.d);
    return result;
}

inline nvinfer1::PluginTensorDesc desc(const Dims& shape, Form form) {
    nvinfer1::PluginTensorDesc result{};
    result.dims = shape;
    result.type = form.type;
    result.format = form.format;
    result.scale = 1.0f;
    return result;
}

constexpr Form kFloatLinear{DataType::kFLOAT, TensorFormat::kLINEAR};

}  // namespace dff_test
