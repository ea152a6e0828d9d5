//! The driver double (`tests/driver-double/README.md`): NVIDIA's driver libraries of our own, for the processes that a test gives its environment.
//!
//! It fails loudly: when it is not built, when a setting is not known to it, and when a test ends without any process having loaded it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::{tools, until};
use crate::root;

/// A library of the driver, as programs open it. Without one of them, they see a driver without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    Cuda,
    Cuvid,
    Encode,
    Nvml,
    Nvrtc,
}

impl Library {
    pub const ALL: [Self; 5] = [Self::Cuda, Self::Cuvid, Self::Encode, Self::Nvml, Self::Nvrtc];

    fn files(self) -> &'static [&'static str] {
        match self {
            Self::Cuda => &["libcuda.so.1", "libcuda.so"],
            Self::Cuvid => &["libnvcuvid.so.1"],
            Self::Encode => &["libnvidia-encode.so.1"],
            Self::Nvml => &["libnvidia-ml.so.1", "libnvidia-ml.so"],
            Self::Nvrtc => &["libnvrtc.so", "libnvrtc.so.12"],
        }
    }
}

/// What is made to go wrong, or to be otherwise than on a machine with one A10G and a 550 driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A call answers with an error code of its library: after so many calls that went well, so many times (`None`: from then on). Both count
    /// from when the fault is set, over all processes. Entries of NVENC's table are named `nvEnc...`.
    Fail { call: &'static str, code: i32, after: u32, times: Option<u32> },
    /// A call takes longer.
    Delay { call: &'static str, by: Duration },
    /// A call does not come back until the fault is lifted.
    Hang { call: &'static str },
    /// The calls that fail, take longer or hang are those of this process alone, and only those count.
    Victim { pid: u32 },
    /// All devices are gone. A process that had them never gets them back, another one does once the fault is lifted.
    Lost,
    /// One device is gone, by NVML's count.
    DeviceLost { device: u32 },
    /// How many devices there are; 0: none.
    Devices { count: u32 },
    /// What the driver says of CUDA: 1000 x major + 10 x minor.
    CudaVersion { version: u32 },
    /// The newest NVENC interface that the driver knows.
    NvencVersion { major: u32, minor: u32 },
    /// The presets before P1 to P7 are gone, as from driver 590 on.
    NoLegacyPresets,
    /// At most so many encode sessions in all processes together.
    Sessions { at_most: u32 },
    /// Device memory in MiB, of each device.
    DeviceMemory { mib: u32 },
    /// Device memory in MiB that others have taken.
    DeviceMemoryTaken { mib: u32 },
    /// Device memory in MiB that each encode session takes.
    SessionMemory { mib: u32 },
    /// Time of the one encoder engine of a device for a picture, whoever's it is.
    EncodeTime { per_picture: Duration },
    /// The same of one device.
    DeviceEncodeTime { device: u32, per_picture: Duration },
    /// The same for the decoder.
    DecodeTime { per_picture: Duration },
    /// Every n-th encoded picture has wrong bits.
    Corrupt { every: u32 },
    /// Every n-th encoded picture has none.
    Empty { every: u32 },
    /// Another value of an `NV_ENC_CAPS`.
    Cap { number: u32, value: i32 },
    /// What NVML reads instead: "encoder", "decoder", "gpu", "memory" (percent), "temperature" (degrees), "power_mw", "clock_video_mhz", "clock_video_max_mhz".
    Reading { what: &'static str, value: u32 },
    /// Of a thousand calls, so many fail; which ones is a matter of the seed, the call's name and its number alone. Calls that clean up never do.
    Random { seed: u32, permille: u32 },
    /// Kernels are run by the double's own C alone.
    NativeKernels,
    /// Kernels are compiled from GStreamer's source alone.
    CompiledKernels,
}

impl fmt::Display for Fault {
    /// The lines of the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail { call, code, after, times } => {
                writeln!(f, "fail.{call}={code}\nfail.{call}.after={after}")?;
                times.iter().try_for_each(|times| writeln!(f, "fail.{call}.count={times}"))
            }
            Self::Delay { call, by } => writeln!(f, "delay.{call}={}", by.as_micros()),
            Self::Hang { call } => writeln!(f, "hang.{call}=1"),
            Self::Victim { pid } => writeln!(f, "victim={pid}"),
            Self::Lost => writeln!(f, "lost=1"),
            Self::DeviceLost { device } => writeln!(f, "lost.{device}=1"),
            Self::Devices { count } => writeln!(f, "devices={count}"),
            Self::CudaVersion { version } => writeln!(f, "cuda_version={version}"),
            Self::NvencVersion { major, minor } => writeln!(f, "nvenc.max_api={}", major << 4 | minor),
            Self::NoLegacyPresets => writeln!(f, "nvenc.legacy_presets=0"),
            Self::Sessions { at_most } => writeln!(f, "nvenc.max_sessions={at_most}"),
            Self::DeviceMemory { mib } => writeln!(f, "vram_mib={mib}"),
            Self::DeviceMemoryTaken { mib } => writeln!(f, "vram_used_mib={mib}"),
            Self::SessionMemory { mib } => writeln!(f, "nvenc.session_vram_mib={mib}"),
            Self::EncodeTime { per_picture } => writeln!(f, "nvenc.us_per_frame={}", per_picture.as_micros()),
            Self::DeviceEncodeTime { device, per_picture } => {
                writeln!(f, "nvenc.us_per_frame.{device}={}", per_picture.as_micros())
            }
            Self::DecodeTime { per_picture } => writeln!(f, "nvdec.us_per_frame={}", per_picture.as_micros()),
            Self::Corrupt { every } => writeln!(f, "nvenc.corrupt={every}"),
            Self::Empty { every } => writeln!(f, "nvenc.empty={every}"),
            Self::Cap { number, value } => writeln!(f, "nvenc.caps.{number}={value}"),
            Self::Reading { what, value } => writeln!(f, "nvml.{what}={value}"),
            Self::Random { seed, permille } => writeln!(f, "random.seed={seed}\nrandom.permille={permille}"),
            Self::NativeKernels => writeln!(f, "kernel.mode=1"),
            Self::CompiledKernels => writeln!(f, "kernel.mode=2"),
        }
    }
}

