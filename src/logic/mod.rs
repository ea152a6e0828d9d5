//! Every decision about media, playlists and processes, as pure machines: no tokio, GStreamer, object store, files, environment,
//! clock or logging in here. `now` is an argument; what happened is a return value.

pub mod ladder;
pub mod model;
pub mod playlist;
pub mod recipe;
pub mod template;
pub mod time;
