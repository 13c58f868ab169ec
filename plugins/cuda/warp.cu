// Feature warp with scale on the device. The maths is warp/warp_math.h; here are indices, loads and
// the launch.
//
// Channels-last, threadIdx is (lane, column, row): the lanes of a cell lie along its channels and
// load 16 bytes each; the columns of a block are neighbours, so that the corners that they share
// come from the L1 cache; a thread goes down a few rows, of which each reads one row of corners
// anew. The corners are found once for all channels that a thread blends.
//
// Planar: a thread has one cell of a run of planes; the lanes lie along the cells.
//
// Compiled without fused multiply-add: float32 results have the bits of the CPU kernel. That is a
// tenth more instructions, and no more time where memory is the limit.

#include <algorithm>
#include <cmath>

#include "cuda/elements.h"
#include "cuda/kernels.h"
#include "cuda/launch.h"
#include "warp/warp_math.h"

namespace dff {
namespace {

constexpr int kBlockThreads = 256;
constexpr int kMaxLanes = 32;
constexpr int kMinColumns = 8;
constexpr int kPacksPerCell = 2;  // that a thread loads before it blends: bytes in flight
constexpr int kMaxRowsPerThread = 4;
constexpr int kChannelsPerThread = 8;  // planar, likewise
// Below, a thread does fewer rows: the blocks of a small map are to fill the device.
constexpr std::int64_t kWantedBlocks = 1024;
constexpr std::int64_t kMaxGridSide = 65535;  // of y and z

template <typename Element>
struct DeviceWarp {
    const Element* features;
    const float* flow;
    const Element* scale;
    Element* out;
    MapSize size;
    std::int32_t channels;
    float scale_step;
    std::int32_t flow_stride;   // from the dx of a cell to that of the next
    std::int32_t flow_dy;       // from the dx of a cell to its dy
    std::int32_t slabs;         // channels-last: blocks that share the channels of a cell
    std::int32_t rows_per_thread;
};

template <typename Element>
__device__ inline Corners corners_of(const DeviceWarp<Element>& args, const float* flow,
                                     std::int32_t y, std::int32_t x) {
    const std::int32_t cell = y * args.size.width + x;
    const float* dx = flow + static_cast<std::int64_t>(cell) * args.flow_stride;
    return corners_at(y, x, __ldg(dx), __ldg(dx + args.flow_dy), args.size);
}

template <typename Element>
__device__ inline std::int64_t cells_of(const DeviceWarp<Element>& args) {
    return static_cast<std::int64_t>(args.size.height) * args.size.width;
}

// Work of a thread of warp_cells in every cell: the same channels, a pack each of
// channel, channel + step, ...
template <typename Element>
struct Lane {
    const Element* features;  // at `channel` of the first cell of the map
    const Element* scale;     // likewise
    Element* out;             // likewise
    std::int32_t channels;    // C, between one cell and the next
    std::int32_t left;        // channels from `channel` on
    std::int32_t step;
    float scale_step;
};

template <int kCount, bool kScaled, int kPack, typename Element>
__device__ inline void blend_cell(const Lane<Element>& lane, const Corners& corners,
                                  std::int32_t cell) {
    using CellPack = Pack<Element, kPack>;
    CellPack in[kPacksPerCell][kCount];
    CellPack scale[kPacksPerCell];
    const std::int64_t offset = static_cast<std::int64_t>(cell) * lane.channels;
    // All loads come before the first use. A pack beyond the last channel is the first one again:
    // that costs less than a branch around them.
    DFF_UNROLL
    for (int i = 0; i < kPacksPerCell; ++i) {
        const std::int32_t at = i * lane.step < lane.left ? i * lane.step : 0;
        DFF_UNROLL
        for (int k = 0; k < kCount; ++k) {
            const std::int64_t corner = static_cast<std::int64_t>(corners.cell[k]) * lane.channels;
            in[i][k] = CellPack::load(lane.features + corner + at);
        }
        if constexpr (kScaled) {
            scale[i] = CellPack::load_once(lane.scale + offset + at);
        }
    }
    DFF_UNROLL
    for (int i = 0; i < kPacksPerCell; ++i) {
        if (i * lane.step < lane.left) {
            CellPack out = CellPack::zeros();
            DFF_UNROLL
            for (int e = 0; e < kPack; ++e) {
                float value[kCount];
                DFF_UNROLL
                for (int k = 0; k < kCount; ++k) {
                    value[k] = in[i][k].value(e);
                }
                float sum = weighted_sum<kCount>(corners.weight, value);
                if constexpr (kScaled) {
                    sum *= scale_value<Element>(scale[i].value(e), lane.scale_step);
                }
                out.set(e, from_float<Element>(sum));
            }
            out.store(lane.out + offset + i * lane.step);
        }
    }
}

template <int kPack, typename Element>
__device__ inline void clear_cell(const Lane<Element>& lane, std::int32_t cell) {
    Element* out = lane.out + static_cast<std::int64_t>(cell) * lane.channels;
    for (int i = 0; i < kPacksPerCell; ++i) {
        if (i * lane.step < lane.left) {
            Pack<Element, kPack>::zeros().store(out + i * lane.step);
        }
    }
}

// (N, h, w, C). Grid: (slabs * columns, rows, N).
template <typename Element, int kPack, bool kScaled>
__global__ void __launch_bounds__(kBlockThreads) warp_cells(const DeviceWarp<Element> args) {
    const auto column_block = static_cast<std::int32_t>(blockIdx.x) / args.slabs;
    const auto slab = static_cast<std::int32_t>(blockIdx.x) - column_block * args.slabs;
    const std::int32_t step = static_cast<std::int32_t>(blockDim.x) * kPack;
    const std::int32_t channel = slab * kPacksPerCell * step + threadIdx.x * kPack;
    const std::int32_t x = column_block * blockDim.y + threadIdx.y;
    if (x >= args.size.width || channel >= args.channels) {
        return;
    }
    const std::int64_t first_cell = blockIdx.z * cells_of(args);
    const std::int64_t offset = first_cell * args.channels + channel;
    const Lane<Element> lane{args.features + offset,
                             kScaled ? args.scale + offset : nullptr,
                             args.out + offset,
                             args.channels,
                             args.channels - channel,
                             step,
                             args.scale_step};
    const float* flow = args.flow + 2 * first_cell;
    const std::int32_t first_y = (blockIdx.y * blockDim.z + threadIdx.z) * args.rows_per_thread;
    for (std::int32_t row = 0; row < args.rows_per_thread; ++row) {
        const std::int32_t y = first_y + row;
        if (y >= args.size.height) {
            return;
        }
        const Corners corners = corners_of(args, flow, y, x);
        const std::int32_t cell = y * args.size.width + x;
        // The lanes of a cell go the same way.
        switch (corners.count) {
            case 0: clear_cell<kPack>(lane, cell); break;
            case 1: blend_cell<1, kScaled, kPack>(lane, corners, cell); break;
            case 2: blend_cell<2, kScaled, kPack>(lane, corners, cell); break;
            default: blend_cell<4, kScaled, kPack>(lane, corners, cell); break;
        }
    }
}

// Work of a thread of warp_planes: one cell, in each of a few planes.
template <typename Element>
struct PlaneRun {
    const Element* features;  // of the first plane, at cell 0
    const Element* scale;     // of the first plane, at the thread's cell
    Element* out;             // likewise
    std::int64_t cells;       // between one plane and the next
    std::int32_t left;        // planes from the first on
    float scale_step;
};

template <int kCount, bool kScaled, typename Element>
__device__ inline void blend_planes(const PlaneRun<Element>& run, const Corners& corners) {
    Pack<Element, 1> in[kChannelsPerThread][kCount];
    Pack<Element, 1> scale[kChannelsPerThread];
    DFF_UNROLL
    for (int i = 0; i < kChannelsPerThread; ++i) {  // as in blend_cell
        const std::int64_t at = i < run.left ? i * run.cells : 0;
        DFF_UNROLL
        for (int k = 0; k < kCount; ++k) {
            in[i][k] = Pack<Element, 1>::load(run.features + at + corners.cell[k]);
        }
        if constexpr (kScaled) {
            scale[i] = Pack<Element, 1>::load_once(run.scale + at);
        }
    }
    DFF_UNROLL
    for (int i = 0; i < kChannelsPerThread; ++i) {
        if (i < run.left) {
            float value[kCount];
            DFF_UNROLL
            for (int k = 0; k < kCount; ++k) {
                value[k] = in[i][k].value(0);
            }
            float sum = weighted_sum<kCount>(corners.weight, value);
            if constexpr (kScaled) {
                sum *= scale_value<Element>(scale[i].value(0), run.scale_step);
            }
            Pack<Element, 1> out;
            out.set(0, from_float<Element>(sum));
            out.store(run.out + i * run.cells);
        }
    }
}

template <typename Element>
__device__ inline void clear_planes(const PlaneRun<Element>& run) {
    for (int i = 0; i < kChannelsPerThread && i < run.left; ++i) {
        Pack<Element, 1>::zeros().store(run.out + i * run.cells);
    }
}

// (N, C, h, w). Grid: (cells, channels, N).
template <typename Element, bool kScaled>
__global__ void __launch_bounds__(kBlockThreads) warp_planes(const DeviceWarp<Element> args) {
    const std::int64_t cells = cells_of(args);
    const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= cells) {
        return;
    }
    const auto cell = static_cast<std::int32_t>(at);
    const std::int32_t y = cell / args.size.width;
    const float* flow = args.flow + 2 * blockIdx.z * cells;
    const Corners corners = corners_of(args, flow, y, cell - y * args.size.width);
    const std::int32_t first = blockIdx.y * kChannelsPerThread;
    const std::int64_t plane =
        (static_cast<std::int64_t>(blockIdx.z) * args.channels + first) * cells;
    const PlaneRun<Element> run{args.features + plane,
                                kScaled ? args.scale + plane + cell : nullptr,
                                args.out + plane + cell,
                                cells,
                                args.channels - first,
                                args.scale_step};
    switch (corners.count) {
        case 0: clear_planes(run); break;
        case 1: blend_planes<1, kScaled>(run, corners); break;
        case 2: blend_planes<2, kScaled>(run, corners); break;
        default: blend_planes<4, kScaled>(run, corners); break;
    }
}

std::int64_t ceil_divide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

bool is_aligned(const void* pointer, std::size_t bytes) {
    return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
}

template <int kPack, typename Element>
int launch_cells(DeviceWarp<Element> args, std::int64_t batch, void* stream) {
    const std::int64_t packs = ceil_divide(args.channels, kPack);
    int lanes = 1;
    while (lanes * kPacksPerCell < packs && lanes < kMaxLanes) {
        lanes *= 2;
    }
    // Where a cell has less than a warp of packs, neighbouring cells share the warp.
    const int columns = kMaxLanes / lanes > kMinColumns ? kMaxLanes / lanes : kMinColumns;
    const int rows = kBlockThreads / (lanes * columns);
    const std::int64_t slabs = ceil_divide(packs, lanes * kPacksPerCell);
    const std::int64_t across = slabs * ceil_divide(args.size.width, columns);
    std::int64_t rows_per_thread = kMaxRowsPerThread;
    while (rows_per_thread > 1 &&
           across * ceil_divide(args.size.height, rows * rows_per_thread) * batch <
               kWantedBlocks) {
        rows_per_thread /= 2;
    }
    // A map too tall for the grid: a thread goes down further.
    rows_per_thread =
        std::max(rows_per_thread, ceil_divide(args.size.height, rows * kMaxGridSide));
    const std::int64_t down = ceil_divide(args.size.height, rows * rows_per_thread);
    if (across > kMaxCells) {
        return DFF_BAD_SIZE;
    }
    args.slabs = static_cast<std::int32_t>(slabs);
    args.rows_per_thread = static_cast<std::int32_t>(rows_per_thread);
    const dim3 grid{static_cast<unsigned>(across), static_cast<unsigned>(down),
                    static_cast<unsigned>(batch)};
    const dim3 block{static_cast<unsigned>(lanes), static_cast<unsigned>(columns),
                     static_cast<unsigned>(rows)};
    return args.scale == nullptr
               ? launch(&warp_cells<Element, kPack, false>, grid, block, args, stream)
               : launch(&warp_cells<Element, kPack, true>, grid, block, args, stream);
}

template <typename Element>
int launch_planes(const DeviceWarp<Element>& args, std::int64_t batch, void* stream) {
    const std::int64_t cells = static_cast<std::int64_t>(args.size.height) * args.size.width;
    const std::int64_t blocks_of_channels = ceil_divide(args.channels, kChannelsPerThread);
    if (blocks_of_channels > kMaxGridSide) {
        return DFF_BAD_SIZE;
    }
    const dim3 grid{static_cast<unsigned>(ceil_divide(cells, kBlockThreads)),
                    static_cast<unsigned>(blocks_of_channels), static_cast<unsigned>(batch)};
    const dim3 block{kBlockThreads, 1, 1};
    return args.scale == nullptr ? launch(&warp_planes<Element, false>, grid, block, args, stream)
                                 : launch(&warp_planes<Element, true>, grid, block, args, stream);
}

template <typename Element>
int warp_elements(const CudaWarp& warp, void* stream) {
    if (!is_aligned(warp.features, sizeof(Element)) || !is_aligned(warp.scale, sizeof(Element)) ||
        !is_aligned(warp.out, sizeof(Element)) || !is_aligned(warp.flow, sizeof(float))) {
        return DFF_MISALIGNED;
    }
    const auto cells = static_cast<std::int32_t>(warp.height * warp.width);
    const DeviceWarp<Element> args{
        static_cast<const Element*>(warp.features),
        warp.flow,
        static_cast<const Element*>(warp.scale),
        static_cast<Element*>(warp.out),
        {static_cast<std::int32_t>(warp.height), static_cast<std::int32_t>(warp.width)},
        static_cast<std::int32_t>(warp.channels),
        warp.scale_step,
        warp.is_flow_channels_last ? 2 : 1,
        warp.is_flow_channels_last ? 1 : cells,
        1,
        1};
    if (!warp.is_channels_last) {
        return launch_planes(args, warp.batch, stream);
    }
    constexpr int kPack = 16 / sizeof(Element);
    const bool fits = warp.channels % kPack == 0 && is_aligned(warp.features, 16) &&
                      is_aligned(warp.scale, 16) && is_aligned(warp.out, 16);
    return fits ? launch_cells<kPack>(args, warp.batch, stream)
                : launch_cells<1>(args, warp.batch, stream);
}

}  // namespace