/// An encode session of any process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub pid: u32,
    pub device: u32,
    /// 0 until it is set up.
    pub width: u32,
    pub height: u32,
    /// Pictures of its last second.
    pub fps: u32,
}

/// What all processes together did until now, and what the living ones hold.
#[derive(Debug, Default)]
pub struct State {
    /// How often each symbol was entered; also `copy.host_to_device` and the like, `bytes.device_to_host`, `kernel.native`, `kernel.compiled`, and
    /// `nvenc.preset.p1` and the like: encoders that were set up with it.
    calls: BTreeMap<String, u64>,
    /// `encoded_pictures`, `decoded_pictures`, `processes_started`.
    totals: BTreeMap<String, u64>,
    /// Contexts, sessions, textures, modules, streams, host buffers: what has to be released.
    pub gauges: BTreeMap<String, i64>,
    /// Bytes taken of each device.
    pub memory: BTreeMap<u32, u64>,
    pub sessions: Vec<Session>,
    /// Pids and names of the living processes.
    pub processes: Vec<(u32, String)>,
}

impl State {
    /// Calls of a symbol by all processes; 0 where nobody called it.
    pub fn calls(&self, symbol: &str) -> u64 {
        self.calls.get(symbol).copied().unwrap_or(0)
    }

    /// Copies between host and device memory, in both directions.
    pub fn host_copies(&self) -> u64 {
        self.calls("copy.host_to_device") + self.calls("copy.device_to_host")
    }

    pub fn total(&self, name: &str) -> u64 {
        self.totals.get(name).copied().unwrap_or_else(|| panic!("no total {name} in {:?}", self.totals))
    }

