//! The slate of a session: while its publisher is away, the clip takes its place (rules.md 8).

use std::sync::Arc;
use std::time::Duration;

use super::tracks::Role;
use super::{Now, Stream};
use crate::cmaf::h264;
use crate::logic::model::{Coding, VideoFormat};
use crate::logic::packet::Packet;
use crate::logic::slate::Player;

/// Where a pause has come to.
#[derive(Debug, Default)]
pub(super) enum Pause {
    #[default]
    None,
    /// The publisher may be back before anybody notices.
    Waiting {
        until: Duration,
    },
    Playing(Player),
}

impl Stream {
    /// The slate takes the publisher's place now.
    pub(super) fn is_slate(&self) -> bool {
        matches!(self.pause, Pause::Playing(_))
    }

    /// The publisher is gone. Nothing that was never announced is shown.
    pub(super) fn await_slate(&mut self, now: Now) {
        // The clip is H.264, and nobody can make it into anything else here.
        let source = self.tracks.iter().find(|t| t.role == Role::Source).and_then(|t| t.format().coding());
        let fits = self.setup.timeline.can_encode || source.is_none_or(|c| c == Coding::H264);
        if self.setup.slate.is_some() && self.decision.is_some() && fits {
            // rules.md 8: 1.5 x target
            let target = self.setup.timeline.target.millis().max(0).unsigned_abs();
            self.pause = Pause::Waiting { until: now.mono + Duration::from_millis(target * 3 / 2) };
        }
    }

    /// The publisher is back, or the session is over.
    pub(super) fn end_slate(&mut self, now: Now) {
        if let Pause::Playing(_) = std::mem::take(&mut self.pause) {
            let events = self.timeline.pause();
            self.handle(events, now);
        }
    }

    pub(super) fn slate_timeout(&self) -> Option<Duration> {
        match &self.pause {
            Pause::None => None,
            Pause::Waiting { until } => Some(*until),
            Pause::Playing(player) => Some(player.poll_timeout()),
        }
    }

    pub(super) fn play_slate(&mut self, now: Now) {
        if let (Pause::Waiting { until }, Some(clip)) = (&self.pause, &self.setup.slate)
            && now.mono >= *until
        {
            let player = Player::new(Arc::clone(clip), now.mono);
            let configs = player.configs();
            self.timeline.resume_by_slate(self.elapsed(now));
            self.dating.resumed();
            self.facts.resumed();
            self.pause = Pause::Playing(player);
            self.note("the slate takes the publisher's place".into());
            for config in configs {
                self.slate_packet(config, now);
            }
        }
        while let Pause::Playing(player) = &mut self.pause
            && let Some(packet) = player.next(now.mono)
        {
            self.slate_packet(packet, now);
        }
    }

    fn slate_packet(&mut self, packet: Packet, now: Now) {
        match packet {
            Packet::VideoConfig(_, avcc) => {
                // The clip was tried when it was read, and what the publisher claimed says nothing of it.
                if let Ok(format) = h264::read_record(&avcc, None) {
                    self.timeline.video_config(format, now.mono);
                }
            }
            other => self.take(other, now),
        }
    }

    /// What the rungs are planned for: they keep their sizes while a clip of another size is sent.
    pub(super) fn planned_for(&mut self, format: &VideoFormat) -> VideoFormat {
        match &self.source {
            Some(source) if self.is_slate() => VideoFormat { fps: format.fps, ..source.clone() },
            _ => {
                self.source = Some(format.clone());
                format.clone()
            }
        }
    }
}
