// A stand-alone test of the CPU engine for the sanitizers, without Python.
//
// It runs small random models of several shapes in every numeric mode and instruction set, on 1, 2
// and 4 threads, and prints what differs; the exit status is then 1. build.py builds and runs it.
// The arguments are the instruction sets to run; without any, all that this machine has.
#include "cpu/engine.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <thread>

#include "cpu/team.h"

namespace {

using namespace srnn;

int failures = 0;

void expect(bool holds, const std::string& what) {
  if (holds) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}

struct Shape {
  const char* name;
  ModelDims dims;
  double zeros = 0;  // the share of blocks of 8 outputs by 4 inputs that are zero in every product
};

ModelDims make_dims(int dim, int q_levels, int n_rnn, int taps, int hidden,
                    std::vector<int> frame_sizes) {
  ModelDims m;
  m.dim = dim, m.q_levels = q_levels, m.n_rnn = n_rnn, m.taps = taps, m.hidden = hidden;
  m.frame_sizes = std::move(frame_sizes);
  return m;
}

std::vector<Shape> shapes() {
  std::vector<Shape> all = {{"gru after, odd", make_dims(17, 2, 1, 1, 1, {1, 3})},
                            {"gru after, two layers", make_dims(70, 51, 2, 2, 2, {2, 8})},
                            {"gru before, two layers", make_dims(40, 64, 2, 4, 0, {4})},
                            {"gru before, all skips", make_dims(33, 37, 3, 2, 1, {2, 6})},
                            {"gru after, prism skips", make_dims(32, 64, 3, 4, 1, {4, 8})},
                            {"lstm, all skips", make_dims(96, 130, 2, 2, 1, {2, 4})},
                            {"lstm, four tiers", make_dims(15, 16, 1, 2, 0, {2, 4, 8})},
                            {"one tier of levels", make_dims(17, 33, 2, 0, 2, {1})},
                            {"one tier, lstm, all skips", make_dims(40, 64, 2, 0, 0, {1})},
                            {"no sample level", make_dims(33, 37, 1, 0, 1, {3, 6})},
                            {"sparse, odd", make_dims(45, 37, 2, 2, 1, {2, 6}), 0.8},
                            {"sparse, long", make_dims(136, 64, 1, 2, 1, {2, 4}), 0.7},
                            {"sparse, nothing left", make_dims(17, 16, 1, 2, 1, {2, 4}), 1.0}};
  all[2].dims.reset_after = all[3].dims.reset_after = false;
  all[3].dims.skips = all[4].dims.skips = all[5].dims.skips = true;
  all[3].dims.readers_all = all[5].dims.readers_all = true;
  all[5].dims.lstm = all[6].dims.lstm = true;
  all[7].dims.reads_levels = all[8].dims.reads_levels = true;
  all[8].dims.lstm = all[8].dims.skips = all[8].dims.readers_all = true;
  all[10].dims.skips = all[10].dims.readers_all = true;
  return all;
}

// Random tensors with the names of the layout. The spread of a matrix follows from the length of
// its rows.
struct Weights {
  explicit Weights(const ModelDims& m, double zeros = 0) {
    std::mt19937 random(m.dim);
    for (const Field& field : layout(m)) {
      size_t count = 1;
      for (long size : field.shape) count *= size;
      const float spread = field.shape.size() > 1 ? 1 / std::sqrt(float(field.shape.back())) : 0.3f;
      std::normal_distribution<float> normal(0, spread);
      // The array is exactly as long as the engine may read, so that a sanitizer sees a longer
      // read.
      std::unique_ptr<float[]> values(new float[count]);
      for (size_t i = 0; i < count; ++i) values[i] = normal(random);
      if (zeros > 0 && is_product(field)) {
        drop_blocks(values.get(), count, m.dim, field.shape.back(), zeros, random);
      }
      arrays.floats[field.name] = values.get();
      owned.push_back(std::move(values));
      if (is_product(field)) add_four_bits(field, random);
    }
  }

