// The outputs of a run, and the answers built from them.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "errors.h"
#include "graph.h"
#include "request.h"

namespace cesta {

// One output of a run.
class Produced {
 public:
  // Throws if the output does not have `rows` rows.
  Produced(const GraphTensor& tensor, OrtValue* value, int64_t rows, bool batches)
      : tensor_(tensor), batches_(batches) {
    shape_ = shape_of(made<OrtTensorTypeAndShapeInfo>(ort().GetTensorTypeAndShape, value).get());
    if (batches && (shape_.empty() || shape_[0] != rows))
      throw refused("output '" + tensor.name + "' has " + std::to_string(shape_.empty() ? 0 : shape_[0]) +
                    " rows for a batch of " + std::to_string(rows));
    size_t values = 1;
    for (int64_t size : shape_) values *= size;
    row_values_ = batches && rows ? values / rows : values;
    if (tensor.type->bytes) {
      void* data = nullptr;
      check(ort().GetTensorMutableData(value, &data));
      data_ = static_cast<const char*>(data);
      return;
    }
    size_t size = 0;
    check(ort().GetStringTensorDataLength(value, &size));
    text_.resize(size + 1);
    ends_.resize(values + 1);
    check(ort().GetStringTensorContent(value, text_.data(), size, ends_.data(), values));
    ends_[values] = size;
  }

  // Adds `rows` rows to `response`, starting at `first`. Adds everything if the model does not batch.
  void add(TRITONBACKEND_Response* response, int64_t first, int64_t rows) const {
    Shape shape = shape_.empty() ? Shape{1} : shape_;  // Triton represents a scalar as a tensor of one value
    if (batches_) shape[0] = rows;
    TRITONBACKEND_Output* output = nullptr;
    check(TRITONBACKEND_ResponseOutput(response, &output, tensor_.name.c_str(), tensor_.type->triton,
                                       shape.data(), static_cast<uint32_t>(shape.size())));
    const size_t begin = batches_ ? first * row_values_ : 0,
                 values = batches_ ? rows * row_values_ : row_values_;
    if (const size_t size = tensor_.type->bytes) {
      std::copy_n(data_ + begin * size, values * size, buffer(output, values * size));  // both null if empty
      return;
    }
    char* to = buffer(output, values * sizeof(uint32_t) + ends_[begin + values] - ends_[begin]);
    for (size_t i = begin; i < begin + values; ++i) {
      const auto size = static_cast<uint32_t>(ends_[i + 1] - ends_[i]);
      std::memcpy(to, &size, sizeof size);
      std::memcpy(to + sizeof size, text_.data() + ends_[i], size);
      to += sizeof size + size;
    }
  }

 private:
  static char* buffer(TRITONBACKEND_Output* output, uint64_t bytes) {
    void* made = nullptr;
    auto memory = TRITONSERVER_MEMORY_CPU;
    int64_t memory_id = 0;
    check(TRITONBACKEND_OutputBuffer(output, &made, bytes, &memory, &memory_id));
    if (memory == TRITONSERVER_MEMORY_GPU)
      throw Failure{TRITONSERVER_ERROR_INTERNAL, "an output shall lie in a GPU's memory"};
    return static_cast<char*>(made);
  }

  const GraphTensor& tensor_;
  bool batches_;
  Shape shape_;
  size_t row_values_ = 0;       // values per row, or in total without batching
  const char* data_ = nullptr;  // numbers, in ONNX Runtime's memory
  std::vector<char> text_;      // strings, one after the other
  std::vector<size_t> ends_;    // where each string begins, and where the last one ends
};

inline void send(TRITONBACKEND_Response* response, TRITONSERVER_Error* error) {
  ignore(TRITONBACKEND_ResponseSend(response, TRITONSERVER_RESPONSE_COMPLETE_FINAL, error));
  ignore(error);
}

inline void fail(Call& call, const Failure& failure) {
  TRITONBACKEND_Response* response = nullptr;
  if (TRITONSERVER_Error* error = TRITONBACKEND_ResponseNew(&response, call.request)) return ignore(error);
  send(response, TRITONSERVER_ErrorNew(failure.code, failure.text.c_str()));
}

}  // namespace cesta
