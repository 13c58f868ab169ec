# Finds nvcc and chooses what it compiles for: every GPU that this version knows and the project is
# meant for, and PTX of the newest, so that later ones can compile it themselves.

if(DEFINED CMAKE_CUDA_COMPILER)
  set(DFF_NVCC ${CMAKE_CUDA_COMPILER})
elseif(DEFINED ENV{CUDACXX})
  set(DFF_NVCC $ENV{CUDACXX})
else()
  find_program(DFF_NVCC nvcc HINTS $ENV{CUDA_PATH}/bin PATHS /usr/local/cuda/bin)
  if(NOT DFF_NVCC)
    message(FATAL_ERROR
      "DFF_CUDA or DFF_TENSORRT is ON, and nvcc was not found on PATH, in CUDA_PATH or in "
      "/usr/local/cuda. Install the CUDA toolkit, or say where nvcc is with "
      "-DCMAKE_CUDA_COMPILER=/path/to/nvcc.")
  endif()
  set(CMAKE_CUDA_COMPILER ${DFF_NVCC})
endif()

execute_process(COMMAND ${DFF_NVCC} --list-gpu-arch
  OUTPUT_VARIABLE DFF_OFFERED RESULT_VARIABLE DFF_LISTED ERROR_QUIET)
if(NOT DFF_LISTED EQUAL 0)
  message(FATAL_ERROR
    "\"${DFF_NVCC} --list-gpu-arch\" failed (${DFF_LISTED}), expected an nvcc of CUDA 12 or later. "
    "Say where one is with -DCMAKE_CUDA_COMPILER=/path/to/nvcc, or in CUDACXX.")
endif()

if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
  set(DFF_CHOSEN "")
  foreach(arch 75 80 86 87 89 90 100 110 120)  # 87: Orin, 110: Thor
    if(DFF_OFFERED MATCHES "compute_${arch}\n")
      list(APPEND DFF_CHOSEN ${arch})
    endif()
  endforeach()
  list(POP_BACK DFF_CHOSEN DFF_NEWEST)
  list(TRANSFORM DFF_CHOSEN APPEND "-real")
  list(APPEND DFF_CHOSEN ${DFF_NEWEST})
  set(CMAKE_CUDA_ARCHITECTURES ${DFF_CHOSEN} CACHE STRING "GPUs that the kernels are compiled for")
endif()

enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
find_package(CUDAToolkit REQUIRED)
