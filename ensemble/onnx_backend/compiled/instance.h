// An instance of a model: its session, and the batches that run through it.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "answer.h"
#include "config.h"
#include "errors.h"
#include "graph.h"
#include "request.h"

namespace cesta {

// Requests run as one batch if their shapes allow it. If ONNX Runtime fails on a request, only that request
// gets an error.
class Instance {
 public:
  Instance(TRITONBACKEND_ModelInstance* handle, const Model& model)
      : handle_(handle),
        batches_(model.max_batch_size() > 0),
        session_(open(model, session_options(model).get())),
        run_options_(run_options(model)),
        accepted_(inputs_of(session_.get(), model.name())),
        outputs_(outputs_of(session_.get(), model.name())),
        memory_(made<OrtMemoryInfo>(ort().CreateCpuMemoryInfo, 1, 0)) {
    const GraphTensors inputs = accepted_;
    for (GraphTensor& tensor : initializers_of(session_.get(), model.name()))
      accepted_.push_back(std::move(tensor));
    check_config(model, inputs, accepted_, outputs_);
  }

  // Answers every request. Requests of equal shapes share one run of the session.
  void execute(TRITONBACKEND_Request** requests, uint32_t count) {
    const uint64_t begun_ns = now_ns();
    compute_begun_ns_ = compute_ended_ns_ = 0;
    std::vector<Call> calls(count);
    std::vector<Calls> groups;
    for (uint32_t i = 0; i < count; ++i) {
      calls[i].request = requests[i];
      try {
        decode(calls[i]);
        group(groups, calls[i]);
      } catch (...) {
        fail(calls[i], caught());
      }
    }
    for (const Calls& together : groups) answer(together);
    finish(calls, begun_ns);
  }

 private:
  void decode(Call& call) const {
    uint32_t inputs = 0, outputs = 0;
    check(TRITONBACKEND_RequestInputCount(call.request, &inputs));
    check(TRITONBACKEND_RequestOutputCount(call.request, &outputs));
    for (uint32_t i = 0; i < inputs; ++i) {
      Given given{};
      const char* name = nullptr;
      TRITONSERVER_DataType type{};
      const int64_t* shape = nullptr;
      uint32_t dims = 0;
      check(TRITONBACKEND_RequestInputByIndex(call.request, i, &given.handle));
      check(TRITONBACKEND_InputProperties(given.handle, &name, &type, &shape, &dims, &given.bytes,
                                          &given.buffers));
      given.tensor = find(accepted_, name);
      if (!given.tensor->shape.empty()) given.shape.assign(shape, shape + dims);
      call.inputs.push_back(std::move(given));
    }
    std::sort(call.inputs.begin(), call.inputs.end(),
              [](const Given& a, const Given& b) { return a.tensor < b.tensor; });
    for (uint32_t i = 0; i < outputs; ++i) {
      const char* name = nullptr;
      check(TRITONBACKEND_RequestOutputName(call.request, i, &name));
      call.outputs.push_back(find(outputs_, name));
    }
  }

  void group(std::vector<Calls>& groups, Call& call) const {
    if (batches_)
      for (Calls& calls : groups)
        if (calls[0]->runs_with(call)) return calls.push_back(&call);
    groups.push_back({&call});
  }

  void answer(const Calls& calls) {
    try {
      run(calls);
    } catch (...) {
      if (calls.size() == 1) return fail(*calls[0], caught());
      const auto half = calls.begin() + calls.size() / 2;  // 12 runs find one bad request among 64
      answer(Calls(calls.begin(), half));
      answer(Calls(half, calls.end()));
    }
  }

  // Runs `calls`, which have equal shapes, as one batch. If it throws, no call has been answered.
  void run(const Calls& calls) {
    int64_t rows = 0;
    for (const Call* call : calls) rows += call->rows();
    const size_t inputs = calls[0]->inputs.size();
    std::vector<Owned<OrtValue>> values;
    std::vector<const OrtValue*> given;
    std::vector<const char*> input_names, output_names;
    buffers_.resize(std::max(buffers_.size(), inputs));
    for (size_t i = 0; i < inputs; ++i) {
      values.push_back(together(calls, i, rows));
      given.push_back(values.back().get());
      input_names.push_back(calls[0]->inputs[i].tensor->name.c_str());
    }
    std::vector<const GraphTensor*> asked;
    for (const GraphTensor& output : outputs_) {
      const auto wanted = [&](const Call* call) {
        return std::find(call->outputs.begin(), call->outputs.end(), &output) != call->outputs.end();
      };
      if (std::any_of(calls.begin(), calls.end(), wanted)) asked.push_back(&output);
    }
    for (const GraphTensor* output : asked) output_names.push_back(output->name.c_str());
    std::vector<OrtValue*> raw(asked.size());
    if (!compute_begun_ns_) compute_begun_ns_ = now_ns();
    check(ort().Run(session_.get(), run_options_.get(), input_names.data(), given.data(), inputs,
                    output_names.data(), raw.size(), raw.data()));
    compute_ended_ns_ = now_ns();
    const std::vector<Owned<OrtValue>> made(raw.begin(), raw.end());
    std::vector<Produced> produced;
    for (size_t i = 0; i < asked.size(); ++i) produced.emplace_back(*asked[i], raw[i], rows, batches_);
    int64_t first = 0;
    for (Call* call : calls) {
      respond(*call, asked, produced, first);
      first += call->rows();
    }
  }

