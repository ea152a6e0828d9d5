//! NVIDIA's own libraries, of which a test chooses the ones that programs see.

use std::fmt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::root;

/// Where `./dev root` unpacks them, away from the loader's path.
const UNPACKED: &str = "/opt/nvidia/usr/lib";

/// A library, by what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    Cuda,
    /// NVDEC. NVENC's library is linked to it.
    Cuvid,
    Encode,
    Nvml,
    Nvrtc,
}

impl Library {
    pub const ALL: [Self; 5] = [Self::Cuda, Self::Cuvid, Self::Encode, Self::Nvml, Self::Nvrtc];

    /// The name that programs open.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cuda => "libcuda.so.1",
            Self::Cuvid => "libnvcuvid.so.1",
            Self::Encode => "libnvidia-encode.so.1",
            Self::Nvml => "libnvidia-ml.so.1",
            Self::Nvrtc => "libnvrtc.so.12",
        }
    }

    /// All the files that it comes as.
    fn files(self) -> &'static [&'static str] {
        match self {
            // nvml-wrapper opens it without the number, which Debian's package has as well.
            Self::Nvml => &["libnvidia-ml.so.1", "libnvidia-ml.so"],
            // The second one it opens while it compiles.
            Self::Nvrtc => &["libnvrtc.so.12", "libnvrtc-builtins.so.12.4"],
            Self::Cuda => &["libcuda.so.1", "libcuda.so"],
            Self::Cuvid => &["libnvcuvid.so.1"],
            Self::Encode => &["libnvidia-encode.so.1"],
        }
    }
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A folder of links to some of the libraries, for the processes that are given [`Self::environment`].
pub struct Libraries {
    folder: TempDir,
    environment: Vec<(&'static str, String)>,
}

impl Libraries {
    /// Those; NVRTC under the name that the image gives it.
    pub fn of(libraries: &[Library]) -> Self {
        root::require();
        let folder = tempfile::tempdir().unwrap();
        for file in libraries.iter().flat_map(|l| l.files()) {
            symlink(unpacked(file), folder.path().join(file)).unwrap();
        }
        let path = |name: &str| folder.path().join(name).into_os_string().into_string().expect("test folders have plain names");
        let environment = vec![
            ("LD_LIBRARY_PATH", folder.path().to_str().expect("test folders have plain names").to_owned()),
            // Which elements there are depends on the libraries, and GStreamer does not notice that these have changed.
            ("GST_REGISTRY", path("registry.bin")),
            ("GST_CUDA_NVRTC_LIBNAME", Library::Nvrtc.name().to_owned()),
        ];
        Self { folder, environment }
    }

    /// For child processes. A process finds libraries by what was in its environment when it began.
    pub fn environment(&self) -> Vec<(&str, &str)> {
        self.environment.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    /// The files of one of them, for a process that loads them by path.
    pub fn files(&self, library: Library) -> Vec<PathBuf> {
        library.files().iter().map(|f| self.folder.path().join(f)).collect()
    }
}

fn unpacked(file: &str) -> PathBuf {
    let architecture = Path::new(UNPACKED).join(format!("{}-linux-gnu", std::env::consts::ARCH));
    let found = [architecture.join("nvidia/current").join(file), architecture.join(file)].into_iter().find(|p| p.exists());
    found.unwrap_or_else(|| {
        panic!("{file} of tests/gpu/nvidia.txt is not in {UNPACKED}: remove the root folder, run ./dev root")
    })
}
