// How blocks send each other their results.
//
// An exchange has a place, which says what it carries (vectors.cuh), and a sequence number, which
// counts the exchanges of that place in this launch from 1. All blocks take part in all exchanges,
// in the same order. Each place has two buffers, used in turn. Two are enough: a block publishes
// result n + 2 only after it has read result n + 1 of every block, and a block publishes n + 1 only
// after it has read n. A block without logits of its own publishes none, but others cannot run
// ahead of it: every sample needs its part of the MLP's input or hidden layer, too.
//   The warps of a team read and publish without waiting for each other. So a barrier must lie
// between a team's last read of a result and its next publication at the same place: the one in
// write_shares or gather, or the one that ends the sample.
//   tagged    Results travel in packets that carry the sequence number or its turn (vectors.cuh): a
//             reader who finds it has the result. Blocks need neither a barrier nor a fence.
//   alone     A group is one block, and its results stay in its own memory.
//   cluster   The same packets are pushed into buffers in the shared memory of every block of a
//             thread block cluster, so each block reads its own memory only. At the start shared
//             memory may hold packets of an earlier launch: blocks clear it and meet. They meet
//             again at the end, because none may leave while others still push packets into it.
//   launches  Results are stored and read by later launches only: the end of a kernel is the wait.
#pragma once

#include "cuda/device/block.cuh"
#include "cuda/device/packets.cuh"
#include "cuda/device/prims.h"
#include "cuda/device/profile.cuh"
#include "cuda/device/vectors.cuh"

namespace srnn {

// Threads of a team that publish kCount numbers or packets: the first warp, where it owns all of
// them, so that no barrier of the team stands between the numbers and their way to other blocks.
// Where it would have to send many, all threads do.
template <class V, int kCount>
SRNN_CONSTEXPR int publishers() {
  return kOneOwner && V::kByOwners && kCount <= 4 * kWarpSize ? kWarpSize : kThreads;
}

// Calls send(number) for each number below kCount that is this thread's to publish, once `own` is
// complete. The warps that do not publish wait, because their looks at what other blocks publish
// would slow down the loads of the one that does.
template <class V, int kCount, class Send>
SRNN_DEVICE void each_published(const Block& b, const Send& send) {
  constexpr int kPublishers = publishers<V, kCount>();
  if constexpr (kPublishers == kThreads) barrier_sync(b.barrier(), kThreads);
  if (b.thread < kPublishers) {
    if constexpr (kPublishers < kThreads) warp_sync();
    each_step<kCount, kPublishers>(b.thread, send);
  }
  if constexpr (kPublishers < kThreads && kInPackets) barrier_sync(b.barrier(), kThreads);
}

// Sends this block's slice of every vector, b.own() (kRows, kSlice), to all blocks.
template <class V>
SRNN_DEVICE void publish(const Block& b, int place, uint32_t sequence) {
  constexpr uint64_t kBytes = vector_bytes<V>();
  constexpr int kPackets = packets<V>(), kAll = V::kRows * kPackets;
  unsigned char* buffer = buffer_of<V>(b, place, sequence);
  const float* own = b.own();
  if constexpr (kSmallPackets) {
    // This is for clusters. Elsewhere a number is sent by its owner (OwnSlice).
    each_published<V, V::kSlice * kTimes>(b, [&](int i) {
      const int row = i % V::kSlice, number = b.index * V::kSlice + row;
      unsigned char* to = buffer + small_packet_at<V>(number);
      if (number < V::kCols) {
        send_small<V>(b, to, row, i / V::kSlice, bits_of(own[row]), sequence);
      }
    });
  } else if constexpr (kInPackets) {
    each_published<V, kAll * kTimes>(b, [&](int i) {
      const int row = i % kAll / kPackets, packet = i % kPackets, behind = i / kAll;
      const Quad q = packet_of<V>(b, own + row * V::kSlice, packet, sequence);
      unsigned char* to = buffer + row * kBytes + (b.index * kPackets + packet) * 16;
      if constexpr (kCluster) {
        push_packet(to, (b.index + behind) % kBlocks, q);  // blocks begin with different readers
      } else {
        put_packet(to, q);
      }
    });
  } else {
    each_published<V, V::kRows * V::kSlice>(b, [&](int i) {
      const int row = i / V::kSlice, col = b.index * V::kSlice + i % V::kSlice;
      float* to = reinterpret_cast<float*>(buffer + row * kBytes) + col;
      if (col >= V::kCols) return;
      if constexpr (kAlone) {
        *to = own[i];
      } else {
        put_float(to, own[i]);
      }
    });
  }
  note_sent(b);
}

// Small packets through L2: this says whether a thread sends a number that it owns itself, so that
// it does not go through shared memory. In a cluster the lanes of a warp share out its packets.
constexpr bool kOwnersSend = kSmallPackets && !kCluster;

// This block's slice of every vector of an exchange, which comes from the threads that own it.
template <class V>
class OwnSlice {
 public:
  SRNN_DEVICE_MEMBER OwnSlice(const Block& b, int place, uint32_t sequence)
      : b_(b), place_(place), sequence_(sequence) {}

