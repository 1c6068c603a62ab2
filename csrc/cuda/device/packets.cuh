// Packets: how one is made and sent, and how a thread waits for those of other blocks. exchange.cuh
// says which packets there are.
#pragma once

#include "cuda/device/block.cuh"
#include "cuda/device/prims.h"
#include "cuda/device/vectors.cuh"

namespace srnn {

// Reads of a waiting thread between two looks at the clock.
constexpr int kReadsBetweenClocks = 64;

// Ends a wait when the time is up, or when another block has failed.
class TimeLimit {
 public:
  SRNN_DEVICE_MEMBER TimeLimit(const Block& b, int place, uint32_t sequence)
      : b_(b), place_(place), sequence_(sequence) {}

  // Returns whether to go on, after kReadsBetweenClocks reads. Reports the error before it returns
  // false because of the time.
  SRNN_DEVICE_MEMBER bool go_on() {
    if (read_word(b_.p.error + kErrorCode) != kNoError) return false;
    const uint64_t now = clock_ns();
    if (began_ == 0) began_ = now;
    if (now - began_ <= b_.p.time_limit) return true;
    report(b_, kTimedOut, static_cast<uint32_t>(place_), sequence_);
    return false;
  }

 private:
  const Block& b_;
  const int place_;
  const uint32_t sequence_;
  uint64_t began_ = 0;
};

template <class V>
SRNN_DEVICE unsigned char* buffer_of(const Block& b, int place, uint32_t sequence) {
  unsigned char* first = kOwnBuffers ? b.arrays + kArrays.exchange : b.p.workspace;
  return first + V::offset(place) + sequence % kBuffers * buffer_bytes<V>();
}

// A packet of this block's slice of a vector, own (kSlice), with its sequence number.
template <class V>
SRNN_DEVICE Quad packet_of(const Block& b, const float* own, int packet, uint32_t sequence) {
  const int first = b.index * V::kSlice;
  uint32_t word[kPayload];
  for (int k = 0; k < kPayload; ++k) {
    const int at = packet * kPayload + k;
    word[k] = at < V::kSlice && first + at < V::kCols ? bits_of(own[at]) : 0;
  }
  return {word[0], word[1], word[2], sequence};
}

// A packet is sent so many times, in a cluster once to each block.
constexpr int kTimes = kCluster ? kBlocks : 1;

constexpr uint32_t kSign = 0x80000000u;
// Returns the sign that a packet of 4 bytes has in an exchange. It changes each time that the same
// of the two buffers is used, and the zeros of unused buffers have another one than the first
// numbers. So the sequence numbers of their places must have no gaps: 5 has the turn of 1.
SRNN_DEVICE uint32_t turn_of(uint32_t sequence) { return (sequence + 1) << 30 & kSign; }

// With small packets this sends number `row` of this block's slice, whose packet lies at `to`. In a
// cluster it goes to the block that is `behind` blocks behind this one.
template <class V>
SRNN_DEVICE void send_small(const Block& b, unsigned char* to, int row, int behind, uint32_t bits,
                            uint32_t sequence) {
  constexpr int kRead = packets_of_read<V>();
  const auto send = [&](unsigned char* at, uint32_t number) {
    const int block = (b.index + behind) % kBlocks;
    const uint32_t word = (number & ~kSign) | turn_of(sequence);
    if constexpr (kCluster && V::kUnsigned) {
      push_word(at, block, word);
    } else if constexpr (kCluster) {
      push_small_packet(at, block, number, sequence);
    } else if constexpr (V::kUnsigned) {
      put_word(at, word);
    } else {
      put_small_packet(at, number, sequence);
    }
  };
  send(to, bits);
  // A read takes several packets, so the last one of a vector may need others behind it.
  constexpr int kMore = (kRead - V::kCols % kRead) % kRead;
  if (kMore > 0 && b.index * V::kSlice + row + 1 == V::kCols) {
    for (int i = 1; i <= kMore; ++i) send(to + i * (16 / kRead), 0);
  }
}

// Reads a packet of 16 bytes, or several small ones, if they are wanted. There is no branch, which
// the next read would wait for.
template <class V>
SRNN_DEVICE void read_packet(const unsigned char* from, bool wanted, Quad& q) {
  if constexpr (kCluster && kSmallPackets && V::kUnsigned) {
    get_pushed_words(from, wanted, q);
  } else if constexpr (kSmallPackets && V::kUnsigned) {
    get_words(from, wanted, q);
  } else if constexpr (kCluster && kSmallPackets) {
    get_small_pushed(from, wanted, q);
  } else if constexpr (kCluster) {
    get_pushed(from, wanted, q);
  } else if constexpr (kSmallPackets) {
    get_small_packets(from, wanted, q);
  } else {
    get_packet(from, wanted, q);
  }
}

// Limits of a thread's reads of packets that are under way at once: the first time, and again while
// none has arrived. More of the latter would slow down the other reads of L2. With three or
// four streams, of which a row has two warps, eight reads would leave two teams too few registers.
constexpr int kReadsAhead = warps_of_row(kBatch) == 2 ? 4 : 8, kRepeatedReads = 2;

// A warp waits Params::first_look ticks after it has last sent packets before it looks for those of
// other blocks. Packets take some 500 to get there. Looks that come too early are in the way of
// packets and of weights, and the one that finds them begins later. One team that works ahead
// itself does so after it has sent, so it need not wait.
constexpr bool kWaits = kTagged && !(kTeams == 1 && kWholeInput);
// The host measures which wait is best on a GPU (backends/cuda/first_look.py). It starts from what
// was best on an H200. A warp that sends its own number (int8, float32) sends earlier than the one
// that sends all of a block (bfloat16), so it waits longer.
constexpr uint32_t kFirstLookOfH200 = !kWaits      ? 0
                                      : kBatch > 4 ? 800
                                      : kBatch > 1 ? 500
                                      : kBfloat16  ? 350
                                      : kInt8      ? 650
                                                   : 500;

// Remembers that this warp has sent its packets.
SRNN_DEVICE void note_sent(const Block& b) {
  if constexpr (kWaits) b.sent_at = clock_low();
}

// Returns what stands for a read where nothing is wanted: packets of zeros, which count as present.
template <class V>
SRNN_DEVICE Quad no_packet(uint32_t sequence) {
  const uint32_t turn = turn_of(sequence);
  if (kSmallPackets && V::kUnsigned) return {turn, turn, turn, turn};
  return {0, kSmallPackets ? sequence : 0, 0, sequence};
}

// Returns 0 where all packets of a read have the sequence number, or its turn.
template <class V>
SRNN_DEVICE uint32_t absent(Quad q, uint32_t sequence) {
  if constexpr (kSmallPackets && V::kUnsigned) {
    const uint32_t turn = turn_of(sequence);
    return ((q.x ^ turn) | (q.y ^ turn) | (q.z ^ turn) | (q.w ^ turn)) & kSign;
  } else {
    return (q.w ^ sequence) | (kSmallPackets ? q.y ^ sequence : 0);
  }
}

// The two functions below read packets again at at(0), ..., at(kCount - 1) until all lanes of the
// warp have theirs, or the time is up; then they return false in all lanes. All lanes call them and
// leave together: a lane that had gone ahead would do alone what the warp can do at once, until all
// meet again.

// Reads all that are missing each time. With kSure every lane wants all of its packets; then a
// single one is read again also where it is there, because the compiler would make a branch of the
// condition.
template <class V, int kCount, bool kSure, class At>
SRNN_DEVICE bool read_all_again(TimeLimit& limit, uint32_t sequence, const At& at,
                                Quad (&q)[kCount]) {
  do {
    // Nothing but looks is in the inner loop: the next one begins when the last one has failed.
    SRNN_UNROLL(1)
    for (int reads = 0; reads < kReadsBetweenClocks; ++reads) {
      uint32_t any = 0;
      for (int i = 0; i < kCount; ++i) any |= absent<V>(q[i], sequence);
      if (warp_all(any == 0)) return true;
      pause();
      for (int i = 0; i < kCount; ++i) {
        const bool again = (kSure && kCount == 1) || absent<V>(q[i], sequence) != 0;
        read_packet<V>(at(i), again, q[i]);
      }
    }
  } while (warp_all(limit.go_on()));
  return false;
}

// Does the same for many packets: each lane reads its first missing one until any arrives, and then
// all missing ones once.
template <class V, int kCount, class At>
SRNN_DEVICE bool read_first_again(TimeLimit& limit, uint32_t sequence, const At& at,
                                  Quad (&q)[kCount]) {
  for (int missing = kCount, reads = 0;;) {
    int left = 0;
    for (int i = 0; i < kCount; ++i) left += absent<V>(q[i], sequence) != 0 ? 1 : 0;
    if (warp_all(left == 0)) return true;
    pause();
    if (++reads % kReadsBetweenClocks == 0 && !warp_all(limit.go_on())) return false;
    const bool all = left < missing;  // others may have arrived, too
    missing = left;
    bool before = false;  // whether an earlier packet is missing
    for (int i = 0; i < kCount; ++i) {
      const bool again = absent<V>(q[i], sequence) != 0;
      read_packet<V>(at(i), again && (all || !before), q[i]);
      before = before || again;
    }
  }
}

// Waits for what is read at at(0), ..., at(kCount - 1) to have this sequence number, but only for
// those that are wanted(i); the others become zeros. All reads are issued before the first one is
// checked. At most kRepeated are then repeated together. kSure: all are wanted, in every lane.
// Returns false when the time is up.
template <class V, int kCount, int kRepeated = kRepeatedReads, bool kSure = false, class At,
          class Wanted>
SRNN_DEVICE bool await_packets(const Block& b, int place, uint32_t sequence, const At& at,
                               const Wanted& wanted, Quad (&q)[kCount]) {
  if constexpr (kWaits) wait_since(b.sent_at, b.p.first_look);
  for (int i = 0; i < kCount; ++i) {
    q[i] = no_packet<V>(sequence);
    read_packet<V>(at(i), wanted(i), q[i]);
  }
  TimeLimit limit(b, place, sequence);
  if constexpr (kRepeated >= kCount) {
    return read_all_again<V, kCount, kSure>(limit, sequence, at, q);
  } else {
    return read_first_again<V>(limit, sequence, at, q);
  }
}

// Small packets: waits for spans `first`, first + kStep, ... of a vector, kSpans of them, as far as
// it has them, and puts their numbers into x. With kSure it has them for every thread. Returns
// false when the time is up.
template <class V, int kSpans, int kStep, int kRepeated = kRepeatedReads, bool kSure = false>
SRNN_DEVICE bool await_spans(const Block& b, int place, uint32_t sequence, int first,
                             float (&x)[kSpans * V::kSpan]) {
  constexpr int kRead = packets_of_read<V>(), kReads = V::kSpan / kRead, kAll = kSpans * kReads;
  const unsigned char* buffer = buffer_of<V>(b, place, sequence);
  const auto number = [&](int i) {
    return (first + i / kReads * kStep) * V::kSpan + i % kReads * kRead;
  };
  const unsigned char* from = computed(buffer + small_packet_at<V>(number(0)));
  const auto at = [&](int i) { return from + 16 * (i / kReads * kStep + i % kReads * spans<V>()); };
  const auto wanted = [&](int i) { return number(i) < V::kCols; };
  Quad q[kAll];
  const bool in_time = await_packets<V, kAll, kRepeated, kSure>(b, place, sequence, at, wanted, q);
  for (int i = 0; i < kAll; ++i) {
    float* to = x + i * kRead;
    if constexpr (V::kUnsigned) {
      const uint32_t words[4] = {q[i].x, q[i].y, q[i].z, q[i].w};
      for (int k = 0; k < 4; ++k) to[k] = float_of(words[k] & ~kSign);
    } else {
      to[0] = float_of(q[i].x), to[1] = float_of(q[i].z);
    }
  }
  return in_time;
}

}  // namespace srnn