int warp_cuda(const CudaWarp& warp, void* stream) noexcept {
    if (warp.element != DFF_FLOAT32 && warp.element != DFF_FLOAT16 && warp.element != DFF_INT8) {
        return DFF_BAD_ELEMENT;
    }
    // Half of what 32 bits hold: thread indices run a little beyond the last channel.
    if (warp.batch < 0 || warp.height < 0 || warp.width < 0 || warp.channels < 0 ||
        warp.batch > kMaxGridSide || warp.channels > kMaxCells / 2 ||
        !has_countable_cells(warp.height, warp.width)) {
        return DFF_BAD_SIZE;
    }
    if (warp.batch == 0 || warp.height == 0 || warp.width == 0 || warp.channels == 0) {
        return DFF_OK;
    }
    if (warp.features == nullptr || warp.flow == nullptr || warp.out == nullptr) {
        return DFF_NULL_POINTER;
    }
    const bool has_step = warp.scale_step > 0.0f && std::isfinite(warp.scale_step);
    if (warp.element == DFF_INT8 && warp.scale != nullptr && !has_step) {
        return DFF_BAD_SCALE_STEP;
    }
    switch (warp.element) {
        case DFF_FLOAT32: return warp_elements<float>(warp, stream);
        case DFF_FLOAT16: return warp_elements<__half>(warp, stream);
        default: return warp_elements<std::int8_t>(warp, stream);
    }
}

}  // namespace dff
