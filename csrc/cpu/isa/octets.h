// Vectors of eight numbers of 32 bits, as wide on every processor: the outputs of a block of a
// sparse matrix. On processors with longer vectors they are half of one, on others they are two.
#pragma once

#include "simd.h"

namespace srnn {
namespace SRNN_ISA {

constexpr int kOctet = 8;

typedef float OctetFloats __attribute__((vector_size(32)));
typedef int32_t OctetInts __attribute__((vector_size(32)));
typedef uint32_t OctetWords __attribute__((vector_size(32)));
typedef int16_t OctetShorts __attribute__((vector_size(32)));
typedef int64_t OctetLongs __attribute__((vector_size(32)));  // four numbers

#if SRNN_LANES != 8  // these are the functions of simd.h there

SRNN_INLINE OctetFloats fma(OctetFloats a, OctetFloats b, OctetFloats c) {
#if defined(__FMA__)
  return (OctetFloats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

SRNN_INLINE OctetInts add(OctetInts a, OctetInts b) {
  return (OctetInts)((OctetWords)a + (OctetWords)b);
}

// Adds neighbouring products, as the function of simd.h for vectors of the processor's own length.
SRNN_INLINE OctetInts multiply_pairs(OctetShorts a, OctetShorts b) {
#if defined(__AVX2__)
  return (OctetInts)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  __m128i x[2], y[2];
  std::memcpy(x, &a, sizeof(a)), std::memcpy(y, &b, sizeof(b));
  for (int half = 0; half < 2; ++half) x[half] = _mm_madd_epi16(x[half], y[half]);
  return load<OctetInts>(x);
#else
  OctetInts sum;
  for (int i = 0; i < kOctet; ++i) {
    const uint32_t first = static_cast<uint32_t>(int32_t{a[2 * i]} * b[2 * i]);
    sum[i] =
        static_cast<int32_t>(first + static_cast<uint32_t>(int32_t{a[2 * i + 1]} * b[2 * i + 1]));
  }
  return sum;
#endif
}

// Adds four products of bytes to every sum, as the function of simd.h.
SRNN_INLINE OctetInts add_quads(OctetInts sum, OctetInts a, OctetInts b) {
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
  return (OctetInts)_mm256_dpbusd_epi32((__m256i)sum, (__m256i)a, (__m256i)b);
#else
  return add_quads_plainly<OctetWords>(sum, a, b);
#endif
}

#endif  // SRNN_LANES != 8

// Repeats the four bytes at `from` in every lane.
SRNN_INLINE OctetInts broadcast_octet(const void* from) {
  int32_t word;
  std::memcpy(&word, from, sizeof(word));
  return word - OctetInts{};
}

// Repeats the four 16-bit numbers at `from`.
SRNN_INLINE OctetShorts broadcast_four(const int16_t* from) {
  int64_t four;
  std::memcpy(&four, from, sizeof(four));
  return (OctetShorts)(four - OctetLongs{});
}

// Adds neighbouring lanes: those of the first four pairs, then those of the second.
SRNN_INLINE OctetInts add_neighbours(OctetInts first, OctetInts second) {
#if defined(__AVX2__)
  const __m256i mixed = _mm256_hadd_epi32((__m256i)first, (__m256i)second);
  return (OctetInts)_mm256_permute4x64_epi64(mixed, 0xd8);
#else
  OctetInts sum;
  for (int i = 0; i < kOctet / 2; ++i) {
    sum[i] = static_cast<int32_t>(static_cast<uint32_t>(first[2 * i]) +
                                  static_cast<uint32_t>(first[2 * i + 1]));
    sum[i + 4] = static_cast<int32_t>(static_cast<uint32_t>(second[2 * i]) +
                                      static_cast<uint32_t>(second[2 * i + 1]));
  }
  return sum;
#endif
}

}  // namespace SRNN_ISA
}  // namespace srnn
