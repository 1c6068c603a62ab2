// Vectors, and the multiply-adds that products are made of. The only other intrinsics are those of
// the tile registers, in tiles.h.
//
// This is compiled once for each instruction set, in the namespace SRNN_ISA. Tests set SRNN_LANES
// to run the text of a wider machine on a narrower one, so every primitive has a plain form too.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if !defined(__clang__) && defined(__GNUC__) && __GNUC__ < 9
#error "the CPU engine needs GCC 9 or newer, or Clang: conversions between vectors"
#endif

#if !defined(SRNN_LANES)
#if defined(__AVX512F__)
#define SRNN_LANES 16
#elif defined(__AVX2__)
#define SRNN_LANES 8
#else
#define SRNN_LANES 4
#endif
#endif

namespace srnn {
namespace SRNN_ISA {

constexpr int kLanes = SRNN_LANES;
// How many outputs, and how many vectors of them, lie side by side in a matrix.
constexpr int kPanel = kLanes == 16 ? 64 : 32;
constexpr int kVectors = kPanel / kLanes;

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));
typedef int16_t Shorts __attribute__((vector_size(4 * kLanes)));

#define SRNN_INLINE __attribute__((always_inline)) inline

template <class Vector>
SRNN_INLINE Vector load(const void* from) {
  Vector v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}
template <class Vector>
SRNN_INLINE void store(void* to, Vector v) {
  std::memcpy(to, &v, sizeof(v));
}
SRNN_INLINE Floats broadcast(float x) { return x - Floats{}; }

// Computes a * b + c, with one rounding in all instruction sets but the baseline.
SRNN_INLINE Floats fma(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__) && SRNN_LANES == 16
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__) && SRNN_LANES == 8
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__FMA__)
  for (int i = 0; i < kLanes; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
#else
  return a * b + c;
#endif
}

// Partial sums may wrap round on the way to an exact sum, and signed numbers must not overflow. So
// these calculate with unsigned words.
SRNN_INLINE Ints add(Ints a, Ints b) { return (Ints)((Words)a + (Words)b); }
SRNN_INLINE Ints subtract(Ints a, Ints b) { return (Ints)((Words)a - (Words)b); }

// Repeats the two or four small integers at `from` in every 32-bit lane.
SRNN_INLINE Ints broadcast_word(const void* from) {
  int32_t word;
  std::memcpy(&word, from, sizeof(word));
  return word - Ints{};
}

SRNN_INLINE Ints multiply(Ints a, Ints b) { return (Ints)((Words)a * (Words)b); }

// Returns kLanes bytes with a sign, one in every lane. Compilers convert such a vector number by
// number.
SRNN_INLINE Ints load_bytes(const int8_t* from) {
#if defined(__AVX512F__) && SRNN_LANES == 16
  return (Ints)_mm512_maskz_cvtepi8_epi32(0xffff, load<__m128i>(from));
#elif defined(__AVX2__) && SRNN_LANES == 8
  return (Ints)_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
#elif defined(__SSE2__) && SRNN_LANES == 4
  int32_t word;
  std::memcpy(&word, from, sizeof(word));
  const __m128i bytes = _mm_cvtsi32_si128(word), pairs = _mm_unpacklo_epi8(bytes, bytes);
  return (Ints)_mm_srai_epi32(_mm_unpacklo_epi16(pairs, pairs), 24);
#else
  Ints wide;
  for (int lane = 0; lane < kLanes; ++lane) wide[lane] = from[lane];
  return wide;
#endif
}

// Adds neighbouring products: lane i is a[2i] b[2i] + a[2i+1] b[2i+1].
SRNN_INLINE Ints multiply_pairs(Shorts a, Shorts b) {
#if defined(__AVX512BW__) && SRNN_LANES == 16
  return (Ints)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__) && SRNN_LANES == 8
  return (Ints)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__) && SRNN_LANES == 4
  return (Ints)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
  const Ints x = (Ints)a, y = (Ints)b;
  const Ints low_x = (Ints)((Words)x << 16) >> 16, low_y = (Ints)((Words)y << 16) >> 16;
  return add((x >> 16) * (y >> 16), low_x * low_y);
#endif
}

SRNN_INLINE Ints larger(Ints a, Ints b) {
#if defined(__AVX2__) && SRNN_LANES == 8
  return (Ints)_mm256_max_epi32((__m256i)a, (__m256i)b);
#else
  return a > b ? a : b;
#endif
}

// Stores two vectors of numbers that fit 16 bits, one after the other.
SRNN_INLINE void store_narrow(int16_t* to, Ints first, Ints second) {
#if defined(__AVX2__) && SRNN_LANES == 8
  const __m256i mixed = _mm256_packs_epi32((__m256i)first, (__m256i)second);
  store(to, _mm256_permute4x64_epi64(mixed, 0xd8));
#elif defined(__SSE2__) && SRNN_LANES == 4
  store(to, _mm_packs_epi32((__m128i)first, (__m128i)second));
#else
  typedef int16_t Narrow __attribute__((vector_size(2 * kLanes)));
  store(to, __builtin_convertvector(first, Narrow));
  store(to + kLanes, __builtin_convertvector(second, Narrow));
#endif
}

// Makes the compiler forget what it knows about a value.
template <class Vector>
SRNN_INLINE void forget(Vector& value) {
#if defined(__x86_64__) && !defined(SRNN_EMULATED)
  asm volatile("" : "+x"(value));
#else
  asm volatile("" : "+m"(value));
#endif
}

// Keeps a loaded value in a register. Compilers would load it again for every use, and a core makes
// only a few loads a cycle.
template <class Vector>
SRNN_INLINE void keep_loaded([[maybe_unused]] Vector& value) {
#if defined(__x86_64__) && !defined(SRNN_EMULATED)
  asm("" : "+x"(value));
#endif
}

// Calls body(i) with each i from 0 to N - 1 as a constant. Sums that stay in registers are named by
// such constants, because GCC keeps an array in memory whose index it learns only late, when it
// unrolls a loop. `body` is a lambda with SRNN_INLINED behind its arguments.
template <class Body, int... I>
SRNN_INLINE void unrolled(const Body& body, std::integer_sequence<int, I...>) {
  (body(std::integral_constant<int, I>()), ...);
}
template <int N, class Body>
SRNN_INLINE void unrolled(const Body& body) {
  unrolled(body, std::make_integer_sequence<int, N>());
}
#define SRNN_INLINED __attribute__((always_inline))

// Requests the cache line at `at` before it is used.
SRNN_INLINE void prefetch(const void* at) { __builtin_prefetch(at); }

// This is `add_quads` for signed vectors of any length, whose unsigned type is given.
template <class Unsigned, class Signed>
SRNN_INLINE Signed add_quads_plainly(Signed sum, Signed a, Signed b) {
  for (int shift = 0; shift < 32; shift += 8) {
    const Signed product = ((a >> shift) & 255) * ((Signed)((Unsigned)b << (24 - shift)) >> 24);
    sum = (Signed)((Unsigned)sum + (Unsigned)product);
  }
  return sum;
}

// Adds the four products of unsigned bytes of a and signed bytes of b to the sum in every lane.
SRNN_INLINE Ints add_quads(Ints sum, Ints a, Ints b) {
#if defined(__AVX512VNNI__) && SRNN_LANES == 16
  return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#else
  return add_quads_plainly<Words>(sum, a, b);
#endif
}

}  // namespace SRNN_ISA
}  // namespace srnn
