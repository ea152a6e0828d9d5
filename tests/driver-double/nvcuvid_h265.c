/* HEVC parameter sets from CUVIDHEVCPICPARAMS.
 *
 * As with H.264, all fields that the slice syntax needs are in the picture's parameters, but for two: the reference picture sets and the long-term pictures
 * that an SPS may list for slices to choose from by number. A hardware decoder is given the outcome. A stream that has such lists is refused; x265 and NVENC
 * write the sets into the slices. Range extensions are not there either: 8 and 10 bits, 4:2:0. */
#include "nvcuvid_bits.h"

/* profile_tier_level: what the decoder looks at is the bit depth, which the SPS says itself. */
static void profile(struct bits *b, bool ten_bits)
{
    fixed(b, 2, 0);
    bit(b, false);
    fixed(b, 5, ten_bits ? 2 : 1);
    fixed(b, 32, ten_bits ? 0x20000000 : 0x60000000);
    fixed(b, 8, 0x90);
    fixed(b, 32, 0);
    fixed(b, 8, 0);
    fixed(b, 8, 186); /* level 6.2 */
}

static size_t video_set(bool ten_bits, uint8_t *out)
{
    struct bits b = { .count = 0 };
    fixed(&b, 4, 0);
    fixed(&b, 2, 3);
    fixed(&b, 6, 0);
    fixed(&b, 3, 0); /* one sub-layer */
    bit(&b, true);
    fixed(&b, 16, 0xffff);
    profile(&b, ten_bits);
    bit(&b, true);
    golomb(&b, 15);
    golomb(&b, 0);
    golomb(&b, 0);
    fixed(&b, 6, 0);
    golomb(&b, 0);
    bit(&b, false); /* timing */
    bit(&b, false); /* extension */
    return nal_unit(&b, "\x40\x01", 2, out);
}

/* Coefficients in the order in which they are coded. */
static void coefficients(struct bits *b, const unsigned char *list, int count, const unsigned char *dc)
{
    bit(b, true); /* scaling_list_pred_mode_flag: not told by another list */
    int last = 8;
    if (dc) {
        signed_golomb(b, *dc - 8);
        last = *dc;
    }
    for (int i = 0; i < count; i++) {
        int delta = list[i] - last;
        signed_golomb(b, delta > 127 ? delta - 256 : delta < -128 ? delta + 256 : delta);
        last = list[i];
    }
}

static void scaling_lists(struct bits *b, const CUVIDHEVCPICPARAMS *h)
{
    bit(b, true); /* sps_scaling_list_data_present_flag */
    for (int i = 0; i < 6; i++)
        coefficients(b, h->ScalingList4x4[i], 16, NULL);
    for (int i = 0; i < 6; i++)
        coefficients(b, h->ScalingList8x8[i], 64, NULL);
    for (int i = 0; i < 6; i++)
        coefficients(b, h->ScalingList16x16[i], 64, &h->ScalingListDCCoeff16x16[i]);
    for (int i = 0; i < 2; i++)
        coefficients(b, h->ScalingList32x32[i], 64, &h->ScalingListDCCoeff32x32[i]);
}

static size_t sequence(const CUVIDHEVCPICPARAMS *h, uint8_t *out)
{
    struct bits b = { .count = 0 };
    fixed(&b, 4, 0);
    fixed(&b, 3, 0);
    bit(&b, true);
    profile(&b, h->bit_depth_luma_minus8 > 0);
    golomb(&b, 0);
    golomb(&b, 1); /* 4:2:0 */
    golomb(&b, (unsigned)h->pic_width_in_luma_samples);
    golomb(&b, (unsigned)h->pic_height_in_luma_samples);
    bit(&b, false); /* the conformance window is applied when a picture is mapped */
    golomb(&b, h->bit_depth_luma_minus8);
    golomb(&b, h->bit_depth_chroma_minus8);
    golomb(&b, h->log2_max_pic_order_cnt_lsb_minus4);
    bit(&b, true);
    golomb(&b, 15); /* room for any reference count */
    golomb(&b, 0);
    golomb(&b, 0);
    golomb(&b, h->log2_min_luma_coding_block_size_minus3);
    golomb(&b, h->log2_diff_max_min_luma_coding_block_size);
    golomb(&b, h->log2_min_transform_block_size_minus2);
    golomb(&b, h->log2_diff_max_min_transform_block_size);
    golomb(&b, h->max_transform_hierarchy_depth_inter);
    golomb(&b, h->max_transform_hierarchy_depth_intra);
    bit(&b, h->scaling_list_enable_flag);
    if (h->scaling_list_enable_flag)
        scaling_lists(&b, h);
    bit(&b, h->amp_enabled_flag);
    bit(&b, h->sample_adaptive_offset_enabled_flag);
    bit(&b, h->pcm_enabled_flag);
    if (h->pcm_enabled_flag) {
        fixed(&b, 4, h->pcm_sample_bit_depth_luma_minus1);
        fixed(&b, 4, h->pcm_sample_bit_depth_chroma_minus1);
        golomb(&b, h->log2_min_pcm_luma_coding_block_size_minus3);
        golomb(&b, h->log2_diff_max_min_pcm_luma_coding_block_size);
        bit(&b, h->pcm_loop_filter_disabled_flag);
    }
    golomb(&b, 0); /* reference picture sets */
    bit(&b, h->long_term_ref_pics_present_flag);
    if (h->long_term_ref_pics_present_flag)
        golomb(&b, 0);
    bit(&b, h->sps_temporal_mvp_enabled_flag);
    bit(&b, h->strong_intra_smoothing_enabled_flag);
    bit(&b, false); /* VUI */
    bit(&b, false); /* extension */
    return nal_unit(&b, "\x42\x01", 2, out);
}

