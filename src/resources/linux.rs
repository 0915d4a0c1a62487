//! Text files of `/proc`: one small read each, nothing kept open.
//!
//! Nothing here is specific to the compiler's target; elsewhere the files are missing and every reader says `None`.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::time::Duration;

/// Where the network counters are.
const NET_DEV: &str = "/proc/self/net/dev";

/// CPU time in `stat` counts in ticks. User space has seen 100 of them a second on every architecture that Rust's
/// standard library runs on, whatever the kernel's own timer does.
const TICKS_PER_SECOND: u64 = 100;

/// Reads small files through one buffer.
#[derive(Debug, Clone, Default)]
pub(super) struct ProcFile {
    path: String,
    text: Vec<u8>,
}

impl ProcFile {
    /// Returns the file's text, if it is there, readable and UTF-8.
    pub(super) fn read(&mut self, path: &str) -> Option<&str> {
        self.text.clear();
        File::open(path).ok()?.read_to_end(&mut self.text).ok()?;
        std::str::from_utf8(&self.text).ok()
    }

    /// Returns the text of a file of one thread of this process.
    fn read_task(&mut self, tid: u32, file: &str) -> Option<&str> {
        let mut path = std::mem::take(&mut self.path);
        path.clear();
        // Writing to a string cannot fail.
        let _ = write!(path, "/proc/self/task/{tid}/{file}");
        self.path = path;
        self.text.clear();
        File::open(&self.path)
            .ok()?
            .read_to_end(&mut self.text)
            .ok()?;
        std::str::from_utf8(&self.text).ok()
    }

    /// Returns the state letter of a thread: `R` runs or waits for a CPU, `S` and `D` sleep.
    pub(super) fn task_state(&mut self, tid: u32) -> Option<char> {
        parse_state(self.read_task(tid, "stat")?)
    }

    /// Returns a thread's time on a core and on run queues to the nanosecond; `None` also where the kernel does not count.
    pub(super) fn task_times(&mut self, tid: u32) -> Option<TaskTimes> {
        parse_schedstat(self.read_task(tid, "schedstat")?)
    }

    /// Returns a thread's CPU time in steps of 10 ms.
    pub(super) fn task_ticks(&mut self, tid: u32) -> Option<Duration> {
        parse_ticks(self.read_task(tid, "stat")?)
    }

    /// Returns a thread's name.
    pub(super) fn task_name(&mut self, tid: u32) -> Option<&str> {
        self.read_task(tid, "comm").map(str::trim_end)
    }

    /// Returns memory and threads. `thread-self`, because `self` is the main thread, which may have ended.
    pub(super) fn status(&mut self) -> Option<Status> {
        self.read("/proc/thread-self/status").map(parse_status)
    }

    /// Returns the bytes that went to and came from storage, without those that the page cache served.
    pub(super) fn disk(&mut self) -> Option<Traffic> {
        parse_io(self.read("/proc/self/io")?)
    }

    /// Returns the bytes that all interfaces but the loopback have carried.
    pub(super) fn network(&mut self) -> Option<Traffic> {
        parse_net_dev(self.read(NET_DEV)?)
    }
}

/// Returns the id of the calling thread.
pub(super) fn own_tid() -> Option<u32> {
    let link = fs::read_link("/proc/thread-self").ok()?;
    link.file_name()?.to_str()?.parse().ok()
}

/// Returns the ids of all threads of this process.
pub(super) fn tids() -> Vec<u32> {
    fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// Returns how many files this process has open, without the one that counting opens.
pub(super) fn open_files() -> Option<u64> {
    // Since Linux 6.2 the directory's size is the answer, and nothing needs to be opened.
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 {
        return Some(size);
    }
    let listed = fs::read_dir("/proc/self/fd").ok()?.count();
    u64::try_from(listed).ok()?.checked_sub(1)
}

/// What the scheduler has counted for one thread since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct TaskTimes {
    /// On a core.
    pub(super) ran: Duration,
    /// Ready to run, on the queue of a core.
    pub(super) queued: Duration,
}

/// Returns how many files this process may have open; `None` also where there is no limit.
pub(crate) fn open_files_limit() -> Option<u64> {
    parse_open_files_limit(&fs::read_to_string("/proc/self/limits").ok()?)
}

/// Returns how much memory this process may use, in bytes: the machine's, or that of its control group if it is less.
pub(crate) fn memory_limit() -> Option<u64> {
    let machine = parse_total_memory(&fs::read_to_string("/proc/meminfo").ok()?)?;
    // Inside a container this is the container's own; "max" stands for no limit.
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse::<u64>().ok());
    Some(group.map_or(machine, |group| group.min(machine)))
}

fn parse_open_files_limit(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn parse_total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// What `/proc/self/status` says of the whole process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Status {
    pub(super) rss_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) threads: Option<u64>,
}

/// Bytes in and out since the counting began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Traffic {
    pub(super) inward: u64,
    pub(super) outward: u64,
}

fn parse_status(text: &str) -> Status {
    let mut status = Status::default();
    for (key, rest) in text.lines().filter_map(|line| line.split_once(':')) {
        let number = || rest.split_whitespace().next()?.parse::<u64>().ok();
        let kibibytes = || number()?.checked_mul(1024);
        match key {
            "VmRSS" => status.rss_bytes = kibibytes(),
            "VmSize" => status.virtual_bytes = kibibytes(),
            "Threads" => status.threads = number(),
            _ => {}
        }
    }
    status
}