  // The matrices that are multiplied, but for the output layer, which keeps eight bits.
  static bool is_product(const Field& field) {
    for (const char* end : {".recurrent", ".stack", ".skip_out", ".up", "hidden0", "hidden1"}) {
      const size_t at = field.name.rfind(end);
      if (at != std::string::npos && at + std::strlen(end) == field.name.size()) return true;
    }
    return false;
  }
  // Makes blocks zero. The rows are units of `dim` outputs each.
  static void drop_blocks(float* values, size_t count, int dim, long cols, double zeros,
                          std::mt19937& random) {
    std::bernoulli_distribution drops(zeros);
    for (long first = 0; first < static_cast<long>(count) / cols; first += dim) {
      for (long row = 0; row < dim; row += 8) {
        for (long col = 0; col < cols; col += 4) {
          if (!drops(random)) continue;
          for (long r = row; r < std::min<long>(row + 8, dim); ++r) {
            for (long c = col; c < std::min(col + 4, cols); ++c) values[(first + r) * cols + c] = 0;
          }
        }
      }
    }
  }
  void add_four_bits(const Field& field, std::mt19937& random) {
    const long cols = field.shape.back(), groups = (cols + kFourBitGroup - 1) / kFourBitGroup;
    long rows = 1;
    for (size_t axis = 0; axis + 1 < field.shape.size(); ++axis) rows *= field.shape[axis];
    std::unique_ptr<int8_t[]> codes(new int8_t[rows * cols]), factors(new int8_t[rows * groups]);
    std::unique_ptr<float[]> scales(new float[rows]);
    for (long i = 0; i < rows * cols; ++i) codes[i] = static_cast<int8_t>(random() % 16) - 8;
    for (long i = 0; i < rows * groups; ++i) factors[i] = static_cast<int8_t>(random() % 31) - 15;
    for (long i = 0; i < rows; ++i) scales[i] = 0.02f / std::sqrt(float(cols));
    four_bits[field.name] = {codes.get(), factors.get(), scales.get()};
    owned_bytes.push_back(std::move(codes));
    owned_bytes.push_back(std::move(factors));
    owned.push_back(std::move(scales));
  }

  std::vector<std::unique_ptr<float[]>> owned;
  std::vector<std::unique_ptr<int8_t[]>> owned_bytes;
  Arrays arrays;
  std::map<std::string, FourBits> four_bits;
};

// Some streams with their hidden states and levels, each drawn in a way of its own.
struct Run {
  Run(const ModelDims& m, const Weights& w, int first, int count_, long steps_)
      : dims(m), count(count_), steps(steps_), levels(count * (m.lookback() + steps), -1) {
    for (int tier = 0; tier < m.tiers(); ++tier) {
      const float* h0 = w.arrays.floats.at("tier" + std::to_string(tier) + ".h0");
      const int width = m.state_width();
      hidden.emplace_back(size_t(m.n_rnn) * count * width);
      for (int row = 0; row < m.n_rnn * count; ++row) {
        std::copy_n(h0 + row / count * width, width, hidden.back().data() + row * width);
      }
    }
    for (int s = 0; s < count; ++s) {
      std::mt19937 random(first + s + 1);
      for (long t = 0; t < m.lookback(); ++t) at(s, t) = random() % m.q_levels;
      numbers.push_back(first + s), seeds.push_back(7 + (first + s) % 2);
      samplers.push_back({0, true, 0xE0000000u - 0x10000000u * ((first + s) % 3)});
      for (long t = 0; t < steps; ++t) {
        temperature.push_back(s == 1 ? 0.0f : 0.9f);
        if (t % 5 == 3) at(s, m.lookback() + t) = random() % m.q_levels;  // forced
      }
    }
  }
  int64_t& at(int stream, long t) { return levels[stream * (dims.lookback() + steps) + t]; }

  Streams streams(std::vector<float*>& pointers, long t, std::vector<int64_t>& some) {
    pointers.clear();
    for (std::vector<float>& h : hidden) pointers.push_back(h.data());
    Streams s;
    s.count = count, s.t = t, s.hidden = pointers.data(), s.levels = some.data();
    s.steps = static_cast<long>(some.size()) / count - dims.lookback();
    return s;
  }

  // Generates n steps, from the step `from` on. The engine sees the levels [from, from + L + n) of
  // every stream: those steps, and the levels that they look back on.
  void generate(const Engine& engine, long from, long n) {
    const long row = dims.lookback() + n;
    std::vector<int64_t> block;
    std::vector<int64_t> times;
    std::vector<float> block_heat;
    for (int s = 0; s < count; ++s) {
      block.insert(block.end(), &at(s, from), &at(s, from) + row);
      const long first = s * steps + from;
      times.push_back(1000L * numbers[s] + from);
      block_heat.insert(block_heat.end(), temperature.begin() + first,
                        temperature.begin() + first + n);
    }
    std::vector<float*> pointers;
    Drawing drawing;
    drawing.seeds = seeds.data(), drawing.streams = numbers.data(), drawing.times = times.data();
    drawing.temperature = block_heat.data(), drawing.samplers = samplers.data();
    expect(engine.generate(streams(pointers, from, block), drawing), "logits are numbers");
    for (int s = 0; s < count; ++s) std::copy_n(block.data() + s * row, row, &at(s, from));
  }

  std::vector<float> follow(const Engine& engine, bool logits) {
    std::vector<float> out(logits ? size_t(count) * steps * dims.q_levels : 0);
    std::vector<float*> pointers;
    engine.follow(streams(pointers, 0, levels), logits ? out.data() : nullptr);
    return out;
  }

