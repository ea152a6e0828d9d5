//! What GStreamer asks NVRTC to compile, and that NVIDIA's own NVRTC compiles it: the double runs kernels on the CPU and would not notice a source or an
//! option that the real compiler refuses.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::tools;
use crate::nvidia::{Libraries, Library};
use crate::nvrtc::Nvrtc;

/// A source, and the options that GStreamer compiles it with.
struct Kernel {
    name: String,
    source: String,
    options: Vec<String>,
}

/// Where the double's libraries are built; [`crate::harness`] has its folder for clips in the same place.
fn double() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("driver-double");
    assert!(
        folder.join("libcuda.so.1").exists(),
        "no driver double in {}: start the tests by ./dev test gpu",
        folder.display()
    );
    folder
}

/// Scales two pictures from one format to NV12 as a rung does, and gives what was compiled for it.
fn asked_for(format: &str) -> Vec<Kernel> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["state", "kernels"] {
        std::fs::create_dir(path(name)).unwrap();
    }
    let pipeline = format!(
        "videotestsrc num-buffers=2 ! video/x-raw,format={format},width=640,height=360 ! cudaupload ! cudaconvertscale \
         ! video/x-raw(memory:CUDAMemory),format=NV12,width=320,height=180 ! fakesink"
    );
    let mut command = Command::new("gst-launch-1.0");
    command
        .arg("-q")
        .args(pipeline.split_whitespace())
        .env("LD_LIBRARY_PATH", double())
        .env("GST_REGISTRY", path("registry.bin"));
    command.env("NVDOUBLE_DIR", path("state")).env("NVDOUBLE_KERNELS", path("kernels"));
    let done = tools::run(&mut command);
    assert!(done.status.success(), "{format}: {}", String::from_utf8_lossy(&done.stderr));
    let files = std::fs::read_dir(path("kernels")).unwrap().map(|e| e.unwrap().path());
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
    let libraries = Libraries::of(&[Library::Nvrtc]);
    let state = tempfile::tempdir().unwrap();
    // The last one is what they share, found beside them.
    for name in [Library::Cuda.name(), Library::Cuvid.name(), Library::Encode.name(), "libnvdouble.so"] {
        libraries.link(&double().join(name));
    }
    let has = |element: &&str| {
        let mut command = Command::new("gst-inspect-1.0");
        command.args(["--exists", element]).envs(libraries.environment()).env("NVDOUBLE_DIR", state.path());
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
