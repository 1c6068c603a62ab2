// The numeric modes of this instruction set.
#pragma once

#if defined(SRNN_TILES)
#include "tiles.h"
#else
#include "float32.h"
#include "int8.h"
#endif
#include "blocks.h"
#include "int4.h"

namespace srnn {
namespace SRNN_ISA {

typedef BlockMode<FloatMode<Float32>, FloatBlocks> Float32Mode;
#if defined(SRNN_TILES)
typedef TileBfloat16Mode Bfloat16Mode;
typedef TileInt8Mode WholeCodeMode;
#else
typedef FloatMode<Bfloat16> Bfloat16Mode;
typedef Int8Mode WholeCodeMode;
#endif
typedef BlockMode<WholeCodeMode, CodeBlocks> CodeMode;
typedef FourBitMode<WholeCodeMode> Int4Mode;

}  // namespace SRNN_ISA
}  // namespace srnn
