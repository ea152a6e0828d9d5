//! Presets to saturation: whether NVIDIA's tables hold for this device, and whether a picture costs what its macroblocks are.

use weir::logic::bench::{Part, Row, macroblocks};
use weir::logic::ladder::Size;
use weir::logic::recipe;

use super::Bench;
use super::codec::Measuring;
use weir::link::bench::Job;

/// Every preset with one session (which never has more than one engine), with few and with many.
pub fn presets(bench: &mut Bench) {
    let (presets, sessions): (&[u8], &[u16]) =
        if bench.quick { (&[1, 7], &[1, 4]) } else { (&[1, 2, 3, 4, 5, 6, 7], &[1, 4, 16]) };
    let mut measuring = Measuring::start(&bench.setting);
    for size in sizes(bench.source) {
        for &preset in presets {
            for &sessions in sessions {
                let job = Job {
                    preset,
                    sessions,
                    width: size.width,
                    height: size.height,
                    millis: u32::try_from(bench.each.as_millis()).unwrap_or(u32::MAX),
                };
                let fps = measuring.as_mut().map_err(|e| e.clone()).and_then(|m| m.run(job));
                let expected = bench.machine.encoded_fps(preset, size.width, size.height, sessions.into());
                let cost = fps.as_ref().map(|fps| fps * f64::from(macroblocks(size.width, size.height)) / 1e6);
                let row =
                    Row::of(Part::Presets, format!("P{preset}, {sessions} x {size}"), "frames/s", fps.clone()).expect(expected);
                bench.add(row.note(cost.map(|c| format!("{c:.2} million macroblocks/s")).unwrap_or_default()));
                if fps.is_err() {
                    // A process whose device failed once does not get it back.
                    measuring = Measuring::start(&bench.setting);
                }
            }
        }
    }
}

/// The source's size, two thirds and one third of it: 1080p, 720p, 360p.
fn sizes(source: Size) -> impl Iterator<Item = Size> {
    let of = move |thirds: u32| Size { width: source.width * thirds / 6 * 2, height: source.height * thirds / 6 * 2 };
    [3, 2, 1].map(of).into_iter().filter(|s| recipe::NVIDIA_SMALLEST.fits(s.width, s.height))
}
