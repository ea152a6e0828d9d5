//! The way to the worker, bounded by bytes as well as by packets.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Line, Packet, Refusal};

/// A packet's cost beside its data: the enum itself, its slot in the channel and the allocation behind `Bytes`.
const OVERHEAD: usize = 128;

/// The worker dropped its end; what it said of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Left(pub(super) Option<Refusal>);

/// Wraps the sender that the worker gave. The count of waiting packets is the channel's own, so the worker must not send through a clone.
#[derive(Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<Packet>,
    line: Arc<Line>,
    max_bytes: usize,
    /// Costs of the newest packets, the newest last; at least all that still wait.
    recent: VecDeque<usize>,
}

impl Queue {
    pub(super) fn new(sender: mpsc::Sender<Packet>, line: Arc<Line>, max_bytes: u32) -> Self {
        // Weir runs on 64-bit machines, and elsewhere this only makes the bound smaller.
        let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        Self { sender, line, max_bytes, recent: VecDeque::new() }
    }

    /// Waits until the packet fits in both bounds; one that alone is over `max_bytes` waits until the queue is empty.
    ///
    /// # Errors
    /// As [`Queue::left`] when the worker dropped its end.
    pub(super) async fn send(&mut self, packet: Packet) -> Result<(), Left> {
        let cost = cost(&packet);
        let slots = self.sender.max_capacity();
        // Of the packets sent before, the newest `may_wait` may still be in the channel; all older ones must be out. The channel takes
        // them in order, so that is the case when the other slots are free.
        let may_wait = newest_within(&self.recent, self.max_bytes.saturating_sub(cost)).min(slots - 1);
        let begun = Instant::now();
        let reserved = self.sender.reserve_many(slots - may_wait).await;
        self.line.count_blocked(begun.elapsed());
        let mut free = reserved.map_err(|_| self.left())?;
        if let Some(slot) = free.next() {
            slot.send(packet);
        }
        drop(free);
        self.recent.push_back(cost);
        self.recent.drain(..self.recent.len().saturating_sub(slots));
        Ok(())
    }

    /// Ready when the worker dropped its end.
    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Why the worker dropped its end.
    pub(super) fn left(&self) -> Left {
        Left(self.line.refusal())
    }

    /// What connection and session tell each other.
    pub(super) fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// Bytes came, whatever they hold.
    pub(super) fn count_bytes(&self, bytes: usize) {
        self.line.count_bytes(bytes);
    }
}

fn cost(packet: &Packet) -> usize {
    let data = match packet {
        Packet::VideoConfig(_, data) | Packet::AudioConfig(data) | Packet::Video { data, .. } | Packet::Audio { data, .. } => {
            data.len()
        }
        Packet::Cue(cue) => cue.text.len(),
        Packet::Clock(_) | Packet::Metadata(_) | Packet::Unpublish => 0,
    };
    data.saturating_add(OVERHEAD)
}

/// How many of the newest costs come to at most `bytes`.
fn newest_within(costs: &VecDeque<usize>, bytes: usize) -> usize {
    let mut left = bytes;
    costs
        .iter()
        .rev()
        .take_while(|&&cost| {
            let fits = cost <= left;
            left = left.saturating_sub(cost);
            fits
        })
        .count()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn audio(bytes: usize) -> Packet {
        Packet::Audio { time: 0, data: Bytes::from(vec![0; bytes - OVERHEAD]) }
    }

    /// Sends as many of these as fit while nobody receives.
    async fn fill(queue: &mut Queue, bytes: usize) -> usize {
        let mut sent = 0;
        while let Ok(result) = tokio::time::timeout(std::time::Duration::from_secs(60), queue.send(audio(bytes))).await {
            result.unwrap();
            sent += 1;
        }
        sent
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_bound_a_long_channel_and_packets_a_short_one() {
        let (tx, _rx) = mpsc::channel(100);
        assert_eq!(fill(&mut Queue::new(tx, Arc::default(), 10_000), 1000).await, 10);
        let (tx, _rx) = mpsc::channel(3);
        assert_eq!(fill(&mut Queue::new(tx, Arc::default(), 10_000), 1000).await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn room_comes_back_as_the_worker_takes_packets() {
        let (tx, mut rx) = mpsc::channel(100);
        let mut queue = Queue::new(tx, Arc::default(), 10_000);
        assert_eq!(fill(&mut queue, 1000).await, 10);
        rx.recv().await.unwrap();
        assert_eq!(fill(&mut queue, 500).await, 2);
        for _ in 0..11 {
            rx.recv().await.unwrap();
        }
        assert_eq!(fill(&mut queue, 5000).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_packet_over_the_bound_goes_alone() {
        let (tx, mut rx) = mpsc::channel(100);
        let mut queue = Queue::new(tx, Arc::default(), 10_000);
        assert_eq!(fill(&mut queue, 50_000).await, 1);
        assert_eq!(fill(&mut queue, 200).await, 0);
        rx.recv().await.unwrap();
        assert_eq!(fill(&mut queue, 10_000).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_left_ends_the_wait() {
        let (tx, rx) = mpsc::channel(1);
        let mut queue = Queue::new(tx, Arc::default(), 10_000);
        assert_eq!(fill(&mut queue, 1000).await, 1);
        drop(rx);
        assert!(matches!(queue.send(audio(1000)).await, Err(Left(None))));
        queue.closed().await;
    }
}
