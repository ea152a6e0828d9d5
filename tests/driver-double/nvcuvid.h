/* NVDEC: what its two files share. */
#ifndef NVCUVID_H
#define NVCUVID_H

#include "double.h"
#include <ffnvcodec/dynlink_nvcuvid.h>

/* Room for both parameter sets with all scaling lists. */
enum { PARAMETER_SETS_ROOM = 2048 };

/* Writes an SPS and a PPS, with start codes, that say what the picture's parameters say; how many bytes. */
size_t dd_parameter_sets(const CUVIDPICPARAMS *picture, unsigned pps_id, uint8_t *out);
/* The PPS id in the first slice header of a picture. */
unsigned dd_slice_pps_id(const uint8_t *data, size_t size);

#endif
