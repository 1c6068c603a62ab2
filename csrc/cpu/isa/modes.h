// The numeric modes of this instruction set.
#pragma once

#if defined(SRNN_TILES)
#include "tiles.h"
#else
#include "float32.h"
#include "int8.h"
#endif
#include "int4.h"

namespace srnn {
namespace SRNN_ISA {

typedef FloatMode<Float32> Float32Mode;
#if defined(SRNN_TILES)
typedef TileBfloat16Mode Bfloat16Mode;
typedef TileInt8Mode CodeMode;
#else
typedef FloatMode<Bfloat16> Bfloat16Mode;
typedef Int8Mode CodeMode;
#endif
typedef FourBitMode<CodeMode> Int4Mode;

}  // namespace SRNN_ISA
}  // namespace srnn
