//! Encoding, decoding and scaling are real, and stay on the device.

use std::fs;

use crate::double::{Double, Fault};
use crate::harness::{beside_others, tools};

use super::{DEVICE, key_frames, pattern, pictures, run_well};

#[test]
fn all_elements_of_an_a10g_are_registered() {
    let double = Double::start();
    let done = tools::run(double.command("gst-inspect-1.0").arg("nvcodec"));
    let said = String::from_utf8_lossy(&done.stdout);
    for element in
        ["nvh264enc", "nvh264dec", "nvh265dec", "cudaupload", "cudadownload", "cudaconvertscale", "cudascale", "cudaconvert"]
    {
        assert!(said.contains(&format!("  {element}: ")), "{element}: {said}");
    }
    assert!(double.state().is_clean(), "{:?}", double.state());
}

#[test]
fn b_frames_come_in_order_and_whole() {
    let double = Double::start();
    let file = double.folder().join("b.h264");
    run_well(
        &double,
        &format!(
            "{} ! nvh264enc bframes=2 gop-size=30 ! video/x-h264,profile=main,stream-format=byte-stream ! filesink location={}",
            pattern(90, 320, 240, "ball"),
            tools::text(&file)
        ),
    );
    assert_eq!((pictures(&file).len(), key_frames(&file)), (90, vec![0, 30, 60]));
    let decoded = tools::ffmpeg(["-i", tools::text(&file), "-f", "rawvideo", "-pix_fmt", "nv12", "-"]);
    assert_eq!(decoded.len(), 90 * 320 * 240 * 3 / 2);
}

/// A driver of 535 has NVENC 12.1, one of 470 has 11.1: GStreamer then uses other versions of NVENC's structures.
#[test]
fn older_versions_of_the_interface_encode_the_same() {
    let _machine = beside_others();
    let mut made = Vec::new();
    for (major, minor) in [(12, 2), (12, 0), (11, 1)] {
        let mut double = Double::start();
        double.set(Fault::NvencVersion { major, minor });
        let file = double.folder().join("out.h264");
        run_well(
            &double,
            &format!(
                "{} ! cudaupload ! {DEVICE} ! nvh264enc gop-size=30 ! video/x-h264,profile=high,stream-format=byte-stream ! filesink location={}",
                pattern(60, 320, 240, "ball"),
                tools::text(&file)
            ),
        );
        made.push(fs::read(file).unwrap());
    }
    assert!(made[0].len() > 1000 && made.iter().all(|m| *m == made[0]), "{:?}", made.iter().map(Vec::len).collect::<Vec<_>>());
}

/// Seven kinds of stream, each with what a stateless decoder could get wrong.
const KINDS: [(&str, &[&str]); 7] = [
    ("baseline", &["-profile:v", "baseline", "-x264-params", "ref=1"]),
    ("pyramid", &["-x264-params", "bframes=3:b-pyramid=normal:ref=4"]),
    ("slices", &["-x264-params", "slices=4:bframes=2"]),
    ("scaling lists", &["-x264-params", "cqm=jvt:weightb=1:bframes=2:8x8dct=1"]),
    ("interlaced", &["-flags", "+ildct+ilme", "-x264-params", "tff=1:bframes=2:weightp=0"]),
    ("intra refresh", &["-x264-params", "intra-refresh=1:bframes=0:ref=1"]),
    ("open GOP", &["-x264-params", "open-gop=1:bframes=3"]),
];

#[test]
fn decoded_pictures_are_libavcodecs_to_the_bit() {
    let _machine = beside_others();
    let double = Double::start();
    let (stream, raw) = (double.folder().join("in.h264"), double.folder().join("out.yuv"));
    for (kind, options) in KINDS {
        // 356 lines are no multiple of 16: cropping.
        let source = [
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=640x356:rate=30:duration=2",
            "-pix_fmt",
            "yuv420p",
            "-c:v",
            "libx264",
            "-g",
            "40",
        ];
        tools::ffmpeg(source.iter().chain(options).chain(&[tools::text(&stream)]));
        let wanted = tools::ffmpeg(["-i", tools::text(&stream), "-f", "rawvideo", "-pix_fmt", "nv12", "-"]);
        run_well(
            &double,
            &format!(
                "filesrc location={} ! h264parse ! nvh264dec ! video/x-raw,format=NV12 ! filesink location={}",
                tools::text(&stream),
                tools::text(&raw)
            ),
        );
        let decoded = fs::read(&raw).unwrap();
        assert_eq!(wanted.len(), 60 * 640 * 356 * 3 / 2, "{kind}");
        assert!(decoded == wanted, "{kind}: {} bytes of {}", decoded.len(), wanted.len());
    }
}

