// Which blocks compute the products of the tiers, and how the blocks that need them receive them.
//
// Without roles (SRNN_EXCHANGE 5) every block fills rows and multiplies them with its own rows of a
// matrix. With roles, blocks are heads or helpers:
//   heads    are one thread block cluster that makes the samples: the cells of every tier, the MLP,
//            the draw, and the lowest tier's upsampling as far as its matrix fits into their
//            memory. They push each other packets within the cluster
//   helpers  are all other blocks. They hold the tiers' matrices, but no levels and no states.
//            They run the same walk ahead of the heads: a product is computed as soon as its vector
//            has arrived, and waits for the heads in L2
// Heads send vectors to helpers as tagged packets (TierVectors). Each product returns in packets
// that one thread of a helper writes and one thread of a head reads, the owner of that unit.
//
// Vectors have two buffers. That is enough: when heads write vector n + 1, each has received the
// products of vectors n - 1 and n, to which every helper contributes, so nobody reads vector n - 1
// any more. A product has one buffer, since it is computed of vectors that every head writes after
// it has read the product before. What the lowest tier upsamples (InputVectors) is computed for a
// whole frame without an answer from the heads, so each sample of a frame has its own buffer.
#pragma once

#include "cuda/device/block.cuh"
#include "cuda/device/exchange.cuh"
#include "cuda/device/prims.h"
#include "cuda/device/profile.cuh"
#include "cuda/device/tensor.cuh"
#include "cuda/device/vectors.cuh"

namespace srnn {

template <int kCount>
SRNN_DEVICE unsigned char* product_packet(const Block& b, int place, int part, int u, int stream) {
  constexpr int kPackets = divide_up(kCount, kPayload);
  return b.p.workspace + product_offset(place, stream, b.first_unit + u) + part * kPackets * 16;
}

// Helpers: writes kCount products of an own unit and a stream.
template <int kCount>
SRNN_DEVICE void write_product(const Block& b, int place, uint32_t sequence, int part, int u,
                               int stream, const float (&terms)[kCount]) {
  unsigned char* to = product_packet<kCount>(b, place, part, u, stream);
  for (int first = 0; first < kCount; first += kPayload) {
    uint32_t word[kPayload];
    for (int k = 0; k < kPayload; ++k) word[k] = first + k < kCount ? bits_of(terms[first + k]) : 0;
    put_packet(to + first / kPayload * 16, {word[0], word[1], word[2], sequence});
  }
}

template <class V>
SRNN_DEVICE bool await_packet(const Block& b, int place, uint32_t sequence,
                              const unsigned char* from, Quad& q) {
  Quad one[1];
  const bool in_time = await_packets<V, 1, 1>(b, place, sequence, from, 0, 1, one);
  q = one[0];
  return in_time;
}

// Heads: reads what write_product wrote. Returns false when the time is up.
template <int kCount>
SRNN_DEVICE bool read_product(const Block& b, int place, uint32_t sequence, int part, int u,
                              int stream, float (&terms)[kCount]) {
  const unsigned char* from = product_packet<kCount>(b, place, part, u, stream);
  for (int first = 0; first < kCount; first += kPayload) {
    Quad q;
    if (!await_packet<SourceVectors>(b, place, sequence, from + first / kPayload * 16, q))
      return false;
    const uint32_t word[kPayload] = {q.x, q.y, q.z};
    for (int k = 0; k < kPayload && first + k < kCount; ++k) terms[first + k] = float_of(word[k]);
  }
  return true;
}

template <int kCount, class Take>
SRNN_DEVICE bool take_products(const Block& b, int place, uint32_t sequence, int parts,
                               const Take& take) {
  const ExchangeTime time(b);
  bool late = false;
  block_sync();  // nobody reads any more what `take` overwrites
  each_owned<kUnits>(b, b.units, 0, kBatch, [&](int u, int stream) {
    for (int part = 0; part < parts && !late; ++part) {
      float terms[kCount];
      late = !read_product(b, place, sequence, part, u, stream, terms);
      if (!late) take(part, u, stream, terms);
    }
  });
  return !block_any(late);
}

// Computes `parts` products of kCount gates for every own unit and stream, with rows that
// fill(first stream, streams) fills, and calls take(part, unit, stream, terms). rows_of(part)
// returns the own rows of a matrix. Helpers send the products under a place and a sequence number
// instead, and heads receive them. Returns false when the time is up.
template <int kCols, int kCount, class Fill, class RowsOf, class Take>
SRNN_DEVICE bool with_products(const Block& b, int place, uint32_t sequence, int parts,
                               const Fill& fill, const RowsOf& rows_of, const Take& take) {
  if (is_head(b)) return take_products<kCount>(b, place, sequence, parts, take);
  for (int first = 0; first < kBatch; first += kTile) {
    const int rows = rows_of_tile(first);
    if (!fill(first, rows)) return false;
    for (int part = 0; part < parts; ++part) {
      const auto pass_on = [&](int u, int stream, float (&terms)[kCount]) {
        if constexpr (kRoles) {
          write_product(b, place, sequence, part, u, stream, terms);
        } else {
          take(part, u, stream, terms);
        }
      };
      each_product<kCols, kCount, kProductUnits>(b, rows_of(part), b.units, first, rows, pass_on);
    }
  }
  return true;
}

// Publishes own units of a vector for all its readers, first for the cluster, which waits for it.
SRNN_DEVICE void publish_units(Block& b, int place, uint32_t sequence) {
  if (is_helper(b)) return;
  if (!kRoles || (place == kLowestPlace && kHeadInputs > 0))
    publish<UnitVectors>(b, place, sequence);
  if constexpr (kRoles) publish<TierVectors>(b, place, sequence);
}

}  // namespace srnn
