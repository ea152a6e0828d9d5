//! Chunk streams as encoders write them and as the specification allows: every message arrives with its time and length.

use bytes::Bytes;
use weir::ingest::rtmp::{Cause, Limits};
use weir::ingest::{Cue, Metadata, Packet};
use weir::logic::model::Coding;

use super::{Bench, Track, all, guarded, tracks};
use crate::raw_rtmp::{
    AUDIO, AUDIO_CONFIG, COMMAND, Chunker, DATA, VIDEO, VIDEO_CONFIG, WINDOW_ACK_SIZE, audio, number, object, session, string,
    video,
};

/// Publishes the bytes that `media` makes, over a socket, says goodbye and gives back what the worker got.
fn published(chunk_size: usize, media: impl FnOnce(&mut Chunker) -> Vec<u8>) -> (Track, Track) {
    let mut got = (Vec::new(), Vec::new());
    guarded(async {
        let mut bench = Bench::new(Limits::default());
        let (address, serving) = bench.listen().await;
        let (mut publisher, packets) = bench.publisher(address, "key").await;
        publisher.set_chunk_size(chunk_size).await;
        let bytes = media(&mut publisher.to);
        publisher.send(&bytes).await;
        let bytes = publisher.to.goodbye("key");
        publisher.send(&bytes).await;
        tokio::io::AsyncWriteExt::shutdown(&mut publisher.io).await.unwrap();
        let packets = all(packets).await;
        assert_eq!(packets.last(), Some(&Packet::Unpublish));
        got = tracks(&packets);
        publisher.until_closed().await.expect("closed without a reset");
        drop(publisher);
        bench.shutdown.cancel();
        serving.await.unwrap();
        bench.assert_ended(Cause::Finished);
    });
    got
}

#[test]
fn a_type_3_chunk_that_begins_a_message_adds_the_last_delta() {
    let (_, got) = published(4096, |to| {
        let mut bytes = to.message(0, 4, 0, AUDIO, &audio(8));
        bytes.extend(to.message(1, 4, 23, AUDIO, &audio(8)));
        for _ in 0..20 {
            bytes.extend(to.message(3, 4, 0, AUDIO, &audio(8)));
        }
        bytes
    });
    assert_eq!(got, (0..22).map(|i| (23 * i, 8)).collect::<Track>());
}

#[test]
fn audio_may_come_between_the_chunks_of_a_video_message() {
    let (videos, audios) = published(1000, |to| {
        let mut bytes = Vec::new();
        for i in 0..5 {
            let mut chunks = to.chunks(0, 6, 40 * i, VIDEO, &video(5000, true));
            chunks.splice(2..2, to.chunks(0, 4, 40 * i, AUDIO, &audio(300)));
            bytes.extend(chunks.concat());
        }
        bytes
    });
    assert_eq!(videos, (0..5).map(|i| (40 * i, 5000)).collect::<Track>());
    assert_eq!(audios, (0..5).map(|i| (40 * i, 300)).collect::<Track>());
}

#[test]
fn times_over_24_bits_are_repeated_in_type_3_chunks() {
    let (got, _) = published(1000, |to| {
        let mut bytes: Vec<u8> = (0..5).flat_map(|i| to.message(0, 6, 0xff_fff0 + 10 * i, VIDEO, &video(2500, true))).collect();
        bytes.extend(to.message(1, 6, 40, VIDEO, &video(2500, false)));
        bytes
    });
    let mut want: Track = (0..5).map(|i| (0xff_fff0 + 10 * i, 2500)).collect();
    want.push((0xff_fff0 + 80, 2500));
    assert_eq!(got, want);
}

#[test]
fn a_delta_may_be_over_24_bits() {
    let (got, _) = published(1000, |to| {
        [
            to.message(0, 6, 0, VIDEO, &video(2500, true)),
            to.message(1, 6, 0x100_0010, VIDEO, &video(2500, false)),
            to.message(1, 6, 40, VIDEO, &video(10, false)),
        ]
        .concat()
    });
    assert_eq!(got, [(0, 2500), (0x100_0010, 2500), (0x100_0038, 10)]);
}

