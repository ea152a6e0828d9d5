//! Two regions and two CDNs: another region goes on with a stream, and players follow the steering server there.

use crate::harness::clip::{Clip, SMALL};
use crate::harness::manifest::Media;
use crate::harness::players::{self, Play};
use crate::harness::publisher::Publisher;
use crate::harness::s3_server::{BUCKET, CREDENTIALS, Server};
use crate::harness::steering::Steering;
use crate::harness::worker::{SMALL_LADDER, Worker};
use crate::harness::{alone, until};

fn worker(server: &Server, region: &str, ladder: &str, more: &[&str]) -> Worker {
    let (store, endpoint) = (format!("store=s3://{BUCKET}"), server.endpoint());
    let flags = ["--open", "--ladder", ladder, "--region", region, "--set", "reconnect_grace=1"];
    Worker::start_with(&[&flags[..], &["--set", &store, "--set", &endpoint], more].concat(), &CREDENTIALS)
}

fn media(cdn: &Worker, path: &str) -> Media {
    let answer = cdn.get(path);
    assert_eq!(answer.status, 200, "{path}");
    Media::read(path, &answer.text().replace(&format!("http://{}/", cdn.http), "/"))
}

/// One bucket stands for both regions' buckets, as if every copy came at once.
#[test]
fn another_region_goes_on_and_players_are_steered_there() {
    let clip = Clip { seconds: 30, ..SMALL };
    let file = clip.file();
    players::install();
    let _machine = alone();
    let server = Server::start();
    // Both CDNs: whatever lies in the bucket.
    let cdn = worker(&server, "cdn", "none", &[]);
    let steering = Steering::start(&["eu", "us"]);
    let base = format!("http://{}/", cdn.http);
    let list = format!(
        "pathway=[{{id=\"eu\",base_url=\"{base}\",region=\"eu\"}},\
         {{id=\"us\",base_url=\"{base}\",region=\"us\",segment_base_url=\"{base}\"}}]"
    );
    let steer = format!("steering_url={}", steering.url());
    let settings = ["--set", &list, "--set", &steer];
    let (eu, us) = (worker(&server, "eu", SMALL_LADDER, &settings), worker(&server, "us", SMALL_LADDER, &settings));
    let mut publisher = Publisher::start(&file, &eu, "anna");
    players::segments(&eu, "anna", 4);
    let (hls, dash) = ("live/eu/anna/index.m3u8", "live/eu/anna/manifest.mpd");
    let options = ["--live", "--seconds", "14", "--resets", "1", "--absence", "9"];
    let play = Play::of(&cdn, hls, dash, "hls.js", &options);
    steering.is_on("eu");
    players::segments(&eu, "anna", 7);
    drop(eu);
    publisher.outcome();
    let before = media(&cdn, "live/eu/anna/src.m3u8");
    let publisher = Publisher::start(&file, &us, "anna");
    until("the other region's playlist", || (cdn.get("live/us/anna/src.us.m3u8").status == 200).then_some(()));
    steering.set(&["us", "eu"]);
    steering.is_on("us");
    let results = play.finish();
    players::went_through(&results, 2);
    publisher.finish();
    us.over("anna");

    let first_of_us = |track: &str| media(&cdn, &format!("live/us/anna/{track}.us.m3u8"));
    let after = first_of_us("src");
    // rules.md 20: 30 minutes of segments, and a hundred.
    let last = before.sequence + before.segments.len() as u64;
    assert!((last + 990..last + 1010).contains(&after.sequence), "{} then {}", last, after.sequence);
    assert!(after.discontinuity_sequence >= before.discontinuity_sequence + 1000);
    assert!(after.segments[0].date > before.segments.last().unwrap().date, "one wall clock");
    for track in ["src", "240p", "audio"] {
        let (own, of_pathway) = (media(&cdn, &format!("live/us/anna/{track}.m3u8")), first_of_us(track));
        assert_eq!(of_pathway.segments.len(), own.segments.len(), "{track}");
        assert_eq!(own.sequence, after.sequence, "{track}");
        assert!(own.segments.iter().all(|s| s.path.contains("/us/anna/") && s.init.as_ref().unwrap().contains("/us/anna/")));
    }
    cdn.stop();
    us.stop();
}

/// DASH has one MPD for a region; a BaseURL for each of its CDNs.
#[test]
fn a_player_of_dash_is_steered_from_one_cdn_to_another() {
    // Two levels of 5 s, what the player begins with, and a switch behind its buffer: 27 s were seen.
    let clip = Clip { seconds: 34, ..SMALL };
    let file = clip.file();
    players::install();
    let _machine = alone();
    let server = Server::start();
    let cdns = ["a", "b"].map(|_| worker(&server, "cdn", "none", &[]));
    let steering = Steering::start(&["a", "b"]);
    let of = |id: &str, cdn: &Worker| format!("{{id=\"{id}\",base_url=\"http://{}\"}}", cdn.http);
    let list = format!("pathway=[{},{}]", of("a", &cdns[0]), of("b", &cdns[1]));
    let steer = format!("steering_url={}", steering.url());
    // Without it dash.js asks a server outside.
    let time = format!("utc_timing_url=http://{}/time", cdns[0].http);
    let origin = worker(&server, "eu", SMALL_LADDER, &["--set", &list, "--set", &steer, "--set", &time]);
    let publisher = Publisher::start(&file, &origin, "anna");
    players::segments(&origin, "anna", 4);
    let (hls, dash) = ("live/eu/anna/index.m3u8", "live/eu/anna/manifest.mpd");
    let play = Play::of(&origin, hls, dash, "dash.js", &["--live", "--seconds", "5"]);
    steering.is_on("a");
    steering.set(&["b", "a"]);
    steering.is_on("b");
    let results = play.finish();
    players::went_through(&results, 2);
    let hosts = &results[0]["hosts"];
    for cdn in &cdns {
        assert!(hosts[cdn.http.to_string()].as_u64().is_some_and(|n| n > 2), "{hosts}");
    }
    publisher.finish();
    origin.over("anna");
    origin.stop();
    cdns.into_iter().for_each(Worker::stop);
}