  // Passes on a number that this thread owns (each_owned).
  SRNN_DEVICE_MEMBER void put(int row, int stream, float x) const {
    if constexpr (kOwnersSend) {
      unsigned char* to =
          buffer_of<V>(b_, place_, sequence_) + small_packet_at<V>(b_.index * V::kSlice + row);
      send_small<V>(b_, to, row, 0, bits_of(x), sequence_);
    } else {
      b_.own()[stream * V::kSlice + row] = x;
    }
  }

  // All threads of the team call this when they have passed on their numbers. Where owners have
  // sent them, the barrier is there for speed, as in each_published.
  SRNN_DEVICE_MEMBER void finish() const {
    if constexpr (kOwnersSend) {
      barrier_sync(b_.barrier(), kThreads);
      note_sent(b_);
    } else {
      srnn::publish<V>(b_, place_, sequence_);
    }
  }

 private:
  const Block& b_;
  const int place_;
  const uint32_t sequence_;
};

// Vectors of V that are read at once.
template <class V>
SRNN_CONSTEXPR int rows_at_once() {
  return smaller(V::kRows, kTile);
}

// Passes the numbers of a packet on to take(row, col, numbers, count, the least count that any
// packet has).
template <class V, class Take>
SRNN_DEVICE void take_packet(int row, int packet, Quad q, const Take& take) {
  constexpr int kPackets = packets<V>();
  const int at = packet % kPackets * kPayload, col = packet / kPackets * V::kSlice + at;
  const float numbers[kPayload] = {float_of(q.x), float_of(q.y), float_of(q.z)};
  const int own = V::kSlice % kPayload == 0 ? kPayload : smaller(kPayload, V::kSlice - at);
  constexpr bool kFull = V::kCols == V::kSlice * kBlocks;
  constexpr int kLast = V::kSlice % kPayload;  // numbers of a slice's last packet, or 0 for all
  take(row, col, numbers, kFull ? own : smaller(own, V::kCols - col),
       Constant<!kFull       ? 0
                : kLast == 0 ? kPayload
                             : kLast>());
}

// Reads vectors first, ..., first + rows - 1 of an exchange in packets, at most kRows of them.
// Calls take(row, col, numbers, count, least) for neighbouring numbers, with rows from 0, and
// take.end_row(row) in every warp that read a part of the row. The caller puts a barrier after it.
// Returns false when the time is up; then some of the numbers are no results.
template <class V, int kRows, class Take>
SRNN_DEVICE bool gather_packets(const Block& b, int place, uint32_t sequence, int first, int rows,
                                const Take& take) {
  constexpr uint64_t kBytes = vector_bytes<V>();
  constexpr int kRowPackets = packets<V>() * kBlocks;
  constexpr int kStep = threads_of_row<kRows>(), kReads = divide_up(kRowPackets, kStep);
  constexpr int kAhead = divide_up(kReads, divide_up(kReads, kReadsAhead));
  const unsigned char* buffer = buffer_of<V>(b, place, sequence) + first * kBytes;
  bool in_time = true;
  each_row<kRows>(b, rows, [&](int row, int number) {
    for (int turn = 0; turn < kReads; turn += kAhead) {
      const int begin = number + turn * kStep;
      Quad q[kAhead];
      const auto at = [&](int i) { return buffer + row * kBytes + (begin + i * kStep) * 16; };
      const auto wanted = [&](int i) { return begin + i * kStep < kRowPackets; };
      in_time = await_packets<V, kAhead>(b, place, sequence, at, wanted, q) && in_time;
      for (int i = 0; i < kAhead; ++i) {
        const int packet = begin + i * kStep;
        if (packet < kRowPackets) take_packet<V>(row, packet, q[i], take);
      }
    }
    take.end_row(row);
  });
  return in_time;
}

// Reads the one vector of an exchange in small packets, in the same way. The first kPollers threads
// of the team read, which are whole warps, because the lanes of a warp wait together.
template <class V, int kPollers, class Take>
SRNN_DEVICE bool gather_spans(const Block& b, int place, uint32_t sequence, const Take& take) {
  static_assert(kPollers % kWarpSize == 0, "see above");
  constexpr int kSpan = V::kSpan, kTurns = divide_up(spans<V>(), kPollers);
  constexpr int kAhead = divide_up(kTurns, divide_up(kTurns * kSpan, 2 * kReadsAhead));
  bool in_time = true;
  for (int turn = 0; b.thread < kPollers && turn < kTurns; turn += kAhead) {
    float x[kAhead * kSpan];
    const int first = b.thread + turn * kPollers;
    in_time = await_spans<V, kAhead, kPollers>(b, place, sequence, first, x) && in_time;
    for (int i = 0; i < kAhead; ++i) {
      float numbers[kSpan];
      const int col = (first + i * kPollers) * kSpan;
      for (int k = 0; k < kSpan; ++k) numbers[k] = x[i * kSpan + k];
      if (col < V::kCols)
        take(0, col, numbers, smaller(kSpan, V::kCols - col),
             Constant<V::kCols % kSpan == 0 ? kSpan : 1>());
    }
  }
  take.end_row(0);
  return in_time;
}

// Reads the same vectors where they were stored as floats.
template <class V, int kRows, class Take>
SRNN_DEVICE void gather_floats(const Block& b, int place, uint32_t sequence, int first, int rows,
                               const Take& take) {
  constexpr uint64_t kBytes = vector_bytes<V>();
  constexpr int kQuads = static_cast<int>(kBytes / 16);
  const unsigned char* buffer = buffer_of<V>(b, place, sequence) + first * kBytes;
  each_row<kRows>(b, rows, [&](int row, int number) {
    for (int i = number; i < kQuads; i += threads_of_row<kRows>()) {
      const unsigned char* from = buffer + row * kBytes + i * 16;
      const Quad q = kAlone ? *reinterpret_cast<const Quad*>(from) : get_quad(from);
      const float numbers[4] = {float_of(q.x), float_of(q.y), float_of(q.z), float_of(q.w)};
      take(row, i * 4, numbers, smaller(4, V::kCols - i * 4),
           Constant<V::kCols % 4 == 0 ? 4 : 1>());
    }
    take.end_row(row);
  });
}

// Reads vectors first, ..., first + rows - 1 of an exchange; `take` is that of gather_packets. Ends
// with a barrier of the team. The caller sees to it that a barrier came after the last read of what
// `take` overwrites: that of a product (outputs.cuh) or the one that ends the sample. Returns false
// when the time is up, in this thread or another of the team.
template <class V, int kRows = rows_at_once<V>(), int kPollers = kThreads, class Take>
SRNN_DEVICE bool gather(const Block& b, int place, uint32_t sequence, int first, int rows,
                        const Take& take) {
  const ExchangeTime time(b);
  if constexpr (kInPackets) {
    bool in_time;
    if constexpr (kSmallPackets) {
      in_time = gather_spans<V, kPollers>(b, place, sequence, take);
    } else {
      in_time = gather_packets<V, kRows>(b, place, sequence, first, rows, take);
    }
    return !barrier_any(b.barrier(), kThreads, !in_time);
  } else {
    if constexpr (kAlone) barrier_sync(b.barrier(), kThreads);  // this block has published it
    gather_floats<V, kRows>(b, place, sequence, first, rows, take);
    barrier_sync(b.barrier(), kThreads);
    return true;
  }
}

// All threads of every block call these before its first exchange and after its last one, also when
// it gives up.
SRNN_DEVICE void begin_exchanges(const Block& b) {
  if constexpr (kCluster) {
    Quad* buffers = reinterpret_cast<Quad*>(b.arrays + kArrays.exchange);
    for (int i = thread_id(); i < static_cast<int>(kExchangeBytes / 16); i += kTeams * kThreads) {
      buffers[i] = {0, 0, 0, 0};
    }
    cluster_sync();
  }
}
SRNN_DEVICE void end_exchanges() {
  if (kCluster) cluster_sync();
}

}  // namespace srnn
