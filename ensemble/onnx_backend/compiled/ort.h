// The part of ONNX Runtime's C API that this backend uses. It is a table of functions; libonnxruntime returns
// a pointer to it. The order of the functions is part of the ABI, and new ones come at the end. The numbers
// are places in onnxruntime_c_api.h of https://github.com/microsoft/onnxruntime (1.8 or later). No Python
// package contains that file.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct OrtAllocator;
struct OrtEnv;
struct OrtMemoryInfo;
struct OrtRunOptions;
struct OrtSession;
struct OrtSessionOptions;
struct OrtStatus;
struct OrtTensorTypeAndShapeInfo;
struct OrtTypeInfo;
struct OrtValue;

// These enums name only some values. `: int` lets them hold the others, too.
enum OrtErrorCode : int { ORT_INVALID_ARGUMENT = 2 };
enum OrtLoggingLevel { ORT_LOGGING_LEVEL_WARNING = 2, ORT_LOGGING_LEVEL_ERROR = 3 };
enum OrtKind : int { ORT_TENSOR = 1 };
enum OrtElement : int {
  ORT_FLOAT = 1,
  ORT_UINT8,
  ORT_INT8,
  ORT_UINT16,
  ORT_INT16,
  ORT_INT32,
  ORT_INT64,
  ORT_STRING,
  ORT_BOOL,
  ORT_FLOAT16,
  ORT_DOUBLE,
  ORT_UINT32,
  ORT_UINT64,
};

