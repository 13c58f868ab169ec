# Builds for 64-bit Arm Linux (Jetson, Raspberry Pi) on another machine, with the compiler of
# Debian's g++-aarch64-linux-gnu. With qemu-user installed, plain ctest runs the tests:
#   cmake -S plugins -B build/aarch64 --toolchain cmake/aarch64-linux-gnu.cmake
#   cmake --build build/aarch64 && ctest --test-dir build/aarch64 --output-on-failure
# qemu plays a CPU with every extension; QEMU_CPU=cortex-a57 ctest ... plays an early one.

set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

# Where Debian keeps libc and libstdc++ for the target; the emulated program loads them from there.
set(DFF_SYSROOT /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH ${DFF_SYSROOT})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)

find_program(DFF_QEMU NAMES qemu-aarch64 qemu-aarch64-static)
if(DFF_QEMU)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${DFF_QEMU} -L ${DFF_SYSROOT})
endif()
