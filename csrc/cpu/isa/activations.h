// The functions exp, sigmoid and tanh without libm. They use float32 operations only, each rounded
// on its own, so every machine computes the same bits.
#pragma once

#include "simd.h"

namespace srnn {
namespace SRNN_ISA {

// Computes e^x to about 2 ulp for |x| <= 87, and clamps larger |x|. NaN stays NaN.
SRNN_INLINE Floats exp_approx(Floats x) {
  x = x < -87.0f ? broadcast(-87.0f) : x;
  x = x > 87.0f ? broadcast(87.0f) : x;
  const Floats scaled = x * 1.44269504f;
  const Floats half = scaled < 0.0f ? broadcast(-0.5f) : broadcast(0.5f);
  const Ints whole = __builtin_convertvector(scaled + half, Ints);
  const Floats n = __builtin_convertvector(whole, Floats);
  // ln 2 is split in two parts, so that the reduced argument keeps its digits.
  const Floats f = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  Floats p = f * 1.98756915e-4f + 1.39819995e-3f;
  p = p * f + 8.33345190e-3f;
  p = p * f + 4.16657961e-2f;
  p = p * f + 1.66666655e-1f;
  p = p * f + 5.00000012e-1f;
  p = (p * f) * f + f + 1.0f;
  const Ints power = (whole + 127) << 23;
  return p * (Floats)power;
}

SRNN_INLINE Floats sigmoid(Floats x) { return 1.0f / (1.0f + exp_approx(-x)); }
SRNN_INLINE Floats tanh_approx(Floats x) { return 1.0f - 2.0f / (1.0f + exp_approx(2.0f * x)); }
SRNN_INLINE Floats relu(Floats x) { return x < 0.0f ? Floats{} : x; }  // NaN stays NaN

}  // namespace SRNN_ISA
}  // namespace srnn
