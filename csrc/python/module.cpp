// The pybind11 module samplernn_fast._C. It takes and returns NumPy arrays and knows nothing of
// torch. It is one translation unit, because most of its compile time goes into pybind11's headers.
#include <array>
#include <cmath>
#include <cstdint>
#include <string>

#include "arrays.h"
#include "cpu_engine.h"
#include "cuda_driver.h"
#include "model/draw_rows.h"
#include "model/philox.h"

srnn::SamplerSettings srnn::checked_settings(int top_k, double top_p) {
  if (top_k < 0) {
    throw py::value_error("sample_levels: top_k must be 0 (off) or more, got " +
                          std::to_string(top_k));
  }
  if (!(top_p >= 0)) {
    throw py::value_error("sample_levels: top_p must be 0 or more, got " + std::to_string(top_p));
  }
  const bool use_top_p = top_p < 1;
  return {top_k, use_top_p, use_top_p ? static_cast<uint32_t>(top_p * 4294967296.0) : 0};
}

std::string srnn::describe(const py::array& array) {
  std::string text = py::str(array.dtype()).cast<std::string>() + " (";
  for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
    text += (axis ? ", " : "") + std::to_string(array.shape(axis));
  }
  return text + (array.ndim() == 1 ? ",)" : ")");
}

namespace {

py::array_t<uint32_t> philox(uint64_t seed, uint32_t stream, uint64_t t0, py::ssize_t n) {
  if (n < 0) throw py::value_error("philox: n must be 0 or more, got " + std::to_string(n));
  py::array_t<uint32_t> draws(n);
  uint32_t* out = draws.mutable_data();
  py::gil_scoped_release no_gil;
  srnn::fill_draws(seed, stream, t0, n, out);
  return draws;
}

py::array_t<uint32_t> philox_block(const std::array<uint32_t, 4>& counter,
                                   const std::array<uint32_t, 2>& key) {
  const srnn::PhiloxBlock block =
      srnn::philox_block(counter[0], counter[1], counter[2], counter[3], key[0], key[1]);
  return py::array_t<uint32_t>(4, block.word);
}

py::array_t<int32_t> sample_levels(const py::array& logits, const py::array& draws,
                                   const py::array& temperature, int top_k, double top_p) {
  const float* logit = srnn::checked<const float>(
      logits, logits.ndim() == 2 && logits.shape(1) > 0 && logits.shape(1) <= 65536,
      "sample_levels: logits must be C-contiguous float32 (B, Q) with Q = 1 to 65536");
  const py::ssize_t batch = logits.shape(0), q_levels = logits.shape(1);
  const auto is_row = [batch](const py::array& a) { return a.ndim() == 1 && a.shape(0) == batch; };
  const std::string row = "(B,) = (" + std::to_string(batch) + ",)";
  const uint32_t* draw = srnn::checked<const uint32_t>(
      draws, is_row(draws), "sample_levels: draws must be uint32 " + row);
  const float* heat = srnn::checked<const float>(
      temperature, is_row(temperature), "sample_levels: temperature must be float32 " + row);
  for (py::ssize_t b = 0; b < batch; ++b) {
    if (!(heat[b] >= 0) || !std::isfinite(heat[b])) {
      throw py::value_error("sample_levels: temperature must be finite and 0 or more, got " +
                            std::to_string(heat[b]) + " in row " + std::to_string(b));
    }
  }
  const srnn::SamplerSettings settings = srnn::checked_settings(top_k, top_p);

  py::array_t<int32_t> levels(batch);
  int32_t* out = levels.mutable_data();
  py::ssize_t bad_row = -1;
  {
    py::gil_scoped_release no_gil;
    bad_row =
        srnn::sample_rows(logit, batch, static_cast<int>(q_levels), draw, heat, settings, out);
  }
  if (bad_row >= 0) {
    throw py::value_error("sample_levels: logits hold a NaN or no finite maximum in row " +
                          std::to_string(bad_row));
  }
  return levels;
}

py::dict build_info() {
  py::dict info;
#if defined(__clang__)
  info["compiler"] = "clang " __clang_version__;
#elif defined(__GNUC__)
  info["compiler"] = "gcc " __VERSION__;
#else
  info["compiler"] = "unknown";
#endif
  info["cxx_standard"] = static_cast<int64_t>(__cplusplus / 100 % 100);
  info["pybind11"] = py::str(
      PYBIND11_TOSTRING(PYBIND11_VERSION_MAJOR) "." PYBIND11_TOSTRING(PYBIND11_VERSION_MINOR));
  return info;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Native parts of samplernn_fast; they take NumPy arrays, or numbers that are pointers.";
  m.def("philox", &philox, py::arg("seed"), py::arg("stream"), py::arg("t0"), py::arg("n"),
        "The draws of samples t0 to t0 + n - 1 of a stream: uint32 (n,).");
  m.def("philox_block", &philox_block, py::arg("counter"), py::arg("key"),
        "Philox4x32-10 of four counter words and two key words: uint32 (4,).");
  m.def(
      "sample_levels", &sample_levels, py::arg("logits"), py::arg("draws"), py::arg("temperature"),
      py::arg("top_k") = 0, py::arg("top_p") = 1.0,
      "One level per row by the integer inverse CDF: logits float32 (B, Q), draws uint32 (B,), "
      "temperature float32 (B,), 0 = argmax; top_k 0 and top_p >= 1 are off. Returns int32 (B,).");
  srnn::bind_engine(m);
  srnn::bind_cuda(m);
  m.def("build_info", &build_info, "How this module was compiled.");
}
