//! What GStreamer asks NVRTC to compile, and that NVIDIA's own NVRTC compiles it: the double runs kernels on the CPU and would not notice a source or an
//! option that the real compiler refuses.

use crate::double::{self, Double};
use crate::harness::tools;
use crate::nvidia;
use crate::nvrtc::Nvrtc;

/// A source, and the options that GStreamer compiles it with.
struct Kernel {
    name: String,
    source: String,
    options: Vec<String>,
}

/// Scales two pictures from one format to NV12 as a rung does, and gives what was compiled for it.
fn asked_for(format: &str) -> Vec<Kernel> {
    let mut double = Double::start();
    let kept = double.keep_kernels();
    let pipeline = format!(
        "videotestsrc num-buffers=2 ! video/x-raw,format={format},width=640,height=360 ! cudaupload ! cudaconvertscale \
         ! video/x-raw(memory:CUDAMemory),format=NV12,width=320,height=180 ! fakesink"
    );
    let done = tools::run(double.command("gst-launch-1.0").arg("-q").args(pipeline.split_whitespace()));
    assert!(done.status.success(), "{format}: {}", String::from_utf8_lossy(&done.stderr));
    let files = std::fs::read_dir(kept).unwrap().map(|e| e.unwrap().path());
    let kernels = files.filter(|p| p.extension().is_some_and(|e| e == "cu")).map(|file| Kernel {
        name: format!("{format}, {}", file.file_name().unwrap().to_string_lossy()),
        source: std::fs::read_to_string(&file).unwrap(),
        options: std::fs::read_to_string(file.with_extension("options")).unwrap().lines().map(str::to_owned).collect(),
    });
    kernels.collect()
}

/// The decoder gives NV12; what is decoded in software and uploaded is I420.
#[test]
fn the_scalers_kernels_compile_for_an_a10g() {
    let nvrtc = Nvrtc::open();
    for format in ["NV12", "I420"] {
        let kernels = asked_for(format);
        let scalers = kernels.iter().filter(|k| k.source.contains("GstCudaConverterMain")).count();
        // The other one is the plugin's trial when it is loaded.
        assert_eq!((kernels.len(), scalers), (2, 1), "{format}");
        for Kernel { name, source, options } in &kernels {
            let asked = nvrtc.compile(source, options);
            assert!(asked.status == 0 && asked.ptx.contains(".entry "), "{name} {options:?}: {asked:?}");
            // GStreamer asks for code of the device itself first, where the compiler can give it.
            for architecture in ["sm_86", "compute_86"] {
                let mut options = options.clone();
                options.retain(|o| !o.starts_with("--gpu-architecture="));
                options.push(format!("--gpu-architecture={architecture}"));
                let made = nvrtc.compile(source, &options);
                assert!(made.status == 0 && made.ptx.contains(".target sm_86"), "{name} {options:?}: {made:?}");
                assert_eq!(made.cubin.starts_with(b"\x7fELF"), architecture == "sm_86", "{name}");
            }
        }
    }
}

/// Which of the elements that need the compiler GStreamer has, on a double whose compiler is NVIDIA's.
fn scalers(name_of_compiler: Option<&str>) -> Vec<&'static str> {
    let double = Double::without(&[double::Library::Nvrtc]);
    let compiler = nvidia::Libraries::of(&[nvidia::Library::Nvrtc]);
    let folder = |environment: Vec<(&str, &str)>| {
        environment.iter().find(|(name, _)| *name == "LD_LIBRARY_PATH").expect("both are found by it").1.to_owned()
    };
    let folders = format!("{}:{}", folder(double.environment()), folder(compiler.environment()));
    let has = |element: &&str| {
        let mut command = double.command("gst-inspect-1.0");
        command.args(["--exists", element]).env("LD_LIBRARY_PATH", &folders);
        match name_of_compiler {
            Some(name) => command.env("GST_CUDA_NVRTC_LIBNAME", name),
            None => command.env_remove("GST_CUDA_NVRTC_LIBNAME"),
        };
        tools::run(&mut command).status.success()
    };
    assert!(has(&"nvh264enc") && has(&"nvh264dec"), "GStreamer does not take the double for a driver");
    ["cudaconvertscale", "cudaconvert", "cudascale"].into_iter().filter(has).collect()
}

/// Without the variable GStreamer opens a name that only development packages have, and goes without scalers.
#[test]
fn gstreamer_finds_the_compiler_by_the_variable_only() {
    assert_eq!(scalers(Some("libnvrtc.so.12")), ["cudaconvertscale", "cudaconvert", "cudascale"]);
    assert!(scalers(None).is_empty());
}
