//! What the operating system says about this thread and process. Only Linux is asked; elsewhere the figures are absent.

use std::time::Duration;

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::time::Duration;

    use nix::sched::{CpuSet, sched_setaffinity};
    use nix::time::{ClockId, clock_gettime};
    use nix::unistd::Pid;

    pub(super) fn time(clock: ClockId) -> Option<Duration> {
        clock_gettime(clock).ok().map(Duration::from)
    }

    pub(super) fn pin(cpu: usize) -> bool {
        // Process 0 is the calling thread.
        let this_thread = Pid::from_raw(0);
        let mut set = CpuSet::new();
        set.set(cpu).is_ok() && sched_setaffinity(this_thread, &set).is_ok()
    }

    pub(super) fn peak_rss_bytes() -> Option<u64> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    }
}

/// Returns the CPU time of the calling thread.
pub(crate) fn thread_time() -> Option<Duration> {
    #[cfg(target_os = "linux")]
    return linux::time(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID);
    #[cfg(not(target_os = "linux"))]
    return None;
}

/// Returns the CPU time of all threads of this process.
pub(crate) fn process_time() -> Option<Duration> {
    #[cfg(target_os = "linux")]
    return linux::time(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID);
    #[cfg(not(target_os = "linux"))]
    return None;
}

/// Keeps the calling thread, and the threads that it starts from now on, on one processor. Returns whether that worked.
pub(crate) fn pin(cpu: usize) -> bool {
    #[cfg(target_os = "linux")]
    return linux::pin(cpu);
    #[cfg(not(target_os = "linux"))]
    return cpu == usize::MAX;
}

/// Returns the largest resident set that this process ever had.
pub(crate) fn peak_rss_bytes() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return linux::peak_rss_bytes();
    #[cfg(not(target_os = "linux"))]
    return None;
}

/// Returns the load averages over 1, 5 and 15 minutes as the kernel writes them.
pub(crate) fn load_average() -> Option<String> {
    let line = std::fs::read_to_string("/proc/loadavg").ok()?;
    Some(
        line.split_whitespace()
            .take(3)
            .collect::<Vec<_>>()
            .join(" "),
    )
}
