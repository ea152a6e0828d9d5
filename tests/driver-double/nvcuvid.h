/* NVDEC: what its files share. */
#ifndef NVCUVID_H
#define NVCUVID_H

#include "double.h"
#include <ffnvcodec/dynlink_nvcuvid.h>

/* Room for all parameter sets with all scaling lists: HEVC's 1,200 coefficients at two bytes each, and emulation prevention. */
enum { PARAMETER_SETS_ROOM = 8192 };

/* Write the parameter sets, with start codes, that say what the picture's parameters say; how many bytes. 0: they cannot be told from these. */
size_t dd_h264_sets(const CUVIDPICPARAMS *picture, uint8_t *out);
size_t dd_hevc_sets(const CUVIDPICPARAMS *picture, uint8_t *out);

#endif
