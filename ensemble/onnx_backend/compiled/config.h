// A model's config.pbtxt: the session options in it, its completion from the graph, and checks of both.
#pragma once

#include <algorithm>
#include <cctype>
#include <charconv>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "errors.h"
#include "graph.h"
#include "json.h"

namespace cesta {

constexpr int kCompletedBatchSize = 4;  // the max_batch_size that NVIDIA's backend completes

// A model as Triton describes it: its config.pbtxt, and the place of its files.
struct Model {
  TRITONBACKEND_Model* handle;
  Json config;

  explicit Model(TRITONBACKEND_Model* model) : handle(model), config(read(model)) {}

  std::string name() const { return config["name"].text(); }
  long long max_batch_size() const { return config["max_batch_size"].integer(); }

  const Json* parameter(const std::string& key) const {
    const Json& found = config["parameters"][key];
    return found.exists() ? &found["string_value"] : nullptr;
  }

  int integer(const std::string& key) const {
    const Json* given = parameter(key);
    if (!given) return 0;
    const std::string& text = given->text();
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
      throw refused("model '" + name() + "': parameter " + key + " is \"" + text + "\"; expected an integer");
    return value;
  }

  bool boolean(const std::string& key) const {
    const Json* given = parameter(key);
    std::string text = given ? given->text() : "true";
    std::transform(text.begin(), text.end(), text.begin(), ::tolower);
    if (text == "true" || text == "on" || text == "1") return true;
    if (text == "false" || text == "off" || text == "0") return false;
    throw refused("model '" + name() + "': parameter " + key + " is \"" + text +
                  "\"; expected true or false");
  }

  std::string file() const {
    TRITONBACKEND_ArtifactType type{};
    const char* location = nullptr;
    uint64_t version = 0;
    check(TRITONBACKEND_ModelRepository(handle, &type, &location));
    check(TRITONBACKEND_ModelVersion(handle, &version));
    const std::string& given = config["default_model_filename"].text();
    auto path =
        std::filesystem::path(location) / std::to_string(version) / (given.empty() ? "model.onnx" : given);
    if (std::filesystem::is_directory(path)) path /= "model.onnx";
    if (!std::filesystem::is_regular_file(path))
      throw refused("model '" + name() + "': there is no " + path.string());
    return path.string();
  }

