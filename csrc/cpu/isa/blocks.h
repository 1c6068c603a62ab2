// Block-sparse matrices: of a matrix most of whose weights are zero, the blocks of eight outputs by
// four inputs that are not.
//
// A matrix is packed in this way by itself where enough of its blocks are zero. Blocks that are
// left out would add zeros, so for finite inputs the bits are those of the whole matrix: integer
// sums have no order, and float sums take the inputs in ascending order here too.
//
// Four groups of eight outputs make a quad. Their blocks lie side by side, step after step, so that
// a core has the sums of four groups to work on at once. A group with fewer blocks than its
// neighbours gets blocks of zeros.
#pragma once

#include <vector>

#include "float32.h"
#include "int8.h"
#include "octets.h"

namespace srnn {
namespace SRNN_ISA {

constexpr int kBlockInputs = 4, kBlockWeights = kOctet * kBlockInputs;
constexpr int kQuadGroups = 4, kQuadOutputs = kQuadGroups * kOctet;
constexpr int kPanelQuads = kPanel / kQuadOutputs;
// The largest share of blocks with which a matrix is packed as blocks. Measured in int8 with VNNI,
// 64 streams and 256 units: half of the blocks take as long as the whole matrix.
constexpr double kMostBlocks = 0.5;

// The gate and the row of a matrix that an output of it, counted with the padding, stands for.
struct SourceRow {
  int gate, row;

  SourceRow(const Source& from, long output) {
    const long outputs_of_gate = long{panels_of(from.rows)} * kPanel;
    gate = static_cast<int>(output / outputs_of_gate);
    row = static_cast<int>(output % outputs_of_gate);
  }
};

// Where the blocks of a matrix lie. It stays empty where too many blocks are left.
struct BlockPlaces {
  std::vector<int32_t> starts;    // (quads + 1): the first step of every quad
  std::vector<uint16_t> columns;  // (steps, kQuadGroups): a block's first input, in blocks

  explicit BlockPlaces(const Source& from) {
    const long columns_of_row = (long{from.cols} + kBlockInputs - 1) / kBlockInputs;
    const long quads = long{from.gates} * panels_of(from.rows) * kPanelQuads;
    const long most = static_cast<long>(kMostBlocks * static_cast<double>(columns_of_row) *
                                        static_cast<double>(from.gates) * from.rows / kOctet);
    if (columns_of_row > 65536) return;
    std::vector<uint16_t> found[kQuadGroups];
    starts.push_back(0);
    for (long quad = 0; quad < quads; ++quad) {
      size_t steps = 0;
      for (int group = 0; group < kQuadGroups; ++group) {
        found[group].clear();
        for (long column = 0; column < columns_of_row; ++column) {
          if (!is_zero(from, quad * kQuadOutputs + group * kOctet, static_cast<int>(column))) {
            found[group].push_back(static_cast<uint16_t>(column));
          }
        }
        steps = std::max(steps, found[group].size());
      }
      for (size_t step = 0; step < steps; ++step) {
        for (const std::vector<uint16_t>& of_group : found) {
          columns.push_back(step < of_group.size() ? of_group[step] : uint16_t{0});
        }
      }
      starts.push_back(starts.back() + static_cast<int32_t>(steps));
      counts.insert(counts.end(),
                    {found[0].size(), found[1].size(), found[2].size(), found[3].size()});
      if (long{starts.back()} * kQuadGroups > most) {
        clear();
        return;
      }
    }
  }
  bool empty() const { return starts.empty(); }
  size_t steps() const { return static_cast<size_t>(starts.back()); }

  // Calls put(place among the weights of all blocks, output, input) for every weight of every block
  // that is no padding; place_of(output of the block, input of the block) orders a block's weights.
  template <class PlaceOf, class Put>
  void for_each_weight(const PlaceOf& place_of, const Put& put) const {
    for (size_t quad = 0; quad + 1 < starts.size(); ++quad) {
      for (int32_t step = starts[quad]; step < starts[quad + 1]; ++step) {
        for (int group = 0; group < kQuadGroups; ++group) {
          const size_t block = size_t{1} * step * kQuadGroups + group;
          if (static_cast<size_t>(step - starts[quad]) >= counts[quad * kQuadGroups + group])
            continue;
          const long first = static_cast<long>(quad) * kQuadOutputs + group * kOctet;
          for (int at = 0; at < kBlockWeights; ++at) {
            const int output = at / kBlockInputs, input = at % kBlockInputs;
            put(block * kBlockWeights + place_of(output, input), first + output,
                columns[block] * kBlockInputs + input);
          }
        }
      }
    }
  }

