// A request from Triton, and its tensors in the form of ONNX Runtime.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "errors.h"
#include "graph.h"

namespace cesta {

// One input of one request, in Triton's form.
struct Given {
  const GraphTensor* tensor;
  TRITONBACKEND_Input* handle;
  Shape shape;
  uint64_t bytes;
  uint32_t buffers;

  void copy(char* to) const {
    for (uint32_t i = 0; i < buffers; ++i) {
      const void* from = nullptr;
      uint64_t size = 0;
      auto memory = TRITONSERVER_MEMORY_CPU;
      int64_t memory_id = 0;
      check(TRITONBACKEND_InputBuffer(handle, i, &from, &size, &memory, &memory_id));
      if (memory == TRITONSERVER_MEMORY_GPU)
        throw Failure{TRITONSERVER_ERROR_INTERNAL, "an input lies in a GPU's memory"};
      to = std::copy_n(static_cast<const char*>(from), size, to);
    }
  }
};

// One request.
struct Call {
  TRITONBACKEND_Request* request;
  std::vector<Given> inputs;
  std::vector<const GraphTensor*> outputs;  // the requested ones
  bool succeeded = false;

  int64_t rows() const { return inputs.empty() || inputs[0].shape.empty() ? 1 : inputs[0].shape[0]; }

  // Whether both have the same inputs with the same shapes, apart from the batch axis.
  bool runs_with(const Call& other) const {
    return std::equal(inputs.begin(), inputs.end(), other.inputs.begin(), other.inputs.end(),
                      [](const Given& a, const Given& b) {
                        return a.tensor == b.tensor && a.shape.size() == b.shape.size() &&
                               std::equal(a.shape.begin() + 1, a.shape.end(), b.shape.begin() + 1);
                      });
  }
};

using Calls = std::vector<Call*>;

inline uint64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Strict UTF-8, as Python defines it: no overlong forms, no surrogates.
inline bool is_utf8(std::string_view text) {
  const auto* at = reinterpret_cast<const unsigned char*>(text.data());
  const auto* end = at + text.size();
  while (at < end) {
    const int more = *at < 0x80                  ? 0
                     : *at >= 0xC2 && *at < 0xE0 ? 1
                     : (*at & 0xF0) == 0xE0      ? 2
                     : *at >= 0xF0 && *at < 0xF5 ? 3
                                                 : -1;
    if (more < 0 || end - at <= more) return false;
    if ((at[0] == 0xE0 && at[1] < 0xA0) || (at[0] == 0xED && at[1] > 0x9F) ||
        (at[0] == 0xF0 && at[1] < 0x90) || (at[0] == 0xF4 && at[1] > 0x8F))
      return false;
    for (int i = 1; i <= more; ++i)
      if ((at[i] & 0xC0) != 0x80) return false;
    at += more + 1;
  }
  return true;
}

// The bytes in Python's notation, cut after 100: gRPC drops an answer whose error is longer than 16 KiB.
inline std::string escaped(std::string_view text) {
  std::string out = "b'";
  for (const unsigned char c : text.substr(0, 100)) {
    const bool as_it_is = c >= ' ' && c < 0x7F && c != '\\' && c != '\'';
    char code[5];
    std::snprintf(code, sizeof code, as_it_is ? "%c" : "\\x%02x", c);
    out += code;
  }
  return out + "'";
}

// Turns Triton's strings, each after its length, into strings that end with a zero byte for ONNX Runtime.
// `bytes` must have one more byte than the request sent.
inline std::vector<const char*> strings(const std::string& name, std::vector<char>& bytes) {
  std::vector<const char*> all;
  char* at = bytes.data();
  char* const end = at + bytes.size() - 1;
  while (at < end) {
    uint32_t size = 0;
    if (end - at < static_cast<long>(sizeof size)) throw refused("input '" + name + "' ends within a string");
    std::memcpy(&size, at, sizeof size);
    std::memset(at, 0, sizeof size);  // ends the string before
    at += sizeof size;
    if (end - at < static_cast<long>(size)) throw refused("input '" + name + "' ends within a string");
    const std::string_view text(at, size);
    if (!is_utf8(text)) throw refused("input '" + name + "' holds " + escaped(text) + ", which is not UTF-8");
    if (text.find('\0') != text.npos)
      throw refused("input '" + name + "' holds " + escaped(text) + ", with a zero byte");
    all.push_back(at);
    at += size;
  }
  *end = 0;
  return all;
}

}  // namespace cesta
