// The draw: from logits and 32 random bits to one level, by the inverse CDF in integers.
//
// Every step is an integer operation or a float32 operation that is rounded on its own, so equal
// logits give the same level in torch, C++ and CUDA. C++ and CUDA compile this text: it calls no
// library. Build it with -ffp-contract=off. reference/draw.py is its twin in torch.
#pragma once

#include "model/philox.h"

namespace srnn {

constexpr float kLargestFloat = 3.402823466e+38f;
constexpr double kLog2E = 1.4426950408889634;
constexpr int32_t kOneBits = 0x3f800000, kWholeBits = 0x4b400000;  // of 1 and of 1.5 * 2^23

SRNN_HD float mul_rn(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

SRNN_HD int32_t float_bits(float x) {
#ifdef __CUDA_ARCH__
  return __float_as_int(x);
#else
  int32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  return bits;
#endif
}

SRNN_HD float add_rn(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fadd_rn(a, b);
#else
  return a + b;
#endif
}

// Returns log2(e) / T. It is kept finite, because 0 * infinity would make the weight of the largest
// logit a NaN.
SRNN_HD float sampler_scale(float temperature) {
  const double scale = kLog2E / static_cast<double>(temperature);
  return scale < static_cast<double>(kLargestFloat) ? static_cast<float>(scale) : kLargestFloat;
}

constexpr float kWhole = 12582912.0f;  // 1.5 * 2^23

// Returns floor(y) + kWhole, for y from -24 to 0. Conversions between floats and integers are slow
// on a GPU, so the bits of floats serve: beside kWhole a float has no bits after the point, and the
// lowest bits of the sum are those of the whole number.
SRNN_HD float floor_beside_whole(float y) {
#ifdef __CUDA_ARCH__
  return __fadd_rd(y, kWhole);
#else
  const float nearest = add_rn(y, kWhole);
  return add_rn(nearest, -kWhole) > y ? add_rn(nearest, -1.0f) : nearest;
#endif
}

// Returns floor(2^23 * 2^((logit - max) * scale)), up to the error of the polynomial; 0 for a NaN.
SRNN_HD uint32_t sampler_weight(float logit, float max, float scale) {
  const float exact = mul_rn(add_rn(logit, -max), scale);
  const float y = exact >= -24.0f ? exact : -24.0f;
  const float sum = floor_beside_whole(y), f = add_rn(y, -add_rn(sum, -kWhole));
  const int whole = float_bits(sum) - kWholeBits;
  // The polynomial is 2^f on [0, 1]. reference/draw.py has the same coefficients.
  float p = 0.001880902680568397f;
  p = add_rn(mul_rn(p, f), 0.0089864581823349f);
  p = add_rn(mul_rn(p, f), 0.05582338199019432f);
  p = add_rn(mul_rn(p, f), 0.24015720188617706f);
  p = add_rn(mul_rn(p, f), 0.6931520700454712f);
  p = add_rn(mul_rn(p, f), 1.0f);
  // From 1 to 2 the bits of p are those of 1 and 2^23 (p - 1). p reaches 2 only where `whole` is
  // negative, and at -24 the shift leaves 0.
  return static_cast<uint32_t>(float_bits(p) - kOneBits + (1 << 23)) >> -whole;
}

// Returns floor(fraction * total / 2^32) without 128-bit integers. total must be below 2^48.
SRNN_HD uint64_t scale_by_fraction(uint32_t fraction, uint64_t total) {
  const uint64_t high = fraction >> 16, low = fraction & 0xffffu;
  return (high * total + ((low * total) >> 16)) >> 16;
}

constexpr int kSumBlock = 16;  // weights whose sum stays below 2^32

SRNN_HD uint32_t sum_block(const uint32_t* weight) {
  uint32_t sum = 0;
  for (int i = 0; i < kSumBlock; ++i) sum += weight[i];
  return sum;
}

SRNN_HD uint64_t sum_weights(const uint32_t* weight, int q_levels) {
  uint64_t total = 0;
  int i = 0;
  for (; i + kSumBlock <= q_levels; i += kSumBlock) total += sum_block(weight + i);
  for (; i < q_levels; ++i) total += weight[i];
  return total;
}

// Returns the first level whose prefix sum exceeds `rank`, or -1.
SRNN_HD int level_of_rank(const uint32_t* weight, int q_levels, uint64_t rank) {
  uint64_t prefix = 0;
  int i = 0;
  for (; i + kSumBlock <= q_levels; i += kSumBlock) {
    const uint64_t next = prefix + sum_block(weight + i);
    if (next > rank) break;
    prefix = next;
  }
  for (; i < q_levels; ++i) {
    prefix += weight[i];
    if (prefix > rank) return i;
  }
  return -1;
}

// Maps floats to integers that have the same order. NaNs lie beyond both infinities.
SRNN_HD int32_t order_of(float x) {
  const int32_t bits = float_bits(x);
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

// The inverse of order_of.
SRNN_HD float float_of_order(int32_t order) {
  const int32_t bits = order ^ ((order >> 31) & 0x7fffffff);
#ifdef __CUDA_ARCH__
  return __int_as_float(bits);
#else
  float x;
  __builtin_memcpy(&x, &bits, sizeof(x));
  return x;
#endif
}

// Returns whether the largest of some logits is finite and none is a NaN, by their highest and
// lowest order. Others may be minus infinity.
SRNN_HD bool are_finite(int32_t highest, int32_t lowest) {
  constexpr int32_t kLargest = 0x7f7fffff, kInfinity = 0x7f800000;
  return highest <= kLargest && highest >= ~kLargest && lowest >= ~kInfinity;
}

// A team may share a row of logits: each member has a slice of it, in the order of the members. A
// warp of a GPU is a team (WarpTeam in cuda/device/draw.cuh). On the CPU a team has one member.
#ifndef __CUDACC__
struct Alone {
  template <class Number>
  static Number max(Number x) {
    return x;
  }
  static uint64_t sum(uint64_t x) { return x; }
  static uint64_t before(uint64_t) { return 0; }       // sum over the members with lower levels
  static int first_found(int level) { return level; }  // the first that is not -1, or -1
};
#endif

// One member's slice of a row of weights.
struct WeightSlice {
  uint32_t* weight;
  int count;
};

// Returns the largest threshold v such that at least `target` weights are >= v or, with by_mass,
// such that those weights add up to at least `target`; 0 if there is none. Weights have 24 bits, so
// 24 halvings find it, and nothing is sorted.
template <class Team>
SRNN_HD uint32_t keep_threshold(WeightSlice slice, uint64_t target, bool by_mass,
                                const Team& team) {
  uint32_t threshold = 0;
#ifdef __CUDACC__
#pragma unroll 1
#endif
  for (uint32_t bit = 1u << 23; bit != 0; bit >>= 1) {
    const uint32_t candidate = threshold | bit;
    uint64_t reached = 0;
    for (int i = 0; i < slice.count; ++i) {
      if (slice.weight[i] >= candidate) reached += by_mass ? slice.weight[i] : 1u;
    }
    if (team.sum(reached) >= target) threshold = candidate;
  }
  return threshold;
}

// Sets weights below the threshold to zero. Of those equal to it, the first `ties` stay.
template <class Team>
SRNN_HD void drop_below(WeightSlice slice, uint32_t threshold, uint64_t ties, const Team& team) {
  uint64_t equal = 0;
  for (int i = 0; i < slice.count; ++i) equal += slice.weight[i] == threshold;
  const uint64_t taken = team.before(equal);
  ties = taken < ties ? ties - taken : 0;
  for (int i = 0; i < slice.count; ++i) {
    if (slice.weight[i] > threshold) continue;
    const bool keep = slice.weight[i] == threshold && ties > 0;
    if (keep) {
      --ties;
    } else {
      slice.weight[i] = 0;
    }
  }
}

// Keeps the k largest weights. Of equal ones it prefers those of the lowest levels.
template <class Team>
SRNN_HD void keep_top_k(WeightSlice slice, int k, const Team& team) {
  const uint32_t threshold = keep_threshold(slice, static_cast<uint64_t>(k), false, team);
  if (threshold == 0) return;  // fewer than k weights are positive
  uint64_t above = 0;
  for (int i = 0; i < slice.count; ++i) above += slice.weight[i] > threshold;
  drop_below(slice, threshold, static_cast<uint64_t>(k) - team.sum(above), team);
}

// Keeps the smallest number of largest weights that reach `fraction` / 2^32 of the total, but at
// least one. Of equal ones it prefers those of the lowest levels.
template <class Team>
SRNN_HD void keep_top_p(WeightSlice slice, uint32_t fraction, const Team& team) {
  const uint64_t total = team.sum(sum_weights(slice.weight, slice.count));
  uint64_t target = scale_by_fraction(fraction, total);
  if (target == 0) target = 1;
  const uint32_t threshold = keep_threshold(slice, target, true, team);
  uint64_t above = 0;
  for (int i = 0; i < slice.count; ++i) above += slice.weight[i] > threshold ? slice.weight[i] : 0u;
  above = team.sum(above);
  drop_below(slice, threshold, (target - above + threshold - 1) / threshold, team);
}

struct SamplerSettings {
  int top_k;       // 0: off
  bool use_top_p;  // true: keep the smallest set with top_p_fraction / 2^32 of the mass
  uint32_t top_p_fraction;
};

// Draws one level in [0, q_levels). Every member of the team receives the same one, or -1 if a
// logit is NaN or the largest one is infinite. logits: (count,) of this member, for the levels from
// `first` on; weight: (count,) scratch memory; temperature: finite, at least 0; 0 is the argmax.
// settings: SamplerSettings, or anything with its members, which are read when they are needed.
template <class Settings, class Team>
SRNN_HD int sample_level(const float* logits, int first, int count, int q_levels, uint32_t draw,
                         float temperature, const Settings& settings, uint32_t* weight,
                         const Team& team) {
  int32_t highest = -0x7fffffff - 1, lowest = 0x7fffffff;
  for (int i = 0; i < count; ++i) {
    const int32_t order = order_of(logits[i]);
    highest = order > highest ? order : highest;
    lowest = order < lowest ? order : lowest;
  }
  highest = team.max(highest);
  lowest = ~team.max(~lowest);
  if (!are_finite(highest, lowest)) return -1;
  const float max = float_of_order(highest);
  if (temperature == 0.0f) {
    int best = 0;
    while (best < count && logits[best] != max) ++best;  // 0 and -0 are equal
    return team.first_found(best < count ? first + best : -1);
  }

  const float scale = sampler_scale(temperature);
  for (int i = 0; i < count; ++i) weight[i] = sampler_weight(logits[i], max, scale);
  const WeightSlice slice = {weight, count};
  if (settings.top_k > 0 && settings.top_k < q_levels) keep_top_k(slice, settings.top_k, team);
  if (settings.use_top_p) keep_top_p(slice, settings.top_p_fraction, team);

  const uint64_t own = sum_weights(weight, count), before = team.before(own);
  const uint64_t rank = scale_by_fraction(draw, team.sum(own));
  // Exactly one member finds the level, because rank < total and the largest weight is above 0.
  const bool mine = before <= rank && rank - before < own;
  return team.first_found(mine ? first + level_of_rank(weight, count, rank - before) : -1);
}

#ifndef __CUDACC__
// Draws one level from a whole row: logits (q_levels,), weight (q_levels,).
SRNN_HD int sample_level(const float* logits, int q_levels, uint32_t draw, float temperature,
                         const SamplerSettings& settings, uint32_t* weight) {
  return sample_level(logits, 0, q_levels, q_levels, draw, temperature, settings, weight, Alone());
}
#endif

}  // namespace srnn
