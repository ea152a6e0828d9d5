//! Hours of a stream in one go: nothing grows, and picture and sound stay together. Ten minutes, or what `./dev soak HOURS` says.

use std::time::{Duration, Instant};

use crate::harness::clip::{Clip, SMALL};
use crate::harness::decode;
use crate::harness::manifest;
use crate::harness::publisher::Publisher;
use crate::harness::track::Track;
use crate::harness::watch::Seen;
use crate::harness::worker::{SMALL_LADDER, Worker};
use crate::harness::{alone, until};

const TEN_MINUTES: u64 = 600;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(5);

/// Resident memory may differ by so much between the first and the last third: allocator arenas and the pages of libraries that are used now and then.
const NOISE_KIB: u64 = 6 << 10;

/// Picture and sound at the end, microseconds.
const MAX_OFFSET: i64 = 20_000;

/// A second of warm-up belongs to nobody's slope.
const WARM_UP: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
struct Look {
    kib: u64,
    descriptors: usize,
    threads: u64,
}

fn look(pid: u32) -> Look {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
    };
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    Look { kib: field("VmRSS"), descriptors, threads: field("Threads") }
}

/// Inputs are read in real time.
fn paced(word: String) -> Vec<String> {
    if word == "lavfi" { vec![word, "-re".into()] } else { vec![word] }
}

fn median(mut list: Vec<u64>) -> u64 {
    list.sort_unstable();
    list[list.len() / 2]
}

#[test]
fn a_long_stream_leaves_nothing_behind() {
    let seconds = std::env::var("WEIR_SOAK_SECONDS").map_or(TEN_MINUTES, |s| s.parse().expect("WEIR_SOAK_SECONDS: seconds"));
    let _machine = alone();
    let worker = Worker::start(&["--ladder", SMALL_LADDER, "--set", "window=10", "--set", "hold=1"]);
    // Whatever stands ready for the first stream does so by then.
    let file_once = Clip { seconds: 6, ..SMALL }.file();
    Publisher::start(&file_once, &worker, "warm").finish();
    worker.over("warm");
    let before = look(worker.pid());
    // Made while it is sent: a file that is sent again and again has sound that is longer than its pictures, and a clock of its own for each.
    let clip = Clip { seconds: u32::try_from(seconds).expect("less than a century"), ..SMALL };
    let live: Vec<String> = clip.arguments().into_iter().flat_map(paced).collect();
    let publisher = Publisher::run(&live.iter().map(String::as_str).collect::<Vec<_>>(), &[], &worker, "anna");
    let began = Instant::now();
    let mut looks = Vec::new();
    let mut last = None;
    let mut due = began + WARM_UP;
    until_for(Duration::from_secs(seconds + 120), "the end of the stream", || {
        if Instant::now() >= due {
            due += EVERY;
            looks.push(look(worker.pid()));
        }
        let stream = worker.stream("anna");
        if stream.as_ref().is_some_and(|s| s["state"] == "live" && s["segments"].as_u64() >= Some(4)) {
            last = Some(stream.clone().unwrap());
        }
        (began.elapsed() > Duration::from_secs(seconds / 2) && stream.is_none_or(|s| s["state"] == "paused")).then_some(())
    });
    let seen = window(&worker, "anna");
    publisher.finish();
    worker.over("anna");
    let status = last.expect("it was live");
    assert_eq!(
        (&status["gaps"], &status["codec_restarts"], &status["discontinuities"]),
        (&0.into(), &0.into(), &0.into()),
        "{status}"
    );
    assert!(status["segments"].as_u64().unwrap() >= seconds / 2 - 3, "{status}");

    let third = looks.len() / 3;
    let kib = |looks: &[Look]| median(looks.iter().map(|l| l.kib).collect());
    let (first, end) = (kib(&looks[..third]), kib(&looks[looks.len() - third..]));
    println!("{first} KiB in the first third, {end} in the last, of {} looks", looks.len());
    assert!(end <= first + NOISE_KIB, "{first} KiB, then {end}: {looks:?}");
    let after = until("what the stream had open", || {
        let now = look(worker.pid());
        (now.descriptors <= before.descriptors && now.threads <= before.threads).then_some(now)
    });
    println!("{before:?} before, {after:?} after");

    let (video, audio) = (Track::of(&seen, "src"), Track::of(&seen, "audio"));
    let (flashes, beeps) = (decode::flashes(&video), decode::beeps(&audio));
    assert!(flashes.len() >= 4, "{flashes:?}");
    let nearest = |at: i64| beeps.iter().map(|b| b - at).min_by_key(|off| off.abs()).unwrap();
    let inside = &flashes[1..flashes.len() - 1];
    let worst = inside.iter().map(|f| nearest(*f)).max_by_key(|off| off.abs()).unwrap();
    println!("{worst} us between picture and sound at the end");
    assert!(worst.abs() <= MAX_OFFSET, "{worst} us: {flashes:?} {beeps:?}");
    worker.stop();
}

/// What the playlists list now, with its objects.
fn window(worker: &Worker, stream: &str) -> Seen {
    let mut seen = Seen::default();
    let index = worker.get(&manifest::index_path(stream)).text();
    seen.variants = manifest::multivariant(&manifest::index_path(stream), &index);
    for variant in seen.variants.clone() {
        let media = manifest::media(worker, &variant);
        for listed in &media.segments {
            for path in listed.init.iter().chain([&listed.path]) {
                seen.objects.entry(path.clone()).or_insert_with(|| worker.get(path).body);
            }
            seen.listed.insert((variant.name.clone(), listed.number), listed.clone());
        }
        seen.tracks.insert(variant.name.clone(), media);
    }
    seen
}

fn until_for<T>(most: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + most;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {most:?} for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
