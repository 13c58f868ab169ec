// The launchers of the CUDA kernels, for the C interface and the TensorRT plugin. They return a
// status of dff_cuda.h, which documents what they compute.

#pragma once

#include <cstdint>

#include "decode/decode_cpu.h"

namespace dff {

struct CudaWarp {
    const void* features;
    const float* flow;
    const void* scale;  // or null
    void* out;
    std::int64_t batch;
    std::int64_t height;
    std::int64_t width;
    std::int64_t channels;
    int element;                 // DFF_FLOAT32, DFF_FLOAT16 or DFF_INT8
    bool is_channels_last;       // features, scale and out
    bool is_flow_channels_last;  // TensorRT pads flow to no vector, whatever the features have
    float scale_step;
};

int warp_cuda(const CudaWarp& warp, void* stream) noexcept;

struct ResizeSize {
    std::int64_t height;
    std::int64_t width;
    std::int64_t row_bytes;
    std::int64_t out_height;
    std::int64_t out_width;
};

int resize_cuda(const std::uint8_t* image, const ResizeSize& size, std::uint8_t* out,
                void* stream) noexcept;

int decode_cuda(const float* scores, std::uint8_t* labels, std::uint8_t* confidence,
                const DecodeSize& size, void* stream) noexcept;

// Returns CUDA's text for one of its errors.
const char* launch_message(int error) noexcept;

}  // namespace dff
