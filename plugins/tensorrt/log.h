// Messages to the logger that TensorRT lends to a plugin library.

#pragma once

#include <NvInferRuntime.h>

namespace dff {

// The first finder stays; null is passed over. TensorRT owns it.
void keep_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept;

// printf-like, as an error. On stderr where there is no logger: nothing is lost.
__attribute__((format(printf, 1, 2))) void log_error(const char* format, ...) noexcept;

}  // namespace dff
