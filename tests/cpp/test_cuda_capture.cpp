// The CUDA kernels in a CUDA graph, on a GPU: nothing that they do is forbidden in a capture, and a
// graph that is launched again reads what is in the buffers then.

#include <cuda_runtime_api.h>

#include <random>
#include <type_traits>
#include <vector>

#include "check.h"
#include "cuda/dff_cuda.h"
#include "device_array.h"

namespace {

using dff_test::check_cuda;
using dff_test::DeviceArray;

constexpr std::int64_t kHeight = 5;
constexpr std::int64_t kWidth = 7;
constexpr std::int64_t kClasses = 19;
constexpr std::int64_t kOutHeight = 80;
constexpr std::int64_t kOutWidth = 112;

struct Buffers {
    explicit Buffers(unsigned seed)
        : features(random<float>(kHeight * kWidth * kClasses, seed)),
          flow(random<float>(kHeight * kWidth * 2, seed + 1)),
          scores(std::vector<float>(kHeight * kWidth * kClasses)),
          labels(std::vector<std::uint8_t>(kOutHeight * kOutWidth)),
          image(random<std::uint8_t>(61 * 83 * 3, seed + 2)),
          resized(std::vector<std::uint8_t>(32 * 48 * 3)) {
        // A stream that does not wait for the default one could overtake the copies.
        check_cuda(cudaDeviceSynchronize(), "the copies");
    }

    template <typename T>
    static std::vector<T> random(std::int64_t count, unsigned seed) {
        std::mt19937 engine(seed);
        std::uniform_real_distribution<float> uniform(-2.0f, 2.0f);
        std::vector<T> values(static_cast<std::size_t>(count));
        for (T& value : values)
            value = static_cast<T>(std::is_same_v<T, float> ? uniform(engine) : engine() % 256);
        return values;
    }

    // A frame's worth of work.
    void enqueue(cudaStream_t stream) {
        CHECK(dff_cuda_warp(features.data(), flow.data(), nullptr, scores.data(), 1, kHeight,
                            kWidth, kClasses, DFF_FLOAT32, DFF_CHANNELS_LAST, 1.0f,
                            stream) == DFF_OK);
        CHECK(dff_cuda_decode(scores.data(), kHeight, kWidth, kClasses, labels.data(), kOutHeight,
                              kOutWidth, nullptr, stream) == DFF_OK);
        CHECK(dff_cuda_resize(image.data(), 61, 83, 83 * 3, resized.data(), 32, 48, stream) ==
              DFF_OK);
    }

    DeviceArray<float> features, flow, scores;
    DeviceArray<std::uint8_t> labels, image, resized;
};

void test_a_graph_gives_what_the_calls_give() {
    cudaStream_t stream;
    check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    Buffers captured(1);
    captured.enqueue(stream);  // loads the kernels, which a capture must not
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "begin of capture");
    captured.enqueue(stream);
    check_cuda(cudaStreamEndCapture(stream, &graph), "end of capture");
    check_cuda(cudaGraphInstantiateWithFlags(&executable, graph, 0), "cudaGraphInstantiate");
    for (const unsigned seed : {10u, 20u}) {
        Buffers called(seed);
        called.enqueue(stream);
        const std::vector<float> features = called.features.values();
        const std::vector<float> flow = called.flow.values();
        const std::vector<std::uint8_t> image = called.image.values();
        dff_test::copy(captured.features.data(), features.data(), features.size() * sizeof(float));
        dff_test::copy(captured.flow.data(), flow.data(), flow.size() * sizeof(float));
        dff_test::copy(captured.image.data(), image.data(), image.size());
        check_cuda(cudaDeviceSynchronize(), "the copies");
        check_cuda(cudaGraphLaunch(executable, stream), "cudaGraphLaunch");
        check_cuda(cudaStreamSynchronize(stream), "the graph");
        CHECK(captured.labels.values() == called.labels.values());
        CHECK(captured.resized.values() == called.resized.values());
        CHECK(captured.scores.values() == called.scores.values());
    }
    check_cuda(cudaGraphExecDestroy(executable), "cudaGraphExecDestroy");
    check_cuda(cudaGraphDestroy(graph), "cudaGraphDestroy");
    check_cuda(cudaStreamDestroy(stream), "cudaStreamDestroy");
}

}  // namespace

int main() {
    dff_test::skip_without_device();
    test_a_graph_gives_what_the_calls_give();
    return dff_test::result();
}