struct OrtApi {
  using Unused = void*;
  Unused unused_0;
  OrtErrorCode (*GetErrorCode)(const OrtStatus*);                        // 1
  const char* (*GetErrorMessage)(const OrtStatus*);                      // 2
  OrtStatus* (*CreateEnv)(OrtLoggingLevel, const char* name, OrtEnv**);  // 3
  Unused unused_4[3];
  OrtStatus* (*CreateSession)(OrtEnv*, const char* path, const OrtSessionOptions*, OrtSession**);  // 7
  Unused unused_8;
  OrtStatus* (*Run)(OrtSession*, const OrtRunOptions*, const char* const* input_names,
                    const OrtValue* const* inputs, size_t, const char* const* output_names, size_t,
                    OrtValue** outputs);                    // 9
  OrtStatus* (*CreateSessionOptions)(OrtSessionOptions**);  // 10
  Unused unused_11[2];
  OrtStatus* (*SetSessionExecutionMode)(OrtSessionOptions*, int mode);  // 13
  Unused unused_14[2];
  OrtStatus* (*EnableMemPattern)(OrtSessionOptions*);    // 16
  OrtStatus* (*DisableMemPattern)(OrtSessionOptions*);   // 17
  OrtStatus* (*EnableCpuMemArena)(OrtSessionOptions*);   // 18
  OrtStatus* (*DisableCpuMemArena)(OrtSessionOptions*);  // 19
  Unused unused_20[3];
  OrtStatus* (*SetSessionGraphOptimizationLevel)(OrtSessionOptions*, int level);  // 23
  OrtStatus* (*SetIntraOpNumThreads)(OrtSessionOptions*, int threads);            // 24
  OrtStatus* (*SetInterOpNumThreads)(OrtSessionOptions*, int threads);            // 25
  Unused unused_26[4];
  OrtStatus* (*SessionGetInputCount)(const OrtSession*, size_t*);                                        // 30
  OrtStatus* (*SessionGetOutputCount)(const OrtSession*, size_t*);                                       // 31
  OrtStatus* (*SessionGetOverridableInitializerCount)(const OrtSession*, size_t*);                       // 32
  OrtStatus* (*SessionGetInputTypeInfo)(const OrtSession*, size_t, OrtTypeInfo**);                       // 33
  OrtStatus* (*SessionGetOutputTypeInfo)(const OrtSession*, size_t, OrtTypeInfo**);                      // 34
  OrtStatus* (*SessionGetOverridableInitializerTypeInfo)(const OrtSession*, size_t, OrtTypeInfo**);      // 35
  OrtStatus* (*SessionGetInputName)(const OrtSession*, size_t, OrtAllocator*, char**);                   // 36
  OrtStatus* (*SessionGetOutputName)(const OrtSession*, size_t, OrtAllocator*, char**);                  // 37
  OrtStatus* (*SessionGetOverridableInitializerName)(const OrtSession*, size_t, OrtAllocator*, char**);  // 38
  OrtStatus* (*CreateRunOptions)(OrtRunOptions**);                                                       // 39
  Unused unused_40[8];
  OrtStatus* (*CreateTensorAsOrtValue)(OrtAllocator*, const int64_t* shape, size_t, OrtElement,
                                       OrtValue**);  // 48
  OrtStatus* (*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo*, void* data, size_t bytes,
                                               const int64_t* shape, size_t, OrtElement, OrtValue**);  // 49
  Unused unused_50;
  OrtStatus* (*GetTensorMutableData)(OrtValue*, void**);                                          // 51
  OrtStatus* (*FillStringTensor)(OrtValue*, const char* const*, size_t);                          // 52
  OrtStatus* (*GetStringTensorDataLength)(const OrtValue*, size_t*);                              // 53
  OrtStatus* (*GetStringTensorContent)(const OrtValue*, void*, size_t, size_t* offsets, size_t);  // 54
  OrtStatus* (*CastTypeInfoToTensorInfo)(const OrtTypeInfo*, const OrtTensorTypeAndShapeInfo**);  // 55
  OrtStatus* (*GetOnnxTypeFromTypeInfo)(const OrtTypeInfo*, OrtKind*);                            // 56
  Unused unused_57[3];
  OrtStatus* (*GetTensorElementType)(const OrtTensorTypeAndShapeInfo*, OrtElement*);  // 60
  OrtStatus* (*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo*, size_t*);        // 61
  OrtStatus* (*GetDimensions)(const OrtTensorTypeAndShapeInfo*, int64_t*, size_t);    // 62
  Unused unused_63[2];
  OrtStatus* (*GetTensorTypeAndShape)(const OrtValue*, OrtTensorTypeAndShapeInfo**);  // 65
  Unused unused_66[3];
  OrtStatus* (*CreateCpuMemoryInfo)(int allocator, int memory, OrtMemoryInfo**);  // 69
  Unused unused_70[6];
  OrtStatus* (*AllocatorFree)(OrtAllocator*, void*);  // 76
  Unused unused_77;
  OrtStatus* (*GetAllocatorWithDefaultOptions)(OrtAllocator**);  // 78
  Unused unused_79[13];
  void (*ReleaseEnv)(OrtEnv*);                                        // 92
  void (*ReleaseStatus)(OrtStatus*);                                  // 93
  void (*ReleaseMemoryInfo)(OrtMemoryInfo*);                          // 94
  void (*ReleaseSession)(OrtSession*);                                // 95
  void (*ReleaseValue)(OrtValue*);                                    // 96
  void (*ReleaseRunOptions)(OrtRunOptions*);                          // 97
  void (*ReleaseTypeInfo)(OrtTypeInfo*);                              // 98
  void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo*);  // 99
  void (*ReleaseSessionOptions)(OrtSessionOptions*);                  // 100
  Unused unused_101[29];
  OrtStatus* (*AddSessionConfigEntry)(OrtSessionOptions*, const char* key, const char* value);  // 130
  Unused unused_131[34];
  OrtStatus* (*AddRunConfigEntry)(OrtRunOptions*, const char* key, const char* value);  // 165
};
static_assert(offsetof(OrtApi, AddRunConfigEntry) == 165 * sizeof(void*), "a line above is missing");

struct OrtApiBase {
  const OrtApi* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};
constexpr uint32_t ORT_API_VERSION = 8;  // this version has all functions above

const OrtApiBase* OrtGetApiBase();

}  // extern "C"
