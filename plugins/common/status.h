// Status of a kernel. Kernels throw nothing: they are called over C and TensorRT boundaries.

#pragma once

namespace dff {

enum class Status {
    kOk = 0,
    kBadSize,      // a negative size, or one that the kernel does not support
    kNullPointer,  // a pointer that must be read or written is null
    kOutOfMemory,  // scratch memory could not be allocated
};

inline const char* status_text(Status status) {
    switch (status) {
        case Status::kOk: return "ok";
        case Status::kBadSize: return "a size is negative or not supported";
        case Status::kNullPointer: return "a buffer is null";
        case Status::kOutOfMemory: return "out of memory";
    }
    return "unknown status";
}

}  // namespace dff
