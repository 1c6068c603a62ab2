// Outputs of a layer: products of own rows with the rows of all streams, added up and handed to the
// threads that own them.
//
// Warps put parts of the sums of up to kPassRows rows into b.parts. After a barrier the owner of a
// row and stream adds them up in pairs, in the same order for any number of streams. With one
// stream, but in bfloat16, a warp multiplies a whole row by ordinary arithmetic and sends what
// comes of it (publish_product).
#pragma once

#include "cuda/device/block.cuh"
#include "cuda/device/exchange.cuh"
#include "cuda/device/prims.h"
#include "cuda/device/product.cuh"
#include "cuda/device/shape.cuh"
#include "cuda/device/tensor.cuh"

namespace srnn {

// Puts the parts of rows `first` to first + kRows - 1 into b.parts. Ends with a barrier.
template <int kCols, int kSlice, int kRows>
SRNN_DEVICE void multiply_pass(const Block& b, const MatrixRows& w, int first, int all, int own) {
  ++b.passes;
  if constexpr (kTensor) {
    sum_tiles<kCols, kSlice, divide_up(kRows, 8)>(b, w, first, all, own);
  } else {
    sum_rows<kCols, kSlice, kRows>(b, w, first, own);
  }
  barrier_sync(b.barrier(), kThreads);
}

// The number that an int8 sum stands for. `scale` is that of the row's weights.
SRNN_DEVICE float number_of(const Block& b, uint32_t sum, int stream, float scale) {
  // One stream: this thread has made codes of the same row, unless a tier's output rows are in use.
  const bool known = kSmallPackets && b.output < 0;
  return float_rn(static_cast<int32_t>(sum)) * (scale * (known ? b.row_scale : b.scales()[stream]));
}

// Adds up kCount neighbouring numbers, of which halves are added up side by side.
template <int kCount>
SRNN_DEVICE float sum_of(const float* x) {
  if constexpr (kCount == 1) {
    return x[0];
  } else {
    return sum_of<kCount / 2>(x) + sum_of<kCount - kCount / 2>(x + kCount / 2);
  }
}

// Adds up the parts of a row of the pass. `scale` is that of the row's weights.
SRNN_DEVICE float sum_parts(const Block& b, int row, int stream, float scale) {
  if constexpr (kInt8) {
    uint32_t sum = 0;
    for (int i = 0; i < kParts; ++i) sum += b.part(i, row, stream);
    return number_of(b, sum, stream, scale);
  } else {
    float parts[kParts];
    for (int i = 0; i < kParts; ++i) parts[i] = float_of(b.part(i, row, stream));
    return sum_of<kParts>(parts);
  }
}

SRNN_DEVICE float scale_of(const MatrixRows& w, int unit, int gate) {
  return kInt8 ? w.scales[unit + gate * w.gate_scales] : 1.0f;
}

// Puts whole products of kRows rows into b.products, pass by pass. Ends with a barrier.
template <int kCols, int kSlice, int kAll, int kFirst = 0>
SRNN_DEVICE void multiply_passes(const Block& b, const MatrixRows& w, int streams, int own) {
  if constexpr (kFirst < kAll) {
    constexpr int kRows = smaller(kPassRows, kAll - kFirst);
    multiply_pass<kCols, kSlice, kRows>(b, w, kFirst, kAll, own);
    for (int i = b.thread; i < kRows * kTile; i += kThreads) {
      const int row = i / kTile, stream = i % kTile, at = kFirst + row;
      if (at % kSlice >= own || stream >= streams) continue;
      b.products(at)[stream] = sum_parts(b, row, stream, scale_of(w, at % kSlice, at / kSlice));
    }
    multiply_passes<kCols, kSlice, kAll, kFirst + kRows>(b, w, streams, own);
  } else {
    barrier_sync(b.barrier(), kThreads);
  }
}

// Multiplies `own` rows of each of kCount gates with the rows of `rows` streams from `first` on,
// and calls take(row, stream, terms) for each row and stream that this thread owns (each_owned).
template <int kCols, int kCount, int kSlice, class Take>
SRNN_DEVICE void each_product(const Block& b, const MatrixRows& w, int own, int first, int rows,
                              const Take& take) {
  constexpr int kAll = kCount * kSlice;
  if (own <= 0) return;  // the same for the whole block
  if constexpr (kAll <= kPassRows) {
    multiply_pass<kCols, kSlice, kAll>(b, w, 0, kAll, own);
  } else {
    multiply_passes<kCols, kSlice, kAll>(b, w, rows, own);
  }
  each_owned<kSlice>(b, own, first, rows, [&](int row, int stream) {
    float terms[kCount];
    for (int g = 0; g < kCount; ++g) {
      const int at = g * kSlice + row;
      terms[g] = kAll <= kPassRows ? sum_parts(b, at, stream - first, scale_of(w, row, g))
                                   : b.products(at)[stream - first];
    }
    take(row, stream, terms);
  });
}

// This says whether a warp multiplies a whole row by ordinary arithmetic and sends the product
// itself. Tensor cores leave parts of it to all warps, and a sum of bfloat16 products depends on
// the parts.
constexpr bool kWarpsSend = kSmallPackets && !kBfloat16;

// kWarpsSend: rows of a slice of V whose products a warp sends itself, and what it needs for that.
template <class V, int kCols>
struct SentRows {
  using Rows = WarpRows<kCols, V::kSlice, V::kSlice>;
  const int own;
  const Rows rows;
  unsigned char* to[Rows::kTogether];
  float scale[Rows::kTogether];

