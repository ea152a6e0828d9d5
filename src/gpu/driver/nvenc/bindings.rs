//! What bindgen makes of `vendor/nvidia/nvEncodeAPI.h` (see `build.rs`).

// Machine-written, in C's spelling; most of it is not called.
#![allow(
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    dead_code,
    unused_imports,
    unnecessary_transmutes,
    clippy::all,
    unsafe_op_in_unsafe_fn
)]

include!(concat!(env!("OUT_DIR"), "/nvenc.rs"));