#[test]
fn time_wraps_at_32_bits_by_either_kind_of_delta() {
    let start = 0xffff_ffd0_u32;
    let (got, _) = published(4096, |to| {
        [
            to.message(0, 6, start, VIDEO, &video(10, true)),
            to.message(1, 6, 40, VIDEO, &video(10, false)),
            to.message(1, 6, 40, VIDEO, &video(12, false)),
            to.message(2, 6, 40, VIDEO, &video(12, false)),
        ]
        .concat()
    });
    assert_eq!(got, [(start, 10), (start + 40, 10), (32, 12), (72, 12)]);
    let (got, _) = published(4096, |to| {
        [
            to.message(0, 6, start, VIDEO, &video(10, true)),
            to.message(2, 6, 100, VIDEO, &video(10, false)),
            to.message(2, 6, 40, VIDEO, &video(10, false)),
        ]
        .concat()
    });
    assert_eq!(got, [(start, 10), (52, 10), (92, 10)]);
}

#[test]
fn the_chunk_size_may_change_in_the_stream_and_be_very_small_or_large() {
    let (got, _) = published(128, |to| {
        let mut bytes = Vec::new();
        for size in [1, 64, 128, 4096, 60_000, 65_536, 1 << 20] {
            bytes.extend(to.set_size(size));
            bytes.extend(to.message(0, 6, 0, VIDEO, &video(200_000, true)));
        }
        bytes
    });
    assert_eq!(got, [(0, 200_000); 7]);
}

#[test]
fn chunk_stream_ids_have_one_two_or_three_bytes() {
    let (got, _) = published(4096, |to| {
        [63, 64, 319, 320, 65_599].into_iter().flat_map(|csid| to.message(0, csid, 0, VIDEO, &video(1000, true))).collect()
    });
    assert_eq!(got, [(0, 1000); 5]);
}

#[test]
fn a_window_of_no_bytes_is_survived() {
    let (got, _) = published(4096, |to| {
        [
            to.message(0, 2, 0, WINDOW_ACK_SIZE, &[0; 4]),
            to.message(0, 6, 0, VIDEO, &video(1000, true)),
            to.message(0, 6, 40, VIDEO, &video(1000, false)),
        ]
        .concat()
    });
    assert_eq!(got, [(0, 1000), (40, 1000)]);
}

#[test]
fn a_large_access_unit_passes_up_to_the_limit() {
    let (got, _) = published(65_536, |to| to.message(0, 6, 0, VIDEO, &video((8 << 20) - 5, true)));
    assert_eq!(got, [(0, (8 << 20) - 5)]);
}

#[test]
fn publish_without_a_type_is_taken() {
    guarded(async {
        let mut bench = Bench::new(Limits::default());
        let (mut publisher, _task) = bench.pipe(4096);
        publisher.connect("live").await;
        let to = publisher.to.clone();
        publisher.send(&to.command(3, &[&string("createStream"), &number(4.0), &[5]])).await;
        publisher.send(&to.command(8, &[&string("publish"), &number(5.0), &[5], &string("notype")])).await;
        let _packets = bench.accept().await;
        publisher.until("NetStream.Publish.Start").await;
    });
}