  // Input `i` of all `calls` as one tensor, in memory of this instance.
  Owned<OrtValue> together(const Calls& calls, size_t i, int64_t rows) {
    const GraphTensor& tensor = *calls[0]->inputs[i].tensor;
    Shape shape = calls[0]->inputs[i].shape;
    if (batches_) shape[0] = rows;
    size_t bytes = 0;
    for (const Call* call : calls) bytes += call->inputs[i].bytes;
    std::vector<char>& buffer = buffers_[i];
    buffer.resize(bytes + 1);  // a zero byte after the last string
    char* to = buffer.data();
    for (const Call* call : calls) {
      call->inputs[i].copy(to);
      to += call->inputs[i].bytes;
    }
    if (tensor.type->bytes)
      return made<OrtValue>(ort().CreateTensorWithDataAsOrtValue, memory_.get(),
                            static_cast<void*>(buffer.data()), bytes,
                            static_cast<const int64_t*>(shape.data()), shape.size(), tensor.type->element);
    OrtAllocator* allocator = nullptr;
    check(ort().GetAllocatorWithDefaultOptions(&allocator));
    auto value =
        made<OrtValue>(ort().CreateTensorAsOrtValue, allocator, static_cast<const int64_t*>(shape.data()),
                       shape.size(), tensor.type->element);
    const auto all = strings(tensor.name, buffer);
    check(ort().FillStringTensor(value.get(), all.data(), all.size()));
    return value;
  }

  void respond(Call& call, const std::vector<const GraphTensor*>& asked,
               const std::vector<Produced>& produced, int64_t first) const {
    TRITONBACKEND_Response* response = nullptr;
    TRITONSERVER_Error* error = as_error([&] {
      check(TRITONBACKEND_ResponseNew(&response, call.request));
      for (const GraphTensor* output : call.outputs) {
        const size_t place = std::find(asked.begin(), asked.end(), output) - asked.begin();
        produced[place].add(response, first, call.rows());
      }
    });
    call.succeeded = !error;
    if (response) send(response, error);
  }

  // Reports the statistics and gives the requests back.
  void finish(const std::vector<Call>& calls, uint64_t begun_ns) const {
    const uint64_t ended_ns = now_ns();
    const uint64_t compute_begun_ns = compute_begun_ns_ ? compute_begun_ns_ : ended_ns;
    const uint64_t compute_ended_ns = compute_ended_ns_ ? compute_ended_ns_ : ended_ns;
    uint64_t rows = 0;
    for (const Call& call : calls) {
      rows += batches_ ? call.rows() : 1;
      ignore(TRITONBACKEND_ModelInstanceReportStatistics(handle_, call.request, call.succeeded, begun_ns,
                                                         compute_begun_ns, compute_ended_ns, ended_ns));
      ignore(TRITONBACKEND_RequestRelease(call.request, TRITONSERVER_REQUEST_RELEASE_ALL));
    }
    ignore(TRITONBACKEND_ModelInstanceReportBatchStatistics(handle_, rows, begun_ns, compute_begun_ns,
                                                            compute_ended_ns, ended_ns));
  }

  TRITONBACKEND_ModelInstance* handle_;
  bool batches_;
  Owned<OrtSession> session_;
  Owned<OrtRunOptions> run_options_;
  GraphTensors accepted_;  // the graph's inputs, then the initializers that a request may replace
  GraphTensors outputs_;
  Owned<OrtMemoryInfo> memory_;
  std::vector<std::vector<char>> buffers_;  // of the inputs, reused by every batch
  uint64_t compute_begun_ns_ = 0;           // start of the first run in this execute(); 0: none yet
  uint64_t compute_ended_ns_ = 0;           // end of the last run
};

}  // namespace cesta
