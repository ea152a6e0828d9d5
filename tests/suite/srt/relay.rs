//! A line with loss and delay between one caller and the listener, in user space.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Each way.
const DELAY: Duration = Duration::from_millis(20);

/// How often it is looked whether the line is still wanted.
const LOOK: Duration = Duration::from_millis(100);

/// Control packet, type 5 (draft-sharabayko-srt-01, 3.2.6): the goodbye.
const SHUTDOWN: [u8; 2] = [0x80, 5];

/// Dropped, it ends.
pub struct Relay {
    pub address: SocketAddr,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// So many of each thousand datagrams are lost, each way; which ones follows from the seed. Never the goodbye, which is sent once and which nothing mends.
    pub fn new(target: SocketAddr, loss: u64, seed: u64) -> Self {
        let bind = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(LOOK)).unwrap();
            Arc::new(socket)
        };
        let (near, far) = (bind(), bind());
        let address = near.local_addr().unwrap();
        let over = Arc::<AtomicBool>::default();
        let caller = Arc::<Mutex<Option<SocketAddr>>>::default();
        let mut threads = Vec::new();
        for (from, to, up) in [(&near, &far, true), (&far, &near, false)] {
            let (from, to, over, caller) = (Arc::clone(from), Arc::clone(to), Arc::clone(&over), Arc::clone(&caller));
            let (queue, due) = mpsc::channel::<(Instant, Vec<u8>)>();
            let receiver = Arc::clone(&caller);
            threads.push(std::thread::spawn(move || {
                // Ends with the sender of the queue.
                for (at, datagram) in due {
                    std::thread::sleep(at.saturating_duration_since(Instant::now()));
                    let receiver = if up { Some(target) } else { *receiver.lock().unwrap() };
                    if let Some(receiver) = receiver {
                        let _ = to.send_to(&datagram, receiver);
                    }
                }
            }));
            let mut dice = seed.wrapping_mul(2).wrapping_add(up.into());
            threads.push(std::thread::spawn(move || {
                let mut buffer = [0; 2048];
                while !over.load(Relaxed) {
                    let Ok((n, peer)) = from.recv_from(&mut buffer) else { continue };
                    if up {
                        *caller.lock().unwrap() = Some(peer);
                    }
                    // Knuth's MMIX.
                    dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let datagram = &buffer[..n];
                    if (dice >> 33) % 1000 >= loss || datagram.starts_with(&SHUTDOWN) {
                        let _ = queue.send((Instant::now() + DELAY, datagram.to_vec()));
                    }
                }
            }));
        }
        Self { address, over, threads }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