#[test]
fn each_kind_of_message_becomes_its_packet() {
    let composed = [&[0x27, 1, 0xff, 0xff, 0xd8][..], b"nal"].concat();
    guarded(async {
        let mut bench = Bench::new(Limits::default());
        let (mut publisher, packets, task) = bench.piped("key").await;
        let rates = object(&[
            ("videodatarate", number(2500.0)),
            ("audiodatarate", number(160.0)),
            ("framerate", number(30.0)),
            ("width", number(1920.0)),
        ]);
        publisher.message(0, 4, 0, DATA, &[string("@setDataFrame"), string("onMetaData"), rates].concat()).await;
        publisher.message(0, 4, 0, DATA, &[string("onTextData"), string("x")].concat()).await;
        publisher.message(0, 6, 0, VIDEO, VIDEO_CONFIG).await;
        publisher.message(0, 4, 0, AUDIO, AUDIO_CONFIG).await;
        publisher.message(0, 6, 0, VIDEO, b"").await;
        publisher.message(0, 6, 40, VIDEO, &composed).await;
        publisher.message(0, 6, 41, VIDEO, b"\x93avc1key").await;
        publisher.message(0, 4, 42, AUDIO, b"\x91mp4aaac").await;
        publisher.message(0, 6, 80, VIDEO, b"\x17\x02\x00\x00\x00").await;
        drop(publisher);
        task.await.unwrap();
        bench.assert_ended(Cause::Cut);
        let metadata = Metadata {
            video_bitrate: Some(2_500_000),
            audio_bitrate: Some(160_000),
            frame_rate_milli: Some(30_000),
            width: Some(1920),
            height: None,
        };
        assert_eq!(
            all(packets).await,
            [
                Packet::Metadata(metadata),
                Packet::Cue(Cue { time: 0, name: "onTextData", text: "\"x\"".into() }),
                Packet::VideoConfig(Coding::H264, Bytes::from_static(&VIDEO_CONFIG[5..])),
                Packet::AudioConfig(Bytes::from_static(&AUDIO_CONFIG[2..])),
                Packet::Video { time: 40, composition: -40, key: false, data: Bytes::from_static(b"nal") },
                Packet::Video { time: 41, composition: 0, key: true, data: Bytes::from_static(b"key") },
                Packet::Audio { time: 42, data: Bytes::from_static(b"aac") },
            ]
        );
    });
}

/// Only a goodbye is one: a connection that ends without it is cut, also when the encoder stopped talking politely.
#[test]
fn only_fcunpublish_and_delete_stream_are_a_goodbye() {
    for (command, clean) in [("FCUnpublish", true), ("deleteStream", true), ("closeStream", false), ("", false)] {
        guarded(async {
            let mut bench = Bench::new(Limits::default());
            let (mut publisher, packets, task) = bench.piped("key").await;
            publisher.message(0, 6, 0, VIDEO, &video(9, true)).await;
            if !command.is_empty() {
                let parts = [string(command), number(7.0), vec![5], string("key")].concat();
                publisher.message(0, 3, 0, COMMAND, &parts).await;
            }
            drop(publisher);
            task.await.unwrap();
            bench.assert_ended(if clean { Cause::Finished } else { Cause::Cut });
            let packets = all(packets).await;
            assert_eq!(packets.len(), if clean { 2 } else { 1 }, "{command}");
            assert_eq!(packets.last() == Some(&Packet::Unpublish), clean, "{command}");
        });
    }
}

#[test]
fn reads_may_end_anywhere() {
    let media = [VIDEO_CONFIG.to_vec(), AUDIO_CONFIG.to_vec(), video(700, true), audio(90), video(300, false)];
    let mut bytes = session(200, "key", &media);
    bytes.extend(Chunker { size: 200 }.goodbye("key"));
    let mut whole = None;
    for step in [1, 2, 3, 5, 7, 97, 1537, 3073, bytes.len()] {
        guarded(async {
            let mut bench = Bench::new(Limits::default());
            // The pipe holds no more than one step, so the server cannot read two at once. Its answers need room too.
            let (mut publisher, task) = bench.pipe(step);
            let (mut from, mut to) = tokio::io::split(&mut publisher.io);
            let sent = async {
                tokio::io::AsyncWriteExt::write_all(&mut to, &bytes).await.unwrap();
            };
            let heard = async {
                let mut heard = Vec::new();
                tokio::io::AsyncReadExt::read_to_end(&mut from, &mut heard).await.unwrap();
            };
            let (packets, ..) = tokio::join!(bench.accept(), sent, heard);
            drop(publisher);
            task.await.unwrap();
            let packets = all(packets).await;
            assert_eq!(packets.len(), media.len() + 1);
            assert_eq!(whole.get_or_insert(packets.clone()), &packets, "steps of {step}");
        });
    }
}
