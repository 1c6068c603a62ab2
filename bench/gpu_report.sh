#!/usr/bin/env bash
# Everything to know about this package on a machine with an NVIDIA GPU, within one deadline and without a network:
#   bench/gpu_report.sh [--seconds N] OUTDIR [PART...]
# It installs the checkout (PyTorch, Triton, NumPy, safetensors, pytest, setuptools, pybind11 and a C++ compiler
# must be there) and runs doctor. It compiles the kernels in parallel while it tests the triton backend, then it tests
# the cuda backend. At last it measures sampling speed, each exchange, the stages of a sample, styles and training. The most valuable parts come first.
# N is 540 when left out, and no part lasts beyond it. Each part has a limit of its own, which grows with a larger N; a
# smaller N cuts the last parts. Every part has its own log, so that one failure loses nothing else. OUTDIR gets logs
# and JSON, and the last lines printed are a short table. PYTHON chooses the interpreter.
set -uo pipefail

usage='usage: bench/gpu_report.sh [--seconds N] OUTDIR [PART...]'
whole=540
if [[ ${1:-} == --seconds ]]; then
  whole=${2:-}
  [[ $whole =~ ^[1-9][0-9]*$ ]] || { echo "--seconds must be a number of seconds, got '$whole'; $usage" >&2; exit 2; }
  shift 2
fi
out=${1:?$usage}
shift
known='install doctor compile tests-triton tests sampling-1024 sampling-256 exchanges profile stages styles training
  tests-rest'
for name in "$@"; do
  [[ " ${known//$'\n'/ } " == *" $name "* ]] || { echo "there is no part $name, only $known" >&2; exit 2; }
done
parts=" ${*:-${known//$'\n'/ }} "
mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python3}
status="$out/status.tsv"
: >"$status"
usual=540 # seconds; the limits below add up to about this
grace=5   # seconds that a part may take to end after it was told to
ending=5  # seconds kept for the table

# part NAME SECONDS COMMAND... runs the command with a time limit, writes NAME.log, and notes its exit status.
part() {
  local name=$1 limit=$2 began=$SECONDS left=$((whole - SECONDS - grace - ending)) code
  shift 2
  [[ $parts == *" $name "* ]] || return 0
  ((whole > usual)) && limit=$((limit * whole / usual))
  ((limit > left)) && limit=$left
  if ((limit < 1)); then
    echo "== $name: no time left"
    printf '%s\tno time\t0\n' "$name" >>"$status"
    return 0
  fi
  echo "== $name (at most $limit s)"
  timeout --kill-after="$grace" "$limit" "$@" >"$out/$name.log" 2>&1
  code=$?
  printf '%s\t%s\t%s\n' "$name" "$code" "$((SECONDS - began))" >>"$status"
  if ((code != 0)); then
    echo "   $name: exit status $code; the end of $name.log:"
    tail -n 5 "$out/$name.log" | sed 's/^/   /'
  fi
}

# bench/gpu/compile_ahead.py gets these command lines too, so that it compiles their kernels.
sampling=(bench/sampling_speed.py --device cuda --no-compile --rounds 3 --seconds 0.15 --json "$out/sampling_speed.json")
sampling_1024=("${sampling[@]}" --dim 1024 --backend cuda triton --batch-size 1 8 64 512 4096)
sampling_256=("${sampling[@]}" --dim 256 --backend cuda triton --batch-size 1 8 64 512 4096)
exchanges=("${sampling[@]}" --dim 1024 256 --batch-size 1 8 --backend cuda --dtype int8 float32 --no-plain --exchanges all)
styles=("${sampling[@]}" --dim 1024 --batch-size 8 32 128 --backend triton --no-plain --styles vector tiles library)
stage_times=(bench/gpu/stage_times.py --json "$out/stage_times.json")
profile=("${stage_times[@]}" --kernels persistent --dim 1024 256 --batch-size 1 8 64)
stages=("${stage_times[@]}" --kernels launches --dim 1024 --dtype float32 int8 --batch-size 1 8)
training=(bench/training_speed.py --device cuda --dim 512 1024 --rounds 1 --json "$out/training_speed.json")

# The options leave out the strictness of pyproject.toml, which refuses to run where pytest-timeout is missing. Only
# files with tests for a GPU are read, because others may need packages that are missing. The files of triton_tests are
# those that tests/backends/triton/test_triton.py starts; run directly, each passed test is named before a time limit.
pytest=("$python" -m pytest -o addopts=--import-mode=importlib -v)
tests=tests/backends/cuda/test_on_gpu.py
triton_tests=(tests/backends/triton/kernels/{drawing,parity,operators,streaming}.py)

# line COMMAND... prints a command line as one word, which compile_ahead.py splits again.
line() { printf '%q ' "$@"; }

# compile starts a process for each core; nice keeps them from slowing the tests that run meanwhile.
compile() {
  part compile 130 nice -n 10 "$python" bench/gpu/compile_ahead.py "$tests -m telling" "$(line "${sampling_1024[@]}")" \
    "$(line "${sampling_256[@]}")" "$(line "${exchanges[@]}")" "$(line "${profile[@]}")" "$(line "${stages[@]}")" \
    "$tests"
}

part install 45 "$python" -m pip install --no-deps --no-build-isolation --no-index --disable-pip-version-check -e .
part doctor 15 "$python" bench/doctor.py "$out/doctor.json"
compile &
compiling=$!
TRITON_INTERPRET=0 part tests-triton 110 "${pytest[@]}" --junitxml "$out/tests-triton.xml" "${triton_tests[@]}"
wait "$compiling" # timings must not run beside it
part tests 60 "${pytest[@]}" -m 'gpu and telling' --junitxml "$out/tests.xml" "$tests"
part sampling-1024 80 "$python" "${sampling_1024[@]}"
part sampling-256 70 "$python" "${sampling_256[@]}"
part exchanges 70 "$python" "${exchanges[@]}"
part profile 50 "$python" "${profile[@]}"
part stages 30 "$python" "${stages[@]}"
part styles 35 "$python" "${styles[@]}"
part training 30 "$python" "${training[@]}"
part tests-rest 60 "${pytest[@]}" -m 'gpu and not telling' --junitxml "$out/tests-rest.xml" "$tests"

echo
timeout "$ending" "$python" bench/gpu/report_table.py "$out" | tee "$out/table.txt"
! grep -qvP '\t0\t' "$status"
