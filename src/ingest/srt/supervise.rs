//! Serving callers by one process after another.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::caller::{self, Call, Input};
use super::error::Error;
use super::process::{Link, Process};
use super::stats::Cause;
use super::wire::{FromSrt, MAX_FRAMES, PASSPHRASE, ToSrt};
use super::{BUSY, NOT_FOUND, STOPPING, Server, Started, stream_id};
use crate::blame::Blame;
use crate::ingest::auth::{Asked, Denied, Known, Name};
use crate::ingest::gate::Place;
use crate::ingest::rtmp::APP;
use crate::ingest::{Protocol, household};
use crate::logic::backoff::Backoff;

/// Frames of one caller that wait: what its window allows, and room for numbers and the end beside them.
const INPUTS: usize = MAX_FRAMES + 16;

/// Of these are kept free for the end.
const RESERVED: usize = 8;

/// A passphrase in the key store that SRT does not take (SRT_REJX_ISE).
const OURS: u16 = 1500;

/// A refused encoder tries again for ever, many times a second: of one address and cause there is a line in so long.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Addresses whose lines are held back; beyond, all begin anew.
const LOG_ADDRESSES: usize = 1024;

/// Who was let in, and is not connected yet.
struct Admitted {
    peer: SocketAddr,
    app: String,
    name: Name,
    place: Place,
}

/// Why somebody was not.
struct Refused {
    code: u16,
    cause: Cause,
    blame: Blame,
    reason: String,
}

impl Refused {
    fn new(code: u16, cause: Cause, blame: Blame, reason: impl ToString) -> Self {
        Self { code, cause, blame, reason: reason.to_string() }
    }
}

impl Server {
    /// Serves callers until shutdown, then waits until the last publisher has left or the worker has dropped his packets' receiver. A process that ends is replaced.
    pub async fn serve(self: Arc<Self>, Started(first): Started) {
        let begun = Instant::now();
        let mut backoff = Backoff::default();
        let mut next = Some(first);
        let mut quiet = Quiet::default();
        loop {
            let process = match next.take() {
                Some(process) => Ok(process),
                None => self.process().await,
            };
            match process {
                Ok(process) => {
                    let (pid, libsrt) = (process.pid(), process.libsrt());
                    tracing::info!(pid, libsrt, address = %self.address, "srt: listening");
                    let gone = self.attend(process, &mut quiet).await;
                    self.stats.no_process();
                    match gone {
                        Some(reason) => {
                            tracing::error!(pid, blame = Blame::Worker.as_str(), "srt: the SRT process is gone: {reason}")
                        }
                        None => return,
                    }
                }
                Err(error) => tracing::error!(blame = Blame::Operator.as_str(), %error, "srt: no SRT process"),
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = tokio::time::sleep(backoff.died(begun.elapsed())) => {}
            }
        }
    }