fn parse_io(text: &str) -> Option<Traffic> {
    let of = |key| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
    };
    Some(Traffic {
        inward: of("read_bytes:")?,
        outward: of("write_bytes:")?,
    })
}

fn parse_net_dev(text: &str) -> Option<Traffic> {
    let mut interfaces = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.trim() != "lo")
        .filter_map(|(_, counters)| {
            let mut counters = counters.split_whitespace();
            Some((
                counters.next()?.parse::<u64>().ok()?,
                // Eight columns on each side; the first is bytes.
                counters.nth(7)?.parse::<u64>().ok()?,
            ))
        })
        .peekable();
    interfaces.peek()?;
    Some(
        interfaces.fold(Traffic::default(), |sum, (inward, outward)| Traffic {
            inward: sum.inward.saturating_add(inward),
            outward: sum.outward.saturating_add(outward),
        }),
    )
}

/// Returns the columns of `stat` from the state on. The name before it may hold blanks and parentheses.
fn after_name(stat: &str) -> Option<std::str::SplitWhitespace<'_>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace())
}

fn parse_state(stat: &str) -> Option<char> {
    after_name(stat)?.next()?.chars().next()
}

fn parse_ticks(stat: &str) -> Option<Duration> {
    let mut columns = after_name(stat)?.skip(11);
    let user: u64 = columns.next()?.parse().ok()?;
    let system: u64 = columns.next()?.parse().ok()?;
    let millis = user
        .checked_add(system)?
        .checked_mul(1000 / TICKS_PER_SECOND)?;
    Some(Duration::from_millis(millis))
}

fn parse_schedstat(text: &str) -> Option<TaskTimes> {
    let mut columns = text.split_whitespace();
    let ran: u64 = columns.next()?.parse().ok()?;
    let queued: u64 = columns.next()?.parse().ok()?;
    let slices: u64 = columns.next()?.parse().ok()?;
    // Who was scheduled at least once has a time slice. A kernel that does not count prints three zeros.
    (slices > 0).then_some(TaskTimes {
        ran: Duration::from_nanos(ran),
        queued: Duration::from_nanos(queued),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_name_with_parentheses_does_not_shift_the_columns() {
        let stat = "7 (a) R (b)) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1";
        assert_eq!(parse_state(stat), Some('S'));
        assert_eq!(parse_ticks(stat), Some(Duration::from_secs(3)));
    }

    #[test]
    fn cut_or_foreign_text_gives_nothing() {
        for text in ["", "7", "7 (name", "7 (name)", "x y z", "1 2"] {
            assert_eq!(parse_state(text), None, "{text}");
            assert_eq!(parse_ticks(text), None, "{text}");
            assert_eq!(parse_schedstat(text), None, "{text}");
            assert_eq!(parse_io(text), None, "{text}");
            assert_eq!(parse_net_dev(text), None, "{text}");
            assert_eq!(parse_open_files_limit(text), None, "{text}");
            assert_eq!(parse_total_memory(text), None, "{text}");
            assert_eq!(parse_status(text), Status::default(), "{text}");
        }
    }

    #[test]
    fn limits_are_those_in_force_and_unlimited_is_none() {
        let limits = "Limit Soft Limit Hard Limit Units\nMax open files            1024                 524288  files\n";
        assert_eq!(parse_open_files_limit(limits), Some(1024));
        let unlimited = "Max open files            unlimited            unlimited  files\n";
        assert_eq!(parse_open_files_limit(unlimited), None);
        let meminfo = "MemTotal:        8000 kB\nMemFree:         100 kB\n";
        assert_eq!(parse_total_memory(meminfo), Some(8_192_000));
    }

    #[test]
    fn a_schedstat_of_zeros_means_not_counted() {
        let times = |ran, queued| {
            Some(TaskTimes {
                ran: Duration::from_nanos(ran),
                queued: Duration::from_nanos(queued),
            })
        };
        assert_eq!(parse_schedstat("0 0 0\n"), None);
        assert_eq!(
            parse_schedstat("0 12 1\n"),
            times(0, 12),
            "scheduled a moment ago"
        );
        assert_eq!(parse_schedstat("5 0 2\n"), times(5, 0));
    }

    #[test]
    fn the_loopback_is_not_the_network() {
        let text = "Inter-|   Receive |  Transmit\n face |bytes packets|bytes packets\n    \
                    lo: 900 1 0 0 0 0 0 0 900 1 0 0 0 0 0 0\n  \
                    eth0: 10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n  \
                    eth1:1 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0\n";
        let expected = Traffic {
            inward: 11,
            outward: 22,
        };
        assert_eq!(parse_net_dev(text), Some(expected));
    }

    #[test]
    fn status_and_io_give_bytes() {
        let status = parse_status("Name:\tVmRSS\nVmSize:\t  3060 kB\nVmRSS:\t 2 kB\nThreads:\t4\n");
        assert_eq!(status.rss_bytes, Some(2048));
        assert_eq!(status.virtual_bytes, Some(3_133_440));
        assert_eq!(status.threads, Some(4));
        let io =
            parse_io("rchar: 1\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 3\n");
        assert_eq!(io.map(|io| (io.inward, io.outward)), Some((4096, 8192)));
    }
}
