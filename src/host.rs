//! What the machine, or the container, has and how busy it is. Reads files of the kernel; judges nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The kernel counts processor time for programs in ticks of 10 ms: USER_HZ is 100 on every architecture that Debian has.
const TICK_MS: u64 = 10;

/// Where to read; the root of the file system, or a copy of it in tests.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
    /// Processor time that was used until a moment, of the container, or else of the machine.
    last: Option<(Instant, Duration)>,
    /// Likewise of processes.
    processes: BTreeMap<u32, Duration>,
}

impl Host {
    /// This machine.
    pub fn new() -> Self {
        Self::at(Path::new("/"))
    }

    fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), last: None, processes: BTreeMap::new() }
    }

    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.root.join(path)).ok()
    }

    /// A file of our cgroup (v2): a container sees its own as the root; a service of systemd's finds it by its path.
    fn cgroup(&self, file: &str) -> Option<String> {
        let path = self.read("proc/self/cgroup").unwrap_or_default();
        let path = path.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or_default().trim_matches('/');
        self.read(&format!("sys/fs/cgroup/{path}/{file}")).or_else(|| self.read(&format!("sys/fs/cgroup/{file}")))
    }

    /// Thousandths of processor cores: those that threads may run on, or the container's quota (cgroup v2, `cpu.max`) where it is lower.
    pub fn cpu_milli(&self) -> Option<u64> {
        let threads = std::thread::available_parallelism().ok().map(|n| n.get() as u64 * 1000);
        let quota = self.cgroup("cpu.max").and_then(|text| {
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
        let limit = self.cgroup("memory.max").and_then(|text| Some(text.trim().parse::<u64>().ok()? >> 20));
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

    /// Thousandths of all processor time that there was since the last question, that was used; `None` the first time.
    pub fn cpu_busy(&mut self) -> Option<u16> {
        let used = self.cpu_used_milli()?;
        let busy = used.saturating_mul(1000).checked_div(self.cpu_milli()?)?;
        Some(u16::try_from(busy).unwrap_or(u16::MAX))
    }

    fn container_time(&self) -> Option<Duration> {
        let text = self.cgroup("cpu.stat")?;
        let micros = text.lines().find_map(|l| l.strip_prefix("usage_usec "))?.trim().parse().ok()?;
        Some(Duration::from_micros(micros))
    }

    /// The first line of `/proc/stat`: ticks by what they were used for. Idle and waiting for disks is not used.
    fn machine_time(&self) -> Option<Duration> {
        let text = self.read("proc/stat")?;
        let ticks: Vec<u64> =
            text.lines().next()?.strip_prefix("cpu ")?.split_whitespace().map_while(|n| n.parse().ok()).collect();
        // user, nice, system, (idle, iowait), irq, softirq, steal; guests are in user already.
        let used = [0, 1, 2, 5, 6, 7].into_iter().filter_map(|i| ticks.get(i)).sum::<u64>();
        Some(Duration::from_millis(used.checked_mul(TICK_MS)?))
    }

    /// Thousandths of the last ten seconds in which somebody waited for a processor (pressure stall information, `some avg10`): in the container (cgroup v2,
    /// `cpu.pressure`), or else on the machine. `None` where the kernel does not count it.
    pub fn cpu_stalled(&self) -> Option<u16> {
        let text = self.cgroup("cpu.pressure").or_else(|| self.read("proc/pressure/cpu"))?;
        let avg10 = text.lines().find_map(|l| l.strip_prefix("some avg10="))?.split(' ').next()?;
        let (percent, hundredths) = avg10.split_once('.')?;
        let tenths = hundredths.get(..1)?.parse::<u16>().ok()?;
        percent.parse::<u16>().ok()?.checked_mul(10)?.checked_add(tenths)
    }

    /// Processor time that these processes used since the last question: of each that was asked for then too. `None` where none was.
    pub fn used_by(&mut self, pids: &BTreeSet<u32>) -> Option<Duration> {
        let now: BTreeMap<u32, Duration> = pids.iter().filter_map(|pid| Some((*pid, self.process_time(*pid)?))).collect();
        let before = std::mem::replace(&mut self.processes, now);
        let known = self.processes.iter().filter_map(|(pid, now)| now.checked_sub(*before.get(pid)?));
        known.reduce(Duration::saturating_add)
    }

    /// `/proc/PID/stat`, fields 14 and 15: user and system time in ticks. The second field is a name in parentheses, which may contain anything.
    fn process_time(&self, pid: u32) -> Option<Duration> {
        let text = self.read(&format!("proc/{pid}/stat"))?;
        let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
        let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
        Some(Duration::from_millis(user.checked_add(system)?.checked_mul(TICK_MS)?))
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
            ("proc/self/cgroup", "0::/system.slice/weir.service\n"),
            ("sys/fs/cgroup/system.slice/weir.service/cpu.max", "50000 100000\n"),
            ("sys/fs/cgroup/memory.max", "2147483648\n"),
            ("proc/meminfo", "MemTotal:       32614308 kB\nMemFree: 1 kB\n"),
            ("proc/pressure/cpu", "some avg10=3.07 avg60=1.00 avg300=0.50 total=1\nfull avg10=9.00\n"),
        ]);
        assert_eq!((host.cpu_milli(), host.memory_mib(), host.cpu_stalled()), (Some(500), Some(2048), Some(30)));
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
    fn a_processes_time_is_told_from_the_second_look_on_whatever_its_name() {
        let stat = |ticks: u32| format!("7 (a) b (c) R 1 7 7 0 -1 4194304 100 0 0 0 {ticks} 5 0 0 20 0 1 0 50 1 1\n");
        let (root, mut host) = host(&[("proc/7/stat", &stat(10)), ("proc/8/stat", &stat(10))]);
        assert_eq!(host.used_by(&[7].into()), None);
        std::fs::write(root.path().join("proc/7/stat"), stat(60)).unwrap();
        std::fs::write(root.path().join("proc/8/stat"), stat(999)).unwrap();
        assert_eq!(host.used_by(&[7, 8, 9].into()), Some(Duration::from_millis(500)), "8 is new, and 9 is none");
    }

    #[test]
    fn this_machine_answers() {
        let mut host = Host::new();
        assert!(host.memory_mib().unwrap() > 0);
        host.cpu_used_milli();
        assert!(host.cpu_used_milli().is_some());
    }
}
