#!/usr/bin/env bash
# Everything of dff-edge that wants an NVIDIA GPU, in under eight minutes: kernels under
# compute-sanitizer, their bandwidth, the tests marked gpu, the pipeline with overlap on and off.
#
#   benchmarks/gpu.sh [FOLDER]      results go to FOLDER, by default build/gpu
#
# PYTHON chooses the interpreter; dff-edge need not be installed into it. TENSORRT_INCLUDE_DIR names
# TensorRT's headers, for the plugin. What cannot run here is named at the end, and nothing else
# stops the script; its exit status is 1 when a part that ran has failed.
set -uo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
out=${1:-build/gpu}
build=build/gpu-plugins
left_out=()
failed=()
mkdir -p "$out" "$build"
out=$(realpath "$out")

has() { command -v "$1" >/dev/null 2>&1; }
can_import() { "$python" -c "import $1" 2>/dev/null; }
leave_out() { left_out+=("$1: $2"); }

# part NAME SECONDS COMMAND...: run it, keep its output, note its failure.
part() {
    local name=$1 seconds=$2 status=0
    shift 2
    echo "== $name"
    timeout "$seconds" "$@" 2>&1 | tee "$out/$name.log" || status=$?
    if ((status == 124)); then
        failed+=("$name: not done after $seconds s")
    elif ((status)); then
        failed+=("$name: status $status, see $out/$name.log")
    fi
    return "$status"
}

if ! has nvidia-smi || ! nvidia-smi >/dev/null 2>&1; then
    echo "No NVIDIA GPU here (nvidia-smi is missing or sees none): nothing to measure." >&2
    exit 1
fi
nvidia-smi --query-gpu=name,compute_cap,driver_version,memory.total --format=csv,noheader
date -u +%Y-%m-%d

# The kernels.
if ! has nvcc; then
    leave_out kernels "nvcc is not installed"
elif ! has cmake; then
    leave_out kernels "cmake is not installed"
else
    options=(-DDFF_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=native -DDFF_EMULATION=OFF)
    if [[ -n ${TENSORRT_INCLUDE_DIR:-} ]]; then
        options+=(-DDFF_TENSORRT=ON "-DTENSORRT_INCLUDE_DIR=$TENSORRT_INCLUDE_DIR")
    else
        leave_out "plugin with TensorRT" "TENSORRT_INCLUDE_DIR is not set"
    fi
    if part build 180 bash -c "cmake -S plugins -B $build ${options[*]} && cmake --build $build -j"; then
        export DFF_CUDA_LIBRARY=$PWD/$build/cuda/libdff_cuda.so
        part kernels 60 ctest --test-dir "$build" --output-on-failure -R 'cuda|tensorrt'
        if has compute-sanitizer; then
            for tool in memcheck racecheck initcheck synccheck; do
                for program in "$build"/test_cuda_*; do
                    part "$tool-$(basename "$program")" 20 compute-sanitizer --tool "$tool" \
                        --error-exitcode 1 "$program"
                done
            done
        else
            leave_out compute-sanitizer "it is not installed"
        fi
        part bandwidth 60 "$build/cuda/dff_cuda_bandwidth"
    fi
fi

# The runtime. The native module of the CPU is part of it.
if ! can_import dff_edge._native; then
    if can_import nanobind && has cmake; then
        part native 120 bash -c "cmake -S plugins -B $build-python -DDFF_PYTHON=ON -DDFF_TESTS=OFF \
            -DPython_EXECUTABLE=\$(command -v $python) && cmake --build $build-python -j && \
            cp $build-python/_native*.so dff_edge/"
        export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
    fi
fi
if ! can_import dff_edge._native; then
    leave_out pipeline "dff_edge cannot be imported: pip install -e . -C cmake.define.DFF_CUDA=ON"
else
    export DFF_EDGE_CACHE=$PWD/build/gpu-engines
    part pipeline 240 "$python" benchmarks/gpu.py --json "$out/gpu.json" --timeline "$out"
    if can_import pytest; then
        part tests 120 "$python" -m pytest -q -m gpu -p no:cacheprovider tests
    else
        leave_out tests "pytest is not installed"
    fi
fi
for module in cuda.bindings pycuda tensorrt onnxruntime torch cupy; do
    can_import "$module" || leave_out "$module" "it is not installed for $python"
done

echo "== left out"
if ((${#left_out[@]})); then printf '%s\n' "${left_out[@]}"; else echo nothing; fi
if ((${#failed[@]})); then
    echo "== failed"
    printf '%s\n' "${failed[@]}"
    exit 1
fi
