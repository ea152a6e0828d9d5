//! Streams made by hand: what no muxer at hand writes. Real muxers' streams are in the suite (`mpegts`).

mod damage;
mod hevc;
mod mux;
mod tables;
mod units;

use super::*;
use mux::Mux;

/// Everything that comes out of `bytes`, in pieces of `piece`.
fn demuxed(bytes: &[u8], piece: usize) -> (Vec<Packet>, Stats, Vec<String>) {
    let mut demux = Demux::new(Limits::default());
    let mut out = Vec::new();
    for piece in bytes.chunks(piece) {
        demux.push(piece, &mut out).unwrap();
    }
    demux.finish(&mut out);
    (out, *demux.stats(), demux.take_notes())
}

/// Decode time, composition, key, NAL units.
type Picture = (u32, i32, bool, Vec<Vec<u8>>);

fn pictures(packets: &[Packet]) -> Vec<Picture> {
    let picture = |p: &Packet| match p {
        Packet::Video { time, composition, key, data } => Some((*time, *composition, *key, nals(data))),
        _ => None,
    };
    packets.iter().filter_map(picture).collect()
}

fn sounds(packets: &[Packet]) -> Vec<(u32, Vec<u8>)> {
    let sound = |p: &Packet| if let Packet::Audio { time, data } = p { Some((*time, data.to_vec())) } else { None };
    packets.iter().filter_map(sound).collect()
}

fn configs(packets: &[Packet]) -> usize {
    packets.iter().filter(|p| matches!(p, Packet::VideoConfig(..) | Packet::AudioConfig(_))).count()
}

fn nals(mut unit: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while let Some((length, rest)) = unit.split_first_chunk::<4>() {
        let (nal, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        out.push(nal.to_vec());
        unit = rest;
    }
    assert!(unit.is_empty());
    out
}