    pub fn gauge(&self, name: &str) -> i64 {
        self.gauges.get(name).copied().unwrap_or_else(|| panic!("no gauge {name} in {:?}", self.gauges))
    }

    /// Whether nobody holds anything of any device.
    pub fn is_clean(&self) -> bool {
        self.gauges.values().all(|held| *held == 0) && self.memory.values().all(|bytes| *bytes == 0) && self.sessions.is_empty()
    }
}

/// A driver of a test's own: its state, faults and counts are those of the processes that were given its environment.
pub struct Double {
    folder: TempDir,
    environment: Vec<(&'static str, String)>,
    faults: Vec<Fault>,
}

/// Where `./dev test gpu` builds it: beside the profile's folder, in which this test's programs are.
fn built() -> PathBuf {
    let profile = Path::new(env!("CARGO_BIN_EXE_weir")).parent().expect("a program lies in a folder");
    profile.parent().expect("a profile's folder lies in the target folder").join("driver-double")
}

fn plain(path: &Path) -> String {
    path.to_str().expect("test folders have plain names").to_owned()
}

impl Double {
    /// All of a driver, one A10G.
    pub fn start() -> Self {
        Self::without(&[])
    }

    /// A driver that lacks some libraries.
    pub fn without(missing: &[Library]) -> Self {
        root::require();
        let libraries = built();
        assert!(
            libraries.join("nvdouble-state").exists(),
            "the driver double is not built in {}: start these tests by `./dev test gpu`",
            libraries.display()
        );
        let folder = tempfile::tempdir().unwrap();
        let seen = folder.path().join("lib");
        fs::create_dir(&seen).unwrap();
        let files = Library::ALL.iter().filter(|l| !missing.contains(l)).flat_map(|l| l.files());
        for file in files.chain(["libnvdouble.so"].iter()) {
            symlink(libraries.join(file), seen.join(file)).unwrap();
        }
        // The root has NVIDIA's real compiler, as the image does: a missing one must not be found there.
        let nvrtc = if missing.contains(&Library::Nvrtc) { "libnvrtc.so.0" } else { "libnvrtc.so.12" };
        let environment = vec![
            ("LD_LIBRARY_PATH", plain(&seen)),
            ("NVDOUBLE_DIR", plain(folder.path())),
            ("NVDOUBLE_LOG", plain(&folder.path().join("log"))),
            ("NVDOUBLE_CACHE", plain(&libraries.join("kernels"))),
            // Which elements there are depends on the driver, and GStreamer does not notice that it has changed.
            ("GST_REGISTRY", plain(&folder.path().join("registry.bin"))),
            ("GST_CUDA_NVRTC_LIBNAME", nvrtc.to_owned()),
            // The worker hands on only what it knows of.
            ("WEIR_PASS_ENVIRONMENT", "NVDOUBLE_DIR,NVDOUBLE_LOG,NVDOUBLE_CACHE,NVDOUBLE_KERNELS".to_owned()),
        ];
        Self { folder, environment, faults: Vec::new() }
    }

    /// For child processes; a process finds libraries by what was in its environment when it began.
    pub fn environment(&self) -> Vec<(&str, &str)> {
        self.environment.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    /// A program that finds this driver.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.envs(self.environment());
        command
    }

    /// A folder that lives as long as this.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Each kernel that anybody asks of NVRTC from now on, in processes started from now on: `HASH.cu` and `HASH.options` in the folder given back.
    pub fn keep_kernels(&mut self) -> PathBuf {
        let kernels = self.folder.path().join("kernels");
        fs::create_dir(&kernels).unwrap();
        self.environment.push(("NVDOUBLE_KERNELS", plain(&kernels)));
        kernels
    }

    /// Adds a fault, for all processes at once: calls that begin after this returns meet it.
    pub fn set(&mut self, fault: Fault) {
        self.faults.push(fault);
        self.tell();
    }