    /// Why the process is gone; `None` when all is over.
    async fn attend(self: &Arc<Self>, mut process: Process, quiet: &mut Quiet) -> Option<String> {
        let mut overgrown = pin!(Process::overgrown(process.pid(), process.memory()));
        let mut desk = Desk {
            server: self,
            link: process.link(),
            quiet,
            admitted: HashMap::new(),
            inputs: HashMap::new(),
            calls: JoinSet::new(),
            unasked: 0,
        };
        let mut stopping = self.shutdown.is_cancelled();
        let reason = loop {
            if stopping && desk.calls.is_empty() {
                return None;
            }
            tokio::select! {
                message = process.next() => {
                    if let Err(reason) = message.and_then(|(message, payload)| desk.take(message, payload)) {
                        break reason;
                    }
                }
                Some(ended) = desk.calls.join_next() => match ended {
                    Ok(caller) => {
                        desk.inputs.remove(&caller);
                    }
                    // A bug of ours, which must not end the others.
                    Err(error) => tracing::error!(%error, "srt: caller's task failed"),
                },
                reason = &mut overgrown => break reason,
                () = self.shutdown.cancelled(), if !stopping => stopping = true,
            }
        };
        process.kill();
        // Their ends of the channels close, and they end.
        desk.inputs.clear();
        while let Some(ended) = desk.calls.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "srt: caller's task failed");
            }
        }
        Some(reason)
    }

    fn judge(&self, peer: SocketAddr, bytes: &[u8]) -> Result<(Admitted, ToAdmit), Refused> {
        let publisher = |code, cause, reason: &dyn ToString| Refused::new(code, cause, Blame::Publisher, reason.to_string());
        if self.shutdown.is_cancelled() {
            return Err(Refused::new(STOPPING, Cause::Worker, Blame::Worker, Error::ShuttingDown));
        }
        let id = stream_id::parse(bytes).map_err(|e| publisher(e.rejection(), Cause::StreamId, &e))?;
        if id.app != APP {
            return Err(publisher(NOT_FOUND, Cause::StreamId, &format!("the stream id must be {APP}/KEY or KEY")));
        }
        let name = Name::parse(id.name.expose()).map_err(|bad| {
            let denied = Denied::Malformed(bad);
            publisher(denied.srt_rejection(), Cause::StreamId, &denied)
        })?;
        if name.key.expose().is_empty() {
            return Err(publisher(stream_id::Error::NoKey.rejection(), Cause::StreamId, &stream_id::Error::NoKey));
        }
        let place = self.gate.enter(peer.ip()).map_err(|full| {
            let error = Error::from(full);
            Refused::new(BUSY, error.cause(), error.blame(), error)
        })?;
        let asked =
            Asked { protocol: Protocol::Srt, peer, app: id.app.clone(), key: name.key.clone(), signed: name.signed.clone() };
        let granted = match self.judge.judge(&asked) {
            Known::NotYet => {
                return Err(Refused::new(Known::NOT_YET_SRT, Cause::Busy, Blame::Worker, "the stream key is being looked up"));
            }
            Known::Judged(Err(denied)) => {
                return Err(Refused::new(denied.srt_rejection(), Cause::Refused, denied.blame(), denied));
            }
            Known::Judged(Ok(granted)) => granted,
        };
        let passphrase = granted.passphrase.map(|p| p.expose().as_bytes().to_vec()).unwrap_or_default();
        if !passphrase.is_empty() && !PASSPHRASE.contains(&passphrase.len()) {
            let reason = format!("passphrase of stream {} has {} bytes, must have 10 to 79", granted.stream, passphrase.len());
            return Err(Refused::new(OURS, Cause::Refused, Blame::Operator, reason));
        }
        let latency_ms = granted.latency.map(|l| u32::try_from(l.as_millis()).unwrap_or(u32::MAX));
        let latency_ms = latency_ms.map(|ms| ms.min(self.settings.max_latency_ms));
        Ok((Admitted { peer, app: id.app, name, place }, ToAdmit { latency_ms, passphrase }))
    }
}

/// What libsrt is told of somebody who is let in.
struct ToAdmit {
    latency_ms: Option<u32>,
    passphrase: Vec<u8>,
}

/// One process's callers.
struct Desk<'a> {
    server: &'a Arc<Server>,
    link: Link,
    quiet: &'a mut Quiet,
    admitted: HashMap<u32, Admitted>,
    inputs: HashMap<u32, mpsc::Sender<Input>>,
    calls: JoinSet<u32>,
    unasked: u64,
}

