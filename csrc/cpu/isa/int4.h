// Products of 4-bit weights and 14-bit inputs, summed exactly in 32-bit integers.
//
// A weight is the scale of its row times the factor of its group of 32 inputs times a code from -8
// to 7. Factor times code fits a byte, so a sum is the one that int8.h makes of these products, in
// any order. A single row of inputs is multiplied with the codes as they lie in memory, where they
// take half the bytes; for more rows a panel is unpacked to bytes, and int8.h does the rest.
#pragma once

#include <vector>

#include "int8.h"

namespace srnn {
namespace SRNN_ISA {

// Inputs are padded to whole groups, and codes are stored as code + 8, eight inputs to a lane.
constexpr int kChunk = 8;
constexpr int kGroupColumns = kColumns > kFourBitGroup ? kColumns : kFourBitGroup;
constexpr long kGroupBytes = kFourBitGroup / 2 * kPanel + kPanel;  // codes, then factors

// Where the codes of the eight inputs of a lane lie: the byte, and whether it is the upper half of
// it. Dot products of bytes read the lower halves of all four bytes at once, then the upper ones.
// Products of pairs read two neighbouring inputs from the two 16-bit words of a lane.
#if defined(SRNN_PLANES)
constexpr int kByteOf[kChunk] = {0, 1, 2, 3, 0, 1, 2, 3};
constexpr int kUpper[kChunk] = {0, 0, 0, 0, 1, 1, 1, 1};
#else
constexpr int kByteOf[kChunk] = {0, 2, 0, 2, 1, 3, 1, 3};
constexpr int kUpper[kChunk] = {0, 0, 1, 1, 0, 0, 1, 1};
#endif

// The inputs of int8.h, and for every group what the 8 that was added to its codes adds to a sum.
struct FourBitRows : CodeRows {
  int groups = 0;
  Buffer<int32_t> added;  // with its sign turned

  FourBitRows() = default;
  FourBitRows(int rows, int cols_)
      : CodeRows(rows, cols_),
        groups(static_cast<int>(round_up(cols_, kGroupColumns) / kFourBitGroup)),
        added(size_t{1} * rows * groups) {}

  void set(int row, const float* x) {
    CodeRows::set(row, x);
#if defined(SRNN_PLANES)
    const int16_t* codes_of_row = scratch.data();
    constexpr int32_t kBias = 8192;  // of each code in the two planes
#else
    const int16_t* codes_of_row = codes.data() + row * stride;
    constexpr int32_t kBias = 0;
#endif
    for (int group = 0; group < groups; ++group) {
      const int first = group * kFourBitGroup, last = std::min(first + kFourBitGroup, cols);
      int32_t sum = 0;
      for (int i = first; i < last; ++i) sum += codes_of_row[i] + kBias;
      added[size_t{1} * row * groups + group] = -8 * sum;
    }
  }
  void copy(int row, const FourBitRows& from, int from_row) {
    CodeRows::copy(row, from, from_row);
    std::memcpy(added.data() + size_t{1} * row * groups,
                from.added.data() + size_t{1} * from_row * groups, sizeof(int32_t) * groups);
  }
};

struct FourBitMatrix {
  int gates = 0, panels = 0, groups = 0;
  const uint8_t* data = nullptr;    // group after group of a panel: codes of all outputs, factors
  const float* scales = nullptr;    // one for each output
  const int32_t* offset = nullptr;  // as in CodeMatrix, of the products of factors and codes

  FourBitMatrix() = default;
  FourBitMatrix(const Source& from, Arena& arena)
      : gates(from.gates),
        panels(panels_of(from.rows)),
        groups(static_cast<int>(round_up(from.cols, kGroupColumns) / kFourBitGroup)) {
    const size_t outputs = size_t{1} * gates * panels * kPanel;
    uint8_t* to = arena.take<uint8_t>(outputs / kPanel * groups * kGroupBytes);
    float* scale = arena.take<float>(outputs);
    int32_t* sums = arena.take<int32_t>(outputs);
    data = to, scales = scale, offset = sums;
    for (size_t output = 0; output < outputs; ++output) {
      const int gate = static_cast<int>(output / kPanel) / panels;
      const int row = static_cast<int>(output - size_t{1} * gate * panels * kPanel);
      uint8_t* panel_data = to + output / kPanel * groups * kGroupBytes;
      pack_output(from, gate, row, panel_data, static_cast<int>(output % kPanel), scale + output,
                  sums + output);
    }
  }
  int cols() const { return groups * kFourBitGroup; }
  const uint8_t* panel(int index) const { return data + long{index} * groups * kGroupBytes; }

