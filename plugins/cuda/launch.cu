// CUDA's text for its errors.

#include "cuda/kernels.h"
#include "cuda/launch.h"

namespace dff {

const char* launch_message(int error) noexcept {
#if defined(__CUDACC__)
    return cudaGetErrorString(static_cast<cudaError_t>(error));
#else
    return emulated_launch_message(error);
#endif
}

}  // namespace dff
