//! The readings of one device, round by round.

use std::time::{Duration, Instant};

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, PcieUtilCounter, PerformancePolicy};
use nvml_wrapper::error::NvmlError;

use super::super::{RATE_WINDOW, Readings};
use super::device::Device;
use super::error::ReadError;
use super::gate::{Gate, Told};
use crate::model::Unit;

/// Each reading of the PCIe traffic blocks for 20 ms, in which no other source is read and no thread is looked at. At this
/// pause that is 2 % of the time per device, and each direction is read every two seconds.
const PCIE_PAUSE: Duration = Duration::from_secs(1);

/// Devices take turns, so that not all of them block the same round.
const PCIE_TURNS: u32 = 4;

/// The names of the two directions, as the device sees them.
const PCIE: [(&str, PcieUtilCounter); 2] = [
    (".pcie_rx", PcieUtilCounter::Receive),
    (".pcie_tx", PcieUtilCounter::Send),
];

/// Remembers what rates and differences are formed from, and what the device does not have.
#[derive(Debug)]
pub(super) struct DeviceReader {
    /// What the names of its series begin with.
    prefix: String,
    /// The place of the device among the others; `None` where PCIe traffic is not read.
    pcie_turn: Option<u32>,
    utilization: Gate,
    memory: Gate,
    own_memory: Gate,
    power: Gate,
    energy: Gate,
    temperature: Gate,
    clock_sm: Gate,
    clock_memory: Gate,
    pcie: [Gate; 2],
    next_pcie: Option<Instant>,
    pcie_reads: usize,
    reasons: Gate,
    throttles: [Throttle; 5],
    joules: Joules,
    has_answered: bool,
    is_lost: bool,
}