/// Likewise of HEVC, each with what a decoder that gets slices only could get wrong.
const HEVC_KINDS: [(&str, &str, &str); 5] = [
    ("plain", "yuv420p", "bframes=2"),
    ("pyramid", "yuv420p", "bframes=4:b-pyramid=1:ref=4:weightb=1"),
    ("slices and scaling lists", "yuv420p", "slices=3:scaling-list=default:amp=1:rect=1"),
    ("open GOP", "yuv420p", "open-gop=1:bframes=3:tskip=1:sao=1:cutree=1"),
    ("10 bit", "yuv420p10le", "bframes=3:aq-mode=2"),
];

#[test]
fn decoded_hevc_pictures_are_libavcodecs_to_the_bit() {
    let _machine = beside_others();
    let double = Double::start();
    let (stream, raw) = (double.folder().join("in.h265"), double.folder().join("out.yuv"));
    for (kind, pixels, options) in HEVC_KINDS {
        let source = "-f lavfi -i testsrc2=size=640x356:rate=30:duration=2 -c:v libx265 -preset fast -g 40 -pix_fmt";
        let parameters = format!("log-level=error:{options}");
        let output = [pixels, "-x265-params", &parameters, tools::text(&stream)];
        tools::ffmpeg(source.split(' ').chain(output));
        let (format, element) = if pixels == "yuv420p" { ("nv12", "NV12") } else { ("p010le", "P010_10LE") };
        let wanted = tools::ffmpeg(["-i", tools::text(&stream), "-f", "rawvideo", "-pix_fmt", format, "-"]);
        run_well(
            &double,
            &format!(
                "filesrc location={} ! h265parse ! nvh265dec ! video/x-raw,format={element} ! filesink location={}",
                tools::text(&stream),
                tools::text(&raw)
            ),
        );
        let decoded = fs::read(&raw).unwrap();
        assert_eq!(wanted.len(), 60 * 640 * 356 * 3 / 2 * if format == "nv12" { 1 } else { 2 }, "{kind}");
        assert!(decoded == wanted, "{kind}: {} bytes of {}", decoded.len(), wanted.len());
    }
}

/// From decoder to encoders nothing leaves the device, and all rungs have their key frames at the source's.
#[test]
fn a_ladder_is_aligned_and_stays_on_the_device() {
    let _machine = beside_others();
    let double = Double::start();
    let source = double.folder().join("in.ts");
    let clip = [
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=1280x720:rate=30:duration=10",
        "-pix_fmt",
        "yuv420p",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
    ];
    tools::ffmpeg(clip.iter().chain(&["-g", "60", tools::text(&source)]));
    let rung = |width: u32, height: u32, kbps: u32| {
        let out = double.folder().join(format!("{height}.ts"));
        format!(
            "t. ! queue ! cudaconvertscale ! {DEVICE},width={width},height={height} ! nvh264enc gop-size=60 rc-mode=cbr bitrate={kbps} ! \
             video/x-h264,profile=main ! h264parse ! mpegtsmux ! filesink location={}",
            out.display()
        )
    };
    let rungs = [rung(854, 480, 1500), rung(640, 360, 800), rung(426, 240, 400)];
    let begun = std::time::Instant::now();
    run_well(
        &double,
        &format!(
            "filesrc location={} ! tsdemux ! h264parse ! nvh264dec max-errors=3 ! {DEVICE} ! tee name=t {}",
            source.display(),
            rungs.join(" ")
        ),
    );
    println!("10 s of a 720p ladder of three rungs took {:?}", begun.elapsed());
    for height in [480, 360, 240] {
        let file = double.folder().join(format!("{height}.ts"));
        assert_eq!((pictures(&file).len(), key_frames(&file)), (300, vec![0, 60, 120, 180, 240]), "{height}p");
    }
    let state = double.state();
    assert_eq!((state.calls("nvEncLockInputBuffer"), state.host_copies()), (0, 0), "{state:?}");
    assert_eq!((state.calls("kernel.native"), state.calls("kernel.compiled")), (900, 0), "{state:?}");
    assert_eq!((state.total("decoded_pictures"), state.total("encoded_pictures")), (300, 900));
    assert!(state.is_clean(), "{state:?}");
}

