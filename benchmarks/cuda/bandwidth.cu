// How much of the device's copy bandwidth the warp with scale reaches. Prints, for each element,
//
//   cuda_warp_bandwidth_share_<element>_batch<N>=...
//
// the time of a device-to-device copy of as many bytes as the warp must read and write, over the
// time of the warp; last, cuda_warp_bandwidth_share, the least of float32 and float16 at the large
// batch. 1024 x 32 x 64 maps, channels-last, smooth flow of up to a few cells. Both go over the
// same memory, more than any cache holds; medians of repetitions in turn, after a warm-up that lets
// the clocks rise. At batch 1 a large GPU is done in microseconds: there, launches are a part of
// both times.
//
//   cmake -S plugins -B build/cuda -DDFF_CUDA=ON && cmake --build build/cuda -t dff_cuda_bandwidth
//   build/cuda/cuda/dff_cuda_bandwidth

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "cuda/dff_cuda.h"

namespace {

constexpr std::int64_t kHeight = 32;
constexpr std::int64_t kWidth = 64;
constexpr std::int64_t kChannels = 1024;
constexpr double kWarmUpMs = 500.0;
constexpr int kRepetitions = 51;
constexpr std::int64_t kWorkingSetBytes = std::int64_t{1} << 30;  // beyond every L2 cache
constexpr int kSkipped = 77;

struct Element {
    int code;
    int bytes;
    const char* name;
};

void check(cudaError_t error, const char* what) {
    if (error != cudaSuccess) {
        std::fprintf(stderr, "%s failed: %s\n", what, cudaGetErrorString(error));
        std::exit(1);
    }
}

char* allocate(std::int64_t bytes) {
    void* memory = nullptr;
    check(cudaMalloc(&memory, static_cast<std::size_t>(bytes)), "cudaMalloc");
    check(cudaMemset(memory, 1, static_cast<std::size_t>(bytes)), "cudaMemset");
    return static_cast<char*>(memory);
}

// A slow turn of the picture: neighbouring cells read neighbouring cells, as in video.
float* make_flow(std::int64_t batch) {
    std::vector<float> flow;
    for (std::int64_t n = 0; n < batch; ++n)
        for (std::int64_t y = 0; y < kHeight; ++y)
            for (std::int64_t x = 0; x < kWidth; ++x) {
                flow.push_back(0.05f * static_cast<float>(y - kHeight / 2) + 0.3f);
                flow.push_back(-0.05f * static_cast<float>(x - kWidth / 2) + 0.2f);
            }
    char* memory = allocate(static_cast<std::int64_t>(flow.size() * sizeof(float)));
    check(cudaMemcpy(memory, flow.data(), flow.size() * sizeof(float), cudaMemcpyHostToDevice),
          "cudaMemcpy");
    return reinterpret_cast<float*>(memory);
}

class Stopwatch {
  public:
    explicit Stopwatch(cudaStream_t stream) : stream_(stream) {
        check(cudaEventCreate(&begin_), "cudaEventCreate");
        check(cudaEventCreate(&end_), "cudaEventCreate");
    }
    ~Stopwatch() {
        check(cudaEventDestroy(begin_), "cudaEventDestroy");
        check(cudaEventDestroy(end_), "cudaEventDestroy");
    }
    Stopwatch(const Stopwatch&) = delete;
    Stopwatch& operator=(const Stopwatch&) = delete;

    template <typename Work>
    double time_ms(const Work& work) {
        check(cudaEventRecord(begin_, stream_), "cudaEventRecord");
        work();
        check(cudaEventRecord(end_, stream_), "cudaEventRecord");
        check(cudaEventSynchronize(end_), "the measured work");
        float elapsed_ms = 0.0f;
        check(cudaEventElapsedTime(&elapsed_ms, begin_, end_), "cudaEventElapsedTime");
        return static_cast<double>(elapsed_ms);
    }

