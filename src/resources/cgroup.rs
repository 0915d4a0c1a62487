//! How often the system took the cores away because the process's control group had used up its CPU time.

use std::error::Error;
use std::fs;
use std::time::{Duration, Instant};

use super::linux::ProcFile;
use super::{RATE_WINDOW, Readings, ResourceSource};
use crate::model::Unit;

/// The most groups that are read in one round; limits stand in one or two of those around a process.
const MOST: usize = 4;

/// Reads the groups around this process that limit its CPU time, of version 1 or 2. Without a limit there is no series.
#[derive(Debug, Default)]
pub(crate) struct ThrottlingSource {
    proc: ProcFile,
    /// The statistics of the groups with a limit; absent until the first reading.
    files: Option<Vec<String>>,
    before: Option<(Instant, u64)>,
}

impl ResourceSource for ThrottlingSource {
    fn name(&self) -> &str {
        "throttling"
    }

    fn sample(&mut self, readings: &mut Readings) -> Result<(), Box<dyn Error + Send + Sync>> {
        let files = self.files.get_or_insert_with(|| limited_groups("/proc"));
        let mut counts = files
            .iter()
            .filter_map(|file| parse_throttled(self.proc.read(file)?));
        let Some(first) = counts.next() else {
            return Ok(());
        };
        let now = (Instant::now(), counts.fold(first, u64::saturating_add));
        match self.before {
            Some((since, before)) => {
                let elapsed: Duration = now.0.duration_since(since);
                if elapsed < RATE_WINDOW {
                    return Ok(());
                }
                readings.record_rate(
                    "process.throttled_periods",
                    Unit::PerSecond,
                    Some(before),
                    Some(now.1),
                    elapsed,
                );
                self.before = Some(now);
            }
            None => self.before = Some(now),
        }
        Ok(())
    }
}

/// Returns the `cpu.stat` of the groups around this process that have a limit, the innermost first.
fn limited_groups(proc: &str) -> Vec<String> {
    let text = |file: &str| fs::read_to_string(format!("{proc}/self/{file}")).unwrap_or_default();
    let (groups, mounts) = (text("cgroup"), text("mountinfo"));
    let mut files = Vec::new();
    for hierarchy in hierarchies(&groups, &mounts) {
        for directory in hierarchy.directories() {
            let limit = fs::read_to_string(format!("{directory}/{}", hierarchy.limit_file));
            if limit.is_ok_and(|limit| is_limit(&limit)) {
                files.push(format!("{directory}/cpu.stat"));
            }
        }
    }
    files.truncate(MOST);
    files
}

/// One mounted hierarchy of groups, and where in it the process is.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    mount: String,
    /// The group within the mount, `""` for its top.
    group: String,
    limit_file: &'static str,
}

impl Hierarchy {
    /// Returns the group's directory and those around it, up to the mount.
    fn directories(&self) -> Vec<String> {
        let mut directories = Vec::new();
        let mut group = self.group.as_str();
        loop {
            directories.push(format!("{}{group}", self.mount));
            match group.rfind('/') {
                Some(at) => group = &group[..at],
                None => return directories,
            }
        }
    }
}

/// Finds the hierarchies that may limit CPU time, out of `/proc/self/cgroup` and `/proc/self/mountinfo`.
fn hierarchies(groups: &str, mounts: &str) -> Vec<Hierarchy> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let is_v2 = controllers.is_empty();
        if !is_v2 && !controllers.split(',').any(|name| name == "cpu") {
            continue;
        }
        let mount = mounts.lines().filter_map(parse_mount).find(|mount| {
            if is_v2 {
                mount.kind == "cgroup2"
            } else {
                mount.kind == "cgroup" && mount.options.split(',').any(|name| name == "cpu")
            }
        });
        if let Some(mount) = mount {
            // In a container the path may be the host's, of which the mount shows only the end.
            let group = path
                .strip_prefix(mount.root)
                .filter(|_| mount.root != "/")
                .unwrap_or(if mount.root == "/" { path } else { "" });
            found.push(Hierarchy {
                mount: mount.point.to_owned(),
                group: group.trim_end_matches('/').to_owned(),
                limit_file: if is_v2 { "cpu.max" } else { "cpu.cfs_quota_us" },
            });
        }
    }
    found
}

#[derive(Debug, Clone, Copy)]
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

fn parse_mount(line: &str) -> Option<Mount<'_>> {
    let (own, of_filesystem) = line.split_once(" - ")?;
    let mut own = own.split(' ').skip(3);
    let mut of_filesystem = of_filesystem.split(' ');
    Some(Mount {
        root: own.next()?,
        point: own.next()?,
        kind: of_filesystem.next()?,
        options: of_filesystem.nth(1)?,
    })
}

/// `max 100000` and `-1` say that there is none.
fn is_limit(text: &str) -> bool {
    let first = text.split_whitespace().next();
    first.is_some_and(|quota| quota.parse::<u64>().is_ok())
}

fn parse_throttled(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("nr_throttled "))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_version_2_is_found_with_those_around_it() {
        let mounts =
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = hierarchies("0::/user.slice/app.service\n", mounts);
        let directories: Vec<String> = found.iter().flat_map(Hierarchy::directories).collect();
        assert_eq!(
            directories,
            [
                "/sys/fs/cgroup/user.slice/app.service",
                "/sys/fs/cgroup/user.slice",
                "/sys/fs/cgroup"
            ]
        );
        assert_eq!(found[0].limit_file, "cpu.max");
    }

    #[test]
    fn a_group_of_version_1_that_a_container_sees_from_inside_is_the_mount_itself() {
        let groups = "9:name=systemd:/docker/7f\n4:cpu,cpuacct:/docker/7f\n";
        let mounts = "40 31 0:31 /docker/7f /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n\
                      41 31 0:32 /docker/7f /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n";
        let expected = Hierarchy {
            mount: "/sys/fs/cgroup/cpu,cpuacct".to_owned(),
            group: String::new(),
            limit_file: "cpu.cfs_quota_us",
        };
        assert_eq!(hierarchies(groups, mounts), [expected]);
    }

    #[test]
    fn without_a_limit_or_with_foreign_text_there_is_nothing() {
        assert!(is_limit("50000 100000\n") && is_limit("50000\n"));
        for text in ["max 100000\n", "-1\n", "", "x"] {
            assert!(!is_limit(text), "{text}");
            assert_eq!(parse_throttled(text), None, "{text}");
            assert!(hierarchies(text, text).is_empty(), "{text}");
        }
        assert!(hierarchies("0::/\n", "").is_empty());
    }

    #[test]
    fn both_versions_count_alike() {
        let v1 = "nr_periods 40\nnr_throttled 12\nthrottled_time 5\n";
        let v2 = "usage_usec 1\nnr_periods 40\nnr_throttled 12\nthrottled_usec 5\n";
        assert_eq!(parse_throttled(v1), Some(12));
        assert_eq!(parse_throttled(v2), Some(12));
        assert_eq!(parse_throttled("usage_usec 1\n"), None, "the top group");
    }
}
