//! A process without file descriptors: the listener waits, publishers go on, and afterwards all is as before.

use std::fs::File;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weir::ingest::rtmp::Limits;

use super::{Bench, alone, guarded};
use crate::raw_rtmp::{VIDEO, hello, video};

#[test]
fn a_listener_without_descriptors_neither_dies_nor_spins() {
    alone("rtmp::scarce::a_listener_without_descriptors_neither_dies_nor_spins", take_all_descriptors);
}

fn take_all_descriptors() {
    guarded(async {
        let mut bench = Bench::new(Limits::default());
        let (address, _serving) = bench.listen().await;
        let (mut publisher, mut packets) = bench.publisher(address, "anna").await;

        let maximum = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum }).unwrap();
        let mut hoard = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            hoard.push(file);
        }
        // One descriptor for our end of a connection; none is left for the server's.
        hoard.pop();
        let mut second = TcpStream::connect(address).await.unwrap();
        let start = Instant::now();
        while bench.stats.accept_failures() < 4 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(start.elapsed() >= Duration::from_millis(250), "four failures in {:?}", start.elapsed());
        publisher.message(0, 6, 0, VIDEO, &video(9, true)).await;
        packets.recv().await.unwrap();

        drop(hoard);
        second.write_all(&hello()).await.unwrap();
        second.read_exact(&mut [0; 3073]).await.unwrap();
    });
}
