//! From a publisher's socket to a player's decoder: real processes on loopback, in real time.

mod captions;
mod change;
mod codec_death;
mod crowd;
mod first;
mod kinds;
mod ladder;
mod players;
mod reconnect;
mod secrets;
mod sound;
mod thumbnails;
