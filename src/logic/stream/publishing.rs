//! A session and its store: what is kept, uploaded, named, retried and given up; how the session ends, is handed over, or is taken away.

use std::time::Duration;

use super::tracks::Role;
use super::{Now, Output, Stream, Written, shelf};
use crate::logic::model::ObjectKey;
use crate::logic::playlist;
use crate::logic::publish::Outcome;

impl Stream {
    /// A [`Output::Keep`] is kept, so that it outlives what may happen before it is durable; or it cannot be kept.
    pub fn kept(&mut self, id: u64, outcome: Result<(), String>, now: Now) {
        match outcome {
            Ok(()) => {
                if let Some((row, bytes)) = self.shelf.on_the_way(id) {
                    self.queue.add(id, row, bytes, now.mono);
                } else if let Some(bytes) = self.shelf.journal_on_the_way(id) {
                    self.queue.add_journal(id, bytes, now.mono);
                }
            }
            Err(e) => drop(self.give_up(id, &e)),
        }
        self.settle(now);
    }

    /// An [`Output::Upload`] has ended: the objects are durable, may be later, or never will be.
    pub fn stored(&mut self, id: u64, outcome: Outcome, reason: &str, now: Now) {
        let away = self.queue.is_away();
        let finished = self.queue.finished(id, outcome, now.mono);
        self.note_store(away, reason);
        match outcome {
            Outcome::Failed => {}
            Outcome::Lost => {
                let key = self.give_up(id, reason);
                if let (Some(key), false) = (key, self.keys.is_recorded()) {
                    // An earlier try may have stored it, and failed all the same.
                    self.outputs.push_back(Output::Delete { after: self.setup.hold, keys: vec![key] });
                }
            }
            Outcome::Stored if self.shelf.journal_stored(id) => {}
            Outcome::Stored => {
                if let Some(done) = self.shelf.stored(id, true) {
                    let key = done.placed.key.clone();
                    let used = finished && self.window.as_mut().is_some_and(|w| w.place(done.track, done.number, done.placed));
                    if !used && !self.keys.is_recorded() {
                        self.outputs.push_back(Output::Delete { after: Duration::ZERO, keys: vec![key] });
                    }
                }
            }
        }
        self.settle(now);
    }

    /// The spool is full: the oldest object that only a recording wants is given up for it, if there is one.
    pub fn shed(&mut self) -> Option<u64> {
        let id = self.queue.oldest_late()?;
        self.queue.drop(id);
        self.shelf.stored(id, false);
        Some(id)
    }

    /// The object will not be stored. Gives its key, if it is a segment's.
    fn give_up(&mut self, id: u64, reason: &str) -> Option<ObjectKey> {
        self.queue.drop(id);
        if self.shelf.journal_stored(id) {
            self.warn(format!("a journal of the recording is lost, its segments are found by their names: {reason}"));
        }
        let done = self.shelf.stored(id, false)?;
        self.warn(format!("segment {} of {} is lost: {reason}", done.number, self.track_name(done.track)));
        if self.window.as_mut().is_some_and(|w| w.lose(done.track, done.number)) {
            self.tracks[done.track].gaps += 1;
        }
        Some(done.placed.key)
    }

    fn note_store(&mut self, was_away: bool, reason: &str) {
        match (was_away, self.queue.is_away()) {
            (false, true) => self.warn(format!("the store does not answer, segments wait for it: {reason}")),
            (true, false) => {
                let (count, bytes) = (self.queue.len(), self.queue.bytes());
                self.note(format!("the store answers again: {count} segments of {} kB follow", bytes / 1000));
            }
            _ => {}
        }
    }