 private:
  static Json read(TRITONBACKEND_Model* model) {
    TRITONSERVER_Message* message = nullptr;
    check(TRITONBACKEND_ModelConfig(model, 1, &message));
    const char* base = nullptr;
    size_t size = 0;
    TRITONSERVER_Error* error = TRITONSERVER_MessageSerializeToJson(message, &base, &size);
    const std::string text = error ? "" : std::string(base, size);
    TRITONSERVER_MessageDelete(message);
    check(error);
    return Json::parse(text);
  }
};

inline Owned<OrtSession> open(const Model& model, const OrtSessionOptions* options) {
  // Never released: tritonserver may exit while sessions still run, and they need it.
  static OrtEnv* const env =
      made<OrtEnv>(ort().CreateEnv, ORT_LOGGING_LEVEL_ERROR, "onnxruntime backend").release();
  return made<OrtSession>(ort().CreateSession, env, model.file().c_str(), options);
}

inline Owned<OrtSessionOptions> session_options(const Model& model) {
  auto options = made<OrtSessionOptions>(ort().CreateSessionOptions);
  constexpr int kBasic = 1, kExtended = 2, kNone = 0, kAll = 99;
  const long long level = model.config["optimization"]["graph"]["level"].integer();
  check(ort().SetSessionGraphOptimizationLevel(options.get(), level == -1  ? kBasic
                                                              : level == 1 ? kExtended
                                                              : level == 2 ? kNone
                                                                           : kAll));
  const int mode = model.integer("execution_mode");
  if (mode != 0 && mode != 1)
    throw refused("model '" + model.name() + "': parameter execution_mode is " + std::to_string(mode) +
                  "; expected 0 or 1 (parallel)");
  check(ort().SetSessionExecutionMode(options.get(), mode));
  check(ort().SetIntraOpNumThreads(options.get(), std::max(0, model.integer("intra_op_thread_count"))));
  check(ort().SetInterOpNumThreads(options.get(), std::max(0, model.integer("inter_op_thread_count"))));
  check((model.boolean("enable_mem_arena") ? ort().EnableCpuMemArena
                                           : ort().DisableCpuMemArena)(options.get()));
  check((model.boolean("enable_mem_pattern") ? ort().EnableMemPattern
                                             : ort().DisableMemPattern)(options.get()));
  const char* const handed_on = "session.use_device_allocator_for_initializers";
  if (const Json* given = model.parameter(handed_on))
    check(ort().AddSessionConfigEntry(options.get(), handed_on, given->text().c_str()));
  return options;
}

inline Owned<OrtRunOptions> run_options(const Model& model) {
  auto options = made<OrtRunOptions>(ort().CreateRunOptions);
  const char* const handed_on = "memory.enable_memory_arena_shrinkage";
  if (const Json* given = model.parameter(handed_on))
    check(ort().AddRunConfigEntry(options.get(), handed_on, given->text().c_str()));
  return options;
}

inline Json io_config(const GraphTensor& tensor, bool batches) {
  Json io = Json::object(), dims = Json::array();
  for (size_t axis = batches; axis < tensor.shape.size(); ++axis)
    dims.items().push_back(Json::number(tensor.shape[axis]));
  io.member("name") = Json::string(tensor.name);
  io.member("data_type") = Json::string(tensor.type->in_config);
  if (dims.empty()) {
    dims.items().push_back(Json::number(1));
    if (batches) io.member("reshape").member("shape") = Json::array();
  }
  io.member("dims") = dims;
  return io;
}

inline void complete_batching(Model& model, const GraphTensors& tensors) {
  std::vector<std::string> fixed;
  for (const GraphTensor& tensor : tensors)
    if (!tensor.has_batch_axis()) fixed.push_back("'" + tensor.name + "' " + written(tensor.shape));
  if (!fixed.empty()) {
    if (model.max_batch_size() > 0)
      throw refused("model '" + model.name() + "': max_batch_size is " +
                    std::to_string(model.max_batch_size()) + " and the batch axis of " + joined(fixed) +
                    " is fixed; expected -1");
    return;
  }
  if (model.max_batch_size() == 0) model.config.member("max_batch_size") = Json::number(kCompletedBatchSize);
  const bool scheduled =
      model.config["dynamic_batching"].exists() || model.config["sequence_batching"].exists();
  if (model.max_batch_size() > 1 && !scheduled) model.config.member("dynamic_batching") = Json::object();
}

// Completes the inputs, outputs and batching that config.pbtxt leaves out.
inline void complete(Model& model) {
  if (!model.config["input"].empty() && !model.config["output"].empty()) return;
  auto options = made<OrtSessionOptions>(ort().CreateSessionOptions);
  check(ort().SetSessionGraphOptimizationLevel(options.get(), 0));  // only its inputs and outputs matter
  const auto session = open(model, options.get());
  const GraphTensors inputs = inputs_of(session.get(), model.name());
  const GraphTensors outputs = outputs_of(session.get(), model.name());
  GraphTensors all = inputs;
  all.insert(all.end(), outputs.begin(), outputs.end());
  complete_batching(model, all);
  for (const auto& [key, tensors] : {std::pair("input", &inputs), std::pair("output", &outputs)}) {
    Json& given = model.config.member(key);
    if (!given.empty()) continue;
    given = Json::array();
    for (const GraphTensor& tensor : *tensors)
      given.items().push_back(io_config(tensor, model.max_batch_size() > 0));
  }
  const std::string text = model.config.write();
  TRITONSERVER_Message* message = nullptr;
  check(TRITONSERVER_MessageNewFromSerializedJson(&message, text.data(), text.size()));
  TRITONSERVER_Error* error = TRITONBACKEND_ModelSetConfig(model.handle, 1, message);
  TRITONSERVER_MessageDelete(message);
  check(error);
}

inline void check_served(const Model& model) {
  std::vector<std::string> asked;
  for (const char* key : {"sequence_batching", "batch_input", "batch_output"})
    if (!model.config[key].empty()) asked.push_back(key);
  if (!model.config["optimization"]["execution_accelerators"].empty())
    asked.push_back("execution_accelerators");
  for (const Json& io : model.config["input"].items()) {
    if (io["allow_ragged_batch"].is_true())
      asked.push_back("allow_ragged_batch of '" + io["name"].text() + "'");
    if (io["optional"].is_true() && model.max_batch_size() > 0)  // NVIDIA's backend refuses it, too
      asked.push_back("optional input '" + io["name"].text() + "' in a model that batches");
  }
  if (!asked.empty())
    throw refused("model '" + model.name() + "': this backend does not serve " + joined(asked));
}

inline bool dims_agree(const Shape& dims, const Shape& expected, bool exact) {
  if (expected.empty()) return std::all_of(dims.begin(), dims.end(), [](int64_t size) { return size == 1; });
  return std::equal(
      dims.begin(), dims.end(), expected.begin(), expected.end(),
      [exact](int64_t size, int64_t graph) { return size == graph || (graph == kUnknown && !exact); });
}

inline void check_io(const Model& model, const std::string& kind, const Json& io, const GraphTensors& graph) {
  const std::string where = "model '" + model.name() + "', " + kind + " '" + io["name"].text() + "'";
  const GraphTensor* tensor = find(graph, io["name"].text());
  if (!tensor) throw refused(where + ": not in the graph; expected one of " + names(graph));
  if (io["data_type"].text() != tensor->type->in_config)
    throw refused(where + ": data_type is " + io["data_type"].text() + "; expected the graph's " +
                  tensor->type->in_config);
  const bool batches = model.max_batch_size() > 0;
  if (batches && !tensor->has_batch_axis())
    throw refused(where + ": max_batch_size is " + std::to_string(model.max_batch_size()) +
                  " and the graph's shape is " + written(tensor->shape) +
                  "; expected a first dimension of -1");
  Shape dims;
  for (const Json& size : (io["reshape"].exists() ? io["reshape"]["shape"] : io["dims"]).items())
    dims.push_back(size.integer());
  const Shape expected(tensor->shape.begin() + batches, tensor->shape.end());
  if (!dims_agree(dims, expected, kind == "output"))
    throw refused(where + ": dims are " + written(dims) + "; expected the graph's " + written(expected));
}

inline void check_config(const Model& model, const GraphTensors& inputs, const GraphTensors& accepted,
                         const GraphTensors& outputs) {
  check_served(model);
  const auto& given = model.config["input"].items();
  const auto required =
      std::count_if(given.begin(), given.end(), [](const Json& io) { return !io["optional"].is_true(); });
  if (required != static_cast<long>(inputs.size()))
    throw refused("model '" + model.name() + "': config.pbtxt has " + std::to_string(required) +
                  " inputs that are not optional; expected " + std::to_string(inputs.size()) + ": " +
                  names(inputs));
  for (const Json& io : given) check_io(model, "input", io, accepted);
  for (const Json& io : model.config["output"].items()) check_io(model, "output", io, outputs);
}

}  // namespace cesta
