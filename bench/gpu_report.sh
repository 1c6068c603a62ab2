#!/usr/bin/env bash
# Everything to know about this package on a machine with an NVIDIA GPU, in less than 9 minutes and without a network:
#   bench/gpu_report.sh OUTDIR [PART...]
# Installs the checkout (PyTorch, Triton, pytest, ninja and pybind11 must be there), then doctor, the tests marked gpu,
# the stages of a sample beside what is predicted, sampling and training speed, each way of exchange. Every part has its
# own time limit and log, so that one failure loses nothing else; OUTDIR gets logs and JSON, and the last lines printed
# are a short table. PYTHON chooses the interpreter.
set -uo pipefail

out=${1:?usage: bench/gpu_report.sh OUTDIR [PART...]}
shift
parts=" ${*:-install doctor tests tests-triton profile sampling-256 sampling-1024 exchanges styles stages training} "
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python3}
status="$out/status.tsv"
: >"$status"
failed=0

# part NAME SECONDS COMMAND...: run it with a time limit into NAME.log; what went wrong is noted, and the next part runs.
part() {
  local name=$1 limit=$2 began=$SECONDS code
  shift 2
  [[ $parts == *" $name "* ]] || return 0
  echo "== $name (at most $limit s)"
  timeout --kill-after=10 "$limit" "$@" >"$out/$name.log" 2>&1
  code=$?
  printf '%s\t%s\t%s\n' "$name" "$code" "$((SECONDS - began))" >>"$status"
  if ((code != 0)); then
    failed=1
    echo "   exit status $code; the end of $name.log:"
    tail -n 5 "$out/$name.log" | sed 's/^/   /'
  fi
}

sampling() {
  exec "$python" bench/sampling_speed.py --device cuda --no-compile --rounds 3 --seconds 0.15 \
    --json "$out/sampling_speed.json" "$@"
}

# Without the strictness of pyproject.toml, which refuses to run where pytest-timeout is missing. Other files than those
# with tests for a GPU are not even read: they may need packages that are missing.
tests() {
  local files
  mapfile -t files < <(grep -l 'mark\.gpu' tests/test_*.py | grep -v test_triton.py)
  ((${#files[@]})) || { echo "no other tests are marked gpu"; return 0; }
  exec "$python" -m pytest -o addopts= -m gpu -v --junitxml "$out/tests.xml" "${files[@]}"
}

# The files that tests/test_triton.py starts, so that a time limit leaves the names of those tests that passed.
tests_triton() {
  local paths=(tests/on_triton/{drawing,operators,streaming,parity}.py)
  TRITON_INTERPRET=0 exec "$python" -m pytest -o addopts= -v --junitxml "$out/tests-triton.xml" "${paths[@]}"
}

exchanges() {
  sampling --dim 1024 256 --batch-size 1 --backend cuda --dtype int8 float32 --no-plain \
    --exchanges counters tagged cluster launches
}

profile() {
  exec "$python" bench/stage_times.py --kernels persistent --dim 1024 256 --batch-size 1 8 64 \
    --json "$out/stage_times.json"
}

stages() {
  exec "$python" bench/stage_times.py --kernels launches --dim 1024 --dtype float32 int8 --batch-size 1 8 \
    --json "$out/stage_times.json"
}

training() {
  exec "$python" bench/training_speed.py --device cuda --dim 512 1024 --rounds 1 --json "$out/training_speed.json"
}

export out python
export -f sampling exchanges profile stages tests tests_triton training

part install 45 "$python" -m pip install --no-deps --no-build-isolation --no-index --disable-pip-version-check -e .
part doctor 15 "$python" bench/doctor.py "$out/doctor.json"
part tests 45 bash -c tests
part tests-triton 110 bash -c tests_triton
part profile 50 bash -c profile
part sampling-256 65 bash -c 'sampling --dim 256 --batch-size 1 8 64 512 4096'
part sampling-1024 75 bash -c 'sampling --dim 1024 --batch-size 1 8 64 512 4096'
part exchanges 39 bash -c exchanges
part styles 35 bash -c 'sampling --dim 1024 --batch-size 8 32 128 --backend triton --no-plain --styles vector tiles library'
part stages 30 bash -c stages
part training 30 bash -c training

echo
"$python" bench/gpu_table.py "$out" | tee "$out/table.txt"
exit $failed
