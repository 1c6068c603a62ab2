// Float32 functions without a library, each operation rounded on its own: the same bits as
// csrc/cpu/activations.h. Compiled without contraction (see params.h).
#pragma once

namespace srnn {

// e^x to about 2 ulp for |x| <= 87; clamped outside. NaN stays NaN.
SRNN_DEVICE float exp_approx(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 87.0f ? 87.0f : x;
  const float scaled = x * 1.44269504f;
  const int whole = static_cast<int>(scaled + (scaled < 0.0f ? -0.5f : 0.5f));
  const float n = float_rn(whole);
  // ln 2 in two parts, so that the reduced argument keeps its digits.
  const float f = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = f * 1.98756915e-4f + 1.39819995e-3f;
  p = p * f + 8.33345190e-3f;
  p = p * f + 4.16657961e-2f;
  p = p * f + 1.66666655e-1f;
  p = p * f + 5.00000012e-1f;
  p = (p * f) * f + f + 1.0f;
  return p * float_of(static_cast<uint32_t>(whole + 127) << 23);
}

SRNN_DEVICE float sigmoid(float x) { return divide_rn(1.0f, 1.0f + exp_approx(-x)); }
SRNN_DEVICE float tanh_approx(float x) {
  return 1.0f - divide_rn(2.0f, 1.0f + exp_approx(2.0f * x));
}
SRNN_DEVICE float relu(float x) { return x < 0.0f ? 0.0f : x; }  // NaN stays NaN

// The nearest bfloat16, ties to even; NaN stays NaN.
SRNN_DEVICE unsigned short bfloat16_bits(float x) {
  const uint32_t bits = bits_of(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<unsigned short>(bits >> 16 | 64);
  return static_cast<unsigned short>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

}  // namespace srnn
