// The inputs and outputs of an ONNX graph, with Triton's names for their types.
#pragma once

#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "errors.h"

namespace cesta {

using Shape = std::vector<int64_t>;

constexpr int64_t kUnknown = -1;  // a dimension that the graph leaves open

struct Type {
  OrtElement element;
  TRITONSERVER_DataType triton;
  const char* in_config;
  const char* in_graph;
  size_t bytes;  // per value; 0 for strings
};

constexpr Type kTypes[] = {
    {ORT_BOOL, TRITONSERVER_TYPE_BOOL, "TYPE_BOOL", "tensor(bool)", 1},
    {ORT_UINT8, TRITONSERVER_TYPE_UINT8, "TYPE_UINT8", "tensor(uint8)", 1},
    {ORT_UINT16, TRITONSERVER_TYPE_UINT16, "TYPE_UINT16", "tensor(uint16)", 2},
    {ORT_UINT32, TRITONSERVER_TYPE_UINT32, "TYPE_UINT32", "tensor(uint32)", 4},
    {ORT_UINT64, TRITONSERVER_TYPE_UINT64, "TYPE_UINT64", "tensor(uint64)", 8},
    {ORT_INT8, TRITONSERVER_TYPE_INT8, "TYPE_INT8", "tensor(int8)", 1},
    {ORT_INT16, TRITONSERVER_TYPE_INT16, "TYPE_INT16", "tensor(int16)", 2},
    {ORT_INT32, TRITONSERVER_TYPE_INT32, "TYPE_INT32", "tensor(int32)", 4},
    {ORT_INT64, TRITONSERVER_TYPE_INT64, "TYPE_INT64", "tensor(int64)", 8},
    {ORT_FLOAT16, TRITONSERVER_TYPE_FP16, "TYPE_FP16", "tensor(float16)", 2},
    {ORT_FLOAT, TRITONSERVER_TYPE_FP32, "TYPE_FP32", "tensor(float)", 4},
    {ORT_DOUBLE, TRITONSERVER_TYPE_FP64, "TYPE_FP64", "tensor(double)", 8},
    {ORT_STRING, TRITONSERVER_TYPE_BYTES, "TYPE_STRING", "tensor(string)", 0},
};
const char* const kOtherTypes[] = {"another type", "tensor(complex64)", "tensor(complex128)",
                                   "tensor(bfloat16)"};

// An input or output of the ONNX graph.
struct GraphTensor {
  std::string name;
  const Type* type;
  Shape shape;  // with the batch axis

  bool has_batch_axis() const { return !shape.empty() && shape[0] == kUnknown; }
};

using GraphTensors = std::vector<GraphTensor>;

inline const GraphTensor* find(const GraphTensors& tensors, std::string_view name) {
  for (const GraphTensor& tensor : tensors)
    if (tensor.name == name) return &tensor;
  return nullptr;
}

inline std::string joined(const std::vector<std::string>& texts) {
  std::string out;
  for (const std::string& text : texts) out += (out.empty() ? "" : ", ") + text;
  return out;
}

inline std::string names(const GraphTensors& tensors) {
  std::vector<std::string> all;
  for (const GraphTensor& tensor : tensors) all.push_back(tensor.name);
  return joined(all);
}

inline std::string written(const Shape& shape) {
  std::vector<std::string> sizes;
  for (int64_t size : shape) sizes.push_back(std::to_string(size));
  return "[" + joined(sizes) + "]";
}

inline const Type& type_of(OrtElement element, const std::string& where) {
  std::vector<std::string> served;
  for (const Type& type : kTypes) {
    if (type.element == element) return type;
    served.push_back(type.in_graph);
  }
  const size_t other = element > ORT_UINT64 ? element - ORT_UINT64 : 0;
  const char* found = kOtherTypes[other < std::size(kOtherTypes) ? other : 0];
  throw refused(where + ": the graph has " + found + "; expected one of " + joined(served));
}

inline Shape shape_of(const OrtTensorTypeAndShapeInfo* info) {
  size_t dims = 0;
  check(ort().GetDimensionsCount(info, &dims));
  Shape shape(dims);
  check(ort().GetDimensions(info, shape.data(), dims));
  return shape;
}

// Reads one of a session's three lists of tensors, with the three functions of that list.
template <typename Count, typename Name, typename Info>
inline GraphTensors tensors(const OrtSession* session, const std::string& model, Count count, Name name,
                            Info info) {
  OrtAllocator* allocator = nullptr;
  check(ort().GetAllocatorWithDefaultOptions(&allocator));
  size_t size = 0;
  check(count(session, &size));
  GraphTensors all;
  for (size_t i = 0; i < size; ++i) {
    char* text = nullptr;
    check(name(session, i, allocator, &text));
    GraphTensor tensor{text, nullptr, {}};
    check(ort().AllocatorFree(allocator, text));
    const std::string where = "model '" + model + "', tensor '" + tensor.name + "'";
    const auto type_info = made<OrtTypeInfo>(info, session, i);
    OrtKind kind{};
    check(ort().GetOnnxTypeFromTypeInfo(type_info.get(), &kind));
    if (kind != ORT_TENSOR) throw refused(where + ": the graph has no tensor here; expected one");
    const OrtTensorTypeAndShapeInfo* shaped = nullptr;
    check(ort().CastTypeInfoToTensorInfo(type_info.get(), &shaped));
    OrtElement element{};
    check(ort().GetTensorElementType(shaped, &element));
    tensor.type = &type_of(element, where);
    tensor.shape = shape_of(shaped);
    all.push_back(std::move(tensor));
  }
  return all;
}

inline GraphTensors inputs_of(const OrtSession* session, const std::string& model) {
  return tensors(session, model, ort().SessionGetInputCount, ort().SessionGetInputName,
                 ort().SessionGetInputTypeInfo);
}

inline GraphTensors outputs_of(const OrtSession* session, const std::string& model) {
  return tensors(session, model, ort().SessionGetOutputCount, ort().SessionGetOutputName,
                 ort().SessionGetOutputTypeInfo);
}

inline GraphTensors initializers_of(const OrtSession* session, const std::string& model) {
  return tensors(session, model, ort().SessionGetOverridableInitializerCount,
                 ort().SessionGetOverridableInitializerName, ort().SessionGetOverridableInitializerTypeInfo);
}

}  // namespace cesta
