//! Access units to CMAF init and media segments (ISO/IEC 23000-19). Pure: bytes in, bytes out.

pub mod aac;
pub mod av1;
pub mod bits;
pub mod captions;
pub mod events;
pub mod fragment;
pub mod h264;
pub mod h265;
pub mod init;
pub mod nal;
pub mod packager;
pub mod sei;
pub mod video;
