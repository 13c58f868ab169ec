// Functions by name and version, as cuda-bindings and the CUDA runtime look them up.

#include <cstring>

#include "driver_api.h"

using namespace emulation;

namespace {

// A name that changed its meaning stands here once for each, with the first CUDA version of it.
const struct {
    const char* name;
    int version;  // 1000 * major + 10 * minor
    void* function;
} kFunctions[] = {
    {"cuInit", 2000, reinterpret_cast<void*>(&cuInit)},
    {"cuDriverGetVersion", 2000, reinterpret_cast<void*>(&cuDriverGetVersion)},
    {"cuGetErrorName", 2000, reinterpret_cast<void*>(&cuGetErrorName)},
    {"cuGetErrorString", 2000, reinterpret_cast<void*>(&cuGetErrorString)},
    {"cuGetProcAddress", 11030, reinterpret_cast<void*>(&cuGetProcAddress)},
    {"cuGetProcAddress", 12000, reinterpret_cast<void*>(&cuGetProcAddress_v2)},
    {"cuDeviceGetCount", 2000, reinterpret_cast<void*>(&cuDeviceGetCount)},
    {"cuDeviceGet", 2000, reinterpret_cast<void*>(&cuDeviceGet)},
    {"cuDeviceGetName", 2000, reinterpret_cast<void*>(&cuDeviceGetName)},
    {"cuDeviceGetUuid", 11040, reinterpret_cast<void*>(&cuDeviceGetUuid_v2)},
    {"cuDeviceTotalMem", 3020, reinterpret_cast<void*>(&cuDeviceTotalMem_v2)},
    {"cuDeviceGetAttribute", 2000, reinterpret_cast<void*>(&cuDeviceGetAttribute)},
    {"cuDeviceComputeCapability", 2000, reinterpret_cast<void*>(&cuDeviceComputeCapability)},
    {"cuDevicePrimaryCtxRetain", 2000, reinterpret_cast<void*>(&cuDevicePrimaryCtxRetain)},
    {"cuDevicePrimaryCtxRelease", 11000, reinterpret_cast<void*>(&cuDevicePrimaryCtxRelease_v2)},
    {"cuDevicePrimaryCtxGetState", 2000, reinterpret_cast<void*>(&cuDevicePrimaryCtxGetState)},
    {"cuCtxGetDevice", 2000, reinterpret_cast<void*>(&cuCtxGetDevice)},
    {"cuCtxGetCurrent", 2000, reinterpret_cast<void*>(&cuCtxGetCurrent)},
    {"cuCtxSetCurrent", 2000, reinterpret_cast<void*>(&cuCtxSetCurrent)},
    {"cuCtxPushCurrent", 4000, reinterpret_cast<void*>(&cuCtxPushCurrent_v2)},
    {"cuCtxPopCurrent", 4000, reinterpret_cast<void*>(&cuCtxPopCurrent_v2)},
    {"cuCtxSynchronize", 2000, reinterpret_cast<void*>(&cuCtxSynchronize)},
    {"cuCtxGetFlags", 2000, reinterpret_cast<void*>(&cuCtxGetFlags)},
    {"cuCtxGetApiVersion", 2000, reinterpret_cast<void*>(&cuCtxGetApiVersion)},
    {"cuCtxGetStreamPriorityRange", 2000, reinterpret_cast<void*>(&cuCtxGetStreamPriorityRange)},
    {"cuMemAlloc", 3020, reinterpret_cast<void*>(&cuMemAlloc_v2)},
    {"cuMemFree", 3020, reinterpret_cast<void*>(&cuMemFree_v2)},
    {"cuMemGetInfo", 3020, reinterpret_cast<void*>(&cuMemGetInfo_v2)},
    {"cuMemGetAddressRange", 3020, reinterpret_cast<void*>(&cuMemGetAddressRange_v2)},
    {"cuMemHostAlloc", 2000, reinterpret_cast<void*>(&cuMemHostAlloc)},
    {"cuMemAllocHost", 3020, reinterpret_cast<void*>(&cuMemAllocHost_v2)},
    {"cuMemFreeHost", 2000, reinterpret_cast<void*>(&cuMemFreeHost)},
    {"cuMemHostRegister", 6050, reinterpret_cast<void*>(&cuMemHostRegister_v2)},
    {"cuMemHostUnregister", 2000, reinterpret_cast<void*>(&cuMemHostUnregister)},
    {"cuMemHostGetDevicePointer", 3020, reinterpret_cast<void*>(&cuMemHostGetDevicePointer_v2)},
    {"cuPointerGetAttribute", 2000, reinterpret_cast<void*>(&cuPointerGetAttribute)},
    {"cuPointerGetAttributes", 2000, reinterpret_cast<void*>(&cuPointerGetAttributes)},
    {"cuMemcpy", 2000, reinterpret_cast<void*>(&cuMemcpy)},
    {"cuMemcpyHtoD", 3020, reinterpret_cast<void*>(&cuMemcpyHtoD_v2)},
    {"cuMemcpyDtoH", 3020, reinterpret_cast<void*>(&cuMemcpyDtoH_v2)},
    {"cuMemcpyDtoD", 3020, reinterpret_cast<void*>(&cuMemcpyDtoD_v2)},
    {"cuMemcpyAsync", 2000, reinterpret_cast<void*>(&cuMemcpyAsync)},
    {"cuMemcpyHtoDAsync", 3020, reinterpret_cast<void*>(&cuMemcpyHtoDAsync_v2)},
    {"cuMemcpyDtoHAsync", 3020, reinterpret_cast<void*>(&cuMemcpyDtoHAsync_v2)},
    {"cuMemcpyDtoDAsync", 3020, reinterpret_cast<void*>(&cuMemcpyDtoDAsync_v2)},
    {"cuMemsetD8", 3020, reinterpret_cast<void*>(&cuMemsetD8_v2)},
    {"cuMemsetD8Async", 2000, reinterpret_cast<void*>(&cuMemsetD8Async)},
    {"cuMemsetD32", 3020, reinterpret_cast<void*>(&cuMemsetD32_v2)},
    {"cuMemsetD32Async", 2000, reinterpret_cast<void*>(&cuMemsetD32Async)},
    {"cuStreamCreate", 2000, reinterpret_cast<void*>(&cuStreamCreate)},
    {"cuStreamCreateWithPriority", 2000, reinterpret_cast<void*>(&cuStreamCreateWithPriority)},
    {"cuStreamDestroy", 4000, reinterpret_cast<void*>(&cuStreamDestroy_v2)},
    {"cuStreamQuery", 2000, reinterpret_cast<void*>(&cuStreamQuery)},
    {"cuStreamSynchronize", 2000, reinterpret_cast<void*>(&cuStreamSynchronize)},
    {"cuStreamWaitEvent", 2000, reinterpret_cast<void*>(&cuStreamWaitEvent)},
    {"cuStreamGetFlags", 2000, reinterpret_cast<void*>(&cuStreamGetFlags)},
    {"cuStreamGetPriority", 2000, reinterpret_cast<void*>(&cuStreamGetPriority)},
    {"cuStreamGetId", 2000, reinterpret_cast<void*>(&cuStreamGetId)},
    {"cuStreamGetCtx", 2000, reinterpret_cast<void*>(&cuStreamGetCtx)},
    {"cuLaunchHostFunc", 2000, reinterpret_cast<void*>(&cuLaunchHostFunc)},
    {"cuEventCreate", 2000, reinterpret_cast<void*>(&cuEventCreate)},
    {"cuEventDestroy", 4000, reinterpret_cast<void*>(&cuEventDestroy_v2)},
    {"cuEventRecord", 2000, reinterpret_cast<void*>(&cuEventRecord)},
    {"cuEventRecordWithFlags", 2000, reinterpret_cast<void*>(&cuEventRecordWithFlags)},
    {"cuEventQuery", 2000, reinterpret_cast<void*>(&cuEventQuery)},
    {"cuEventSynchronize", 2000, reinterpret_cast<void*>(&cuEventSynchronize)},
    {"cuEventElapsedTime", 2000, reinterpret_cast<void*>(&cuEventElapsedTime)},
    {"cuEventElapsedTime", 12080, reinterpret_cast<void*>(&cuEventElapsedTime_v2)},
    {"cuStreamBeginCapture", 10010, reinterpret_cast<void*>(&cuStreamBeginCapture_v2)},
    {"cuStreamEndCapture", 2000, reinterpret_cast<void*>(&cuStreamEndCapture)},
    {"cuStreamIsCapturing", 2000, reinterpret_cast<void*>(&cuStreamIsCapturing)},
    {"cuThreadExchangeStreamCaptureMode", 2000, reinterpret_cast<void*>(&cuThreadExchangeStreamCaptureMode)},
    {"cuGraphInstantiate", 11000, reinterpret_cast<void*>(&cuGraphInstantiate_v2)},
    {"cuGraphInstantiateWithFlags", 11040, reinterpret_cast<void*>(&cuGraphInstantiateWithFlags)},
    {"cuGraphUpload", 2000, reinterpret_cast<void*>(&cuGraphUpload)},
    {"cuGraphLaunch", 2000, reinterpret_cast<void*>(&cuGraphLaunch)},
    {"cuGraphDestroy", 2000, reinterpret_cast<void*>(&cuGraphDestroy)},
    {"cuGraphExecDestroy", 2000, reinterpret_cast<void*>(&cuGraphExecDestroy)},
    {"cuGraphInstantiate", 12000, reinterpret_cast<void*>(&cuGraphInstantiateWithFlags)},
};

constexpr int kFound = 0;  // CUdriverProcAddressQueryResult
constexpr int kNotFound = 1;
constexpr int kVersionTooLow = 2;

}  // namespace

CUresult cuGetProcAddress_v2(const char* name, void** function, int version, std::uint64_t,
                             int* status) {
    int found = kNotFound;
    int best = -1;
    *function = nullptr;
    for (const auto& candidate : kFunctions) {
        if (std::strcmp(candidate.name, name) != 0) {
            continue;
        }
        if (candidate.version > version) {
            found = found == kNotFound ? kVersionTooLow : found;
        } else if (candidate.version > best) {
            best = candidate.version;
            found = kFound;
            *function = candidate.function;
        }
    }
    if (status != nullptr) {
        *status = found;
    }
    return found == kFound ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

CUresult cuGetProcAddress(const char* name, void** function, int version, std::uint64_t flags) {
    return cuGetProcAddress_v2(name, function, version, flags, nullptr);
}