impl DeviceReader {
    /// Names the device and says whether and at whose turn its PCIe traffic is read.
    pub(super) fn new(prefix: String, pcie_turn: Option<u32>) -> DeviceReader {
        DeviceReader {
            prefix,
            pcie_turn,
            utilization: Gate::default(),
            memory: Gate::default(),
            own_memory: Gate::default(),
            power: Gate::default(),
            energy: Gate::default(),
            temperature: Gate::default(),
            clock_sm: Gate::default(),
            clock_memory: Gate::default(),
            pcie: <[Gate; 2]>::default(),
            next_pcie: None,
            pcie_reads: 0,
            reasons: Gate::default(),
            throttles: Throttle::all(),
            joules: Joules::default(),
            has_answered: false,
            is_lost: false,
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Takes the readings of this round.
    pub(super) fn sample(
        &mut self,
        device: &dyn Device,
        now: Instant,
        readings: &mut Readings,
    ) -> Result<(), ReadError> {
        let mut told = Told::default();
        self.ask(device, now, readings, &mut told);
        self.conclude(told)
    }

    /// Notes that not even the device could be had.
    pub(super) fn refused(&mut self, error: NvmlError) -> Result<(), ReadError> {
        let mut told = Told::default();
        let _ = Gate::default().ask(Instant::now(), &mut told, || Err::<(), _>(error));
        self.conclude(told)
    }

    fn conclude(&mut self, told: Told) -> Result<(), ReadError> {
        self.has_answered |= told.answers > 0;
        if let Some(error) = told.lost {
            self.is_lost = true;
            return Err(ReadError::Lost(error));
        }
        match told.refusal {
            Some(error) if !self.has_answered => Err(ReadError::Silent(error)),
            _ => Ok(()),
        }
    }

    fn ask(&mut self, device: &dyn Device, now: Instant, readings: &mut Readings, told: &mut Told) {
        let prefix = self.prefix.as_str();
        let mut record = |series: &str, unit: Unit, value: Option<f64>| {
            readings.record_some(&format!("{prefix}{series}"), unit, value);
        };

        let utilization = self.utilization.ask(now, told, || device.utilization());
        let percent = utilization.map(|both| f64::from(both.percent));
        record(".utilization", Unit::Percent, percent);
        let percent = utilization.map(|both| f64::from(both.memory_percent));
        record(".memory_utilization", Unit::Percent, percent);

        let memory = self.memory.ask(now, told, || device.memory());
        let used = memory.map(|memory| memory.used_bytes as f64);
        record(".memory_used", Unit::Bytes, used);
        let total = memory.map(|memory| memory.total_bytes as f64);
        record(".memory_total", Unit::Bytes, total);
        let own = self.own_memory.ask(now, told, || device.own_memory_bytes());
        let own = own.flatten().map(|bytes| bytes as f64);
        record(".process_memory", Unit::Bytes, own);

        let milliwatts = self.power.ask(now, told, || device.power_milliwatts());
        let watts = milliwatts.map(|milliwatts| f64::from(milliwatts) / 1e3);
        record(".power", Unit::Watts, watts);
        let millijoules = self.energy.ask(now, told, || device.energy_millijoules());
        let joules = millijoules.map(|total| self.joules.since_start(total));
        record(".energy", Unit::Joules, joules);
        let celsius = self
            .temperature
            .ask(now, told, || device.temperature_celsius());
        record(".temperature", Unit::Celsius, celsius.map(f64::from));

        for (series, gate, clock) in [
            (".clock_sm", &mut self.clock_sm, Clock::SM),
            (".clock_memory", &mut self.clock_memory, Clock::Memory),
        ] {
            let megahertz = gate.ask(now, told, || device.clock_megahertz(clock));
            let hertz = megahertz.map(|megahertz| f64::from(megahertz) * 1e6);
            record(series, Unit::Hertz, hertz);
        }

        let reasons = self.reasons.ask(now, told, || device.throttle_reasons());
        for throttle in &mut self.throttles {
            let percent = throttle.percent(device, now, told, reasons);
            record(throttle.series, Unit::Percent, percent);
        }

        // Last, so that what is slow delays no other reading of the device.
        let Some(turn) = self.pcie_turn else { return };
        let first = now + PCIE_PAUSE * (turn % PCIE_TURNS) / PCIE_TURNS;
        if now >= *self.next_pcie.get_or_insert(first) {
            let at = self.pcie_reads % PCIE.len();
            let (series, counter) = PCIE[at];
            let kilobytes =
                self.pcie[at].ask(now, told, || device.pcie_kilobytes_per_second(counter));
            let bytes = kilobytes.map(|kilobytes| f64::from(kilobytes) * 1e3);
            record(series, Unit::BytesPerSecond, bytes);
            self.pcie_reads += 1;
            self.next_pcie = Some(now + PCIE_PAUSE);
        }
    }
}

/// Energy since the first reading, from a counter that starts anew with the driver.
#[derive(Debug, Default)]
struct Joules {
    before: Option<u64>,
    used_millijoules: u64,
}

impl Joules {
    fn since_start(&mut self, total_millijoules: u64) -> f64 {
        let before = self.before.replace(total_millijoules);
        let grown = before.map_or(0, |before| total_millijoules.saturating_sub(before));
        self.used_millijoules += grown;
        self.used_millijoules as f64 / 1e3
    }
}

/// One cause for which the device holds its clocks down.
#[derive(Debug)]
struct Throttle {
    series: &'static str,
    /// Counts the time; absent where nothing does.
    policy: Option<PerformancePolicy>,
    /// Say that it is so at this moment; empty where nothing does.
    reasons: ThrottleReasons,
    gate: Gate,
    before: Option<(Instant, Duration)>,
}

impl Throttle {
    fn all() -> [Throttle; 5] {
        let of = |series, policy, reasons| Throttle {
            series,
            policy,
            reasons,
            gate: Gate::default(),
            before: None,
        };
        [
            of(
                ".throttle_power",
                Some(PerformancePolicy::Power),
                ThrottleReasons::SW_POWER_CAP | ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN,
            ),
            of(
                ".throttle_thermal",
                Some(PerformancePolicy::Thermal),
                ThrottleReasons::SW_THERMAL_SLOWDOWN | ThrottleReasons::HW_THERMAL_SLOWDOWN,
            ),
            of(".throttle_hardware", None, ThrottleReasons::HW_SLOWDOWN),
            of(
                ".throttle_board",
                Some(PerformancePolicy::BoardLimit),
                ThrottleReasons::empty(),
            ),
            of(
                ".throttle_reliability",
                Some(PerformancePolicy::Reliability),
                ThrottleReasons::empty(),
            ),
        ]
    }

    /// Returns the share of the time since the last round in which the clocks were held down. Where that is not counted
    /// it is 0 or 100, by the state at this moment, so that the mean over the rounds is an estimate of the same.
    ///
    /// A counter that still stands at zero may be one that the device does not keep, so the state is asked then too.
    fn percent(
        &mut self,
        device: &dyn Device,
        now: Instant,
        told: &mut Told,
        reasons: Option<ThrottleReasons>,
    ) -> Option<f64> {
        let policy = self.policy;
        let counted =
            policy.and_then(|policy| self.gate.ask(now, told, || device.held_down(policy)));
        let state = reasons.filter(|_| !self.reasons.is_empty()).map(|reasons| {
            if reasons.intersects(self.reasons) {
                100.0
            } else {
                0.0
            }
        });
        let Some(total) = counted else { return state };
        let Some((since, before)) = self.before else {
            self.before = Some((now, total));
            return state.filter(|_| total.is_zero());
        };
        let elapsed = now.saturating_duration_since(since);
        if elapsed < RATE_WINDOW {
            return None;
        }
        self.before = Some((now, total));
        if total.is_zero() && state.is_some() {
            return state;
        }
        let held = total.checked_sub(before)?;
        // The counter moves in steps of its own, which may be longer than a round.
        Some((100.0 * held.as_secs_f64() / elapsed.as_secs_f64()).min(100.0))
    }
}
