//! A session's thumbnails: which are published, under which names, and for how long. They are best effort: one is on its way to the store at the most,
//! none waits for it, and none is tried again, because the next one is newer.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::status::ThumbnailStatus;
use super::{Now, Output, Stream};
use crate::logic::ladder::Size;
use crate::logic::model::{ObjectKey, VideoFormat};
use crate::logic::thumbnail::Thumbnail;
use crate::logic::time::{MediaTime, UnixMillis};

/// An upload that takes longer is given up: two of the usual intervals, and more than an object of a few kilobytes takes on any line that carries the
/// segments.
pub const UPLOAD_DEADLINE: Duration = Duration::from_secs(10);

/// Why one was not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dropped {
    /// Sooner behind the last one than half of what was ordered: a codec process that began anew was fed again what the old one had shown.
    Early,
    /// The last one is still on its way.
    Busy,
    /// The store does not answer.
    StoreAway,
    /// It was tried.
    StoreFailed,
}

impl Dropped {
    /// A word for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Early => "early",
            Self::Busy => "busy",
            Self::StoreAway => "store_away",
            Self::StoreFailed => "store_failed",
        }
    }
}

/// A picture for the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Immutable, under its own time; `None` where none is kept.
    pub own: Option<ObjectKey>,
    /// In place of the last one.
    pub latest: ObjectKey,
    /// JPEG.
    pub jpeg: Bytes,
}

/// A picture, by its date.
#[derive(Debug, Clone, Copy)]
struct Dated {
    at: UnixMillis,
    size: Size,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Thumbnails {
    /// The one that was given to the shell last.
    last: Option<(MediaTime, Dated)>,
    /// It is not stored yet.
    in_flight: bool,
    /// What `latest.jpg` is.
    shown: Option<Dated>,
    published: u64,
    dropped: BTreeMap<Dropped, u64>,
}

impl Thumbnails {
    fn drop(&mut self, why: Dropped) {
        *self.dropped.entry(why).or_default() += 1;
    }
}

impl Stream {
    /// The codec process gave a picture.
    pub fn thumbnail(&mut self, pts: MediaTime, jpeg: Bytes, now: Now) {
        let Some(ordered) = self.encoding.as_ref().and_then(|e| e.thumbnail_at(pts)) else {
            self.codec_misbehaved("gave a thumbnail that it was not asked for", now);
            return;
        };
        match ordered.check(&jpeg) {
            Ok(()) => self.publish_thumbnail(pts, ordered, jpeg),
            Err(e) => self.codec_misbehaved(&format!("gave a thumbnail that is none: {e}"), now),
        }
    }

    fn publish_thumbnail(&mut self, pts: MediaTime, ordered: Thumbnail, jpeg: Bytes) {
        // Under this name another worker writes.
        if self.fenced || self.over {
            return;
        }
        let half = MediaTime(ordered.every.0 / 2);
        let early = self.thumbnails.last.is_some_and(|(last, _)| pts - last < half);
        let why =
            [(early, Dropped::Early), (self.thumbnails.in_flight, Dropped::Busy), (self.queue.is_away(), Dropped::StoreAway)];
        if let Some((_, why)) = why.into_iter().find(|(is, _)| *is) {
            return self.thumbnails.drop(why);
        }
        let Some(date) = self.dating.date(pts) else { return };
        // A name is used once, whatever the clock does.
        let at = self.thumbnails.last.map_or(date, |(_, last)| date.max(UnixMillis(last.at.0.saturating_add(1))));
        self.thumbnails.last = Some((pts, Dated { at, size: Size { width: ordered.width, height: ordered.height } }));
        self.thumbnails.in_flight = true;
        let keep = self.setup.thumbnails.keep;
        let own = (!keep.is_zero()).then(|| self.keys.thumbnail(at));
        if let Some(key) = own.clone() {
            // Said at once: however the upload ends, and whether anybody is left to hear of it, the object goes.
            self.outputs.push_back(Output::Delete { after: keep + UPLOAD_DEADLINE, keys: vec![key] });
        }
        self.outputs.push_back(Output::Thumbnail(Picture { own, latest: self.keys.latest_thumbnail(), jpeg }));
    }

    /// An [`Output::Thumbnail`] is in the store, or it is not and never will be.
    pub fn thumbnail_stored(&mut self, ok: bool) {
        self.thumbnails.in_flight = false;
        if ok {
            self.thumbnails.published += 1;
            self.thumbnails.shown = self.thumbnails.last.map(|(_, dated)| dated);
        } else {
            self.thumbnails.drop(Dropped::StoreFailed);
        }
    }

    /// What is ordered of the encoders that begin now. The clip of a pause is nobody's picture.
    pub(super) fn thumbnail_of(&self, format: &VideoFormat) -> Option<Thumbnail> {
        Thumbnail::of(&self.ladder_source(format), &self.setup.thumbnails)
            .filter(|_| !self.is_slate() && !self.saving.is_some())
    }

    pub(super) fn thumbnail_status(&self) -> ThumbnailStatus {
        let shown = self.thumbnails.shown;
        ThumbnailStatus {
            url: shown.map(|_| format!("/{}", self.keys.latest_thumbnail())),
            at: shown.map(|s| s.at.to_string()),
            width: shown.map(|s| s.size.width),
            height: shown.map(|s| s.size.height),
            reason: self.no_thumbnails(),
            published: self.thumbnails.published,
            dropped: self.thumbnails.dropped.iter().map(|(why, n)| (why.as_str(), *n)).collect(),
        }
    }

    /// Why there are none and none will come, as far as one can tell.
    fn no_thumbnails(&self) -> Option<&'static str> {
        let has_video = self.decision.as_ref().is_none_or(|d| d.video.is_some() || self.timeline.video_format().is_some());
        if self.setup.thumbnails.every.is_zero() {
            Some("thumbnails are off")
        } else if !has_video {
            Some("the stream has no video")
        } else if !self.setup.timeline.can_encode {
            Some("nothing is decoded here: the source is passed through only")
        } else {
            let encoding = self.encoding.as_ref()?;
            let format = self.timeline.video_format()?;
            if encoding.rungs().is_empty() {
                Some("nothing is decoded: the source is too small for a rung")
            } else if Thumbnail::of(&self.ladder_source(format), &self.setup.thumbnails).is_none() {
                Some("the picture is a strip")
            } else {
                None
            }
        }
    }
}