static size_t picture_set(const CUVIDHEVCPICPARAMS *h, unsigned pps_id, uint8_t *out)
{
    struct bits b = { .count = 0 };
    golomb(&b, pps_id);
    golomb(&b, 0);
    bit(&b, h->dependent_slice_segments_enabled_flag);
    bit(&b, h->output_flag_present_flag);
    fixed(&b, 3, h->num_extra_slice_header_bits);
    bit(&b, h->sign_data_hiding_enabled_flag);
    bit(&b, h->cabac_init_present_flag);
    golomb(&b, h->num_ref_idx_l0_default_active_minus1);
    golomb(&b, h->num_ref_idx_l1_default_active_minus1);
    signed_golomb(&b, h->init_qp_minus26);
    bit(&b, h->constrained_intra_pred_flag);
    bit(&b, h->transform_skip_enabled_flag);
    bit(&b, h->cu_qp_delta_enabled_flag);
    if (h->cu_qp_delta_enabled_flag)
        golomb(&b, h->diff_cu_qp_delta_depth);
    signed_golomb(&b, h->pps_cb_qp_offset);
    signed_golomb(&b, h->pps_cr_qp_offset);
    bit(&b, h->pps_slice_chroma_qp_offsets_present_flag);
    bit(&b, h->weighted_pred_flag);
    bit(&b, h->weighted_bipred_flag);
    bit(&b, h->transquant_bypass_enabled_flag);
    bit(&b, h->tiles_enabled_flag);
    bit(&b, h->entropy_coding_sync_enabled_flag);
    if (h->tiles_enabled_flag) {
        golomb(&b, h->num_tile_columns_minus1);
        golomb(&b, h->num_tile_rows_minus1);
        bit(&b, h->uniform_spacing_flag);
        if (!h->uniform_spacing_flag) {
            for (int i = 0; i < h->num_tile_columns_minus1; i++)
                golomb(&b, h->column_width_minus1[i]);
            for (int i = 0; i < h->num_tile_rows_minus1; i++)
                golomb(&b, h->row_height_minus1[i]);
        }
        bit(&b, h->loop_filter_across_tiles_enabled_flag);
    }
    bit(&b, h->loop_filter_across_slices_enabled_flag);
    bit(&b, true); /* deblocking_filter_control_present_flag: what is absent would be these values */
    bit(&b, h->deblocking_filter_override_enabled_flag);
    bit(&b, h->pps_deblocking_filter_disabled_flag);
    if (!h->pps_deblocking_filter_disabled_flag) {
        signed_golomb(&b, h->pps_beta_offset_div2);
        signed_golomb(&b, h->pps_tc_offset_div2);
    }
    bit(&b, false); /* scaling lists: the SPS has what is in force */
    bit(&b, h->lists_modification_present_flag);
    golomb(&b, h->log2_parallel_merge_level_minus2);
    bit(&b, h->slice_segment_header_extension_present_flag);
    bit(&b, false); /* extension */
    return nal_unit(&b, "\x44\x01", 2, out);
}

size_t dd_hevc_sets(const CUVIDPICPARAMS *picture, uint8_t *out)
{
    const CUVIDHEVCPICPARAMS *h = &picture->CodecSpecific.hevc;
    if (h->num_short_term_ref_pic_sets || h->num_long_term_ref_pics_sps) {
        dd_log("nvdec: reference picture sets in an SPS are not there");
        return 0;
    }
    /* first_slice_segment_in_pic_flag, of an IRAP picture no_output_of_prior_pics_flag, slice_pic_parameter_set_id */
    struct reader r = slice_header(picture, 2);
    read_bit(&r);
    if (h->IrapPicFlag)
        read_bit(&r);
    unsigned pps_id = read_golomb(&r);
    size_t size = video_set(h->bit_depth_luma_minus8 > 0, out);
    size += sequence(h, out + size);
    return size + picture_set(h, pps_id, out + size);
}