    /// Others take the memory of device 0: what is left is too little for another encode session, also once a session has given its own back. It is enough for
    /// more pictures of the streams that have theirs, since their pools grow whenever the machine is slow.
    pub fn leave_no_session(&mut self) {
        /// Of an A10G, as its driver counts, and what stays, in MiB.
        const ALL: u32 = 23_028;
        const LEFT: u32 = 512;
        let held = self.state().memory.get(&0).map_or(0, |bytes| u32::try_from(bytes >> 20).expect("less than the device has"));
        self.set(Fault::SessionMemory { mib: 2 * LEFT });
        self.set(Fault::DeviceMemoryTaken { mib: ALL - held - LEFT });
    }

    /// Takes a fault away. Counts of the others go on.
    pub fn lift(&mut self, fault: Fault) {
        let before = self.faults.len();
        self.faults.retain(|f| *f != fault);
        assert!(self.faults.len() < before, "{fault:?} was not set: {:?}", self.faults);
        self.tell();
    }

    /// Takes all faults away.
    pub fn clear(&mut self) {
        self.faults.clear();
        self.tell();
    }

    fn tell(&self) {
        let text: String = self.faults.iter().map(Fault::to_string).collect();
        let (fresh, file) = (self.folder.path().join("faults.new"), self.folder.path().join("faults"));
        // Renamed into place: nobody reads half of it.
        fs::write(&fresh, text).unwrap();
        fs::rename(&fresh, &file).unwrap();
        self.tool(&["faults"]);
    }

    fn tool(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(built().join("nvdouble-state"));
        let done = tools::run(command.arg(self.folder.path()).args(arguments));
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{command:?}: {} {said}", done.status);
        String::from_utf8(done.stdout).expect("names of symbols")
    }

    /// What was done and is held, after giving back what dead processes held.
    pub fn state(&self) -> State {
        let mut state = State::default();
        for line in self.tool(&[]).lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |i: usize| words[i].parse::<u64>().unwrap_or_else(|e| panic!("{line}: {e}"));
            let small = |i: usize| u32::try_from(number(i)).unwrap_or_else(|e| panic!("{line}: {e}"));
            match words[0] {
                "call" => drop(state.calls.insert(words[1].to_owned(), number(2))),
                "total" => drop(state.totals.insert(words[1].to_owned(), number(2))),
                "gauge" => {
                    state.gauges.insert(words[1].to_owned(), words[2].parse().unwrap_or_else(|e| panic!("{line}: {e}")));
                }
                "device" => drop(state.memory.insert(small(1), number(2))),
                "session" => {
                    state.sessions.push(Session {
                        pid: small(1),
                        device: small(2),
                        width: small(3),
                        height: small(4),
                        fps: small(5),
                    });
                }
                "process" => state.processes.push((small(1), words[2..].join(" "))),
                _ => panic!("the double says {line}"),
            }
        }
        state
    }

    /// Calls of a symbol until now.
    pub fn calls(&self, symbol: &str) -> u64 {
        self.state().calls(symbol)
    }

    /// Waits until nobody holds anything: a process that was killed gives back with its last breath, which comes after its parent heard of it.
    pub fn until_clean(&self) {
        until("an empty device", || self.state().is_clean().then_some(()));
    }

    /// The trace of all calls, by process; processes in a sandbox write it too.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Fails when a living process does not load this double's libraries. It may only just have been started.
    pub fn assert_loaded_by(&self, pid: u32) {
        let core = plain(&fs::canonicalize(built().join("libnvdouble.so")).unwrap());
        until(&format!("process {pid} to load {core}"), || {
            let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_else(|e| panic!("process {pid}: {e}"));
            maps.contains(&core).then_some(())
        });
        assert!(
            self.state().processes.iter().any(|(p, _)| *p == pid),
            "process {pid} has loaded the double with another state"
        );
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        // A test that meant to try the driver and never had it would pass for the wrong reason.
        if !std::thread::panicking() {
            assert!(self.state().total("processes_started") > 0, "no process has loaded the driver double");
        }
    }
}
