// What the parts of the pybind11 module share.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "sampler.h"

namespace srnn {

// Throws value_error on settings out of range; top_k 0 and top_p >= 1 are off.
SamplerSettings checked_settings(int top_k, double top_p);

void bind_engine(pybind11::module_& m);

}  // namespace srnn