  SRNN_DEVICE_MEMBER SentRows(const Block& b, const MatrixRows& w, int begin, int own_,
                              unsigned char* buffer)
      : own(own_), rows(b, w, 0, begin, own_) {
    for (int i = 0; i < Rows::kTogether; ++i) {
      const int row = rows.number(i);
      to[i] = computed(buffer + small_packet_at<V>(b.index * V::kSlice + row));
      scale[i] = scale_of(w, row, 0);
    }
  }

  // Sends finish(bias, product) of each row. In a cluster a lane sends it to one block.
  template <class BiasOf, class Finish>
  SRNN_DEVICE_MEMBER void send(const Block& b, uint32_t sequence, const BiasOf& bias_of,
                               const Finish& finish) const {
    float bias[Rows::kTogether];
    for (int i = 0; i < Rows::kTogether; ++i) bias[i] = bias_of(rows.number(i), 0);
    rows.multiply(b, [&](int i, int, uint32_t sum) {
      if (rows.number(i) >= own) return;
      const float product = kInt8 ? number_of(b, sum, 0, scale[i]) : float_of(sum);
      const uint32_t x = bits_of(finish(bias[i], product));
      each_step<kTimes, kWarpSize>(b.lane, [&](int behind) {
        send_small<V>(b, to[i], rows.number(i), behind, x, sequence);
      });
    });
    note_sent(b);
  }
};

// Multiplies `own` rows of a slice of V with the rows of every stream, which fill(first stream,
// streams) fills, and sends finish(bias_of(row, stream), product) to all blocks. A bias need not be
// known before fill() returns. Returns false when the time is up.
template <class V, int kCols, class Fill, class BiasOf, class Finish>
SRNN_DEVICE bool publish_product(const Block& b, const MatrixRows& w, int own, int place,
                                 uint32_t sequence, const Fill& fill, const BiasOf& bias_of,
                                 const Finish& finish) {
  if constexpr (kWarpsSend) {
    using Sent = SentRows<V, kCols>;
    if (own <= 0) {  // the same for the whole block; there may be no row to read
      const bool in_time = fill(0, 1);
      note_sent(b);
      return in_time;
    }
    unsigned char* buffer = buffer_of<V>(b, place, sequence);
    const Sent sent(b, w, b.warp, own, buffer);  // before the wait for what fills rows
    if (!fill(0, 1)) return false;
    if (V::kSlice >= kWarps || b.warp < V::kSlice) {
      sent.send(b, sequence, bias_of, finish);
    } else {
      note_sent(b);  // It waits as the warps do that had something to send.
    }
    for (int begin = b.warp + Sent::Rows::kStep; begin < V::kSlice; begin += Sent::Rows::kStep) {
      Sent(b, w, begin, own, buffer).send(b, sequence, bias_of, finish);
    }
    // In int8 the next row's codes are written behind a barrier anyway (write_shares).
    if constexpr (!kInt8) barrier_sync(b.barrier(), kThreads);
  } else {
    const OwnSlice<V> slice(b, place, sequence);
    for (int first = 0; first < kBatch; first += kTile) {
      const int rows = rows_of_tile(first);
      if (!fill(first, rows)) return false;
      const auto take = [&](int row, int stream, const float (&terms)[1]) {
        slice.put(row, stream, finish(bias_of(row, stream), terms[0]));
      };
      each_product<kCols, 1, V::kSlice>(b, w, own, first, rows, take);
    }
    slice.finish();
  }
  return true;
}

// Computes `parts` products of kCount gates for every own unit and stream, with rows that
// fill(first stream, streams) fills, and calls take(part, unit, stream, terms). rows_of(part)
// returns the own rows of a matrix. Returns false when the time is up.
template <int kCols, int kCount, class Fill, class RowsOf, class Take>
SRNN_DEVICE bool with_products(const Block& b, int parts, const Fill& fill, const RowsOf& rows_of,
                               const Take& take) {
  for (int first = 0; first < kBatch; first += kTile) {
    const int rows = rows_of_tile(first);
    if (!fill(first, rows)) return false;
    for (int part = 0; part < parts; ++part) {
      each_product<kCols, kCount, kUnits>(
          b, rows_of(part), b.units, first, rows,
          [&](int u, int stream, float (&terms)[kCount]) { take(part, u, stream, terms); });
    }
  }
  return true;
}

}  // namespace srnn
