// How blocks tell each other their results.
//
// An exchange is a place (which result) and a count (the how manieth of its kind in this launch,
// from 1 on). All blocks take part in all exchanges, in the same order. Each place has two buffers,
// used in turn. That is enough: whoever writes the third result has read the second of every block,
// and a block gives its second only after it is done with the first.
//   counters: results are stored, then every block adds 1 to a counter and waits for all of them
//   tagged:   a result travels in packets of 16 bytes that carry the count, so whoever finds the
//             count has the result; no barrier between blocks and no fence. There may be some
//             copies of a packet, so that fewer blocks read the same one at once
//   alone:    a group of one block, whose results stay in its own memory
//   cluster:  the same packets, pushed into buffers that every block of a thread block cluster
//             has in its shared memory: nobody reads what is far away. Shared memory holds anything
//             at the start, perhaps packets of the launch before, so the blocks meet once it is
//             cleared; and none may leave while others still push, so they meet at the end
//   launches: results are stored, and read by later launches only: the end of a kernel is the wait
#pragma once

#include "cuda/device/numeric.cuh"
#include "cuda/device/profile.cuh"

namespace srnn {

constexpr int kLooksBetweenClocks = 64;

// A wait with a time limit, which ends also when another block has given up.
class Patience {
 public:
  SRNN_DEVICE_MEMBER Patience(const Block& b, int place, uint32_t count)
      : b_(b), place_(place), count_(count) {}

  // Whether to look again; false after reporting that the time is up.
  SRNN_DEVICE_MEMBER bool more() {
    pause();
    if (++looks_ % kLooksBetweenClocks != 0) return true;
    if (read_word(b_.p.error + kErrorCode) != kNoError) return false;
    const uint64_t now = clock_ns();
    if (began_ == 0) began_ = now;
    if (now - began_ <= b_.p.time_limit) return true;
    report(b_, kTimedOut, static_cast<uint32_t>(place_), count_);
    return false;
  }

