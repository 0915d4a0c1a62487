//! This process: CPU, memory, threads, files, context switches, storage.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use super::linux::{self, ProcFile};
use super::usage::Usage;
use super::{RATE_WINDOW, Readings, ResourceSource};
use crate::model::Unit;

/// Reads the process that it runs in.
#[derive(Debug, Default)]
pub(crate) struct ProcessSource {
    reader: TotalsReader,
    /// The counters from which the next rates are formed.
    before: Option<(Instant, Totals)>,
}

impl ResourceSource for ProcessSource {
    fn name(&self) -> &str {
        "process"
    }

    fn sample(&mut self, readings: &mut Readings) -> Result<(), Box<dyn Error + Send + Sync>> {
        let now = self.reader.read();
        let at = Instant::now();
        for (name, unit, value) in [
            ("process.rss", Unit::Bytes, now.rss_bytes),
            ("process.virtual", Unit::Bytes, now.virtual_bytes),
            ("process.threads", Unit::Count, now.threads),
            ("process.open_files", Unit::Count, now.open_files),
        ] {
            readings.record_some(name, unit, value.map(|value| value as f64));
        }
        match &self.before {
            Some((since, before)) if at.duration_since(*since) >= RATE_WINDOW => {
                record_rates(readings, before, &now, at.duration_since(*since));
                self.before = Some((at, now));
            }
            Some(_) => {}
            None => self.before = Some((at, now)),
        }
        Ok(())
    }
}

fn record_rates(readings: &mut Readings, before: &Totals, now: &Totals, elapsed: Duration) {
    let percent = |now: Option<Duration>, before: Option<Duration>| {
        now.zip(before)
            .and_then(|(now, before)| now.checked_sub(before))
            .map(|spent| 100.0 * spent.as_secs_f64() / elapsed.as_secs_f64())
    };
    let cpu = percent(now.usage.cpu, before.usage.cpu);
    readings.record_some("process.cpu_one_core", Unit::Percent, cpu);
    let user = percent(now.usage.cpu_user, before.usage.cpu_user);
    readings.record_some("process.cpu_user", Unit::Percent, user);
    let system = percent(now.usage.cpu_system, before.usage.cpu_system);
    readings.record_some("process.cpu_system", Unit::Percent, system);
    // Cores that the process may use: in a container with a limit, 100 is that limit.
    let cores = thread::available_parallelism().ok();
    let share = cpu.zip(cores).map(|(cpu, cores)| cpu / cores.get() as f64);
    readings.record_some("process.cpu", Unit::Percent, share);

    for (name, unit, before, now) in [
        (
            "process.voluntary_switches",
            Unit::PerSecond,
            before.usage.voluntary_switches,
            now.usage.voluntary_switches,
        ),
        (
            "process.involuntary_switches",
            Unit::PerSecond,
            before.usage.involuntary_switches,
            now.usage.involuntary_switches,
        ),
        (
            "process.major_faults",
            Unit::PerSecond,
            before.usage.major_faults,
            now.usage.major_faults,
        ),
        (
            "process.disk_read",
            Unit::BytesPerSecond,
            before.disk_read_bytes,
            now.disk_read_bytes,
        ),
        (
            "process.disk_write",
            Unit::BytesPerSecond,
            before.disk_written_bytes,
            now.disk_written_bytes,
        ),
    ] {
        readings.record_rate(name, unit, before, now, elapsed);
    }
}

/// Everything about the process at one moment; counters count from its start.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    usage: Usage,
    rss_bytes: Option<u64>,
    virtual_bytes: Option<u64>,
    threads: Option<u64>,
    open_files: Option<u64>,
    disk_read_bytes: Option<u64>,
    disk_written_bytes: Option<u64>,
}

/// Reads the [`Totals`] in the way of this system.
#[derive(Debug, Default)]
pub(super) struct TotalsReader {
    proc: ProcFile,
    #[cfg(feature = "sysinfo")]
    portable: portable::Reader,
}

impl TotalsReader {
    fn read(&mut self) -> Totals {
        if cfg!(target_os = "linux") {
            self.read_proc()
        } else {
            self.read_portable()
        }
    }

    /// Returns the CPU time of the whole process, ended threads included.
    pub(super) fn cpu(&mut self) -> Option<Duration> {
        let cpu = Usage::read().cpu;
        cpu.or_else(|| self.read_portable().usage.cpu)
    }