  // Writes a panel to `to` as int8.h lays it out, and returns it as a matrix of one panel.
  CodeMatrix unpacked(int index, int8_t* to) const {
    const uint8_t* from = panel(index);
    for (int group = 0; group < groups; ++group) {
      const int8_t* factors = reinterpret_cast<const int8_t*>(from + kGroupBytes - kPanel);
      for (int chunk = 0; chunk < kFourBitGroup / kChunk; ++chunk) {
        unpack_chunk(from, factors, to);
        from += kPanel * kGroup, to += 2 * kPanel * kGroup;
      }
      from += kPanel;
    }
    CodeMatrix one;
    one.gates = one.panels = 1, one.cols = cols();
    one.data = to - long{cols()} * kPanel;
    one.scales = scales + long{index} * kPanel, one.offset = offset + long{index} * kPanel;
    return one;
  }

 private:
  void pack_output(const Source& from, int gate, int row, uint8_t* to, int place, float* scale,
                   int32_t* sum) const {
    const long source_row = long{gate} * from.rows + row;
    const bool real = row < from.rows;
    *scale = real ? from.four_bits->scales[source_row] : 0;
    for (int group = 0; group < groups; ++group, to += kGroupBytes) {
      const int8_t factor = real ? from.four_bits->factor(source_row, group, from.cols) : 0;
      to[kGroupBytes - kPanel + place] = static_cast<uint8_t>(factor);
      for (int i = 0; i < kFourBitGroup; ++i) {
        const int col = group * kFourBitGroup + i;
        const int code =
            real && col < from.cols ? from.four_bits->codes[source_row * from.cols + col] : 0;
        uint8_t& byte = to[i / kChunk * kPanel * kGroup + place * kGroup + kByteOf[i % kChunk]];
        byte = static_cast<uint8_t>(byte | (code + 8) << (4 * kUpper[i % kChunk]));
        *sum = static_cast<int32_t>(static_cast<uint32_t>(*sum) +
                                    8192u * static_cast<uint32_t>(factor * code));
      }
    }
  }

