// Messages to the logger that TensorRT lends to a plugin library.

#include "tensorrt/log.h"

#include <atomic>
#include <cstdarg>
#include <cstdio>

namespace dff {
namespace {

std::atomic<nvinfer1::ILoggerFinder*> logger_finder{nullptr};

nvinfer1::ILogger* find_logger() noexcept {
    nvinfer1::ILoggerFinder* finder = logger_finder.load();
    if (finder == nullptr) {
        return nullptr;
    }
    try {
        return finder->findLogger();  // not noexcept
    } catch (...) {
        return nullptr;
    }
}

}  // namespace

void keep_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept {
    nvinfer1::ILoggerFinder* none = nullptr;
    logger_finder.compare_exchange_strong(none, finder);
}

void log_error(const char* format, ...) noexcept {
    char message[512];
    va_list values;
    va_start(values, format);
    std::vsnprintf(message, sizeof(message), format, values);
    va_end(values);
    if (nvinfer1::ILogger* logger = find_logger()) {
        logger->log(nvinfer1::ILogger::Severity::kERROR, message);
    } else {
        std::fprintf(stderr, "%s\n", message);
    }
}

}  // namespace dff
