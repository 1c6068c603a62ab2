#!/usr/bin/env bash
# Everything to know about this package on a machine with an NVIDIA GPU, within one deadline and without a network:
#   bench/gpu_report.sh [--seconds N] OUTDIR [PART...]
# PyTorch, Triton, NumPy, safetensors, pytest, pytest-xdist, setuptools and pybind11 must be there; the package need not
# be installed. Where the checkout has no native extension for this Python (samplernn_fast/_C.*.so, which may have been
# built elsewhere), it is built, which takes a C++ compiler. Kernels that were compiled before are found in the folder
# that SAMPLERNN_FAST_CACHE names. A machine without a GPU makes such a folder for one that has an H200:
#   SAMPLERNN_FAST_CACHE=$PWD/scratch/cache COMPILE_FOR=h200 bench/gpu_report.sh --seconds 7200 OUTDIR compile
#
# The report runs doctor. It compiles the kernels in parallel while it tests the triton backend, then it tests the cuda
# backend. At last it measures sampling speed, the stages of a sample, each exchange, styles and training. The most
# valuable parts come first. A fault on the GPU spoils all that its process does later, so that each contestant has a
# process of its own, and tests go on in another one (bench/gpu/faults.py).
#
# N is 540 when left out, and no part lasts beyond it. Each part has a limit of its own, which grows with a larger N; a
# smaller N cuts the last parts. OUTDIR gets one file, report.tgz, with a log of each part, JSON and a short table. It is
# written anew after every part, so that no failure loses what was there before. The table is also what is printed last.
# PYTHON chooses the interpreter.
set -uo pipefail

usage='usage: bench/gpu_report.sh [--seconds N] OUTDIR [PART...]; --help says more'
whole=540
known='doctor compile tests-triton tests sampling-1024 profile exchanges sampling-256 stages styles training tests-rest'
if [[ " $* " == *" --help "* ]]; then
  sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//p;}' "$0"
  echo "PART is one of: $known"
  exit 0
fi
if [[ ${1:-} == --seconds ]]; then
  whole=${2:-}
  [[ $whole =~ ^[1-9][0-9]*$ ]] || { echo "--seconds must be a number of seconds, got '$whole'; $usage" >&2; exit 2; }
  shift 2
fi
out=${1:?$usage}
[[ $out != -* ]] || { echo "OUTDIR must not begin with -, got '$out'; $usage" >&2; exit 2; }
shift
for name in "$@"; do
  [[ " $known " == *" $name "* ]] || { echo "there is no part $name, only $known" >&2; exit 2; }
done
[[ ${COMPILE_FOR:-h200} =~ ^(a100|h100|h200)$ ]] ||
  { echo "COMPILE_FOR must be one of a100, h100, h200, got '$COMPILE_FOR'" >&2; exit 2; }
parts=" start native ${*:-$known} "
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 1
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python3}
work=$(mktemp -d) || exit 1
report="$work/report"
status="$report/status.tsv"
mkdir "$report"
: >"$status"
usual=540 # seconds; the limits below add up to more, because hardly any part needs all of its own
grace=5   # seconds that a part may take to end after it was told to
ending=5  # seconds kept for the table and the archive
workers=$(nproc)
((workers > 6)) && workers=6 # processes that test side by side, whose kernels take turns on the GPU

pack() {
  tar czf "$out/.report.tgz" -C "$work" report
  mv -f "$out/.report.tgz" "$out/report.tgz"
}
trap 'pack; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# part NAME SECONDS COMMAND... runs the command with a time limit, writes its log, and notes its exit status. NAME is
# that of a part, or PART/RUN for one of the runs of a part. The signal at the limit is $signal, TERM when left out.
part() {
  local name=$1 limit=$2 began=$SECONDS left=$((whole - SECONDS - grace - ending)) code log="$report/${1//\//-}.log"
  shift 2
  [[ $parts == *" ${name%%/*} "* ]] || return 0
  ((whole > usual)) && limit=$((limit * whole / usual))
  ((limit > left)) && limit=$left
  if ((limit < 1)); then
    echo "== $name: no time left"
    printf '%s\tno time\t0\n' "$name" >>"$status"
    return 0
  fi
  echo "== $name (at most $limit s)"
  timeout --signal="${signal:-TERM}" --kill-after="$grace" "$limit" "$@" >"$log" 2>&1
  code=$?
  printf '%s\t%s\t%s\n' "$name" "$code" "$((SECONDS - began))" >>"$status"
  if ((code != 0)); then
    echo "   $name: exit status $code; the end of its log:"
    tail -n 5 "$log" | sed 's/^/   /'
  fi
  if [[ $BASHPID == "$$" ]]; then pack; fi # what runs in the background leaves that to the others
}

