// Messages to the logger that TensorRT lends to a plugin library.

#pragma once

#include <NvInferRuntime.h>

namespace dff {

// The first finder is kept; null is ignored. TensorRT owns it.
void keep_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept;

// Logs an error, printf-like; to stderr if there is no logger.
__attribute__((format(printf, 1, 2))) void log_error(const char* format, ...) noexcept;

}  // namespace dff