 private:
  std::vector<size_t> counts;  // the blocks of every group

  void clear() { starts.clear(), columns.clear(), counts.clear(); }

  static bool is_zero(const Source& from, long first_output, int column) {
    const SourceRow first(from, first_output);
    for (int row = first.row; row < first.row + kOctet; ++row) {
      for (int col = column * kBlockInputs; col < (column + 1) * kBlockInputs; ++col) {
        if (from.at(first.gate, row, col) != 0.0f) return false;
      }
    }
    return true;
  }
};

// The blocks of a matrix in memory. `data` is null in a matrix that is packed whole.
template <class Weight>
struct Blocks {
  int panels = 0, gates = 0;
  const int32_t* starts = nullptr;
  const uint16_t* columns = nullptr;
  const Weight* data = nullptr;

  // Takes the places over and returns the memory for the blocks, which is zero.
  Weight* place(const BlockPlaces& places, const Source& from, Arena& arena) {
    panels = panels_of(from.rows), gates = from.gates;
    int32_t* to_starts = arena.take<int32_t>(places.starts.size());
    uint16_t* to_columns = arena.take<uint16_t>(places.columns.size());
    std::copy(places.starts.begin(), places.starts.end(), to_starts);
    std::copy(places.columns.begin(), places.columns.end(), to_columns);
    Weight* weights =
        arena.take<Weight>(std::max<size_t>(1, places.steps() * kQuadGroups * kBlockWeights));
    starts = to_starts, columns = to_columns, data = weights;
    return weights;
  }

  // Calls run(quad) for every quad of a slice of panels in every gate.
  template <class Run>
  void for_each_quad(PanelSlice slice, const Run& run) const {
    for (int gate = 0; gate < gates; ++gate) {
      const long first = (long{gate} * panels + slice.first) * kPanelQuads;
      const long last = (long{gate} * panels + slice.last) * kPanelQuads;
      for (long quad = first; quad < last; ++quad) run(quad);
    }
  }
};

struct FloatBlocks : Blocks<float> {
  FloatBlocks() = default;
  FloatBlocks(const BlockPlaces& places, const Source& from, Arena& arena) {
    float* to = place(places, from, arena);
    places.for_each_weight(place_of, [&](size_t place, long output, int col) {
      const SourceRow source(from, output);
      to[place] = from.at(source.gate, source.row, col);
    });
  }

  void add_quad(long quad, const FloatRows<false>& x, int row, float* y) const {
    const float* inputs = x.values.data() + row * x.stride;
    OctetFloats sum[kQuadGroups];
    for (int g = 0; g < kQuadGroups; ++g) sum[g] = load<OctetFloats>(y + g * kOctet);
    for (int32_t step = starts[quad]; step < starts[quad + 1]; ++step) {
      const uint16_t* column = columns + long{step} * kQuadGroups;
      const float* weights = data + long{step} * kQuadGroups * kBlockWeights;
      for (int g = 0; g < kQuadGroups; ++g) {
        const float* in = inputs + column[g] * kBlockInputs;
        for (int i = 0; i < kBlockInputs; ++i) {
          sum[g] = fma(load<OctetFloats>(weights + i * kOctet), in[i] - OctetFloats{}, sum[g]);
        }
        weights += kBlockWeights;
      }
    }
    for (int g = 0; g < kQuadGroups; ++g) store(y + g * kOctet, sum[g]);
  }

 private:
  static int place_of(int output, int input) { return input * kOctet + output; }
};

struct CodeBlocks : Blocks<int8_t> {
  const float* scales = nullptr;    // one for each output
  const int32_t* offset = nullptr;  // as in CodeMatrix

  CodeBlocks() = default;
  CodeBlocks(const BlockPlaces& places, const Source& from, Arena& arena) {
    int8_t* to = place(places, from, arena);
    const size_t outputs = size_t{1} * gates * panels * kPanel;
    float* scale = arena.take<float>(outputs);
    int32_t* sums = arena.take<int32_t>(outputs);
    scales = scale, offset = sums;
    std::vector<RowCodes> codes;
    for (size_t output = 0; output < outputs; ++output) {
      const SourceRow source(from, static_cast<long>(output));
      codes.emplace_back(from, source.gate, source.row);
      scale[output] = codes.back().scale;
    }
    places.for_each_weight(place_of, [&](size_t place, long output, int col) {
      const SourceRow source(from, output);
      const int code = codes[output].of(from.at(source.gate, source.row, col));
      to[place] = static_cast<int8_t>(code);
      add_offset(sums + output, code);
    });
  }

