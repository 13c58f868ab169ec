// The C interface over the launchers, and the texts of their status.

#include "cuda/dff_cuda.h"

#include "cuda/kernels.h"

int dff_cuda_warp(const void* features, const float* flow, const void* scale, void* out,
                  int64_t batch, int64_t height, int64_t width, int64_t channels, int element,
                  int layout, float scale_step, void* stream) {
    if (layout != DFF_CHANNELS_LAST && layout != DFF_PLANAR) {
        return DFF_BAD_LAYOUT;
    }
    const bool is_channels_last = layout == DFF_CHANNELS_LAST;
    return dff::warp_cuda({features, flow, scale, out, batch, height, width, channels, element,
                           is_channels_last, is_channels_last, scale_step},
                          stream);
}

int dff_cuda_resize(const uint8_t* image, int64_t height, int64_t width, int64_t row_bytes,
                    uint8_t* out, int64_t out_height, int64_t out_width, void* stream) {
    return dff::resize_cuda(image, {height, width, row_bytes, out_height, out_width}, out, stream);
}

int dff_cuda_decode(const float* scores, int64_t height, int64_t width, int64_t classes,
                    uint8_t* labels, int64_t out_height, int64_t out_width, uint8_t* confidence,
                    void* stream) {
    return dff::decode_cuda(scores, labels, confidence,
                            {height, width, classes, out_height, out_width}, stream);
}

const char* dff_cuda_message(int status) {
    if (status >= DFF_CUDA_ERROR) {
        return dff::launch_message(status - DFF_CUDA_ERROR);
    }
    switch (status) {
        case DFF_OK: return "ok";
        case DFF_BAD_SIZE:
            return "a size is negative or beyond what the kernel takes; dff_cuda.h has the limits";
        case DFF_NULL_POINTER: return "a pointer is null; only scale and confidence may be";
        case DFF_BAD_ELEMENT:
            return "the element is unknown; expected 0 (float32), 1 (float16) or 2 (int8)";
        case DFF_BAD_LAYOUT:
            return "the layout is unknown; expected 0 (channels-last) or 1 (planar)";
        case DFF_MISALIGNED:
            return "a pointer is not aligned to its element; pass the start of an array";
        case DFF_BAD_SCALE_STEP:
            return "scale_step is not a finite number above zero, which int8 with a scale needs";
        default: return "unknown status; expected what a function of dff_cuda.h returned";
    }
}
