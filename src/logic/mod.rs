//! Every decision about media, playlists and processes, as pure machines: no tokio, GStreamer, object store, files, environment,
//! clock or logging in here. `now` is an argument; what happened is a return value.

pub mod audio;
pub mod backoff;
pub mod dating;
pub mod encoder_choice;
pub mod encoding;
pub mod facts;
pub mod gpu;
pub mod journal;
pub mod ladder;
pub mod lifecycle;
pub mod loudness;
pub mod mapper;
pub mod model;
pub mod obstacle;
pub mod pace;
pub mod packet;
pub mod pathway;
pub mod playlist;
pub mod publish;
pub mod recipe;
pub mod recording;
pub mod render;
pub mod rendition;
pub mod replication;
pub mod services;
pub mod skew;
pub mod slate;
pub mod sound;
pub mod state;
pub mod stream;
pub mod takeover;
pub mod template;
pub mod time;
pub mod timeline;
pub mod verdict;