  private:
    cudaStream_t stream_;
    cudaEvent_t begin_{};
    cudaEvent_t end_{};
};

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

double bandwidth_share(const Element& element, std::int64_t batch, cudaStream_t stream) {
    const std::int64_t cells = batch * kHeight * kWidth;
    const std::int64_t map_bytes = cells * kChannels * element.bytes;
    const std::int64_t flow_bytes = cells * 2 * static_cast<std::int64_t>(sizeof(float));
    const std::int64_t moved_bytes = 3 * map_bytes + flow_bytes;
    // A copy of b bytes reads and writes 2 b. Both sides begin at a multiple of 256.
    const std::int64_t copy_bytes = moved_bytes / 2 / 256 * 256;
    const std::int64_t sets = std::max<std::int64_t>(1, kWorkingSetBytes / moved_bytes);
    float* flow = make_flow(batch);
    std::vector<char*> buffers;  // features, scale and out of a warp; or both sides of a copy
    for (std::int64_t i = 0; i < sets; ++i) {
        buffers.push_back(allocate(3 * map_bytes + flow_bytes));
    }
    const auto warp_all = [&] {
        for (char* b : buffers) {
            const int status =
                dff_cuda_warp(b, flow, b + map_bytes, b + 2 * map_bytes, batch, kHeight, kWidth,
                              kChannels, element.code, DFF_CHANNELS_LAST, 0.01f, stream);
            if (status != DFF_OK) {
                std::fprintf(stderr, "dff_cuda_warp: %s\n", dff_cuda_message(status));
                std::exit(1);
            }
        }
    };
    const auto copy_all = [&] {
        for (char* b : buffers) {
            check(cudaMemcpyAsync(b + copy_bytes, b, static_cast<std::size_t>(copy_bytes),
                                  cudaMemcpyDeviceToDevice, stream),
                  "cudaMemcpyAsync");
        }
    };
    check(cudaDeviceSynchronize(), "the filling of the buffers");
    Stopwatch stopwatch(stream);
    for (double spent_ms = 0.0; spent_ms < kWarmUpMs;) {
        spent_ms += stopwatch.time_ms(warp_all) + stopwatch.time_ms(copy_all);
    }
    std::vector<double> warp_times_ms;
    std::vector<double> copy_times_ms;
    for (int i = 0; i < kRepetitions; ++i) {
        warp_times_ms.push_back(stopwatch.time_ms(warp_all));
        copy_times_ms.push_back(stopwatch.time_ms(copy_all));
    }
    const double warp_ms = median(warp_times_ms);
    const double copy_ms = median(copy_times_ms);
    for (char* b : buffers) {
        check(cudaFree(b), "cudaFree");
    }
    check(cudaFree(flow), "cudaFree");
    const double gigabytes = static_cast<double>(moved_bytes * sets) * 1e-9;
    std::fprintf(stderr, "%s, batch %lld: warp %.0f GB/s, copy %.0f GB/s\n", element.name,
                 static_cast<long long>(batch), gigabytes / warp_ms * 1e3,
                 gigabytes / copy_ms * 1e3);
    return copy_ms / warp_ms;
}

}  // namespace

int main() {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        std::fprintf(stderr, "skipped: no CUDA device\n");
        return kSkipped;
    }
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
    std::fprintf(stderr, "%s, compute capability %d.%d\n", properties.name, properties.major,
                 properties.minor);
    cudaStream_t stream;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    const Element elements[] = {
        {DFF_FLOAT32, 4, "float32"}, {DFF_FLOAT16, 2, "float16"}, {DFF_INT8, 1, "int8"}};
    double least = 1e9;
    for (const std::int64_t batch : {std::int64_t{1}, std::int64_t{64}}) {
        for (const Element& element : elements) {
            const double share = bandwidth_share(element, batch, stream);
            std::printf("cuda_warp_bandwidth_share_%s_batch%lld=%.3f\n", element.name,
                        static_cast<long long>(batch), share);
            if (batch > 1 && element.code != DFF_INT8) {
                least = std::min(least, share);
            }
        }
    }
    std::printf("cuda_warp_bandwidth_share=%.3f\n", least);
    check(cudaStreamDestroy(stream), "cudaStreamDestroy");
    return 0;
}
