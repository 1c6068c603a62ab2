// The CPU engine for Python. It checks every array once and passes only pointers on. module.cpp
// includes it.
#pragma once

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "arrays.h"
#include "cpu/engine.h"
#include "cpu/team.h"

namespace srnn {
namespace {

ModelDims make_dims(int dim, int q_levels, int n_rnn, int taps, int hidden, bool lstm,
                    bool reset_after, bool skips, bool readers_all, bool reads_levels,
                    std::vector<int> frame_sizes) {
  ModelDims m;
  m.dim = dim, m.q_levels = q_levels, m.n_rnn = n_rnn, m.taps = taps, m.hidden = hidden;
  m.lstm = lstm, m.reset_after = reset_after, m.skips = skips, m.readers_all = readers_all;
  m.reads_levels = reads_levels, m.frame_sizes = std::move(frame_sizes);
  bool sound = dim >= 1 && dim <= 16384 && q_levels >= 2 && q_levels <= 65536 && n_rnn >= 1 &&
               n_rnn <= 64 && hidden >= 0 && hidden <= 64 && taps >= 0 && !m.frame_sizes.empty();
  if (reads_levels) sound = sound && m.frame_sizes == std::vector<int>{1};
  int below = std::max(1, taps);
  for (int size : m.frame_sizes) {
    sound = sound && size >= below && size <= (1 << 24) && size % below == 0;
    below = size < 1 ? 1 : size;
  }
  if (!sound) throw py::value_error("engine: these sizes are no model");
  return m;
}

// Checks a matrix of four bits, which is given as codes, factors and scales. `shape` is that of the
// tensor whose place it takes; all but its last axis are rows.
FourBits checked_four_bits(const py::handle& given, const std::string& name,
                           const std::vector<long>& shape) {
  const auto parts = given.cast<std::vector<py::array>>();
  if (parts.size() != 3)
    throw py::value_error("engine: " + name + " must be codes, factors, scales");
  const long cols = shape.back();
  long rows = 1;
  for (size_t axis = 0; axis + 1 < shape.size(); ++axis) rows *= shape[axis];
  const long groups = (cols + kFourBitGroup - 1) / kFourBitGroup;
  const FourBits found{
      checked_shape<const int8_t>(parts[0], {rows, cols}, name + " codes"),
      checked_shape<const int8_t>(parts[1], {rows, groups}, name + " factors"),
      checked_shape<const float>(parts[2], {rows}, name + " scales"),
  };
  const auto outside = [](const int8_t* values, long count, int low, int high) {
    return std::any_of(values, values + count, [=](int8_t v) { return v < low || v > high; });
  };
  if (outside(found.codes, rows * cols, -8, 7) || outside(found.factors, rows * groups, -15, 15)) {
    throw py::value_error("engine: codes of " + name +
                          " must be -8 to 7, and its factors -15 to 15");
  }
  return found;
}

std::unique_ptr<Engine> make(const ModelDims& dims, const py::dict& tensors, const std::string& isa,
                             const std::string& mode, int num_threads, const py::dict& four_bits) {
  Arrays arrays;
  size_t taken = 0;
  for (const Field& field : layout(dims)) {
    if (!tensors.contains(field.name)) {
      throw py::value_error("engine: tensor " + field.name + " is missing");
    }
    arrays.floats[field.name] = checked_shape<const float>(
        tensors[field.name.c_str()].cast<py::array>(), field.shape, field.name);
    if (four_bits.contains(field.name)) {
      arrays.four_bits[field.name] =
          checked_four_bits(four_bits[field.name.c_str()], field.name, field.shape);
      ++taken;
    }
  }
  if (taken != four_bits.size() || (taken > 0 && mode != "int4")) {
    throw py::value_error("engine: four_bits must be matrices of this model, for the mode int4");
  }
  try {
    return make_engine(dims, arrays, {isa, mode, num_threads});
  } catch (const std::invalid_argument& error) {
    throw py::value_error(error.what());
  }
}

// Checks the arrays of a call. `pointers` receives the list that the result's `hidden` points to.
Streams make_streams(const ModelDims& m, const std::vector<py::array>& hidden, py::array& levels,
                     long t, std::vector<float*>& pointers) {
  if (levels.ndim() != 2 || levels.shape(1) < m.lookback() || levels.shape(0) < 1 || t < 0) {
    throw py::value_error("engine: levels must be (B, L + n), and t at least 0");
  }
  if (static_cast<int>(hidden.size()) != m.tiers()) {
    throw py::value_error("engine: hidden must have one array for each of the " +
                          std::to_string(m.tiers()) + " tiers");
  }
  Streams s;
  s.count = static_cast<int>(levels.shape(0));
  s.steps = levels.shape(1) - m.lookback();
  if (t > std::numeric_limits<long>::max() - s.steps) {
    throw py::value_error("engine: t is too large, got " + std::to_string(t));
  }
  s.t = t;
  s.levels = checked_shape<int64_t>(levels, {s.count, m.lookback() + s.steps}, "levels");
  for (const py::array& h : hidden) {
    pointers.push_back(checked_shape<float>(h, {m.n_rnn, s.count, m.state_width()}, "hidden"));
  }
  s.hidden = pointers.data();
  return s;
}

// Throws value_error for a level out of range, because levels index tables. `free` allows -1 after
// the first L levels, where the model draws.
void check_levels(const ModelDims& m, const Streams& s, bool free) {
  const long row = m.lookback() + s.steps;
  for (long i = 0; i < s.count * row; ++i) {
    const bool may_be_free = free && i % row >= m.lookback();
    if (s.levels[i] >= m.q_levels || s.levels[i] < (may_be_free ? -1 : 0)) {
      throw py::value_error("engine: levels must be 0 to " + std::to_string(m.q_levels - 1) +
                            ", got " + std::to_string(s.levels[i]));
    }
  }
}

std::vector<SamplerSettings> make_samplers(int count, const int32_t* top_k, const double* top_p) {
  std::vector<SamplerSettings> samplers;
  for (int s = 0; s < count; ++s) samplers.push_back(checked_settings(top_k[s], top_p[s]));
  return samplers;
}

// Python's NotFiniteError. Callers tell it from the errors of their own arguments.
struct NotFinite : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void generate(const Engine& engine, const std::vector<py::array>& hidden, py::array levels, long t,
              const py::array& seeds, const py::array& numbers, const py::array& times,
              const py::array& temperature, const py::array& top_k, const py::array& top_p) {
  std::vector<float*> pointers;
  const Streams s = make_streams(engine.dims(), hidden, levels, t, pointers);
  check_levels(engine.dims(), s, true);
  Drawing d;
  d.seeds = checked_shape<const uint64_t>(seeds, {s.count}, "seeds");
  d.streams = checked_shape<const uint32_t>(numbers, {s.count}, "streams");
  d.times = checked_shape<const int64_t>(times, {s.count}, "times");
  d.temperature = checked_shape<const float>(temperature, {s.count, s.steps}, "temperature");
  const std::vector<SamplerSettings> samplers =
      make_samplers(s.count, checked_shape<const int32_t>(top_k, {s.count}, "top_k"),
                    checked_shape<const double>(top_p, {s.count}, "top_p"));
  d.samplers = samplers.data();
  bool finite;
  {
    py::gil_scoped_release no_gil;
    finite = engine.generate(s, d);
  }
  if (!finite) throw NotFinite("engine: the model gave a logit that is not a number");
}

void check_whole_frames(const ModelDims& m, const Streams& s) {
  if (s.t % m.lookback() != 0 || s.steps % m.lookback() != 0) {
    throw py::value_error("engine: t and the number of levels must be whole top frames of " +
                          std::to_string(m.lookback()));
  }
}

void prime(const Engine& engine, const std::vector<py::array>& hidden, py::array levels, long t) {
  std::vector<float*> pointers;
  const Streams s = make_streams(engine.dims(), hidden, levels, t, pointers);
  check_whole_frames(engine.dims(), s);
  check_levels(engine.dims(), s, false);
  py::gil_scoped_release no_gil;
  engine.follow(s, nullptr);
}

py::array_t<float> score(const Engine& engine, const std::vector<py::array>& hidden,
                         py::array levels) {
  std::vector<float*> pointers;
  const Streams s = make_streams(engine.dims(), hidden, levels, 0, pointers);
  check_whole_frames(engine.dims(), s);
  check_levels(engine.dims(), s, false);
  py::array_t<float> logits({long{s.count}, s.steps, long{engine.dims().q_levels}});
  float* out = logits.mutable_data();
  py::gil_scoped_release no_gil;
  engine.follow(s, out);
  return logits;
}

void check_threads(int threads) {
  if (threads < 1 || threads > kMostThreads) {
    throw py::value_error("engine: threads must be 1 to " + std::to_string(kMostThreads) +
                          ", got " + std::to_string(threads));
  }
}

std::vector<std::pair<std::string, std::vector<long>>> layout_fields(const ModelDims& dims) {
  std::vector<std::pair<std::string, std::vector<long>>> fields;
  for (const Field& field : layout(dims)) fields.emplace_back(field.name, field.shape);
  return fields;
}

}  // namespace

inline void bind_engine(py::module_& m) {
  py::register_exception<NotFinite>(m, "NotFiniteError", PyExc_ValueError);
  py::class_<ModelDims>(m, "ModelDims", "Sizes of one model; see csrc/model/layout.h.")
      .def(py::init(&make_dims), py::kw_only(), py::arg("dim"), py::arg("q_levels"),
           py::arg("n_rnn"), py::arg("taps"), py::arg("hidden"), py::arg("lstm"),
           py::arg("reset_after"), py::arg("skips"), py::arg("readers_all"),
           py::arg("reads_levels"), py::arg("frame_sizes"));
  py::class_<Engine>(m, "CpuEngine",
                     "A packed model on the CPU; read-only, for any number of threads.")
      .def(py::init(&make), py::arg("dims"), py::arg("tensors"), py::arg("isa") = "",
           py::arg("mode") = "float32", py::arg("num_threads") = 0,
           py::arg("four_bits") = py::dict(),
           "tensors: name -> float32 array, as layout_fields lists them; isa: '' is the best; "
           "mode: "
           "float32, bfloat16, int8 or int4; num_threads: 0 chooses by the amount of work; "
           "four_bits: for int4, name of a matrix -> codes (rows, K) int8, factors (rows, groups) "
           "int8, scales (rows) float32; matrices that are left out have 8 bits.")
      .def("threads", &Engine::threads, py::arg("streams"),
           "Threads that a call with this many streams uses.")
      .def(
          "read_bandwidth",
          [](const Engine& engine, size_t bytes, int threads) {
            check_threads(threads);
            py::gil_scoped_release no_gil;
            return engine.read_bandwidth(bytes, threads);
          },
          py::arg("bytes"), py::arg("threads") = 1,
          "Measures how many bytes a second this machine reads from a working set.")
      .def(
          "peak_rate",
          [](const Engine& engine, int threads) {
            check_threads(threads);
            py::gil_scoped_release no_gil;
            return engine.peak_rate(threads);
          },
          py::arg("threads") = 1,
          "Measures how many multiply-adds a second this mode does on registers only.")
      .def_property_readonly("isa", [](const Engine& engine) { return engine.info().isa; })
      .def_property_readonly("mode", [](const Engine& engine) { return engine.info().mode; })
      .def_property_readonly(
          "partings", [](const Engine& engine) { return engine.info().partings; },
          "How often a team of threads gave up on a busy machine, and one thread went on.")
      .def_property_readonly("weight_bytes",
                             [](const Engine& engine) { return engine.info().weight_bytes; })
      .def("generate", &generate, py::arg("hidden"), py::arg("levels"), py::arg("t"),
           py::arg("seeds"), py::arg("streams"), py::arg("times"), py::arg("temperature"),
           py::arg("top_k"), py::arg("top_p"),
           "Fills every -1 in levels (B, L + n) int64 and advances hidden (n, B, H) float32. How "
           "is said for each stream: seeds uint64, streams uint32, times int64 (the stream's own "
           "time of the first new level), temperature (B, n) float32, top_k int32, top_p float64.")
      .def("prime", &prime, py::arg("hidden"), py::arg("levels"), py::arg("t"),
           "Advances hidden over known levels of whole top frames.")
      .def("score", &score, py::arg("hidden"), py::arg("levels"),
           "Returns logits (B, n, Q) float32 of known levels (B, L + n) of whole top frames, and "
           "advances hidden.");
  m.def("layout_fields", &layout_fields, py::arg("dims"),
        "Names and shapes of the packed tensors.");
  m.def("usable_cores", &usable_cores, "Processor cores that this process may use.");
  m.def("available_isas", &available_isas, "Instruction sets built and found here, best first.");
  m.def("built_isas", &built_isas, "Instruction sets that were built, best first.");
}

}  // namespace srnn