/// A pipeline without the caps of device memory goes through the host without a word: the counts tell.
#[test]
fn a_detour_through_the_host_is_counted() {
    let double = Double::start();
    run_well(&double, &format!("{} ! nvh264enc ! fakesink", pattern(10, 320, 240, "ball")));
    assert_eq!(double.calls("nvEncLockInputBuffer"), 10);
    run_well(&double, &format!("{} ! cudaupload ! {DEVICE} ! nvh264enc ! fakesink", pattern(10, 320, 240, "ball")));
    // Luma and chroma.
    assert_eq!((double.calls("nvEncLockInputBuffer"), double.state().host_copies()), (10, 20));
}

/// The converter's own C and its source, compiled for the CPU, come to the same bytes: scaled, turned, with borders and with a colour matrix.
#[test]
fn native_and_compiled_kernels_are_the_same_to_the_bit() {
    let _machine = beside_others();
    let cases = [
        ("", "", "width=320,height=180"),
        ("", "", "width=854,height=480"),
        ("add-borders=true", "", "width=400,height=400,pixel-aspect-ratio=1/1"),
        ("video-direction=90r", "", "width=360,height=640"),
        ("video-direction=180", "", "width=360,height=200"),
        ("video-direction=ul-lr", "", "width=322,height=180"),
        ("", ",colorimetry=bt601", "width=426,height=240,colorimetry=bt709"),
    ];
    let mut double = Double::start();
    let out = double.folder().join("out.y4m");
    for (properties, from, to) in cases {
        let mut convert = |kernels: Fault| {
            double.set(kernels);
            let source = pattern(3, 640, 360, "snow");
            run_well(
                &double,
                &format!(
                    // The last three write the picture without what lies between its lines.
                    "{source}{from} ! cudaupload ! cudaconvertscale {properties} ! {DEVICE},{to} ! cudadownload ! videoconvert ! \
                     video/x-raw,format=I420 ! y4menc ! filesink location={}",
                    tools::text(&out)
                ),
            );
            double.lift(kernels);
            fs::read(&out).unwrap()
        };
        let (native, compiled) = (convert(Fault::NativeKernels), convert(Fault::CompiledKernels));
        assert!(
            !native.is_empty() && native == compiled,
            "{properties} {from} {to}: {} and {} bytes",
            native.len(),
            compiled.len()
        );
    }
    let state = double.state();
    let frames = 3 * cases.len() as u64;
    assert_eq!((state.calls("kernel.native"), state.calls("kernel.compiled")), (frames, frames), "{state:?}");
}

#[test]
fn kernels_are_written_down_with_their_options() {
    let mut double = Double::start();
    let kernels = double.keep_kernels();
    run_well(
        &double,
        &format!("{} ! cudaupload ! cudaconvertscale ! {DEVICE},width=160,height=120 ! fakesink", pattern(2, 320, 240, "ball")),
    );
    let mut seen = Vec::new();
    for file in fs::read_dir(&kernels).unwrap().map(|f| f.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "cu"))
    {
        let (source, options) =
            (fs::read_to_string(&file).unwrap(), fs::read_to_string(file.with_extension("options")).unwrap());
        assert!(options.contains("--gpu-architecture="), "{options}");
        seen.push(source.contains("GstCudaConverterMain") && options.contains("-DSAMPLER=SampleNV12"));
    }
    assert!(seen.contains(&true), "{seen:?}");
}
