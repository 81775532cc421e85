// Triton's compiled `onnxruntime` backend for the embedded server. It does the same as ../model.py, inside
// the server's own process.
//
// tritonserver loads it as <backend-directory>/onnxruntime/libtriton_onnxruntime.so and calls its functions.
// ../README.md explains the meaning of a config.

#include <memory>

#include "config.h"
#include "errors.h"
#include "instance.h"
#include "triton.h"

using namespace cesta;

#define TRITON_CALLS extern "C" __attribute__((visibility("default"))) TRITONSERVER_Error*

TRITON_CALLS TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model* handle) {
  return as_error([&] {
    bool wanted = false;
    check(TRITONBACKEND_ModelAutoCompleteConfig(handle, &wanted));
    Model model(handle);
    if (wanted) complete(model);
  });
}

TRITON_CALLS TRITONBACKEND_ModelInstanceInitialize(TRITONBACKEND_ModelInstance* instance) {
  return as_error([&] {
    TRITONBACKEND_Model* handle = nullptr;
    TRITONSERVER_InstanceGroupKind kind{};
    check(TRITONBACKEND_ModelInstanceModel(instance, &handle));
    check(TRITONBACKEND_ModelInstanceKind(instance, &kind));
    const Model model(handle);
    if (kind == TRITONSERVER_INSTANCEGROUPKIND_GPU)
      throw refused("model '" + model.name() +
                    "': instance_group asks for KIND_GPU and this onnxruntime runs on CPU only; "
                    "set kind: KIND_CPU");
    auto made = std::make_unique<Instance>(instance, model);
    check(TRITONBACKEND_ModelInstanceSetState(instance, made.get()));
    made.release();  // TRITONBACKEND_ModelInstanceFinalize deletes it
  });
}

TRITON_CALLS TRITONBACKEND_ModelInstanceExecute(TRITONBACKEND_ModelInstance* instance,
                                                TRITONBACKEND_Request** requests, uint32_t count) {
  return as_error([&] {
    void* state = nullptr;
    check(TRITONBACKEND_ModelInstanceState(instance, &state));
    static_cast<Instance*>(state)->execute(requests, count);
  });
}

TRITON_CALLS TRITONBACKEND_ModelInstanceFinalize(TRITONBACKEND_ModelInstance* instance) {
  return as_error([&] {
    void* state = nullptr;
    check(TRITONBACKEND_ModelInstanceState(instance, &state));
    delete static_cast<Instance*>(state);
  });
}