    /// A [`Output::Manifests`] is written, or failed.
    pub fn manifests_written(&mut self, outcome: Result<(), String>, now: Now) {
        let away = self.queue.is_away();
        match &outcome {
            Ok(()) => self.queue.succeeded(now.mono),
            Err(_) => self.queue.failed(now.mono),
        }
        self.note_store(away, outcome.as_ref().err().map_or("", String::as_str));
        if let (Err(e), false) = (&outcome, self.queue.is_away()) {
            self.warn(format!("manifests could not be written: {e}"));
        }
        match self.shelf.manifests_written(outcome.is_ok(), now.mono) {
            // rules.md 17
            Written::Delete { .. } if self.keys.is_recorded() => {}
            Written::Delete { after, keys } => self.outputs.push_back(Output::Delete { after, keys }),
            Written::Nothing => {}
        }
        self.settle(now);
    }

    /// The worker ends and another one may go on: everything that was made is written, the playlists stay open.
    pub fn hand_over(&mut self, now: Now) {
        self.handing_over = true;
        self.drain(now);
    }

    /// Another writer has taken the stream over: nothing more is written under its name.
    pub fn fenced(&mut self, now: Now) {
        if !self.fenced {
            self.fenced = true;
            self.warn("another worker has taken the stream over: this one stops".into());
            self.end_slate(now);
            let events = self.timeline.pause();
            self.handle(events, now);
            self.lifecycle.stop();
            self.settle(now);
        }
    }

    /// Another writer has taken over.
    pub fn is_fenced(&self) -> bool {
        self.fenced
    }

    /// Ends the session when it is over, names what is ready, writes what changed.
    pub(super) fn settle(&mut self, now: Now) {
        if self.lifecycle.is_over() && !self.ended {
            self.ended = true;
            let end = self.timeline.end();
            if let Some(w) = self.window.as_mut().filter(|_| !self.handing_over) {
                w.end(end, now.mono);
            }
        }
        if let Some(window) = self.window.as_mut().filter(|_| !self.fenced) {
            let store = if self.queue.is_away() { playlist::Store::Down } else { playlist::Store::Up };
            let queue = &self.queue;
            let changed = window.advance(store, &|row| queue.excuses(row), now.mono);
            for track in window.take_unfilled() {
                self.tracks[track].gaps += 1;
            }
            for row in window.take_skipped() {
                let gone = self.queue.demote(row, self.keys.is_recorded());
                // A try that failed, or one that is under way, may have stored it all the same.
                let keys: Vec<_> = gone.iter().filter_map(|id| self.shelf.stored(*id, false)).map(|d| d.placed.key).collect();
                if !gone.is_empty() {
                    self.outputs.push_back(Output::Forget(gone));
                    self.outputs.push_back(Output::Delete { after: self.setup.hold, keys });
                }
            }
            let finished = window.finished() && !std::mem::replace(&mut self.end_due, window.finished());
            if changed || finished {
                self.shelf.changed();
            }
            let source = self.tracks.iter().find(|t| t.role == Role::Source).map(|t| &t.name);
            let (utc_timing, pathways) = (self.setup.utc_timing.as_deref(), &self.setup.pathways);
            let options = shelf::Options { keys: &self.keys, pathways, utc_timing, source };
            if let Some(files) = self.shelf.render(window, &options, now) {
                self.outputs.push_back(Output::Manifests(files));
            }
        }
        self.record(now);
        while let Some(id) = self.queue.next(now.mono) {
            self.outputs.push_back(Output::Upload(id));
        }
        let empty = self.window.as_ref().is_none_or(|w| match (self.fenced, self.handing_over) {
            (true, _) => true,
            (false, true) => w.is_settled() && !self.shelf.is_behind(),
            (false, false) => w.finished() && (w.snapshot().is_none() || self.shelf.wrote_end()),
        });
        // What a fenced writer made and nobody named belongs to a recording, if there is one.
        let busy = if self.fenced { self.keys.is_recorded() && self.shelf.has_puts() } else { self.shelf.is_busy() };
        if self.ended && empty && !busy && !self.over {
            self.over = true;
            if let Some(e) = self.encoding.as_mut().filter(|e| e.is_running()) {
                e.drained();
            }
            self.outputs.push_back(Output::Over);
        }
    }
}
