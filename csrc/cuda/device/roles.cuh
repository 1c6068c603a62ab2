// Who makes the products of the tiers, and how whoever needs them comes by them.
//
// Without roles (SRNN_EXCHANGE) every block stages a vector and multiplies it by its own rows. With
// them, blocks are heads or helpers:
//   heads    one thread block cluster that makes samples: the cells of every tier, levels, the MLP
//            and the draw, and as far as its memory holds the matrix, what the lowest tier gives.
//            They exchange what only they need by packets pushed within the cluster
//   helpers  all other blocks. They have the tiers' matrices, know neither levels nor states, and
//            run the same walk ahead of the heads as far as they can: each product is made once its
//            vector is there, and waits for the heads in L2
// Vectors go from heads to helpers as tagged packets (TierVectors), products go back in packets
// that one thread of a helper writes and one thread of a head reads, the one that owns the unit.
//
// Buffers: a vector has two, since when heads give number n + 1 each has had the products of number
// n - 1 and of n, and every helper makes some of them: none still reads number n - 1, which is
// overwritten next. A product has one: it is made of vectors that every head gives after it has
// read the product before. What the lowest tier gives to samples (InputVectors) is made for a whole
// frame without hearing from the heads, and has a buffer for each of its samples.
#pragma once

#include "cuda/device/tensor.cuh"

namespace srnn {

template <int kCount>
SRNN_DEVICE unsigned char* product_packet(const Block& b, int place, int part, int u, int stream) {
  constexpr int kPackets = divide_up(kCount, kPayload);
  return b.p.workspace + product_offset(place, stream, b.first_unit + u) + part * kPackets * 16;
}

// Helpers: kCount products of an own unit and a stream.
template <int kCount>
SRNN_DEVICE void give_product(const Block& b, int place, uint32_t count, int part, int u,
                              int stream, const float (&terms)[kCount]) {
  unsigned char* to = product_packet<kCount>(b, place, part, u, stream);
  for (int first = 0; first < kCount; first += kPayload) {
    uint32_t word[kPayload];
    for (int k = 0; k < kPayload; ++k) word[k] = first + k < kCount ? bits_of(terms[first + k]) : 0;
    put_packet(to + first / kPayload * 16, {word[0], word[1], word[2], count});
  }
}

// Heads: the same. False after the time limit.
template <int kCount>
SRNN_DEVICE bool read_product(const Block& b, int place, uint32_t count, int part, int u,
                              int stream, float (&terms)[kCount]) {
  const unsigned char* from = product_packet<kCount>(b, place, part, u, stream);
  for (int first = 0; first < kCount; first += kPayload) {
    Quad q;
    if (!await_packet<SourceVectors>(b, place, count, from + first / kPayload * 16, q))
      return false;
    const uint32_t word[kPayload] = {q.x, q.y, q.z};
    for (int k = 0; k < kPayload && first + k < kCount; ++k) terms[first + k] = float_of(word[k]);
  }
  return true;
}

template <int kCount, class Take>
SRNN_DEVICE bool take_products(const Block& b, int place, uint32_t count, int parts,
                               const Take& take) {
  const ExchangeTime time(b);
  bool late = false;
  block_sync();  // what `take` writes over has been read
  each_cell<kUnits>(b, b.units, 0, kBatch, [&](int u, int stream) {
    for (int part = 0; part < parts && !late; ++part) {
      float terms[kCount];
      late = !read_product(b, place, count, part, u, stream, terms);
      if (!late) take(part, u, stream, terms);
    }
  });
  return !block_any(late);
}

// Products of some parts of kCount rows each for every unit, with the vectors that stage(first
// stream, streams) stages: calls take(part, unit, stream, terms) where cells are made. Helpers give
// them instead, under a place and a count. rows_of(part): own rows of a matrix. False after the
// time limit.
template <int kCols, int kCount, class Stage, class RowsOf, class Take>
SRNN_DEVICE bool with_products(const Block& b, int place, uint32_t count, int parts,
                               const Stage& stage, const RowsOf& rows_of, const Take& take) {
  if (is_head(b)) return take_products<kCount>(b, place, count, parts, take);
  for (int first = 0; first < kBatch; first += kTile) {
    const int rows = live_rows(first);
    if (!stage(first, rows)) return false;
    for (int part = 0; part < parts; ++part) {
      const auto pass_on = [&](int u, int stream, float (&terms)[kCount]) {
        if constexpr (kRoles) {
          give_product(b, place, count, part, u, stream, terms);
        } else {
          take(part, u, stream, terms);
        }
      };
      each_product<kCols, kCount, kProductUnits>(b, rows_of(part), b.units, first, rows, pass_on);
    }
  }
  return true;
}

// Gives own units of a vector to all that read it, to those first who wait for it.
SRNN_DEVICE void publish_units(Block& b, int place, uint32_t count) {
  if (is_helper(b)) return;
  if (!kRoles || (place == kLowestPlace && kHeadInputs > 0)) publish<UnitVectors>(b, place, count);
  if constexpr (kRoles) publish<TierVectors>(b, place, count);
}

}  // namespace srnn
