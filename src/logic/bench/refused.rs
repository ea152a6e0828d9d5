//! What a process was refused, from the trace that strace wrote of it.

use std::collections::BTreeSet;

/// Lines that are looked at, and different ones that are kept: a driver that polls a file that it may not open fills a disk with them.
const MAX_LINES: usize = 200_000;
const MAX_KEPT: usize = 200;

/// Each system call that ended with EACCES or EPERM, with what it named, once: `openat /proc/1/stat`. In order of their names.
pub fn refused(trace: &str) -> Vec<String> {
    let mut found = BTreeSet::new();
    for line in trace.lines().take(MAX_LINES) {
        let Some((call, answer)) = line.rsplit_once(" = -1 ") else { continue };
        if !(answer.starts_with("EACCES") || answer.starts_with("EPERM")) {
            continue;
        }
        let Some((name, arguments)) = call.split_once('(') else { continue };
        // In front stands the thread's number; behind it, where a call was interrupted by another's line, `<... openat resumed>`.
        let name = name.rsplit(' ').next().unwrap_or(name);
        // Of paths their text; of everything else what stands there.
        let named = match arguments.split('"').nth(1) {
            Some(path) => path.to_owned(),
            None => arguments.trim_end_matches(')').chars().take(80).collect(),
        };
        if found.len() < MAX_KEPT {
            found.insert(format!("{name} {named}"));
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_listed_once_with_its_path() {
        let trace = "\
1 openat(AT_FDCWD, \"/proc/1/stat\", O_RDONLY) = -1 EACCES (Permission denied)
2 openat(AT_FDCWD, \"/proc/1/stat\", O_RDONLY) = -1 EACCES (Permission denied)
2 openat(AT_FDCWD, \"/nowhere\", O_RDONLY) = -1 ENOENT (No such file or directory)
2 openat(AT_FDCWD, \"/dev/nvidiactl\", O_RDWR) = 7
[pid     3] socket(AF_UNIX, SOCK_STREAM, 0) = -1 EPERM (Operation not permitted)
4 mkdir(\"/home/anna/.nv\", 0700) = -1 EACCES (Permission denied)
4 +++ exited with 0 +++
broken = -1 EPERM
";
        assert_eq!(refused(trace), ["mkdir /home/anna/.nv", "openat /proc/1/stat", "socket AF_UNIX, SOCK_STREAM, 0"]);
        assert!(refused("").is_empty());
    }
}
