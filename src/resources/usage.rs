//! What the kernel has charged to this process since it started, ended threads included.

use std::time::Duration;

/// Counters of the whole process. They only grow.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    pub(super) cpu: Option<Duration>,
    pub(super) cpu_user: Option<Duration>,
    pub(super) cpu_system: Option<Duration>,
    pub(super) voluntary_switches: Option<u64>,
    pub(super) involuntary_switches: Option<u64>,
    pub(super) major_faults: Option<u64>,
}

impl Usage {
    /// Reads the counters; takes 0.3 us.
    ///
    /// `/proc` has less: the switches in `/proc/self/status` are those of the main thread alone, and the CPU time in
    /// `/proc/self/stat` counts in steps of 10 ms, which is 4 % of an interval of 250 ms.
    #[cfg(unix)]
    pub(super) fn read() -> Usage {
        use nix::sys::resource::{UsageWho, getrusage};
        use nix::sys::time::TimeVal;

        fn length(time: TimeVal) -> Option<Duration> {
            let seconds = u64::try_from(time.tv_sec()).ok()?;
            let micros = u64::try_from(time.tv_usec()).ok()?;
            Some(Duration::from_secs(seconds) + Duration::from_micros(micros))
        }

        let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
            return Usage::default();
        };
        let counts = |count| u64::try_from(count).ok();
        // A process with a sampler has slept. If it never gave up the CPU, this kernel does not count switches.
        let voluntary = counts(usage.voluntary_context_switches()).filter(|&count| count > 0);
        let (user, system) = (length(usage.user_time()), length(usage.system_time()));
        Usage {
            cpu: user.zip(system).map(|(user, system)| user + system),
            cpu_user: user,
            cpu_system: system,
            voluntary_switches: voluntary,
            involuntary_switches: voluntary
                .and_then(|_| counts(usage.involuntary_context_switches())),
            major_faults: counts(usage.major_page_faults()),
        }
    }

    /// Nothing can be had here.
    #[cfg(not(unix))]
    pub(super) fn read() -> Usage {
        Usage::default()
    }
}