    /// sysinfo reads the same files, but it counts the file that it counts with as open, counts threads only by reading
    /// every one of them, and took 15 us for CPU, memory and storage where these reads take 7 us for all.
    fn read_proc(&mut self) -> Totals {
        let status = self.proc.status().unwrap_or_default();
        let disk = self.proc.disk();
        Totals {
            usage: Usage::read(),
            rss_bytes: status.rss_bytes,
            virtual_bytes: status.virtual_bytes,
            threads: status.threads,
            open_files: linux::open_files(),
            disk_read_bytes: disk.map(|disk| disk.inward),
            disk_written_bytes: disk.map(|disk| disk.outward),
        }
    }

    #[cfg(feature = "sysinfo")]
    fn read_portable(&mut self) -> Totals {
        self.portable.read()
    }

    #[cfg(not(feature = "sysinfo"))]
    fn read_portable(&mut self) -> Totals {
        Totals {
            usage: Usage::read(),
            ..Totals::default()
        }
    }
}

#[cfg(feature = "sysinfo")]
mod portable {
    use std::time::Duration;

    use sysinfo::{Pid, Process, ProcessRefreshKind, ProcessesToUpdate, System};

    use super::{Totals, Usage};

    /// Reads the process through sysinfo.
    #[derive(Debug, Default)]
    pub(super) struct Reader {
        /// Absent until the first reading, and where sysinfo does not work.
        system: Option<System>,
    }

    impl Reader {
        pub(super) fn read(&mut self) -> Totals {
            let usage = Usage::read();
            let pid = Pid::from_u32(std::process::id());
            let Some(process) = self.refresh(pid) else {
                return Totals {
                    usage,
                    ..Totals::default()
                };
            };
            let counted = Duration::from_millis(process.accumulated_cpu_time());
            let disk = process.disk_usage();
            Totals {
                usage: Usage {
                    cpu: usage.cpu.or(Some(counted)),
                    ..usage
                },
                // No process lives without memory: zero is what sysinfo says when it could not find out.
                rss_bytes: Some(process.memory()).filter(|&bytes| bytes > 0),
                virtual_bytes: Some(process.virtual_memory()).filter(|&bytes| bytes > 0),
                threads: None,
                open_files: process
                    .open_files()
                    .and_then(|open| u64::try_from(open).ok()),
                disk_read_bytes: Some(disk.total_read_bytes),
                disk_written_bytes: Some(disk.total_written_bytes),
            }
        }

        /// Refreshes this process alone: all of them would take a hundred times as long.
        fn refresh(&mut self, pid: Pid) -> Option<&Process> {
            if self.system.is_none() {
                self.system = System::new().ok();
            }
            let system = self.system.as_mut()?;
            let wanted = ProcessRefreshKind::nothing()
                .with_cpu()
                .with_memory()
                .with_disk_usage()
                .without_tasks();
            system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, wanted);
            system.process(pid)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(all(target_os = "linux", feature = "sysinfo"))]
    #[test]
    fn both_ways_to_read_the_process_agree() {
        let mut reader = TotalsReader::default();
        // Other tests start threads and allocate meanwhile, so one agreement is what can be asked for.
        let agreed = (0..1000).any(|_| {
            let direct = reader.read_proc();
            let portable = reader.read_portable();
            let rss = direct.rss_bytes.unwrap();
            direct.virtual_bytes == portable.virtual_bytes
                && rss.abs_diff(portable.rss_bytes.unwrap()) <= rss / 10
                && direct.disk_read_bytes == portable.disk_read_bytes
                && direct.disk_written_bytes == portable.disk_written_bytes
        });
        assert!(agreed);
    }

    #[test]
    fn rates_need_two_readings_and_counters_that_did_not_step_back() {
        let at = |cpu_ms, faults| Totals {
            usage: Usage {
                cpu: Some(Duration::from_millis(cpu_ms)),
                major_faults: Some(faults),
                ..Usage::default()
            },
            ..Totals::default()
        };
        let mut readings = Readings::default();
        record_rates(
            &mut readings,
            &at(500, 30),
            &at(750, 10),
            Duration::from_millis(500),
        );
        let cores = thread::available_parallelism().unwrap().get() as f64;
        let expected = [
            ("process.cpu_one_core".to_owned(), Unit::Percent, 50.0),
            ("process.cpu".to_owned(), Unit::Percent, 50.0 / cores),
        ];
        assert_eq!(readings.values, expected);
    }
}
