// Checks of arrays and settings that the parts of the pybind11 module share.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <type_traits>
#include <vector>

#include "model/draw.h"

namespace py = pybind11;

namespace srnn {

// Returns the dtype and shape of an array as text for messages.
std::string describe(const py::array& array);

inline bool is_packed(const py::array& array) {
  return (array.flags() & py::array::c_style) != 0 &&
         (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
}
template <typename T>
bool is_mutable_enough(const py::array& array) {
  return std::is_const_v<T> || array.writeable();
}

// Whether an array has this type, is C-contiguous and aligned, and is writeable if T is not const:
// nothing is converted silently.
template <typename T>
bool fits(const py::array& array, bool shape_fits) {
  return shape_fits && py::isinstance<py::array_t<std::remove_const_t<T>>>(array) &&
         is_packed(array) && is_mutable_enough<T>(array);
}

template <typename T>
T* data_of(const py::array& array) {
  return const_cast<T*>(static_cast<const T*>(array.data()));
}

// Returns the data of an array that fits, and else throws value_error. `what` begins the message
// and says what must hold.
template <typename T>
T* checked(const py::array& array, bool shape_fits, const std::string& what) {
  if (fits<T>(array, shape_fits)) return data_of<T>(array);
  throw py::value_error(what + ", got " + (is_packed(array) ? "" : "strided ") +
                        (is_mutable_enough<T>(array) ? "" : "read-only ") + describe(array));
}

inline std::string shape_text(const std::vector<long>& shape) {
  std::string text = "(";
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    text += (axis ? ", " : "") + std::to_string(shape[axis]);
  }
  return text + ")";
}

// Returns the data of an array that has exactly this shape, and else throws value_error.
template <typename T>
T* checked_shape(const py::array& array, const std::vector<long>& shape, const std::string& what) {
  const bool shape_fits = array.ndim() == static_cast<long>(shape.size()) &&
                          std::equal(shape.begin(), shape.end(), array.shape());
  // The text is made where it is needed only: it takes longer than all other checks of a call.
  if (fits<T>(array, shape_fits)) return data_of<T>(array);
  const std::string type = py::str(py::dtype::of<std::remove_const_t<T>>()).cast<std::string>();
  return checked<T>(array, shape_fits,
                    "engine: " + what + " must be C-contiguous " + type + " " + shape_text(shape));
}

// Returns the settings; top_k 0 and top_p >= 1 are off. Throws value_error if one is out of range.
SamplerSettings checked_settings(int top_k, double top_p);

}  // namespace srnn