impl Desk<'_> {
    /// Takes one message. Media and numbers of a caller that is over here may still be under way.
    ///
    /// # Errors
    /// The process does what it must not, or does not read.
    fn take(&mut self, message: FromSrt, payload: Bytes) -> Result<(), String> {
        match message {
            FromSrt::Hello { .. } | FromSrt::Unable { .. } => return Err("broke the protocol: a second hello".into()),
            FromSrt::Question { caller, peer } => return self.answer(caller, peer, &payload),
            FromSrt::Connected { caller, version, latency_ms, key_length } => {
                let Some(admitted) = self.admitted.remove(&caller) else {
                    return Err("broke the protocol: nobody let this caller in".into());
                };
                self.connected(caller, admitted, version, latency_ms, key_length);
            }
            FromSrt::Failed { caller } => {
                if let Some(Admitted { peer, .. }) = self.admitted.remove(&caller) {
                    let reason = "no connection after the handshake: as a rule the passphrase is another one, or missing";
                    self.refused(peer, &Refused::new(0, Cause::Passphrase, Blame::Publisher, reason));
                }
            }
            FromSrt::Data { caller } => {
                self.server.stats.count_bytes(payload.len());
                if let Some(inputs) = self.inputs.get(&caller)
                    && let Err(mpsc::error::TrySendError::Full(_)) = inputs.try_send(Input::Media(payload))
                {
                    return Err("broke the protocol: more media than there was credit for".into());
                }
            }
            FromSrt::Numbers { caller, numbers } => {
                // The next ones come in a second.
                if let Some(inputs) = self.inputs.get(&caller).filter(|i| i.capacity() > RESERVED) {
                    let _ = inputs.try_send(Input::Numbers(numbers));
                }
            }
            FromSrt::Ended { caller, goodbye } => {
                if let Some(inputs) = self.inputs.remove(&caller) {
                    // Only a task that has ended already does not take it.
                    let _ = inputs.try_send(Input::Ended { goodbye });
                }
            }
            FromSrt::Alive { unasked } => {
                self.server.stats.count_unasked(unasked.saturating_sub(self.unasked));
                self.unasked = unasked;
            }
        }
        Ok(())
    }

    fn answer(&mut self, caller: u32, peer: SocketAddr, id: &[u8]) -> Result<(), String> {
        let does_not_read = || Err("does not read".to_owned());
        self.server.stats.count_call();
        match self.server.judge(peer, id) {
            Ok((admitted, ToAdmit { latency_ms, passphrase })) => {
                self.admitted.insert(caller, admitted);
                if !self.link.try_send(&ToSrt::Admit { caller, latency_ms }, &passphrase) {
                    return does_not_read();
                }
            }
            Err(refused) => {
                self.refused(peer, &refused);
                if !self.link.try_send(&ToSrt::Reject { caller, code: refused.code }, &[]) {
                    return does_not_read();
                }
            }
        }
        Ok(())
    }

    fn refused(&mut self, peer: SocketAddr, refused: &Refused) {
        let Refused { code, cause, blame, reason } = refused;
        self.server.stats.count_end(*cause);
        if self.quiet.speaks(peer.ip(), *cause, Instant::now()) {
            tracing::warn!(%peer, blame = blame.as_str(), cause = cause.as_str(), code, "srt: refused: {reason}");
        }
    }

    fn connected(&mut self, caller: u32, admitted: Admitted, version: u32, latency_ms: u32, key_length: u8) {
        let Admitted { peer, app, name: Name { key, token, signed }, place } = admitted;
        let version = format!("{}.{}.{}", version >> 16 & 0xff, version >> 8 & 0xff, version & 0xff);
        tracing::info!(%peer, libsrt = version, latency_ms, key_length, "srt: connected");
        let (inputs, inbox) = mpsc::channel(INPUTS);
        self.inputs.insert(caller, inputs);
        let call = Call { caller, peer, app, key, token, signed, latency_ms, place };
        self.calls.spawn(caller::run(Arc::clone(self.server), call, inbox, self.link.clone()));
    }
}

/// Holds back what was said of an address already.
#[derive(Default)]
struct Quiet(HashMap<(IpAddr, &'static str), Instant>);

impl Quiet {
    fn speaks(&mut self, address: IpAddr, cause: Cause, now: Instant) -> bool {
        if self.0.len() >= LOG_ADDRESSES {
            self.0.retain(|_, said| now.saturating_duration_since(*said) < LOG_EVERY);
            if self.0.len() >= LOG_ADDRESSES {
                self.0.clear();
            }
        }
        let said = self.0.get(&(household(address), cause.as_str()));
        let speaks = said.is_none_or(|said| now.saturating_duration_since(*said) >= LOG_EVERY);
        if speaks {
            self.0.insert((household(address), cause.as_str()), now);
        }
        speaks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_one_address_and_cause_there_is_a_line_now_and_then() {
        let mut quiet = Quiet::default();
        let now = Instant::now();
        let a: IpAddr = "192.0.2.1".parse().unwrap();
        let mut at = |millis, cause| quiet.speaks(a, cause, now + Duration::from_millis(millis));
        assert!(at(0, Cause::Refused) && !at(20, Cause::Refused) && at(30, Cause::Passphrase) && at(10_000, Cause::Refused));
        for i in 0..10_000u32 {
            quiet.speaks(IpAddr::from(i.to_be_bytes()), Cause::Refused, now);
        }
        assert!(quiet.0.len() <= LOG_ADDRESSES);
    }
}
