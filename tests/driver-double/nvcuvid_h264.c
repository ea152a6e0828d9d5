/* H.264 parameter sets from CUVIDH264PICPARAMS.
 *
 * A stateless decoder gets slices only. All fields of SPS and PPS that the slice syntax needs are in the picture's parameters, except the ids (the
 * slice names its PPS; the SPS is 0), cropping (done when a picture is mapped), VUI (not needed), and for pic_order_cnt_type 1 the offsets: they
 * would matter for output order only, and pictures are taken in decode order. */
#include "nvcuvid_bits.h"

/* Zigzag order (H.264, table 8-2 and figure 8-9): raster position of the n-th coefficient. */
static const uint8_t zigzag_4x4[16] = { 0, 1, 4, 8, 5, 2, 3, 6, 9, 12, 13, 10, 7, 11, 14, 15 };
static const uint8_t zigzag_8x8[64] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6,  7,  14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
};

static void scaling_list(struct bits *b, const unsigned char *raster, const uint8_t *zigzag, int count)
{
    bit(b, true);
    int last = 8;
    for (int i = 0; i < count; i++) {
        int delta = raster[zigzag[i]] - last;
        signed_golomb(b, delta > 127 ? delta - 256 : delta < -128 ? delta + 256 : delta);
        last = raster[zigzag[i]];
    }
}

static bool all_sixteen(const void *list, size_t size)
{
    const unsigned char *bytes = list;
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != 16)
            return false;
    return true;
}

static size_t sequence(const CUVIDPICPARAMS *picture, uint8_t *out)
{
    const CUVIDH264PICPARAMS *h = &picture->CodecSpecific.h264;
    struct bits b = { .count = 0 };
    fixed(&b, 8, 100); /* High: all tools of 8-bit 4:2:0 */
    fixed(&b, 8, 0);
    fixed(&b, 8, 52); /* level 5.2: room for any reference count */
    golomb(&b, 0);
    golomb(&b, 1); /* 4:2:0 */
    golomb(&b, h->bit_depth_luma_minus8);
    golomb(&b, h->bit_depth_chroma_minus8);
    bit(&b, h->qpprime_y_zero_transform_bypass_flag);
    bit(&b, false);
    golomb(&b, (unsigned)h->log2_max_frame_num_minus4);
    golomb(&b, (unsigned)h->pic_order_cnt_type);
    if (h->pic_order_cnt_type == 0)
        golomb(&b, (unsigned)h->log2_max_pic_order_cnt_lsb_minus4);
    else if (h->pic_order_cnt_type == 1) {
        bit(&b, h->delta_pic_order_always_zero_flag);
        signed_golomb(&b, 0);
        signed_golomb(&b, 0);
        golomb(&b, 0);
    }
    golomb(&b, (unsigned)h->num_ref_frames);
    bit(&b, false);
    golomb(&b, (unsigned)picture->PicWidthInMbs - 1);
    bool frames_only = h->frame_mbs_only_flag;
    golomb(&b, (unsigned)(frames_only ? picture->FrameHeightInMbs : picture->FrameHeightInMbs / 2) - 1);
    bit(&b, frames_only);
    if (!frames_only)
        bit(&b, h->MbaffFrameFlag);
    bit(&b, h->direct_8x8_inference_flag);
    bit(&b, false); /* cropping */
    bit(&b, false); /* VUI */
    return nal_unit(&b, "\x67", 1, out);
}

static size_t picture_set(const CUVIDPICPARAMS *picture, unsigned pps_id, uint8_t *out)
{
    const CUVIDH264PICPARAMS *h = &picture->CodecSpecific.h264;
    struct bits b = { .count = 0 };
    golomb(&b, pps_id);
    golomb(&b, 0);
    bit(&b, h->entropy_coding_mode_flag);
    bit(&b, h->pic_order_present_flag);
    golomb(&b, 0); /* slice groups */
    golomb(&b, (unsigned)h->num_ref_idx_l0_active_minus1);
    golomb(&b, (unsigned)h->num_ref_idx_l1_active_minus1);
    bit(&b, h->weighted_pred_flag);
    fixed(&b, 2, (unsigned)h->weighted_bipred_idc);
    signed_golomb(&b, h->pic_init_qp_minus26);
    signed_golomb(&b, 0);
    signed_golomb(&b, h->chroma_qp_index_offset);
    bit(&b, h->deblocking_filter_control_present_flag);
    bit(&b, h->constrained_intra_pred_flag);
    bit(&b, h->redundant_pic_cnt_present_flag);
    bit(&b, h->transform_8x8_mode_flag);
    bool flat = all_sixteen(h->WeightScale4x4, sizeof h->WeightScale4x4) && (!h->transform_8x8_mode_flag || all_sixteen(h->WeightScale8x8, sizeof h->WeightScale8x8));
    bit(&b, !flat);
    if (!flat) {
        for (int i = 0; i < 6; i++)
            scaling_list(&b, h->WeightScale4x4[i], zigzag_4x4, 16);
        for (int i = 0; h->transform_8x8_mode_flag && i < 2; i++)
            scaling_list(&b, h->WeightScale8x8[i], zigzag_8x8, 64);
    }
    signed_golomb(&b, h->second_chroma_qp_index_offset);
    return nal_unit(&b, "\x68", 1, out);
}

size_t dd_h264_sets(const CUVIDPICPARAMS *picture, uint8_t *out)
{
    /* first_mb_in_slice, slice_type, pic_parameter_set_id */
    struct reader r = slice_header(picture, 1);
    read_golomb(&r);
    read_golomb(&r);
    unsigned pps_id = read_golomb(&r);
    size_t size = sequence(picture, out);
    return size + picture_set(picture, pps_id, out + size);
}
