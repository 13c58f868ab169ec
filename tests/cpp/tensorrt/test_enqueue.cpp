// The plugin's results, in every type and layout, against the double sum of Eq. (1)-(3). The argument
// is the library; its kernels are emulated, or a GPU's (device_array.h).

#include <NvInferRuntime.h>

#include <vector>

#include "check.h"
#include "device_array.h"
#include "plugin_library.h"

namespace {

using namespace dff_test;

// (N, h, w, C) to (N, h, w, C rounded up to a multiple), and back.
template <typename T>
std::vector<T> pad(const std::vector<T>& from, std::int64_t channels, std::int64_t padded) {
    const std::int64_t cells = static_cast<std::int64_t>(from.size()) / channels;
    std::vector<T> to(cells * padded, T{0});
    for (std::int64_t i = 0; i < cells; ++i)
        std::copy_n(&from[i * channels], std::min(channels, padded), &to[i * padded]);
    return to;
}

// From channels-last to what a map of this layout and format is in memory.
template <typename T>
std::vector<T> lay_out(const std::vector<T>& from, const dff::WarpSize& s, std::int64_t channels,
                       int channels_last, TensorFormat format) {
    if (format == TensorFormat::kHWC8) return pad(from, channels, (channels + 7) / 8 * 8);
    if (channels_last == 1 || format == TensorFormat::kHWC) return from;
    return to_planar(from, s.batch, s.height * s.width, channels);
}

template <typename Element>
void test_enqueue_matches_the_definition(int channels_last, Form form) {
    unsigned seed = 1;
    for (const dff::WarpSize& size :
         {dff::WarpSize{1, 5, 7, 3}, {2, 7, 5, 13}, {2, 3, 4, 64}, {1, 1, 1, 1}}) {
        const auto [batch, height, width, channels] = size;
        const auto maps = to_maps<Element>(random_case(size, 2.0f, seed++));
        const std::vector<double> expected =
            warp_by_definition(to_values(maps), true);
        const auto in_memory = [&](const auto& map) {
            return lay_out(map, size, channels, channels_last, form.format);
        };
        DeviceArray<Element> features(in_memory(maps.features));
        DeviceArray<Element> scale(in_memory(maps.scale));
        DeviceArray<Element> out(
            std::vector<Element>(in_memory(maps.features).size(), Element{0x55}));
        DeviceArray<float> flow(
            lay_out(maps.flow, size, 2, channels_last, TensorFormat::kLINEAR));
        const auto shape = [&](std::int64_t c) {
            return channels_last == 1 ? dims({batch, height, width, c})
                                      : dims({batch, c, height, width});
        };
        const nvinfer1::PluginTensorDesc input_descs[] = {
            desc(shape(channels), form), desc(shape(2), kFloatLinear), desc(shape(channels), form)};
        const nvinfer1::PluginTensorDesc output_desc = desc(shape(channels), form);
        const void* inputs[] = {features.data(), flow.data(), scale.data()};
        void* outputs[] = {out.data()};
        const Plugin plugin = create(channels_last);
        CHECK(Capabilities(*plugin).runtime->enqueue(input_descs, &output_desc, inputs, outputs,
                                                     nullptr, nullptr) == 0);
        // The other way round the same transposition has the axes exchanged.
        std::vector<Element> got = out.values();
        if (form.format == TensorFormat::kHWC8) {
            got = pad(got, (channels + 7) / 8 * 8, channels);
        } else if (channels_last == 0 && form.format == TensorFormat::kLINEAR) {
            got = to_planar(got, batch, channels, height * width);
        }
        CHECK(count_wrong(got, expected) == 0);
    }
}

void test_enqueue_says_why_it_failed() {
    const Plugin plugin = create(1);
    const nvinfer1::PluginTensorDesc map = desc(dims({1, 1, 1, 4}), kFloatLinear);
    const nvinfer1::PluginTensorDesc descs[] = {map, desc(dims({1, 1, 1, 2}), kFloatLinear), map};
    const void* inputs[] = {nullptr, nullptr, nullptr};
    void* outputs[] = {nullptr};
    CHECK(Capabilities(*plugin).runtime->enqueue(descs, &map, inputs, outputs, nullptr, nullptr) !=
          0);
    CHECK(has_logged("float32 features (1, 1, 1, 4): a pointer is null"));
}

}  // namespace

int main(int argc, char** argv) {
    load(argc, argv);
    skip_without_device();
    test_enqueue_says_why_it_failed();
    for (const int channels_last : {0, 1}) {
        const TensorFormat linear = TensorFormat::kLINEAR;
        test_enqueue_matches_the_definition<float>(channels_last, {DataType::kFLOAT, linear});
        test_enqueue_matches_the_definition<Half>(channels_last, {DataType::kHALF, linear});
        test_enqueue_matches_the_definition<std::int8_t>(channels_last, {DataType::kINT8, linear});
    }
    test_enqueue_matches_the_definition<float>(0, {DataType::kFLOAT, TensorFormat::kHWC});
    test_enqueue_matches_the_definition<Half>(0, {DataType::kHALF, TensorFormat::kHWC8});
    return result();
}
