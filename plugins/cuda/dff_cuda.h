/* CUDA kernels behind a C interface: warp, resize, decode.
 *
 * Every function enqueues one kernel on `stream` (a cudaStream_t or CUstream; null is the default
 * stream) of the calling thread's current context, and returns. A thread without one gets the
 * primary context of its current device. None allocates, synchronises or keeps a pointer, so all
 * can be captured into a CUDA graph; make each call once before a capture, with the same sizes and
 * alignment: these choose the kernel, and CUDA loads it on its first use. All pointers but those of
 * the stream are to device memory. They return DFF_OK, or a number that dff_cuda_message explains.
 * An empty array is done at once.
 *
 * Letters: N batch, h x w feature map, C channels, K classes.
 */

#ifndef DFF_CUDA_H
#define DFF_CUDA_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DFF_CUDA_API __attribute__((visibility("default")))

enum { DFF_FLOAT32 = 0, DFF_FLOAT16 = 1, DFF_INT8 = 2 };
enum { DFF_CHANNELS_LAST = 0, DFF_PLANAR = 1 };

enum {
    DFF_OK = 0,
    DFF_BAD_SIZE = 1,
    DFF_NULL_POINTER = 2,
    DFF_BAD_ELEMENT = 3,
    DFF_BAD_LAYOUT = 4,
    DFF_MISALIGNED = 5,
    DFF_BAD_SCALE_STEP = 6,
    DFF_CUDA_ERROR = 1000 /* plus CUDA's own number */
};

/* out[n, y, x, c] = scale[n, y, x, c] * sum_q G(q, p + flow[n, p]) features[n, q, c], p = (y, x);
 * Eq. (1)-(3) of Zhu et al., CVPR 2017, arXiv:1611.07715.
 *
 * features, scale, out: (N, h, w, C) or, DFF_PLANAR, (N, C, h, w), of `element`. scale may be null,
 * for one everywhere. flow: float32 (N, h, w, 2) or (N, 2, h, w), (dx, dy) in feature cells from
 * the current to the key frame. `out` overlaps no input.
 *
 * Computed in float32 whatever the element. A NaN or infinite flow, and one that leaves the map,
 * gives zero, whatever the scale. Zero flow with scale one gives the bits of the features (a NaN
 * stays a NaN, not its bits). DFF_INT8 is symmetric: features and out share one step, which
 * cancels; a scale byte q means scale_step * q, with a finite scale_step above zero; the result is
 * rounded once, ties to even, and stops at -128 and 127. Other elements take no notice of
 * scale_step.
 *
 * Fastest channels-last with 16-byte aligned pointers and cells of a multiple of 16 bytes. A map
 * has less than 2^31 cells and sides below 2^30, a batch at most 65535 maps. Channels: less than
 * 2^30, planar at most 524280. */
DFF_CUDA_API int dff_cuda_warp(const void* features, const float* flow, const void* scale,
                               void* out, int64_t batch, int64_t height, int64_t width,
                               int64_t channels, int element, int layout, float scale_step,
                               void* stream);

/* Stretches an image, uint8 (height, width, 3) with row_bytes from one row to the next, to out,
 * uint8 (out_height, out_width, 3) without gaps, sides 1 to 32768.
 *
 * It is halved, as means of four pixels, while both sides are even and stay at least as long as
 * wanted (four times at most; what is left is then averaged over areas); the rest is bilinear at
 * pixel centres, or averaged over areas where both sides shrink, one more than 2.25 times. */
DFF_CUDA_API int dff_cuda_resize(const uint8_t* image, int64_t height, int64_t width,
                                 int64_t row_bytes, uint8_t* out, int64_t out_height,
                                 int64_t out_width, void* stream);

/* labels[Y, X] = argmax over k of the scores, float32 (h, w, K), interpolated at
 *   v = (Y + 0.5) * h / out_height - 0.5 clamped to [0, h - 1], u likewise over x;
 * K 1 to 256, sides 1 to 32768. The lowest class wins a tie, a NaN never wins, where all are NaN
 * the label is 0. confidence may be null; else it is the softmax probability of the label, taken
 * at the cells and interpolated alike, as round(255 p). labels, confidence: uint8
 * (out_height, out_width). */
DFF_CUDA_API int dff_cuda_decode(const float* scores, int64_t height, int64_t width,
                                 int64_t classes, uint8_t* labels, int64_t out_height,
                                 int64_t out_width, uint8_t* confidence, void* stream);

/* What a returned number means and what to do; never null, never freed. */
DFF_CUDA_API const char* dff_cuda_message(int status);

#ifdef __cplusplus
}
#endif

#endif
