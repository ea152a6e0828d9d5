//! Closed captions on the rungs of NVENC, which knows nothing of them (rules.md 13).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::double::Double;
use crate::faults::stage::CLIP;
use crate::harness::captions::{self, CcData};
use crate::harness::clip::Clip;
use crate::harness::publisher::Publisher;
use crate::harness::track::Track;
use crate::harness::watch::Watch;
use crate::harness::{beside_others, manifest};
use crate::ladder::worker;

const LADDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gpu/rates.toml");

#[test]
fn captions_come_out_of_every_rung_and_none_is_lost_where_the_rate_is_halved() {
    // Segments of an odd number of pictures: a halved rung keeps two in a row at each cut.
    const SIXTY: Clip = Clip { width: 320, height: 180, fps: 60, seconds: 6, gop: 121, ..CLIP };
    let folder = tempfile::tempdir().unwrap();
    let file = captions::captioned(&SIXTY, folder.path());
    let double = Double::start();
    let _machine = beside_others();
    let worker = Arc::new(worker(&double, &["--ladder", LADDER, "--set", "codec.warm=1"]));
    let watch = Watch::start(&worker, "anna");
    Publisher::start(&file, &worker, "anna").finish();
    let seen = watch.finish();
    let index = worker.get(&manifest::index_path("anna")).text();
    for id in ["CC1", "SERVICE1"] {
        assert!(index.contains(&format!("INSTREAM-ID=\"{id}\"")), "{index}");
    }
    assert!(double.calls("nvEncEncodePicture") as usize >= SIXTY.frames() * 3 / 2);
    Arc::into_inner(worker).expect("the watch is over").stop();
    double.until_clean();

    assert_eq!(seen.rungs(), ["src", "144p", "90p"]);
    let of = |name: &str| -> BTreeMap<i64, CcData> {
        let track = Track::of(&seen, name);
        track.check();
        track.samples().iter().map(|(sample, bytes)| (sample.pts, captions::read(bytes))).collect()
    };
    let (source, halved) = (of("src"), of("90p"));
    let sent: Vec<_> = (0..SIXTY.frames()).map(captions::written).collect();
    assert!(source.values().eq(&sent), "passthrough");
    assert_eq!(of("144p"), source, "each picture has its own");

    // What came with a picture that is left out is in the next one that is kept, in front of that one's own.
    let cuts = Track::of(&seen, "src").starts();
    let (mut since, mut waiting, mut expected) = (0, CcData::new(), BTreeMap::new());
    for (pts, cc_data) in &source {
        since = if cuts.contains(pts) { 0 } else { since + 1 };
        waiting.extend(cc_data);
        if since % 2 == 0 {
            // Those of line 21 stand in front of DTVCC's (CTA-708).
            let (line_21, digital): (Vec<_>, Vec<_>) = waiting.chunks(3).partition(|triplet| triplet[0] & 2 == 0);
            expected.insert(*pts, [line_21, digital].concat().concat());
            waiting.clear();
        }
    }
    assert_eq!(cuts.len(), 3);
    assert_eq!(halved, expected);
}
