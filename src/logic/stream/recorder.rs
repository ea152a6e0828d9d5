//! A session and its recording (rules.md 17): journals of what is made, and the playlists of all of it before the session counts as ended. A worker that dies
//! in between leaves a session that another one ends, and records.

use std::time::Duration;

use bytes::Bytes;

use super::{Now, Output, Stream};
use crate::logic::journal::{Collector, Head};

/// How far the recording's playlists are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Playlists {
    /// None are wanted.
    Off,
    /// Not all that they need is durable.
    Ahead,
    /// They are being written.
    Asked,
    /// Written, or given up.
    Done,
}

#[derive(Debug)]
pub(super) struct Recorder {
    /// `None`: this writer's segments are not kept.
    pub journal: Option<Collector>,
    playlists: Playlists,
    /// Nothing more is made.
    closed: bool,
}

impl Recorder {
    /// A session that goes on may have been recorded by its earlier writer, whatever this one does.
    pub fn new(recorded: bool, goes_on: bool) -> Self {
        let playlists = if recorded || goes_on { Playlists::Ahead } else { Playlists::Off };
        Self { journal: recorded.then(Collector::default), playlists, closed: false }
    }

    pub fn is_awaited(&self) -> bool {
        matches!(self.playlists, Playlists::Ahead | Playlists::Asked)
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        self.journal.as_ref().and_then(Collector::poll_timeout)
    }
}

impl Stream {
    /// The recording's playlists are written; or there can be none, which is no reason to hold the session open.
    pub fn recorded(&mut self, outcome: Result<(), String>, now: Now) {
        if let Err(e) = outcome {
            self.warn(format!("the recording has no playlists: {e}"));
        }
        self.recorder.playlists = Playlists::Done;
        self.shelf.await_recording(false);
        self.shelf.handle_timeout(now.mono);
        self.settle(now);
    }

    /// Writes a journal, if one is due; the last one when nothing more is made. Then asks for the playlists, unless another writer will.
    pub(super) fn record(&mut self, now: Now) {
        let Some(window) = &self.window else { return };
        let ours = !self.fenced && !self.handing_over;
        let closed = self.ended && (self.fenced || (self.handing_over && window.is_settled()) || window.finished());
        if let (Some(journal), Some(anchor), false) = (&mut self.recorder.journal, self.dating.anchor(), self.recorder.closed) {
            let head = Head {
                session: &self.setup.session,
                epoch: self.keys.epoch(),
                anchor,
                target_duration: window.target_duration(),
                tracks: window.tracks().to_vec(),
                captions: window.captions().clone(),
            };
            if let Some(journal) = journal.take(head, closed, now.mono)
                && let Ok(text) = serde_json::to_vec(&journal)
            {
                let put = self.shelf.put_journal(self.keys.journal(journal.n), Bytes::from(text));
                self.outputs.push_back(Output::Keep(put));
            }
        }
        self.recorder.closed |= closed;
        if closed && ours && self.recorder.playlists == Playlists::Ahead && !self.shelf.has_puts() {
            self.recorder.playlists = Playlists::Asked;
            self.outputs.push_back(Output::Record);
        }
    }
}