  ModelDims dims;
  int count;
  long steps;
  std::vector<int64_t> levels;
  std::vector<std::vector<float>> hidden;
  std::vector<uint32_t> numbers;
  std::vector<uint64_t> seeds;
  std::vector<SamplerSettings> samplers;
  std::vector<float> temperature;
};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), sizeof(float) * a.size()) == 0;
}
bool same_hidden(const Run& a, const Run& b) {
  bool same = true;
  for (size_t tier = 0; tier < a.hidden.size(); ++tier) {
    same = same && same_bits(a.hidden[tier], b.hidden[tier]);
  }
  return same;
}
bool same(const Run& a, const Run& b) { return a.levels == b.levels && same_hidden(a, b); }

std::unique_ptr<Engine> make(const ModelDims& m, const Weights& w, const std::string& isa,
                             const std::string& mode, int threads) {
  Arrays arrays = w.arrays;
  if (mode == "int4") arrays.four_bits = w.four_bits;
  return make_engine(m, arrays, {isa, mode, threads});
}

// Checks one mode on one instruction set. Returns the three streams that one thread made.
Run check(const Shape& shape, const Weights& w, const std::string& isa, const std::string& mode) {
  const ModelDims& m = shape.dims;
  const std::string name = std::string(shape.name) + ", " + mode + ", " + isa;
  const long steps = 3L * m.lookback();
  const std::unique_ptr<Engine> one = make(m, w, isa, mode, 1);
  Run whole(m, w, 0, 3, steps), lone(m, w, 0, 1, steps);
  whole.generate(*one, 0, steps);
  lone.generate(*one, 0, steps);
  Run known = whole;
  for (size_t tier = 0; tier < known.hidden.size(); ++tier) {
    known.hidden[tier] = Run(m, w, 0, 3, 0).hidden[tier];
  }
  Run scored = known;
  const std::vector<float> logits = scored.follow(*one, true);
  bool numbers = true;
  for (float logit : logits) numbers = numbers && std::isfinite(logit);
  expect(numbers, name + ": logits are finite");
  expect(same_hidden(scored, whole), name + ": scoring leaves the state of generating");
  for (int threads : {1, 2, 4}) {
    const std::string on = name + ", " + std::to_string(threads) + " threads";
    const std::unique_ptr<Engine> engine = make(m, w, isa, mode, threads);
    Run again(m, w, 0, 3, steps), blocks(m, w, 0, 3, steps), alone(m, w, 0, 1, steps);
    again.generate(*engine, 0, steps);
    expect(same(again, whole), on + ": three streams");
    blocks.generate(*engine, 0, 1);
    blocks.generate(*engine, 1, m.lookback());
    blocks.generate(*engine, 1 + m.lookback(), steps - 1 - m.lookback());
    expect(same(blocks, whole), on + ": blocks");
    alone.generate(*engine, 0, steps);
    expect(same(alone, lone), on + ": one stream");
    Run primed = known, rescored = known;
    primed.follow(*engine, false);
    expect(same_hidden(primed, whole), on + ": priming leaves the state of generating");
    expect(same_bits(rescored.follow(*engine, true), logits), on + ": scores");
  }
  return whole;
}

// Checks two callers who use one engine at once, each with a team.
void check_callers(const Shape& shape, const Weights& w) {
  const std::unique_ptr<Engine> engine = make(shape.dims, w, "", "int8", 2);
  const long steps = 3L * shape.dims.lookback();
  Run expected(shape.dims, w, 0, 1, steps), first = expected, second = expected;
  expected.generate(*engine, 0, steps);
  std::thread other([&] { second.generate(*engine, 0, steps); });
  first.generate(*engine, 0, steps);
  other.join();
  expect(same(first, expected) && same(second, expected), std::string(shape.name) + ": callers");
}

}  // namespace

int main(int count, char** arguments) {
  std::vector<std::string> isas(arguments + 1, arguments + count);
  if (isas.empty()) isas = available_isas();
  std::printf("instruction sets:");
  for (const std::string& isa : isas) std::printf(" %s", isa.c_str());
  std::printf("; %d usable cores\n", usable_cores());
  for (const Shape& shape : shapes()) {
    const Weights w(shape.dims, shape.zeros);
    for (const char* mode : {"float32", "bfloat16", "int8", "int4"}) {
      std::vector<Run> made;
      for (const std::string& isa : isas) made.push_back(check(shape, w, isa, mode));
      for (const Run& run : made) {
        const bool promised = std::strncmp(mode, "int", 3) == 0;
        expect(!promised || same(run, made[0]),
               std::string(shape.name) + ": " + mode + " on every ISA");
      }
    }
    check_callers(shape, w);
  }
  std::printf(failures ? "%d failures\n" : "all equal\n", failures);
  return failures ? 1 : 0;
}
