// Checks of arrays and settings that the parts of the pybind11 module share.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <type_traits>

#include "model/draw.h"

namespace py = pybind11;

namespace srnn {

// Returns the dtype and shape of an array as text for messages.
std::string describe(const py::array& array);

// Returns the data of an array. Throws value_error unless the array has this type, is C-contiguous
// and aligned, and is writeable if T is not const: nothing is converted silently. `what` begins the
// message and says what must hold.
template <typename T>
T* checked(const py::array& array, bool shape_fits, const std::string& what) {
  const bool typed = py::isinstance<py::array_t<std::remove_const_t<T>>>(array);
  const bool packed = (array.flags() & py::array::c_style) != 0 &&
                      (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
  const bool mutable_enough = std::is_const_v<T> || array.writeable();
  if (!typed || !packed || !shape_fits || !mutable_enough) {
    throw py::value_error(what + ", got " + (packed ? "" : "strided ") +
                          (mutable_enough ? "" : "read-only ") + describe(array));
  }
  return const_cast<T*>(static_cast<const T*>(array.data()));
}

// Returns the settings; top_k 0 and top_p >= 1 are off. Throws value_error if one is out of range.
SamplerSettings checked_settings(int top_k, double top_p);

}  // namespace srnn