# The package as an installation has it, kernels/ inside, in a folder that Python looks into before any other. The plugin
# of pytest is found there too.
package() {
  rm -rf "$work/site"
  mkdir -p "$work/site/samplernn_fast"
  ln -s "$PWD/bench" "$work/site/"
  ln -s "$PWD"/samplernn_fast/* "$PWD/csrc" "$work/site/samplernn_fast/"
  [[ -e samplernn_fast/kernels ]] || ln -s "$PWD/kernels" "$work/site/samplernn_fast/kernels"
}
export PYTHONPATH="$work/site${PYTHONPATH:+:$PYTHONPATH}" PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1
export TRITON_INTERPRET=0 # the interpreter is for machines without a GPU

# The first import of torch reads gigabytes, and the first use of a GPU wakes it up.
part start 90 bash -c 'nvidia-smi; "$0" -c "import torch; print(torch.__version__, torch.cuda.is_available())"' "$python"
package
if ! "$python" -c 'import samplernn_fast._C' 2>/dev/null; then
  part native 150 "$python" setup.py build_ext --inplace
  package
fi

# bench/gpu/compile_ahead.py gets these command lines too, so that it compiles their kernels.
batches=(--batch-size 1 8 64 512 4096)
sampling=(bench/sampling_speed.py --device cuda --no-compile --rounds 3 --seconds 0.15 --json "$report/sampling_speed.json")
exchange_1024=("${sampling[@]}" --dim 1024 --batch-size 1 8 --backend cuda --dtype int8 float32 --no-plain --exchanges)
exchange_256=("${sampling[@]}" --dim 256 --batch-size 1 8 --backend cuda --dtype int8 float32 --no-plain --exchanges)
styles=("${sampling[@]}" --dim 1024 --batch-size 8 32 128 --backend triton --no-plain --styles vector tiles library)
stage_times=(bench/gpu/stage_times.py --json "$report/stage_times.json")
profile=("${stage_times[@]}" --kernels persistent --dim 1024 256 --batch-size 1 8 64)
stages=("${stage_times[@]}" --kernels launches --dim 1024 --dtype float32 int8 --batch-size 1 8)
training=(bench/training_speed.py --device cuda --dim 512 1024 --rounds 1 --passes 1 --json "$report/training_speed.json")

# contest DIM SECONDS: every contestant of sampling speed in its own process. Plain torch runs beside the reference.
contest() {
  local backend dtype one=("${sampling[@]}" --dim "$1" "${batches[@]}")
  part "sampling-$1/cuda-int8" "$2" "$python" "${one[@]}" --backend cuda --dtype int8 --no-plain
  part "sampling-$1/torch" "$2" "$python" "${one[@]}" --backend reference --dtype float32
  for backend in cuda triton; do
    for dtype in bfloat16 float32; do
      part "sampling-$1/$backend-$dtype" "$2" "$python" "${one[@]}" --backend "$backend" --dtype "$dtype" --no-plain
    done
  done
}

# suite NAME SECONDS ARGUMENT... tests. The options leave out the strictness of pyproject.toml, which refuses to run where
# pytest-timeout is missing. At an interrupt pytest still writes what it has. Only files with tests for a GPU are read,
# because others may need packages that are missing.
suite() {
  local name=$1 limit=$2 signal=INT
  shift 2
  part "$name" "$limit" "$python" -m pytest -o addopts=--import-mode=importlib -p bench.gpu.faults -n "$workers" \
    --maxschedchunk 1 -v -ra --junitxml "$report/$name.xml" "$@"
}
tests=tests/backends/cuda/test_on_gpu.py
# Those that tests/backends/triton/test_triton.py starts; run directly, each test that has passed is in the log.
triton_tests=(tests/backends/triton/kernels/{drawing,parity,operators,streaming}.py)

# line COMMAND... prints a command line as one word, which compile_ahead.py splits again.
line() { printf '%q ' "$@"; }

# compile starts a process for each core; nice keeps them from slowing the tests that run meanwhile.
compile() {
  part compile 130 nice -n 10 "$python" bench/gpu/compile_ahead.py ${COMPILE_FOR:+--for "$COMPILE_FOR"} "$tests -m telling" \
    "$(line "${sampling[@]}" --dim 1024 "${batches[@]}" --backend cuda)" "$(line "${profile[@]}")" \
    "$(line "${exchange_1024[@]}" launches)" "$(line "${exchange_256[@]}" tagged cluster launches)" \
    "$(line "${sampling[@]}" --dim 256 "${batches[@]}" --backend cuda)" "$(line "${stages[@]}")" "$tests"
}

part doctor 20 "$python" bench/doctor.py "$report/doctor.json"
compile &
compiling=$!
suite tests-triton 110 "${triton_tests[@]}"
wait "$compiling" # timings must not run beside it
suite tests 150 -m 'gpu and telling' "$tests"
contest 1024 40
part profile 50 "$python" "${profile[@]}"
part exchanges/1024-launches 30 "$python" "${exchange_1024[@]}" launches
for exchange in tagged cluster launches; do
  part "exchanges/256-$exchange" 25 "$python" "${exchange_256[@]}" "$exchange"
done
contest 256 30
part stages 30 "$python" "${stages[@]}"
part styles 40 "$python" "${styles[@]}"
part training 70 "$python" "${training[@]}"
suite tests-rest 100 -m 'gpu and not telling' "$tests"

echo
timeout "$ending" "$python" bench/gpu/report_table.py "$report" | tee "$report/table.txt"
! grep -qvP '\t0\t' "$status"
