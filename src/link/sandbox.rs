//! What a process that parses strangers' bytes with native code gives up before the first of them: `weir-codec`, `weir-srt`.
//!
//! Decoders are large and parse what strangers send. Whoever takes one over finds no network, no programs, no files (not even to read: the
//! supervisor's configuration and `/proc` hold secrets), no other process to touch, and a bound on memory. What stays is memory, threads, time, and
//! the descriptors that are open already.
//!
//! It is a list of what is forbidden, not of what is allowed: GStreamer's plugins and the C library may use new system calls with any update, and a
//! list that breaks the streams would be switched off. A forbidden call fails with EPERM, which libraries take as "not available", instead of
//! ending the process. GStreamer's plugins must be loaded before: afterwards nothing can be opened. The SRT process was given its one UDP socket open, and libsrt
//! needs no other.
//!
//! A GPU's driver opens its devices and files whenever it likes. Its processes may open files, but only the driver's (Landlock, [`confine_files`]), and
//! have no bound on private memory here: drivers reserve far more than they use, and the supervisor watches what is resident.

use std::collections::BTreeMap;
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    path_beneath_rules,
};
use libc::{c_long, rlim_t};
use rustix::process::{Resource, Rlimit, getpid, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition as Condition, SeccompFilter,
    SeccompRule as Rule, TargetArch, apply_filter_all_threads,
};
use serde_json::json;

/// A pipeline needs about ten descriptors and the process has room for 64 streams; but it needs few by far.
const MAX_DESCRIPTORS: rlim_t = 1024;

/// Bytes of writable private memory of a codec process. A ladder of four rungs from 1080p has 0.3 to 0.6 GB resident (measured with x264 up to veryfast) and its
/// threads' stacks count in full; beyond this it is a hostile picture size or a leak, and this process has to end rather than the node.
pub const CODEC_MEMORY: u64 = 4 << 30;

/// System calls that are refused whatever their arguments.
const FORBIDDEN: &[&[c_long]] = &[
    // Network. socketpair stays: GStreamer's poll objects are made of it, and its two ends know only each other.
    &[libc::SYS_socket, libc::SYS_connect, libc::SYS_bind, libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4],
    // Programs. Processes are refused below: clone must stay for threads.
    &[libc::SYS_execve, libc::SYS_execveat],
    // Files by name.
    &[
        libc::SYS_unlinkat,
        libc::SYS_renameat2,
        libc::SYS_linkat,
        libc::SYS_symlinkat,
        libc::SYS_mkdirat,
        libc::SYS_mknodat,
        libc::SYS_fchmodat,
        libc::SYS_fchownat,
        libc::SYS_truncate,
        libc::SYS_utimensat,
        libc::SYS_setxattr,
        libc::SYS_lsetxattr,
        libc::SYS_removexattr,
        libc::SYS_lremovexattr,
        libc::SYS_name_to_handle_at,
        libc::SYS_open_by_handle_at,
        libc::SYS_fanotify_init,
        libc::SYS_inotify_init1,
    ],
    // Other processes: their memory, their descriptors, their shared memory and queues.
    &[
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_process_madvise,
        libc::SYS_kcmp,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_getfd,
        libc::SYS_pidfd_send_signal,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_tkill,
        libc::SYS_shmget,
        libc::SYS_shmat,
        libc::SYS_msgget,
        libc::SYS_semget,
        libc::SYS_mq_open,
    ],
    // Mounts and namespaces.
    &[
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_move_mount,
        libc::SYS_open_tree,
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fspick,
        libc::SYS_mount_setattr,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_quotactl,
    ],
    // The kernel itself, and parts of it that were ways in before. io_uring would also go around all of the above.
    &[
        libc::SYS_bpf,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_userfaultfd,
        libc::SYS_perf_event_open,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_kexec_load,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_reboot,
        libc::SYS_syslog,
        libc::SYS_acct,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_clock_adjtime,
        libc::SYS_adjtimex,
        libc::SYS_personality,
    ],
    OLD,
];

/// Opening files, to read as well as to write: refused, but for a GPU's driver.
const OPENING: &[&[c_long]] = &[&[libc::SYS_openat, libc::SYS_openat2], OLD_OPENING];

#[cfg(target_arch = "x86_64")]
const OLD_OPENING: &[c_long] = &[libc::SYS_open];
#[cfg(not(target_arch = "x86_64"))]
const OLD_OPENING: &[c_long] = &[];