  void add_quad(long quad, const CodeRows& x, int row, float* y) const {
    OctetInts sum[kQuadGroups];
    sum_codes(quad, x, row, sum);
    const long output = quad * kQuadOutputs;
    for (int g = 0; g < kQuadGroups; ++g) {
      const OctetFloats factor =
          load<OctetFloats>(scales + output + g * kOctet) * (x.scales[row] - OctetFloats{});
      float* to = y + g * kOctet;
      store(to, load<OctetFloats>(to) + __builtin_convertvector(sum[g], OctetFloats) * factor);
    }
  }

 private:
  // Requests the two cache lines of a step's weights.
  SRNN_INLINE static void fetch_ahead(const int8_t* weights) {
    prefetch(weights + kPrefetch), prefetch(weights + kPrefetch + kCacheLine);
  }

#if defined(SRNN_PLANES)
  static int place_of(int output, int input) { return output * kBlockInputs + input; }

  SRNN_INLINE void sum_codes(long quad, const CodeRows& x, int row, OctetInts* sum) const {
    const uint8_t *high_in = x.high.data() + row * x.stride,
                  *low_in = x.low.data() + row * x.stride;
    OctetInts high[kQuadGroups] = {}, low[kQuadGroups] = {};
    for (int32_t step = starts[quad]; step < starts[quad + 1]; ++step) {
      const uint16_t* column = columns + long{step} * kQuadGroups;
      const int8_t* weights = data + long{step} * kQuadGroups * kBlockWeights;
      for (int g = 0; g < kQuadGroups; ++g) {
        const OctetInts block = load<OctetInts>(weights + g * kBlockWeights);
        const long at = long{column[g]} * kBlockInputs;
        high[g] = add_quads(high[g], broadcast_octet(high_in + at), block);
        low[g] = add_quads(low[g], broadcast_octet(low_in + at), block);
      }
      fetch_ahead(weights);
    }
    for (int g = 0; g < kQuadGroups; ++g) {
      const OctetInts added = load<OctetInts>(offset + quad * kQuadOutputs + g * kOctet);
      sum[g] = (OctetInts)(((OctetWords)high[g] << 7) + (OctetWords)low[g] - (OctetWords)added);
    }
  }
#else
  // The even bytes of a block hold its first four outputs, the odd bytes the others, so that two
  // shifts make 16-bit weights of either, and both are multiplied with the same four inputs.
  static int place_of(int output, int input) {
    return (output % 4 * kBlockInputs + input) * 2 + output / 4;
  }

  SRNN_INLINE void sum_codes(long quad, const CodeRows& x, int row, OctetInts* sum) const {
    const int16_t* inputs = x.codes.data() + row * x.stride;
    OctetInts first[kQuadGroups] = {}, second[kQuadGroups] = {};
    for (int32_t step = starts[quad]; step < starts[quad + 1]; ++step) {
      const uint16_t* column = columns + long{step} * kQuadGroups;
      const int8_t* weights = data + long{step} * kQuadGroups * kBlockWeights;
      for (int g = 0; g < kQuadGroups; ++g) {
        OctetShorts block = load<OctetShorts>(weights + g * kBlockWeights);
        const OctetShorts in = broadcast_four(inputs + long{column[g]} * kBlockInputs);
        first[g] = add(first[g], multiply_pairs(block << 8 >> 8, in));
        second[g] = add(second[g], multiply_pairs(block >> 8, in));
      }
      fetch_ahead(weights);
    }
    for (int g = 0; g < kQuadGroups; ++g) sum[g] = add_neighbours(first[g], second[g]);
  }
#endif
};

// A mode whose matrices are packed as blocks where they are sparse, and else as in `Whole`.
template <class Whole, class OfBlocks>
struct BlockMode {
  struct Matrix : srnn::Matrix {
    typename Whole::Matrix whole;
    OfBlocks blocks;

    Matrix() = default;
    Matrix(const Source& from, Arena& arena) {
      const BlockPlaces places(from);
      if (places.empty()) {
        whole = typename Whole::Matrix(from, arena);
      } else {
        blocks = OfBlocks(places, from, arena);
      }
    }
  };
  typedef typename Whole::Rows Rows;

  static void product(const Matrix& w, const Rows& x, int rows, PanelSlice slice, float* y,
                      long y_stride) {
    if (w.blocks.data == nullptr) return Whole::product(w.whole, x, rows, slice, y, y_stride);
    w.blocks.for_each_quad(slice, [&](long quad) {
      for (int row = 0; row < rows; ++row) {
        w.blocks.add_quad(quad, x, row, y + row * y_stride + quad * kQuadOutputs);
      }
    });
  }
};

}  // namespace SRNN_ISA
}  // namespace srnn