  // Multiplies the codes of eight inputs with their outputs' factors. A 16-bit word holds four
  // codes.
  static void unpack_chunk(const uint8_t* from, const int8_t* factors, int8_t* to) {
    for (int v = 0; v < kVectors; ++v) {
      const Shorts packed = load<Shorts>(from + v * kLanes * kGroup);
      const Ints factor = load_bytes(factors + v * kLanes);
      const Shorts twice = (Shorts)((Ints)((Words)factor << 16) | (factor & 0xffff));
      Shorts code[4];
      for (int i = 0; i < 4; ++i) code[i] = ((packed >> (4 * i) & 15) - 8) * twice;
#if defined(SRNN_PLANES)
      const Shorts first = (code[0] & 255) | code[2] << 8, second = (code[1] & 255) | code[3] << 8;
#else
      // The even bytes of int8.h hold inputs 0 and 1 of a group and a bias, the odd ones 2 and 3.
      const Shorts first = ((code[0] + 128) & 255) | code[1] << 8;
      const Shorts second = ((code[2] + 128) & 255) | code[3] << 8;
#endif
      store(to + v * kLanes * kGroup, first);
      store(to + (kVectors + v) * kLanes * kGroup, second);
    }
  }
};

// Multiplies one row of inputs with a panel and adds the result to y.
inline void four_bit_product(const FourBitMatrix& w, int panel, const FourBitRows& x, int row,
                             float* y) {
  Ints total[kVectors] = {};
  const uint8_t* data = w.panel(panel);
  const int32_t* added = x.added.data() + size_t{1} * row * x.groups;
#if defined(SRNN_PLANES)
  const uint8_t *high_in = x.high.data() + row * x.stride, *low_in = x.low.data() + row * x.stride;
  const Ints lower = broadcast_word("\17\17\17\17");
#else
  const int16_t* inputs = x.codes.data() + row * x.stride;
#endif
  for (int group = 0; group < w.groups; ++group) {
    Ints sum[kVectors];
    for (int v = 0; v < kVectors; ++v) sum[v] = added[group] - Ints{};
#if defined(SRNN_PLANES)
    Ints high[kVectors] = {};
#endif
    for (int chunk = 0; chunk < kFourBitGroup / kChunk; ++chunk) {
      const int col = group * kFourBitGroup + chunk * kChunk;
#if defined(SRNN_PLANES)
      const Ints high_first = broadcast_word(high_in + col);
      const Ints high_second = broadcast_word(high_in + col + kGroup);
      const Ints low_first = broadcast_word(low_in + col);
      const Ints low_second = broadcast_word(low_in + col + kGroup);
      for (int v = 0; v < kVectors; ++v) {
        const Ints packed = load<Ints>(data + v * kLanes * kGroup);
        const Ints first = packed & lower, second = (Ints)((Words)packed >> 4) & lower;
        high[v] = add_quads(add_quads(high[v], high_first, first), high_second, second);
        sum[v] = add_quads(add_quads(sum[v], low_first, first), low_second, second);
      }
#else
      Shorts in[4];
      for (int pair = 0; pair < 4; ++pair)
        in[pair] = (Shorts)broadcast_word(inputs + col + 2 * pair);
      for (int v = 0; v < kVectors; ++v) {
        Shorts packed = load<Shorts>(data + v * kLanes * kGroup);
        keep_loaded(packed);
        for (int pair = 0; pair < 4; ++pair) {
          sum[v] = add(sum[v], multiply_pairs(packed >> (4 * pair) & 15, in[pair]));
        }
      }
#endif
      for (int line = 0; line < kPanel * kGroup; line += kCacheLine) {
        prefetch(data + kPrefetch + line);
      }
      data += kPanel * kGroup;
    }
    const int8_t* factors = reinterpret_cast<const int8_t*>(data);
    for (int v = 0; v < kVectors; ++v) {
#if defined(SRNN_PLANES)
      sum[v] = add((Ints)((Words)high[v] << 7), sum[v]);
#endif
      total[v] = add(total[v], multiply(sum[v], load_bytes(factors + v * kLanes)));
    }
    data += kPanel;
  }
  for (int v = 0; v < kVectors; ++v) {
    const long output = long{panel} * kPanel + v * kLanes;
#if defined(SRNN_PLANES)
    total[v] = subtract(total[v], load<Ints>(w.offset + output));
#endif
    add_scaled(y + output, total[v], w.scales + output, x.scales[row]);
  }
}

// The mode int4: matrices of four bits, and others as in `Codes`, the int8 mode.
template <class Codes>
struct FourBitMode {
  struct Matrix : srnn::Matrix {
    CodeMatrix bytes;
    FourBitMatrix four_bits;

    Matrix() = default;
    Matrix(const Source& from, Arena& arena) {
      if (from.four_bits != nullptr) {
        four_bits = FourBitMatrix(from, arena);
      } else {
        bytes = CodeMatrix(from, arena);
      }
    }
  };
  typedef FourBitRows Rows;

  static void product(const Matrix& w, const Rows& x, int rows, PanelSlice slice, float* y,
                      long y_stride) {
    const FourBitMatrix& four = w.four_bits;
    if (four.data == nullptr) return Codes::product(w.bytes, x, rows, slice, y, y_stride);
    static thread_local std::vector<int8_t> panel_bytes;
    for (int gate = 0; gate < four.gates; ++gate) {
      for (int panel = gate * four.panels + slice.first; panel < gate * four.panels + slice.last;
           ++panel) {
        if (rows <= kDirectRows) {
          for (int row = 0; row < rows; ++row) {
            four_bit_product(four, panel, x, row, y + row * y_stride);
          }
          continue;
        }
        panel_bytes.resize(size_t{1} * four.cols() * kPanel);
        const CodeMatrix one = four.unpacked(panel, panel_bytes.data());
        Codes::product(one, x, rows, {0, 1}, y + long{panel} * kPanel, y_stride);
      }
    }
  }

 private:
  // Up to so many rows, unpacking takes longer than it saves; measured with VNNI and with AVX2.
  static constexpr int kDirectRows = 12;
};

}  // namespace SRNN_ISA
}  // namespace srnn
