//! One connected caller: media to packets to the worker, credit back.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::Server;
use super::error::Error;
use super::process::Link;
use super::stats::Cause;
use super::wire::{self, ToSrt, WINDOW};
use crate::ingest::auth::Signed;
use crate::ingest::gate::Place;
use crate::ingest::queue::Queue;
use crate::ingest::{Line, Packet, Protocol, Request, Verdict};
use crate::logic::srt::Numbers;
use crate::secret::Secret;

/// Credit goes back in quarters of the window: a caller never waits for it while the worker takes packets, and four messages a second are few.
const CREDIT: u32 = WINDOW / 4;

/// Who is connected.
pub(super) struct Call {
    pub caller: u32,
    pub peer: SocketAddr,
    pub app: String,
    pub key: Secret,
    pub token: Option<Secret>,
    pub signed: Option<Signed>,
    pub latency_ms: u32,
    /// Held until the call is over.
    pub place: Place,
}

/// What comes of it.
#[derive(Debug)]
pub(super) enum Input {
    Media(Bytes),
    Numbers(Numbers),
    Ended { goodbye: bool },
}

/// Serves one to its end, and writes its line to the log. Gives its number back.
pub(super) async fn run(server: Arc<Server>, call: Call, inputs: mpsc::Receiver<Input>, link: Link) -> u32 {
    let _connected = server.stats.connection();
    let Call { caller, peer, .. } = call;
    let _place = &call.place;
    let outcome = Serving { server: &server, call: &call, inputs, link: link.clone(), owed: 0 }.publish().await;
    match outcome {
        Ok(()) => {
            server.stats.count_end(Cause::Finished);
            tracing::info!(%peer, "srt: publisher finished");
        }
        Err(error) => {
            if !matches!(error, Error::Lost | Error::Process) {
                // One that ended meanwhile is not known there any more.
                link.send(&ToSrt::Close { caller }).await;
            }
            server.stats.count_end(error.cause());
            tracing::warn!(%peer, blame = error.blame().as_str(), cause = error.cause().as_str(), %error, "srt: connection ended");
        }
    }
    caller
}

struct Serving<'a> {
    server: &'a Server,
    call: &'a Call,
    inputs: mpsc::Receiver<Input>,
    link: Link,
    /// Credit to give back.
    owed: u32,
}

impl Serving<'_> {
    async fn publish(&mut self) -> Result<(), Error> {
        let limit = self.server.settings.max_latency_ms;
        if self.call.latency_ms > limit {
            return Err(Error::Latency { asked: self.call.latency_ms, limit });
        }
        let (mut queue, line) = self.ask().await?;
        let mut demux = self.server.demux();
        let mut packets = Vec::new();
        let mut last = Numbers::default();
        let mut idle = Instant::now() + self.server.limits.idle();
        loop {
            let input = tokio::select! {
                () = queue.closed() => return Err(queue.left().into()),
                () = sleep_until(idle) => return Err(Error::Idle),
                input = self.inputs.recv() => input,
            };
            match input {
                Some(Input::Media(media)) => {
                    queue.count_bytes(media.len());
                    let judged = demux.push(&media, &mut packets);
                    for note in demux.take_notes() {
                        tracing::info!(peer = %self.call.peer, "srt: {note}");
                    }
                    let brought = !packets.is_empty();
                    for packet in packets.drain(..) {
                        queue.send(packet).await?;
                    }
                    judged?;
                    self.pay(wire::cost(media.len())).await;
                    // Set after the waiting above: time in which the worker made us wait is not the publisher's silence. Padding is silence.
                    if brought {
                        idle = Instant::now() + self.server.limits.idle();
                    }
                }
                Some(Input::Numbers(numbers)) => {
                    last = Numbers { holes: demux.stats().continuity_errors, ..numbers };
                    line.measured(last);
                }
                Some(Input::Ended { goodbye }) => {
                    demux.finish(&mut packets);
                    line.measured(Numbers { holes: demux.stats().continuity_errors, ..last });
                    for packet in packets.drain(..) {
                        queue.send(packet).await?;
                    }
                    if !goodbye {
                        return Err(Error::Lost);
                    }
                    queue.send(Packet::Unpublish).await?;
                    return Ok(());
                }
                None => return Err(Error::Process),
            }
        }
    }

    /// Asks the worker. Media that come meanwhile wait within the caller's window.
    async fn ask(&self) -> Result<(Queue, Arc<Line>), Error> {
        let Call { peer, app, key, token, signed, .. } = self.call;
        let (verdict, answer) = oneshot::channel();
        let (app, key, token, signed) = (app.clone(), key.clone(), token.clone(), signed.clone());
        let request = Request { protocol: Protocol::Srt, peer: *peer, app, key, token, signed, verdict };
        let asked = async {
            self.server.requests.send(request).await.map_err(|_| Error::ShuttingDown)?;
            answer.await.map_err(|_| Error::ShuttingDown)
        };
        match timeout(self.server.limits.verdict(), asked).await {
            Err(_) => Err(Error::Verdict),
            Ok(Err(error)) => Err(error),
            Ok(Ok(Verdict::Refuse(refusal))) => Err(Error::Refused(refusal)),
            Ok(Ok(Verdict::Accept(sender, line))) => {
                Ok((Queue::new(sender, Arc::clone(&line), self.server.limits.queued_bytes), line))
            }
        }
    }

    /// Gives credit back. A process that is gone is noticed where its messages end.
    async fn pay(&mut self, cost: u32) {
        self.owed = self.owed.saturating_add(cost);
        if self.owed >= CREDIT {
            let bytes = std::mem::take(&mut self.owed);
            self.link.send(&ToSrt::Credit { caller: self.call.caller, bytes }).await;
        }
    }
}
