// The plugin's answers to TensorRT, and its creation: fields, types, shapes, formats, copies. The
// argument is the library.

#include <NvInferRuntime.h>

#include <cstring>
#include <limits>
#include <vector>

#include "check.h"
#include "plugin_library.h"

namespace {

using namespace dff_test;

void test_the_creator_says_what_it_makes() {
    CHECK(std::strcmp(creator->getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE") == 0);
    CHECK(std::strcmp(creator->getPluginName(), "DffWarp") == 0);
    CHECK(std::strcmp(creator->getPluginVersion(), "1") == 0);
    CHECK(std::strcmp(creator->getPluginNamespace(), "") == 0);
    const PluginFieldCollection* fields = creator->getFieldNames();
    CHECK(fields->nbFields == 2);
    CHECK(std::strcmp(fields->fields[0].name, "channels_last") == 0);
    CHECK(fields->fields[0].type == PluginFieldType::kINT32);
    CHECK(std::strcmp(fields->fields[1].name, "scale_step") == 0);
    CHECK(fields->fields[1].type == PluginFieldType::kFLOAT32);
}

void test_bad_fields_are_refused_with_a_message() {
    const std::int32_t one = 1;
    const std::int32_t two = 2;
    const std::int64_t wide = 1;
    const float zero = 0.0f;
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const float half = 0.5f;
    const PluginField good = channels_last_field(one);
    struct Row {
        std::vector<PluginField> fields;
        const char* words;
    };
    const Row rows[] = {
        {{{"channel_last", &one, PluginFieldType::kINT32, 1}}, "\"channel_last\" is unknown"},
        {{{nullptr, &one, PluginFieldType::kINT32, 1}}, "unknown"},
        {{{"channels_last", &wide, PluginFieldType::kINT64, 1}}, "expected one int32"},
        {{{"channels_last", &one, PluginFieldType::kINT32, 2}}, "length 2"},
        {{{"channels_last", nullptr, PluginFieldType::kINT32, 1}}, "without data"},
        {{channels_last_field(two)}, "is 2, expected 1"},
        {{good, good}, "twice"},
        {{{"scale_step", &one, PluginFieldType::kINT32, 1}}, "expected one float32"},
        {{good, scale_step_field(zero)}, "is 0, expected a finite number above zero"},
        {{good, scale_step_field(nan)}, "expected a finite number above zero"},
    };
    for (const Row& row : rows) {
        CHECK(create(row.fields) == nullptr);
        CHECK(has_logged(row.words));
    }
    CHECK(creator->createPlugin("layer", nullptr, TensorRTPhase::kBUILD) == nullptr);
    CHECK(has_logged("null"));
    CHECK(create({}) != nullptr);  // the defaults
    CHECK(create({good}, TensorRTPhase::kRUNTIME) == nullptr);
    CHECK(has_logged("lacks scale_step"));
    CHECK(create({scale_step_field(half)}, TensorRTPhase::kRUNTIME) == nullptr);
    CHECK(has_logged("lacks channels_last"));
}

void test_core_and_capabilities() {
    const Plugin plugin = create(1);
    const Capabilities can(*plugin);
    CHECK(std::strcmp(can.core->getPluginName(), "DffWarp") == 0);
    CHECK(std::strcmp(can.core->getPluginVersion(), "1") == 0);
    CHECK(std::strcmp(can.core->getPluginNamespace(), "") == 0);
    CHECK(std::strcmp(can.core->getInterfaceInfo().kind, "PLUGIN_V3ONE_CORE") == 0);
    CHECK(std::strcmp(can.build->getInterfaceInfo().kind, "PLUGIN_V3ONE_BUILD") == 0);
    CHECK(std::strcmp(can.runtime->getInterfaceInfo().kind, "PLUGIN_V3ONE_RUNTIME") == 0);
    CHECK(plugin->getCapabilityInterface(static_cast<nvinfer1::PluginCapabilityType>(99)) ==
          nullptr);
    CHECK(can.build->getNbOutputs() == 1);
    CHECK(can.build->getNbTactics() == 0);
    CHECK(std::strcmp(can.build->getTimingCacheID(),
                      Capabilities(*create(0)).build->getTimingCacheID()) != 0);
}

void test_the_output_has_the_type_of_the_features() {
    const Plugin plugin = create(1);
    const Capabilities can(*plugin);
    for (const DataType type : {DataType::kFLOAT, DataType::kHALF, DataType::kINT8}) {
        const DataType inputs[] = {type, DataType::kFLOAT, type};
        DataType output = DataType::kBOOL;
        CHECK(can.build->getOutputDataTypes(&output, 1, inputs, 3) == 0);
        CHECK(output == type);
    }
    const auto refuses = [&](DataType features, DataType flow, DataType scale, int inputs) {
        const DataType types[] = {features, flow, scale};
        DataType output = DataType::kBOOL;
        return can.build->getOutputDataTypes(&output, 1, types, inputs) != 0;
    };
    CHECK(refuses(DataType::kHALF, DataType::kHALF, DataType::kHALF, 3));
    CHECK(has_logged("flow is float16, expected float32"));
    CHECK(refuses(DataType::kINT8, DataType::kFLOAT, DataType::kFLOAT, 3));
    CHECK(has_logged("features is int8 and scale is float32"));
    CHECK(refuses(DataType::kBOOL, DataType::kFLOAT, DataType::kBOOL, 3));
    CHECK(has_logged("another type"));
    CHECK(refuses(DataType::kFLOAT, DataType::kFLOAT, DataType::kFLOAT, 2));
    CHECK(has_logged("2 inputs"));
}

// Dimensions that are distinct, and are never read.
class Builder final : public nvinfer1::IExprBuilder {};

void test_the_output_has_the_shape_of_the_features() {
    const Plugin plugin = create(1);
    const Capabilities can(*plugin);
    static const char places[12] = {};
    nvinfer1::DimsExprs inputs[3];
    for (int i = 0; i < 3; ++i) {
        inputs[i].nbDims = 4;
        for (int axis = 0; axis < 4; ++axis)
            inputs[i].d[axis] =
                reinterpret_cast<const nvinfer1::IDimensionExpr*>(&places[4 * i + axis]);
    }
    nvinfer1::DimsExprs output{};
    Builder builder;
    CHECK(can.build->getOutputShapes(inputs, 3, nullptr, 0, &output, 1, builder) == 0);
    CHECK(output.nbDims == 4);
    CHECK(std::equal(output.d, output.d + 4, inputs[0].d));
    CHECK(can.build->getOutputShapes(inputs, 1, nullptr, 0, &output, 1, builder) != 0);
    CHECK(has_logged("1 inputs"));
}

// All that is accepted, asked as TensorRT does: position by position, what follows is not valid.
void find_accepted(nvinfer1::IPluginV3OneBuild& build,
                   std::vector<nvinfer1::DynamicPluginTensorDesc>& tensors, int position,
                   std::vector<std::vector<Form>>& found) {
    if (position == 4) {
        std::vector<Form> forms;
        for (const auto& tensor : tensors) forms.push_back({tensor.desc.type, tensor.desc.format});
        found.push_back(forms);
        return;
    }
    for (int type = 0; type < 10; ++type)
        for (int format = 0; format < 13; ++format) {
            tensors[position].desc.type = static_cast<DataType>(type);
            tensors[position].desc.format = static_cast<TensorFormat>(format);
            for (std::size_t later = position + 1; later < tensors.size(); ++later) {
                tensors[later].desc.type = static_cast<DataType>(-1);
                tensors[later].desc.format = static_cast<TensorFormat>(-1);
            }
            if (build.supportsFormatCombination(position, tensors.data(), 3, 1))
                find_accepted(build, tensors, position + 1, found);
        }
}

void test_exactly_the_right_formats_are_accepted() {
    const Form linear[] = {{DataType::kFLOAT, TensorFormat::kLINEAR},
                           {DataType::kHALF, TensorFormat::kLINEAR},
                           {DataType::kINT8, TensorFormat::kLINEAR}};
    for (const int channels_last : {0, 1}) {
        std::vector<Form> maps(std::begin(linear), std::end(linear));
        if (channels_last == 0) {
            maps.push_back({DataType::kFLOAT, TensorFormat::kHWC});
            maps.push_back({DataType::kHALF, TensorFormat::kHWC8});
        }
        const Plugin plugin = create(channels_last);
        const Capabilities can(*plugin);
        std::vector<nvinfer1::DynamicPluginTensorDesc> tensors(4);
        std::vector<std::vector<Form>> found;
        find_accepted(*can.build, tensors, 0, found);
        CHECK(found.size() == maps.size());
        CHECK(static_cast<int>(found.size()) <= can.build->getFormatCombinationLimit());
        for (const Form& map : maps) {
            const std::vector<Form> wanted{map, linear[0], map, map};
            CHECK(std::count(found.begin(), found.end(), wanted) == 1);
        }
        CHECK(!can.build->supportsFormatCombination(4, tensors.data(), 3, 1));
        CHECK(!can.build->supportsFormatCombination(0, tensors.data(), 2, 1));
        CHECK(has_logged("2 inputs"));
    }
}

// What the two calls that hand over shapes say to them.
std::vector<std::int32_t> hand_over(int channels_last, const std::vector<Dims>& shapes) {
    const Plugin plugin = create(channels_last);
    const Capabilities can(*plugin);
    std::vector<nvinfer1::PluginTensorDesc> exact;
    std::vector<nvinfer1::DynamicPluginTensorDesc> dynamic(4);
    for (int i = 0; i < 4; ++i) {
        exact.push_back(desc(shapes[i], kFloatLinear));
        dynamic[i].desc = exact[i];
    }
    CHECK(can.build->getWorkspaceSize(dynamic.data(), 3, &dynamic[3], 1) == 0);
    return {can.build->configurePlugin(dynamic.data(), 3, &dynamic[3], 1),
            can.runtime->onShapeChange(exact.data(), 3, &exact[3], 1)};
}

void test_shapes_are_checked() {
    const std::vector<std::int32_t> good{0, 0};
    const Dims maps = dims({2, 5, 7, 3});
    const Dims flow = dims({2, 5, 7, 2});
    CHECK(hand_over(1, {maps, flow, maps, maps}) == good);
    const Dims planar = dims({2, 3, 5, 7});
    const Dims planar_flow = dims({2, 2, 5, 7});
    CHECK(hand_over(0, {planar, planar_flow, planar, planar}) == good);
    const Dims unknown = dims({-1, 5, 7, 3});
    CHECK(hand_over(1, {unknown, dims({-1, -1, 7, 2}), unknown, unknown}) == good);

    struct Row {
        int channels_last;
        std::vector<Dims> shapes;
        const char* words;
    };
    const Row rows[] = {
        {1, {flow, maps, maps, maps}, "flow has the shape (2, 5, 7, 3)"},
        {0, {maps, flow, maps, maps}, "flow has the shape (2, 5, 7, 2)"},
        {1, {maps, dims({1, 5, 7, 2}), maps, maps}, "flow has the shape (1, 5, 7, 2)"},
        {1, {maps, flow, dims({2, 5, 7, 1}), maps}, "scale has the shape (2, 5, 7, 1)"},
        {1, {maps, flow, maps, dims({2, 5, 6, 3})}, "the output has the shape (2, 5, 6, 3)"},
        {1, {dims({5, 7, 3}), flow, maps, maps}, "features has 3 axes"},
        {1, {maps, dims({5, 7, 2}), maps, maps}, "flow has the shape 3 axes"},
    };
    for (const Row& row : rows) {
        const std::vector<std::int32_t> got = hand_over(row.channels_last, row.shapes);
        CHECK(got[0] != 0 && got[1] != 0);
        CHECK(has_logged(row.words));
    }
}

void test_serialised_fields_make_the_same_plugin() {
    for (const int channels_last : {0, 1}) {
        const Plugin plugin = create(channels_last, 0.25f);
        const PluginFieldCollection* fields = Capabilities(*plugin).runtime->getFieldsToSerialize();
        const Plugin again(creator->createPlugin("layer", fields, TensorRTPhase::kRUNTIME));
        CHECK(again != nullptr);
        const PluginFieldCollection* copied = Capabilities(*again).runtime->getFieldsToSerialize();
        CHECK(copied->nbFields == 2 && copied->fields != fields->fields);
        for (int i = 0; i < 2; ++i) {
            CHECK(std::strcmp(copied->fields[i].name, fields->fields[i].name) == 0);
            CHECK(copied->fields[i].data != fields->fields[i].data);
            CHECK(std::memcmp(copied->fields[i].data, fields->fields[i].data, 4) == 0);
        }
    }
}

void test_fields_may_lie_at_any_address() {
    const std::int32_t planar = 0;
    const float step = 0.25f;
    char engine[9];
    std::memcpy(engine + 1, &planar, 4);
    std::memcpy(engine + 5, &step, 4);
    const Plugin plugin = create({{"channels_last", engine + 1, PluginFieldType::kINT32, 1},
                                  {"scale_step", engine + 5, PluginFieldType::kFLOAT32, 1}},
                                 TensorRTPhase::kRUNTIME);
    const PluginFieldCollection* fields = Capabilities(*plugin).runtime->getFieldsToSerialize();
    CHECK(*static_cast<const std::int32_t*>(fields->fields[0].data) == 0);
    CHECK(*static_cast<const float*>(fields->fields[1].data) == 0.25f);
}

void test_copies_live_on_alone() {
    Plugin plugin = create(0, 0.25f);
    const Plugin clone(plugin->clone());
    const Plugin attached(Capabilities(*plugin).runtime->attachToContext(nullptr));
    plugin.reset();
    for (const Plugin* copy : {&clone, &attached}) {
        const PluginFieldCollection* fields = Capabilities(**copy).runtime->getFieldsToSerialize();
        CHECK(fields->nbFields == 2);
        CHECK(*static_cast<const std::int32_t*>(fields->fields[0].data) == 0);
        CHECK(*static_cast<const float*>(fields->fields[1].data) == 0.25f);
    }
}

}  // namespace

int main(int argc, char** argv) {
    load(argc, argv);
    test_the_creator_says_what_it_makes();
    test_bad_fields_are_refused_with_a_message();
    test_core_and_capabilities();
    test_the_output_has_the_type_of_the_features();
    test_the_output_has_the_shape_of_the_features();
    test_exactly_the_right_formats_are_accepted();
    test_shapes_are_checked();
    test_serialised_fields_make_the_same_plugin();
    test_fields_may_lie_at_any_address();
    test_copies_live_on_alone();
    return result();
}
