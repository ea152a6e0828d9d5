//! The corpora replayed, and mutated for as long as is asked for.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::TARGETS;
use crate::ingest::Packet;
use crate::logic::model::Coding;

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

#[test]
fn corpora_are_small_and_run_through() {
    let mut bytes = 0;
    for (target, body) in TARGETS {
        let files = corpus(target);
        assert!(!files.is_empty(), "{target} has no corpus");
        for (_, data) in &files {
            bytes += data.len();
            body(data);
        }
    }
    assert!(bytes < 300_000, "{bytes} bytes of corpora");
}

/// Seeds that are read to nothing would search nothing.
#[test]
fn the_seeds_of_transport_streams_have_pictures_of_both_codings() {
    let codings = |target: &str, name: &str| {
        let (_, data) = corpus(target).into_iter().find(|(file, _)| file.ends_with(name)).unwrap();
        let (packets, good) = super::demuxed(std::iter::once(&data[1..]));
        assert!(good && packets.iter().any(|p| matches!(p, Packet::Video { .. })), "{name}");
        let coding = |p: &Packet| if let Packet::VideoConfig(coding, _) = p { Some(*coding) } else { None };
        let language = packets.iter().find_map(|p| if let Packet::AudioLanguage(l) = p { *l } else { None });
        (packets.iter().filter_map(coding).collect::<Vec<_>>(), language.map(|l| l.to_string()))
    };
    assert_eq!(codings("mpegts", "a").0, [Coding::H264]);
    assert_eq!(codings("mpegts", "hevc"), (vec![Coding::Hevc], Some("deu".into())));
}

/// A generator of its own (xorshift64*), so that a number says everything about a run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n.max(1)
    }
}

/// A piece of the corpus with a few bytes, runs and lengths changed, and sometimes another one's piece in it.
fn mutated(random: &mut Random, files: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    let mut data = files[random.below(files.len())].1.clone();
    for _ in 0..=random.below(12) {
        let at = random.below(data.len());
        let most = 1 << random.below(10);
        let run = random.below(most);
        let end = (at + run).min(data.len());
        match random.below(7) {
            0 | 1 if at < data.len() => data[at] = random.next() as u8,
            2 if at < data.len() => data[at] ^= 1 << random.below(8),
            3 => drop(data.drain(at.min(end)..end)),
            4 => {
                let again = data.get(at..end).unwrap_or_default().to_vec();
                let _ = data.splice(at.min(data.len())..at.min(data.len()), again);
            }
            5 => {
                let other = &files[random.below(files.len())].1;
                let from = random.below(other.len());
                let piece = other[from..(from + run).min(other.len())].to_vec();
                let at = at.min(data.len());
                let _ = data.splice(at..at, piece);
            }
            _ => data.truncate(at + 1),
        }
        data.truncate(1 << 16);
    }
    data
}

/// WEIR_FUZZ_SECONDS: seconds for each target, 0 (a few hundred inputs) if it is not set. WEIR_FUZZ_SEED: where the generator begins.
#[test]
fn mutated_corpora_break_nothing() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = Duration::from_secs(number("WEIR_FUZZ_SECONDS").unwrap_or(0));
    let seed = number("WEIR_FUZZ_SEED").unwrap_or(1);
    for (target, body) in TARGETS {
        let files = corpus(target);
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let (begun, mut inputs) = (Instant::now(), 0u64);
        while inputs < 300 || begun.elapsed() < seconds {
            let data = mutated(&mut random, &files);
            let run = std::panic::catch_unwind(|| body(&data));
            if let Err(panic) = run {
                let at = std::env::temp_dir().join(format!("weir-fuzz-{target}-{seed}-{inputs}"));
                std::fs::write(&at, &data).unwrap();
                eprintln!("{target}, seed {seed}, input {inputs}: {}", at.display());
                std::panic::resume_unwind(panic);
            }
            inputs += 1;
        }
        println!("{target}: {inputs} inputs in {:?}, seed {seed}", begun.elapsed());
    }
}
