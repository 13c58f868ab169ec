// What libcuda.so.1 exports: a part of CUDA's driver API, with its names and values, and a few
// functions for tests. See https://docs.nvidia.com/cuda/cuda-driver-api for what the calls do.

#pragma once

#include "types.h"

constexpr int kLeastPriority = 0;
constexpr int kGreatestPriority = -5;

// clang-format off
DFF_DRIVER_API CUresult cuInit(unsigned int flags);
DFF_DRIVER_API CUresult cuDriverGetVersion(int* version);
DFF_DRIVER_API CUresult cuGetErrorName(CUresult error, const char** name);
DFF_DRIVER_API CUresult cuGetErrorString(CUresult error, const char** description);
DFF_DRIVER_API CUresult cuGetProcAddress(const char* name, void** function, int version, std::uint64_t flags);
DFF_DRIVER_API CUresult cuGetProcAddress_v2(const char* name, void** function, int version, std::uint64_t flags, int* status);

DFF_DRIVER_API CUresult cuDeviceGetCount(int* count);
DFF_DRIVER_API CUresult cuDeviceGet(CUdevice* device, int ordinal);
DFF_DRIVER_API CUresult cuDeviceGetName(char* name, int length, CUdevice device);
DFF_DRIVER_API CUresult cuDeviceGetUuid_v2(unsigned char* uuid, CUdevice device);
DFF_DRIVER_API CUresult cuDeviceTotalMem_v2(std::size_t* bytes, CUdevice device);
DFF_DRIVER_API CUresult cuDeviceGetAttribute(int* value, int attribute, CUdevice device);
DFF_DRIVER_API CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice device);
DFF_DRIVER_API CUresult cuDevicePrimaryCtxRetain(CUcontext* handle, CUdevice device);
DFF_DRIVER_API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device);
DFF_DRIVER_API CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned int* flags, int* active);

DFF_DRIVER_API CUresult cuCtxGetDevice(CUdevice* device);
DFF_DRIVER_API CUresult cuCtxGetCurrent(CUcontext* handle);
DFF_DRIVER_API CUresult cuCtxSetCurrent(CUcontext handle);
DFF_DRIVER_API CUresult cuCtxPushCurrent_v2(CUcontext handle);
DFF_DRIVER_API CUresult cuCtxPopCurrent_v2(CUcontext* handle);
DFF_DRIVER_API CUresult cuCtxSynchronize();
DFF_DRIVER_API CUresult cuCtxGetFlags(unsigned int* flags);
DFF_DRIVER_API CUresult cuCtxGetApiVersion(CUcontext handle, unsigned int* version);
DFF_DRIVER_API CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest);

DFF_DRIVER_API CUresult cuMemAlloc_v2(CUdeviceptr* pointer, std::size_t bytes);
DFF_DRIVER_API CUresult cuMemFree_v2(CUdeviceptr pointer);
DFF_DRIVER_API CUresult cuMemGetInfo_v2(std::size_t* free_bytes, std::size_t* total_bytes);
DFF_DRIVER_API CUresult cuMemGetAddressRange_v2(CUdeviceptr* start, std::size_t* bytes, CUdeviceptr pointer);
DFF_DRIVER_API CUresult cuMemHostAlloc(void** pointer, std::size_t bytes, unsigned int flags);
DFF_DRIVER_API CUresult cuMemAllocHost_v2(void** pointer, std::size_t bytes);
DFF_DRIVER_API CUresult cuMemFreeHost(void* pointer);
DFF_DRIVER_API CUresult cuMemHostRegister_v2(void* pointer, std::size_t bytes, unsigned int flags);
DFF_DRIVER_API CUresult cuMemHostUnregister(void* pointer);
DFF_DRIVER_API CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr* device, void* host, unsigned int flags);
DFF_DRIVER_API CUresult cuPointerGetAttribute(void* value, int attribute, CUdeviceptr pointer);
DFF_DRIVER_API CUresult cuPointerGetAttributes(unsigned int count, int* attributes, void** values, CUdeviceptr pointer);