 private:
  const Block& b_;
  const int place_;
  const uint32_t count_;
  int looks_ = 0;
  uint64_t began_ = 0;
};

template <class V>
SRNN_DEVICE unsigned char* buffer_of(const Block& b, int place, uint32_t count, int copy = 0) {
  unsigned char* first = in_own_memory(V::kProtocol) ? b.arrays + kArrays.exchange : b.p.workspace;
  return first + V::offset(place) + (count % V::kBuffers * V::kCopies + copy) * copy_bytes<V>();
}

// Some numbers of this block's chunk of a vector, own (kChunk), and the count.
template <class V>
SRNN_DEVICE Quad packet_of(const Block& b, const float* own, int packet, uint32_t count) {
  const int first = b.index * V::kChunk;
  uint32_t word[kPayload];
  for (int k = 0; k < kPayload; ++k) {
    const int at = packet * kPayload + k;
    word[k] = at < V::kChunk && first + at < V::kCols ? bits_of(own[at]) : 0;
  }
  return {word[0], word[1], word[2], count};
}

// Gives this block's chunk of every vector, own (kRows, kChunk), to all blocks.
template <class V>
SRNN_DEVICE void publish(Block& b, int place, uint32_t count) {
  constexpr uint64_t kBytes = vector_bytes<V>();
  constexpr int kPackets = packets<V>();
  unsigned char* buffer = buffer_of<V>(b, place, count);
  const float* own = b.own();
  block_sync();  // own is complete
  if constexpr (V::kProtocol == Protocol::kTagged) {
    for (int i = b.thread; i < V::kRows * kPackets; i += kThreads) {
      const int row = i / kPackets, packet = i % kPackets;
      const Quad q = packet_of<V>(b, own + row * V::kChunk, packet, count);
      unsigned char* to = buffer + row * kBytes + (b.index * kPackets + packet) * 16;
      for (int copy = 0; copy < V::kCopies; ++copy) put_packet(to + copy * copy_bytes<V>(), q);
    }
  } else if constexpr (V::kProtocol == Protocol::kCluster) {
    constexpr int kAll = V::kRows * kPackets;
    for (int i = b.thread; i < kAll * kBlocks; i += kThreads) {
      const int row = i % kAll / kPackets, packet = i % kPackets;
      const Quad q = packet_of<V>(b, own + row * V::kChunk, packet, count);
      unsigned char* same = buffer + row * kBytes + (b.index * kPackets + packet) * 16;
      push_packet(same, (b.index + i / kAll) % kBlocks, q);  // not all to one block at once
    }
  } else if constexpr (V::kProtocol == Protocol::kAlone) {
    for (int i = b.thread; i < V::kRows * V::kCols; i += kThreads) {
      const int row = i / V::kCols, col = i % V::kCols;
      reinterpret_cast<float*>(buffer + row * kBytes)[col] = own[row * V::kChunk + col];
    }
  } else {
    for (int i = b.thread; i < V::kRows * V::kChunk; i += kThreads) {
      const int row = i / V::kChunk, col = b.index * V::kChunk + i % V::kChunk;
      if (col < V::kCols) put_float(reinterpret_cast<float*>(buffer + row * kBytes) + col, own[i]);
    }
    if constexpr (kLaunched) return;
    ++b.exchanges;
    block_sync();  // all of it is stored
    if (b.thread == 0) count_up(reinterpret_cast<uint32_t*>(b.p.workspace));
  }
}

// Waits until every block has taken part in the last exchange. False after the time limit.
SRNN_DEVICE bool wait_for_counter(const Block& b, int place, uint32_t count) {
  bool late = false;
  if (b.thread == 0) {
    const uint32_t* counter = reinterpret_cast<const uint32_t*>(b.p.workspace);
    const uint32_t target = b.exchanges * kBlocks;
    Patience patience(b, place, count);
    // The difference stays right when the counter passes 2^32.
    while (static_cast<int32_t>(read_count(counter) - target) < 0 && !late) {
      late = !patience.more();
    }
  }
  return !block_any(late);
}

enum class Age {
  kNew,  // of the last exchange, which may be under way
  kOld   // of an earlier one, which this block has already read
};

template <class V>
SRNN_DEVICE Quad read_packet(const unsigned char* from) {
  if constexpr (V::kProtocol == Protocol::kCluster) {
    return get_pushed(from);
  } else {
    return get_packet(from);
  }
}

// A thread has at most so many reads of packets on their way, and asks for so many again while they
// have not come: more would keep others from L2.
constexpr int kReadsAhead = 8, kAskedAgain = 2;

// Waits for packets with this count: number `first` of those at `from` and every kStep-th after it,
// kCount of them or as many as lie below `end`. Their reads are on their way together; only those
// that have not come are read again. False after the time limit.
template <class V, int kCount, int kStep>
SRNN_DEVICE bool await_packets(const Block& b, int place, uint32_t count, const unsigned char* from,
                               int first, int end, Quad (&q)[kCount]) {
  for (int i = 0; i < kCount; ++i) q[i] = {0, 0, 0, first + i * kStep < end ? ~count : count};
  Patience patience(b, place, count);
  bool all = true;
  for (int missing = kCount;;) {
    bool before = false;  // whether one before is missing
    for (int i = 0; i < kCount; ++i) {
      const bool absent = q[i].w != count;
      if (absent && (all || !before)) q[i] = read_packet<V>(from + (first + i * kStep) * 16);
      before = before || absent;
    }
    int left = 0;
    for (int i = 0; i < kCount; ++i) left += q[i].w != count ? 1 : 0;
    if (left == 0) return true;
    all = kCount <= kAskedAgain || left < missing;  // one has come, perhaps others too
    missing = left;
    if (!patience.more()) return false;
  }
}

template <class V>
SRNN_DEVICE bool await_packet(const Block& b, int place, uint32_t count, const unsigned char* from,
                              Quad& q) {
  Quad one[1];
  const bool in_time = await_packets<V, 1, 1>(b, place, count, from, 0, 1, one);
  q = one[0];
  return in_time;
}

// Rows of V that are read at once.
template <class V>
SRNN_CONSTEXPR int rows_at_once() {
  return smaller(V::kRows, kTile);
}

// Reads vectors first, ..., first + rows - 1 of an exchange, kRows at most: take(row, col, x) for
// each number, with rows from 0 on, then take.end_row(row) in every warp that has some of a row.
// The caller's threads meet before and after. False after the time limit.
template <class V, int kRows, class Take>
SRNN_DEVICE bool gather_packets(const Block& b, int place, uint32_t count, int first, int rows,
                                const Take& take) {
  constexpr uint64_t kBytes = vector_bytes<V>();
  constexpr int kPackets = packets<V>(), kRowPackets = kPackets * V::kGivers;
  constexpr int kStep = threads_of_row<kRows>(), kReads = divide_up(kRowPackets, kStep);
  constexpr int kAhead = divide_up(kReads, divide_up(kReads, kReadsAhead));
  const unsigned char* buffer =
      buffer_of<V>(b, place, count, b.index % V::kCopies) + first * kBytes;
  bool late = false;
  each_row<kRows>(b, rows, [&](int row, int number) {
    for (int begin = number; begin < kRowPackets && !late; begin += kAhead * kStep) {
      Quad q[kAhead];
      late = !await_packets<V, kAhead, kStep>(b, place, count, buffer + row * kBytes, begin,
                                              kRowPackets, q);
      for (int i = 0; i < kAhead; ++i) {
        const int packet = begin + i * kStep;
        if (late || packet >= kRowPackets) break;
        const int at = packet % kPackets * kPayload, col = packet / kPackets * V::kChunk + at;
        const uint32_t word[kPayload] = {q[i].x, q[i].y, q[i].z};
        for (int k = 0; k < kPayload; ++k) {
          if (at + k < V::kChunk && col + k < V::kCols) take(row, col + k, float_of(word[k]));
        }
      }
    }
    take.end_row(row);
  });
  return !late;
}

template <class V, int kRows, class Take>
SRNN_DEVICE void gather_floats(const Block& b, int place, uint32_t count, int first, int rows,
                               const Take& take) {
  constexpr uint64_t kBytes = vector_bytes<V>();
  constexpr int kQuads = static_cast<int>(kBytes / 16);
  const unsigned char* buffer = buffer_of<V>(b, place, count) + first * kBytes;
  each_row<kRows>(b, rows, [&](int row, int number) {
    for (int i = number; i < kQuads; i += threads_of_row<kRows>()) {
      const Quad q = get_quad(buffer + row * kBytes + i * 16);
      const uint32_t word[4] = {q.x, q.y, q.z, q.w};
      for (int k = 0; k < 4; ++k) {
        if (i * 4 + k < V::kCols) take(row, i * 4 + k, float_of(word[k]));
      }
    }
    take.end_row(row);
  });
}

// As above, by any protocol: starts with a barrier of the block and ends with one.
template <class V, int kRows = rows_at_once<V>(), class Take>
SRNN_DEVICE bool gather(const Block& b, int place, uint32_t count, Age age, int first, int rows,
                        const Take& take) {
  const ExchangeTime time(b);
  if constexpr (in_packets(V::kProtocol)) {
    block_sync();  // what `take` writes over has been read
    return !block_any(!gather_packets<V, kRows>(b, place, count, first, rows, take));
  } else if constexpr (V::kProtocol == Protocol::kAlone) {
    constexpr uint64_t kBytes = vector_bytes<V>();
    const unsigned char* buffer = buffer_of<V>(b, place, count) + first * kBytes;
    block_sync();
    each_row<kRows>(b, rows, [&](int row, int number) {
      const float* from = reinterpret_cast<const float*>(buffer + row * kBytes);
      for (int col = number; col < V::kCols; col += threads_of_row<kRows>()) {
        take(row, col, from[col]);
      }
      take.end_row(row);
    });
    block_sync();
    return true;
  } else {
    if (kLaunched || age == Age::kOld) {
      block_sync();
    } else if (!wait_for_counter(b, place, count)) {
      return false;
    }
    gather_floats<V, kRows>(b, place, count, first, rows, take);
    block_sync();
    return true;
  }
}

// Before the first exchange and after the last one, also of a launch that gives up.
SRNN_DEVICE void begin_exchanges(const Block& b) {
  if (kCluster && !is_helper(b)) {
    Quad* buffers = reinterpret_cast<Quad*>(b.arrays + kArrays.exchange);
    for (int i = b.thread; i < static_cast<int>(kExchangeBytes / 16); i += kThreads) {
      buffers[i] = {0, 0, 0, 0};
    }
    cluster_sync();
  }
}
SRNN_DEVICE void end_exchanges(const Block& b) {
  if (kCluster && !is_helper(b)) cluster_sync();
}

}  // namespace srnn