/// What a driver of NVIDIA's opens besides its devices, to read: libraries, their configuration, and what the kernel says of the machine and of this
/// process. Not the rest of `/etc`, and nothing of other processes.
const DRIVER_FILES: [&str; 16] = [
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/nvidia",
    "/etc/localtime",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/devices",
    "/proc/modules",
    "/proc/driver/nvidia",
    "/proc/sys",
    "/sys",
    "/dev/urandom",
    "/dev/zero",
];

/// Devices, to read and write: those of `/dev` whose names begin so.
const DEVICES: &str = "nvidia";

/// The older forms of some of these, which newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const OLD: &[c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_creat,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_mknod,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_inotify_init,
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[c_long] = &[libc::SYS_renameat];

/// x86-64 kernels may offer every call a second time under this bit (the x32 ABI), and some under numbers of their own.
#[cfg(target_arch = "x86_64")]
const X32: Option<(c_long, std::ops::RangeInclusive<c_long>)> = Some((0x4000_0000, 512..=547));
#[cfg(not(target_arch = "x86_64"))]
const X32: Option<(c_long, std::ops::RangeInclusive<c_long>)> = None;

/// Asks to be killed with the supervisor. With the process id that the parent should have, the gap between fork and this call is closed too.
///
/// # Errors
/// A text for the log when that cannot be asked, or the parent is gone.
pub fn die_with_parent(expected: Option<i32>) -> Result<(), String> {
    use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
    // The signal comes when the *thread* that started this process ends: the supervisor must not start it from a short-lived thread.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| format!("cannot ask to die with the parent: {e}"))?;
    let actual = getppid().map_or(0, Pid::as_raw_pid);
    match expected {
        Some(expected) if expected != actual => Err(format!("parent {expected} is gone, now it is {actual}")),
        _ => Ok(()),
    }
}

/// What a process keeps of what others give up.
#[derive(Debug, Clone, Copy)]
pub struct Keeps {
    /// Opening files: a GPU's driver does.
    pub opening: bool,
    /// Bytes of writable private memory at the most; `None`: no bound here.
    pub memory: Option<u64>,
}

/// Where a process writes its log.
pub type Log = fn(&str);

/// Gives up everything above, for all threads. What this kernel cannot do is said in the log, and the process goes on: the container around it is
/// the other wall.
pub fn enter(keeps: Keeps, log: Log) {
    let memory = keeps.memory.map(|bytes| (Resource::Data, bytes));
    for (resource, limit) in [(Resource::Core, 0), (Resource::Nofile, MAX_DESCRIPTORS)].into_iter().chain(memory) {
        // Never above what it was: raising needs a privilege.
        let limit = rustix::process::getrlimit(resource).maximum.map_or(limit, |maximum| maximum.min(limit));
        if let Err(e) = setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) }) {
            log(&format!("sandbox: no limit for {resource:?}: {e}"));
        }
    }
    for (what, program) in [("clone3", no_clone3()), ("system calls", forbidden(keeps.opening))] {
        let applied = program.and_then(|p| apply_filter_all_threads(&p));
        if let Err(e) = applied {
            log(&format!("sandbox: no filter for {what}: {e}"));
        }
    }
}

/// For a GPU's processes: from here on files can be opened if they are the driver's, or among `more`; the others as if nobody might read them.
pub fn confine_files(more: &[PathBuf], log: Log) {
    match confined(more) {
        Ok(status) if status.ruleset == RulesetStatus::NotEnforced => {
            log("sandbox: this kernel has no Landlock: files can be read")
        }
        Ok(_) => {}
        Err(e) => log(&format!("sandbox: files can be read: {e}")),
    }
}

fn confined(more: &[PathBuf]) -> Result<RestrictionStatus, RulesetError> {
    // Version 5 (Linux 6.10) knows of device controls; an older kernel is asked for what it has.
    let everything = AccessFs::from_all(ABI::V5);
    let reading = AccessFs::from_read(ABI::V5);
    let devices = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let devices = devices.filter(|d| d.file_name().to_string_lossy().starts_with(DEVICES)).map(|d| d.path());
    // Where the loader and GStreamer were told to look: folders of NVRTC, of a driver that is mounted elsewhere, and the registry.
    let told = ["LD_LIBRARY_PATH", "GST_PLUGIN_PATH", "GST_PLUGIN_SYSTEM_PATH", "GST_REGISTRY", "GST_CUDA_NVRTC_LIBNAME"];
    let told = told.iter().filter_map(std::env::var_os).flat_map(|paths| std::env::split_paths(&paths).collect::<Vec<_>>());
    let told = told.filter(|path| path.is_absolute());
    let readable = DRIVER_FILES.iter().map(PathBuf::from).chain(told);
    Ruleset::default()
        .handle_access(everything)?
        .create()?
        // What does not exist here is left out.
        .add_rules(path_beneath_rules(readable, reading))?
        .add_rules(path_beneath_rules(devices.chain(more.iter().cloned()).chain(["/dev/null".into()]), everything))?
        .restrict_self()
}

