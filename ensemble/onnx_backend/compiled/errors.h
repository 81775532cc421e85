// Errors of Triton and of ONNX Runtime as one exception, and ownership of ONNX Runtime's objects.
#pragma once

#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "ort.h"
#include "triton.h"

namespace cesta {

struct Failure {
  TRITONSERVER_Error_Code code;
  std::string text;
};

inline Failure refused(std::string text) { return {TRITONSERVER_ERROR_INVALID_ARG, std::move(text)}; }

inline const OrtApi& ort() {
  static const OrtApi& api = *OrtGetApiBase()->GetApi(ORT_API_VERSION);
  return api;
}

inline void check(OrtStatus* status) {
  if (!status) return;
  const bool of_the_request = ort().GetErrorCode(status) == ORT_INVALID_ARGUMENT;
  Failure failure{of_the_request ? TRITONSERVER_ERROR_INVALID_ARG : TRITONSERVER_ERROR_INTERNAL,
                  ort().GetErrorMessage(status)};
  ort().ReleaseStatus(status);
  throw failure;
}

inline void check(TRITONSERVER_Error* error) {
  if (!error) return;
  Failure failure{TRITONSERVER_ERROR_INTERNAL, TRITONSERVER_ErrorMessage(error)};
  TRITONSERVER_ErrorDelete(error);
  throw failure;
}

// For calls whose error nobody can receive any more.
inline void ignore(TRITONSERVER_Error* error) {
  if (error) TRITONSERVER_ErrorDelete(error);
}

// The current exception. Only for use within a catch block.
inline Failure caught() {
  try {
    throw;
  } catch (const Failure& failure) {
    return failure;
  } catch (const std::exception& error) {
    return {TRITONSERVER_ERROR_INTERNAL, error.what()};
  }
}

// Runs `body` and turns its exception into the error that Triton's functions return.
template <typename Body>
inline TRITONSERVER_Error* as_error(Body body) {
  try {
    body();
    return nullptr;
  } catch (...) {
    const Failure failure = caught();
    return TRITONSERVER_ErrorNew(failure.code, failure.text.c_str());
  }
}

struct Release {
  void operator()(OrtEnv* p) const { ort().ReleaseEnv(p); }
  void operator()(OrtMemoryInfo* p) const { ort().ReleaseMemoryInfo(p); }
  void operator()(OrtRunOptions* p) const { ort().ReleaseRunOptions(p); }
  void operator()(OrtSession* p) const { ort().ReleaseSession(p); }
  void operator()(OrtSessionOptions* p) const { ort().ReleaseSessionOptions(p); }
  void operator()(OrtTensorTypeAndShapeInfo* p) const { ort().ReleaseTensorTypeAndShapeInfo(p); }
  void operator()(OrtTypeInfo* p) const { ort().ReleaseTypeInfo(p); }
  void operator()(OrtValue* p) const { ort().ReleaseValue(p); }
};

template <typename T>
using Owned = std::unique_ptr<T, Release>;

// Calls `make(…, &pointer)` of ONNX Runtime and owns the new object.
template <typename T, typename Make, typename... Arguments>
inline Owned<T> made(Make make, Arguments... arguments) {
  T* pointer = nullptr;
  check(make(arguments..., &pointer));
  return Owned<T>(pointer);
}

}  // namespace cesta
