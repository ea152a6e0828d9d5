//! What the machine, or the container, has and how busy it is. Reads files of the kernel; judges nothing.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where to read; the root of the file system, or a copy of it in tests.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
    /// Processor time that was used until a moment, of the container, or else of the machine.
    last: Option<(Instant, Duration)>,
}

impl Host {
    /// This machine.
    pub fn new() -> Self {
        Self::at(Path::new("/"))
    }

    fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), last: None }
    }

    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.root.join(path)).ok()
    }

    /// Thousandths of processor cores: those that threads may run on, or the container's quota (cgroup v2, `cpu.max`) where it is lower.
    pub fn cpu_milli(&self) -> Option<u64> {
        let threads = std::thread::available_parallelism().ok().map(|n| n.get() as u64 * 1000);
        let quota = self.read("sys/fs/cgroup/cpu.max").and_then(|text| {
            let (quota, period) = text.trim().split_once(' ')?;
            quota.parse::<u64>().ok()?.checked_mul(1000)?.checked_div(period.parse().ok()?)
        });
        match (threads, quota) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// MiB of memory: the machine's, or the container's limit (cgroup v2, `memory.max`) where it is lower.
    pub fn memory_mib(&self) -> Option<u64> {
        let machine = self.read("proc/meminfo").and_then(|text| {
            let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
            Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? >> 10)
        });
        let limit = self.read("sys/fs/cgroup/memory.max").and_then(|text| Some(text.trim().parse::<u64>().ok()? >> 20));
        match (machine, limit) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Processor time that was used since the last question, thousandths of one core; `None` the first time. The container's (cgroup v2, `cpu.stat`), or else the machine's.
    pub fn cpu_used_milli(&mut self) -> Option<u64> {
        let used = self.container_time().or_else(|| self.machine_time())?;
        let now = Instant::now();
        let (then, before) = self.last.replace((now, used))?;
        let span = now.duration_since(then).as_micros();
        let milli = used.checked_sub(before)?.as_micros().checked_mul(1000)?.checked_div(span)?;
        u64::try_from(milli).ok()
    }

    fn container_time(&self) -> Option<Duration> {
        let text = self.read("sys/fs/cgroup/cpu.stat")?;
        let micros = text.lines().find_map(|l| l.strip_prefix("usage_usec "))?.trim().parse().ok()?;
        Some(Duration::from_micros(micros))
    }

    /// The first line of `/proc/stat`: ticks of 10 ms (USER_HZ is 100 on every architecture that Debian has) by what they were used for. Idle and waiting for disks is not used.
    fn machine_time(&self) -> Option<Duration> {
        const TICK_MS: u64 = 10;
        let text = self.read("proc/stat")?;
        let ticks: Vec<u64> =
            text.lines().next()?.strip_prefix("cpu ")?.split_whitespace().map_while(|n| n.parse().ok()).collect();
        // user, nice, system, (idle, iowait), irq, softirq, steal; guests are in user already.
        let used = [0, 1, 2, 5, 6, 7].into_iter().filter_map(|i| ticks.get(i)).sum::<u64>();
        Some(Duration::from_millis(used.checked_mul(TICK_MS)?))
    }

    /// Share of the last ten seconds in which somebody waited for a processor, percent times a hundred (pressure stall information, `some avg10`).
    pub fn cpu_stalled(&self) -> Option<u32> {
        let text = self.read("proc/pressure/cpu")?;
        let avg10 = text.lines().find_map(|l| l.strip_prefix("some avg10="))?.split(' ').next()?;
        let (whole, hundredths) = avg10.split_once('.')?;
        Some(whole.parse::<u32>().ok()? * 100 + hundredths.parse::<u32>().ok()?)
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let host = Host::at(root.path());
        (root, host)
    }

    #[test]
    fn a_container_has_what_it_is_given() {
        let (_root, host) = host(&[
            ("sys/fs/cgroup/cpu.max", "50000 100000\n"),
            ("sys/fs/cgroup/memory.max", "2147483648\n"),
            ("proc/meminfo", "MemTotal:       32614308 kB\nMemFree: 1 kB\n"),
            ("proc/pressure/cpu", "some avg10=3.07 avg60=1.00 avg300=0.50 total=1\nfull avg10=9.00\n"),
        ]);
        assert_eq!((host.cpu_milli(), host.memory_mib(), host.cpu_stalled()), (Some(500), Some(2048), Some(307)));
    }

    #[test]
    fn without_limits_the_machine_is_what_there_is() {
        let (_root, host) = host(&[
            ("sys/fs/cgroup/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/memory.max", "max\n"),
            ("proc/meminfo", "MemTotal:       32614308 kB\n"),
        ]);
        assert_eq!(host.memory_mib(), Some(31_849));
        assert!(host.cpu_milli().unwrap() >= 1000);
        assert_eq!(host.cpu_stalled(), None);
    }

    #[test]
    fn processor_time_is_told_from_the_second_look_on() {
        let (root, mut host) = host(&[("proc/stat", "cpu  100 0 100 5000 70 0 0 0 50 0\ncpu0 1 1 1\n")]);
        assert_eq!(host.machine_time(), Some(Duration::from_secs(2)));
        assert_eq!(host.cpu_used_milli(), None);
        // An hour of processor time more, in no time at all.
        std::fs::write(root.path().join("proc/stat"), "cpu  360100 0 100 9000 70 0 0 0 50 0\n").unwrap();
        assert!(host.cpu_used_milli().unwrap() > 3_600_000);
        std::fs::create_dir_all(root.path().join("sys/fs/cgroup")).unwrap();
        std::fs::write(root.path().join("sys/fs/cgroup/cpu.stat"), "usage_usec 1500000\nuser_usec 1\n").unwrap();
        assert_eq!(host.container_time(), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn this_machine_answers() {
        let mut host = Host::new();
        assert!(host.memory_mib().unwrap() > 0);
        host.cpu_used_milli();
        assert!(host.cpu_used_milli().is_some());
    }
}
