//! The machine's network traffic.

use std::error::Error;
use std::time::Instant;

use super::linux::{ProcFile, Traffic};
use super::{RATE_WINDOW, Readings, ResourceSource};
use crate::model::Unit;

/// Reads what all network interfaces but the loopback carry.
///
/// What passes through a bridge is counted on each interface that it passes, as in the system's own tools.
#[derive(Debug, Default)]
pub(crate) struct NetworkSource {
    reader: TrafficReader,
    before: Option<(Instant, Traffic)>,
}

impl ResourceSource for NetworkSource {
    fn name(&self) -> &str {
        "network"
    }

    fn sample(&mut self, readings: &mut Readings) -> Result<(), Box<dyn Error + Send + Sync>> {
        let Some(now) = self.reader.read() else {
            self.before = None;
            return Ok(());
        };
        let at = Instant::now();
        match self.before {
            Some((since, _)) if at.duration_since(since) < RATE_WINDOW => return Ok(()),
            Some((since, before)) => {
                let elapsed = at.duration_since(since);
                for (name, before, now) in [
                    ("system.net_received", before.inward, now.inward),
                    ("system.net_sent", before.outward, now.outward),
                ] {
                    readings.record_rate(
                        name,
                        Unit::BytesPerSecond,
                        Some(before),
                        Some(now),
                        elapsed,
                    );
                }
            }
            None => {}
        }
        self.before = Some((at, now));
        Ok(())
    }
}

#[derive(Debug, Default)]
struct TrafficReader {
    proc: ProcFile,
    #[cfg(feature = "sysinfo")]
    networks: Option<sysinfo::Networks>,
}

impl TrafficReader {
    /// On Linux sysinfo opens ten files for each interface, which takes 140 us for four; one file has all of them.
    fn read(&mut self) -> Option<Traffic> {
        if cfg!(target_os = "linux") {
            self.proc.network()
        } else {
            self.read_portable()
        }
    }

    #[cfg(feature = "sysinfo")]
    fn read_portable(&mut self) -> Option<Traffic> {
        if self.networks.is_none() {
            self.networks = sysinfo::Networks::new().ok();
        }
        let networks = self.networks.as_mut()?;
        networks.refresh(true);
        networks
            .iter()
            .filter(|(name, _)| !is_loopback(&name.to_string_lossy()))
            .map(|(_, counters)| Traffic {
                inward: counters.total_received(),
                outward: counters.total_transmitted(),
            })
            .reduce(|sum, one| Traffic {
                inward: sum.inward.saturating_add(one.inward),
                outward: sum.outward.saturating_add(one.outward),
            })
    }

    #[cfg(not(feature = "sysinfo"))]
    fn read_portable(&mut self) -> Option<Traffic> {
        None
    }
}

/// Linux, the BSDs with macOS, Windows.
#[cfg(feature = "sysinfo")]
fn is_loopback(interface: &str) -> bool {
    interface == "lo" || interface == "lo0" || interface.starts_with("Loopback")
}

#[cfg(all(test, target_os = "linux", feature = "sysinfo"))]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_read_the_network_agree() {
        let mut reader = TrafficReader::default();
        let (Some(before), Some(portable), Some(after)) = (
            reader.proc.network(),
            reader.read_portable(),
            reader.proc.network(),
        ) else {
            // A sandbox with nothing but a loopback has no traffic to compare.
            assert_eq!(reader.proc.network(), None);
            return;
        };
        assert!((before.inward..=after.inward).contains(&portable.inward));
        assert!((before.outward..=after.outward).contains(&portable.outward));
    }
}
