// exp, sigmoid and tanh without libm: float32 operations only, each rounded on its own, so that
// they give the same bits on every machine. Loops over them vectorise.
#pragma once

#include <cstdint>
#include <cstring>

namespace srnn {
namespace SRNN_ISA {

// e^x to about 2 ulp for |x| <= 87; clamped outside.
inline float exp_approx(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 87.0f ? 87.0f : x;
  const float scaled = x * 1.44269504f;
  const float nearest = scaled < 0 ? scaled - 0.5f : scaled + 0.5f;
  const int32_t whole = static_cast<int32_t>(nearest);
  const float n = static_cast<float>(whole);
  // ln 2 in two parts, so that the reduced argument keeps its digits.
  const float f = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.98756915e-4f;
  p = p * f + 1.39819995e-3f;
  p = p * f + 8.33345190e-3f;
  p = p * f + 4.16657961e-2f;
  p = p * f + 1.66666655e-1f;
  p = p * f + 5.00000012e-1f;
  p = (p * f) * f + f + 1.0f;
  const int32_t bits = (whole + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof(power));
  return p * power;
}

inline float sigmoid(float x) { return 1.0f / (1.0f + exp_approx(-x)); }
inline float tanh_approx(float x) { return 1.0f - 2.0f / (1.0f + exp_approx(2.0f * x)); }

}  // namespace SRNN_ISA
}  // namespace srnn
