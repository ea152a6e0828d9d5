//! What of the worker's environment a process that it starts may see: nothing else of ours, and so no credentials.

use std::ffi::OsString;

/// By name.
const NAMES: [&str; 4] = ["PATH", "LANG", "LD_LIBRARY_PATH", "TMPDIR"];

/// By beginning: where GStreamer looks for plugins and NVRTC, which devices are visible, which driver a container was given.
const PREFIXES: [&str; 3] = ["GST_", "CUDA_", "NVIDIA_"];

/// A variable that names further ones, with commas in between: for what stands in the driver's place in tests.
pub const FURTHER: &str = "WEIR_PASS_ENVIRONMENT";

/// The variables and their values.
pub fn allowed() -> Vec<(OsString, OsString)> {
    let further = std::env::var(FURTHER).unwrap_or_default();
    pick(std::env::vars_os(), &further)
}

fn pick(all: impl Iterator<Item = (OsString, OsString)>, further: &str) -> Vec<(OsString, OsString)> {
    all.filter(|(name, _)| {
        name.to_str().is_some_and(|n| {
            NAMES.contains(&n)
                || PREFIXES.iter().any(|p| n.starts_with(p))
                || further.split(',').any(|f| !f.is_empty() && f == n)
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_settings_of_ours_stay_here() {
        let all = [
            "PATH",
            "AWS_SECRET_ACCESS_KEY",
            "WEIR_KEYS",
            "GST_DEBUG",
            "CUDA_VISIBLE_DEVICES",
            "NVIDIA_DRIVER_CAPABILITIES",
            "A",
            "B",
            "C",
        ];
        let picked = pick(all.iter().map(|n| ((*n).into(), "x".into())), "A,C,");
        let names: Vec<&str> = picked.iter().filter_map(|(n, _)| n.to_str()).collect();
        assert_eq!(names, ["PATH", "GST_DEBUG", "CUDA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "A", "C"]);
    }
}