DFF_DRIVER_API CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, std::size_t bytes);
DFF_DRIVER_API CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, std::size_t bytes);
DFF_DRIVER_API CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, std::size_t bytes);
DFF_DRIVER_API CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, std::size_t bytes);
DFF_DRIVER_API CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, std::size_t bytes, CUstream stream);
DFF_DRIVER_API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, std::size_t bytes, CUstream stream);
DFF_DRIVER_API CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, std::size_t bytes, CUstream stream);
DFF_DRIVER_API CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, std::size_t bytes, CUstream stream);
DFF_DRIVER_API CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, std::size_t count);
DFF_DRIVER_API CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, std::size_t count, CUstream stream);
DFF_DRIVER_API CUresult cuMemsetD32_v2(CUdeviceptr to, unsigned int value, std::size_t count);
DFF_DRIVER_API CUresult cuMemsetD32Async(CUdeviceptr to, unsigned int value, std::size_t count, CUstream stream);

DFF_DRIVER_API CUresult cuStreamCreate(CUstream* stream, unsigned int flags);
DFF_DRIVER_API CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned int flags, int priority);
DFF_DRIVER_API CUresult cuStreamDestroy_v2(CUstream stream);
DFF_DRIVER_API CUresult cuStreamQuery(CUstream stream);
DFF_DRIVER_API CUresult cuStreamSynchronize(CUstream stream);
DFF_DRIVER_API CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned int flags);
DFF_DRIVER_API CUresult cuStreamGetFlags(CUstream stream, unsigned int* flags);
DFF_DRIVER_API CUresult cuStreamGetPriority(CUstream stream, int* priority);
DFF_DRIVER_API CUresult cuStreamGetId(CUstream stream, unsigned long long* id);
DFF_DRIVER_API CUresult cuStreamGetCtx(CUstream stream, CUcontext* handle);
DFF_DRIVER_API CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void* argument);

DFF_DRIVER_API CUresult cuEventCreate(CUevent* event, unsigned int flags);
DFF_DRIVER_API CUresult cuEventDestroy_v2(CUevent event);
DFF_DRIVER_API CUresult cuEventRecord(CUevent event, CUstream stream);
DFF_DRIVER_API CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned int flags);
DFF_DRIVER_API CUresult cuEventQuery(CUevent event);
DFF_DRIVER_API CUresult cuEventSynchronize(CUevent event);
DFF_DRIVER_API CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end);
DFF_DRIVER_API CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent start, CUevent end);

DFF_DRIVER_API CUresult cuStreamBeginCapture_v2(CUstream stream, int mode);
DFF_DRIVER_API CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph);
DFF_DRIVER_API CUresult cuStreamIsCapturing(CUstream stream, int* status);
DFF_DRIVER_API CUresult cuThreadExchangeStreamCaptureMode(int* mode);
DFF_DRIVER_API CUresult cuGraphInstantiate_v2(CUgraphExec* executable, CUgraph graph, void** error_node, char* log, std::size_t log_bytes);
DFF_DRIVER_API CUresult cuGraphInstantiateWithFlags(CUgraphExec* executable, CUgraph graph, unsigned long long flags);
DFF_DRIVER_API CUresult cuGraphUpload(CUgraphExec executable, CUstream stream);
DFF_DRIVER_API CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream);
DFF_DRIVER_API CUresult cuGraphDestroy(CUgraph graph);
DFF_DRIVER_API CUresult cuGraphExecDestroy(CUgraphExec executable);
// clang-format on

// Not CUDA's; for tests.

// From now on every operation of a stream waits 0 to max_us microseconds before it runs.
DFF_DRIVER_API void dff_emulation_jitter(std::uint64_t seed, std::uint64_t max_us);
// How often a function was called, by its name without _v2; "blocking": how often a call waited.
DFF_DRIVER_API std::uint64_t dff_emulation_count(const char* name);
// How many "device", "pinned", "stream", "event" or "graph" there are now; of executable graphs too.
DFF_DRIVER_API std::uint64_t dff_emulation_live(const char* kind);
// Have the next call of a function (its name without _v2) give this result and do nothing; with
// the name "operation", have the next operation of a stream fail with it, as a kernel that crashes.
DFF_DRIVER_API void dff_emulation_fail(const char* name, CUresult result);