fn arch() -> Result<TargetArch, seccompiler::Error> {
    Ok(std::env::consts::ARCH.try_into()?)
}

fn compile(rules: BTreeMap<c_long, Vec<Rule>>, errno: i32) -> Result<BpfProgram, seccompiler::Error> {
    let refuse = SeccompAction::Errno(errno.unsigned_abs());
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch()?)?.try_into()?)
}

/// clone3 keeps its flags in memory, out of a filter's sight. "Not implemented" makes the C library take clone, whose flags are judged below.
fn no_clone3() -> Result<BpfProgram, seccompiler::Error> {
    compile(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS)
}

fn forbidden(opens: bool) -> Result<BpfProgram, seccompiler::Error> {
    let opening = if opens { &[] } else { OPENING };
    let mut rules: BTreeMap<c_long, Vec<Rule>> =
        FORBIDDEN.iter().chain(opening).copied().flatten().map(|&call| (call, Vec::new())).collect();
    let own = u64::from(getpid().as_raw_pid().unsigned_abs());
    let not_own = |argument| Condition::new(argument, Len::Dword, Op::Ne, own);
    let is = |argument, value| Condition::new(argument, Len::Dword, Op::Eq, value);
    // New threads, no new processes.
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let process = Condition::new(0, Len::Qword, Op::MaskedEq(thread), 0)?;
    rules.insert(libc::SYS_clone, vec![Rule::new(vec![process])?]);
    // Signals to itself (abort), none to others.
    rules.insert(libc::SYS_kill, vec![Rule::new(vec![not_own(0)?])?]);
    rules.insert(libc::SYS_tgkill, vec![Rule::new(vec![not_own(0)?])?]);
    rules.insert(libc::SYS_rt_tgsigqueueinfo, vec![Rule::new(vec![not_own(0)?])?]);
    // Limits of itself (0 means that too), not of others.
    let other = vec![Condition::new(0, Len::Dword, Op::Ne, 0)?, not_own(0)?];
    rules.insert(libc::SYS_prlimit64, vec![Rule::new(other)?]);
    // Datagrams with an address; without one sendto is send, which the link may use.
    let addressed = Condition::new(4, Len::Qword, Op::Ne, 0)?;
    rules.insert(libc::SYS_sendto, vec![Rule::new(vec![addressed])?]);
    // Typing into the terminal that standard error may be.
    rules.insert(libc::SYS_ioctl, vec![Rule::new(vec![is(1, libc::TIOCSTI)?])?]);
    if let Some((bit, own_numbers)) = X32 {
        let again: Vec<_> = rules.iter().map(|(call, rules)| (call | bit, rules.clone())).collect();
        rules.extend(again);
        rules.extend(own_numbers.map(|call| (call | bit, Vec::new())));
    }
    compile(rules, libc::EPERM)
}

/// Tries what must fail and what must work, from inside. Every value of the answer should be `true`.
pub fn check() -> serde_json::Value {
    let folder = std::env::temp_dir();
    let parent = rustix::process::getppid();
    json!({
        "denied": {
            "network": std::net::UdpSocket::bind("127.0.0.1:0").is_err() && std::net::TcpStream::connect("127.0.0.1:1").err().is_some_and(forbidden_error),
            "unix sockets": std::os::unix::net::UnixListener::bind(folder.join("weir-codec-check")).is_err(),
            "programs": std::process::Command::new("/bin/true").status().is_err(),
            "reading files": std::fs::read("/etc/passwd").err().is_some_and(forbidden_error),
            "the parent's environment": parent.is_none_or(|p| std::fs::read(format!("/proc/{}/environ", p.as_raw_pid())).err().is_some_and(forbidden_error)),
            "writing files": std::fs::write(folder.join("weir-codec-check"), "").err().is_some_and(forbidden_error),
            "removing files": std::fs::remove_file(folder.join("weir-codec-check")).err().is_some_and(forbidden_error),
            "signals to the parent": parent.is_none_or(|p| rustix::process::test_kill_process(p) == Err(rustix::io::Errno::PERM)),
        },
        "allowed": {
            "threads": std::thread::spawn(|| true).join().unwrap_or(false),
            "pairs": std::os::unix::net::UnixStream::pair().is_ok(),
            "signals to itself": rustix::process::test_kill_process(getpid()).is_ok(),
        },
    })
}

fn forbidden_error(e: std::io::Error) -> bool {
    // By the filter, or by Landlock.
    matches!(e.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}
