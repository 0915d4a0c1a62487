//! Devices that answer by script, and a library that is not there.

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::time::{Duration, Instant};

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, PcieUtilCounter, PerformancePolicy};
use nvml_wrapper::error::NvmlError;

use super::super::Readings;
use super::GpuReadings;
use super::device::{Answer, Device, Memory, Utilization};
use super::error::ReadError;
use super::reader::DeviceReader;
use super::select::{Listed, Selection, select};
use crate::model::Unit;

const ROUND: Duration = Duration::from_millis(250);

/// A device that answers everything, until told otherwise.
struct Script {
    energy: Cell<u64>,
    held_down: Cell<Duration>,
    reasons: Cell<ThrottleReasons>,
    /// The answer to every question about power.
    power: RefCell<Box<dyn FnMut() -> Answer<u32>>>,
    own: Cell<Option<u64>>,
    /// Whether everything else fails with [`NvmlError::Unknown`].
    is_silent: Cell<bool>,
    pcie: RefCell<Vec<PcieUtilCounter>>,
}

impl Default for Script {
    fn default() -> Script {
        Script {
            energy: Cell::new(5_000_000),
            held_down: Cell::default(),
            reasons: Cell::new(ThrottleReasons::empty()),
            power: RefCell::new(Box::new(|| Ok(310_500))),
            own: Cell::new(Some(1 << 30)),
            is_silent: Cell::new(false),
            pcie: RefCell::default(),
        }
    }
}

impl Script {
    fn answer<T>(&self, value: T) -> Answer<T> {
        match self.is_silent.get() {
            true => Err(NvmlError::Unknown),
            false => Ok(value),
        }
    }
}

impl Device for Script {
    fn utilization(&self) -> Answer<Utilization> {
        self.answer(Utilization {
            percent: 63,
            memory_percent: 21,
        })
    }

    fn memory(&self) -> Answer<Memory> {
        self.answer(Memory {
            used_bytes: 3 << 30,
            total_bytes: 140 << 30,
        })
    }

    fn own_memory_bytes(&self) -> Answer<Option<u64>> {
        self.answer(self.own.get())
    }

    fn power_milliwatts(&self) -> Answer<u32> {
        (self.power.borrow_mut())()
    }

    fn energy_millijoules(&self) -> Answer<u64> {
        self.answer(self.energy.get())
    }

    fn temperature_celsius(&self) -> Answer<u32> {
        self.answer(47)
    }

    fn clock_megahertz(&self, clock: Clock) -> Answer<u32> {
        self.answer(match clock {
            Clock::Memory => 3_201,
            _ => 1_980,
        })
    }

    fn pcie_kilobytes_per_second(&self, counter: PcieUtilCounter) -> Answer<u32> {
        let receives = counter == PcieUtilCounter::Receive;
        self.pcie.borrow_mut().push(counter);
        self.answer(if receives { 340_000 } else { 120_000 })
    }

    fn throttle_reasons(&self) -> Answer<ThrottleReasons> {
        self.answer(self.reasons.get())
    }

    fn held_down(&self, policy: PerformancePolicy) -> Answer<Duration> {
        self.answer(match policy {
            PerformancePolicy::Power => self.held_down.get(),
            _ => Duration::ZERO,
        })
    }
}

type Values = Vec<(String, Unit, f64)>;

/// A reader whose rounds are a quarter of a second apart.
struct Rounds {
    reader: DeviceReader,
    now: Instant,
}

impl Rounds {
    fn new(pcie_turn: Option<u32>) -> Rounds {
        Rounds {
            reader: DeviceReader::new("gpu.0".to_owned(), pcie_turn),
            now: Instant::now(),
        }
    }

    fn try_next(&mut self, device: &Script) -> (Values, Result<(), ReadError>) {
        let mut readings = Readings::default();
        let outcome = self.reader.sample(device, self.now, &mut readings);
        self.now += ROUND;
        (readings.values, outcome)
    }

    fn next(&mut self, device: &Script) -> Values {
        let (values, outcome) = self.try_next(device);
        outcome.unwrap();
        values
    }

    fn value(&mut self, device: &Script, series: &str) -> Option<f64> {
        let values = self.next(device);
        let found = values.iter().find(|(name, ..)| name == series);
        found.map(|&(_, _, value)| value)
    }
}

#[test]
fn every_reading_has_its_unit() {
    let mut rounds = Rounds::new(Some(0));
    let device = Script::default();
    let mut first = rounds.next(&device);
    // What needs a difference, and the other direction.
    for round in [
        rounds.next(&device),
        rounds.next(&device),
        rounds.next(&device),
        rounds.next(&device),
    ] {
        for reading in round {
            if !first.iter().any(|(name, ..)| *name == reading.0) {
                first.push(reading);
            }
        }
    }
    first.sort_by(|a, b| a.0.cmp(&b.0));
    let gib = |count: u32| f64::from(count) * f64::from(1 << 30);
    let expected = [
        ("gpu.0.clock_memory", Unit::Hertz, 3.201e9),
        ("gpu.0.clock_sm", Unit::Hertz, 1.98e9),
        ("gpu.0.energy", Unit::Joules, 0.0),
        ("gpu.0.memory_total", Unit::Bytes, gib(140)),
        ("gpu.0.memory_used", Unit::Bytes, gib(3)),
        ("gpu.0.memory_utilization", Unit::Percent, 21.0),
        ("gpu.0.pcie_rx", Unit::BytesPerSecond, 3.4e8),
        ("gpu.0.pcie_tx", Unit::BytesPerSecond, 1.2e8),
        ("gpu.0.power", Unit::Watts, 310.5),
        ("gpu.0.process_memory", Unit::Bytes, gib(1)),
        ("gpu.0.temperature", Unit::Celsius, 47.0),
        ("gpu.0.throttle_board", Unit::Percent, 0.0),
        ("gpu.0.throttle_hardware", Unit::Percent, 0.0),
        ("gpu.0.throttle_power", Unit::Percent, 0.0),
        ("gpu.0.throttle_reliability", Unit::Percent, 0.0),
        ("gpu.0.throttle_thermal", Unit::Percent, 0.0),
        ("gpu.0.utilization", Unit::Percent, 63.0),
    ];
    let expected = expected.map(|(name, unit, value)| (name.to_owned(), unit, value));
    assert_eq!(first, expected);
}

#[test]
fn energy_counts_from_the_first_reading_and_survives_a_new_driver() {
    let mut rounds = Rounds::new(None);
    let device = Script::default();
    let mut joules = |total| {
        device.energy.set(total);
        rounds.value(&device, "gpu.0.energy").unwrap()
    };
    assert_eq!(joules(5_000_000), 0.0);
    assert_eq!(joules(5_077_500), 77.5);
    assert_eq!(joules(1_000), 77.5, "the counter began anew");
    assert_eq!(joules(2_000), 78.5);
}

#[test]
fn the_time_under_a_limit_is_a_share_of_the_time_between_two_rounds() {
    let mut rounds = Rounds::new(None);
    let device = Script::default();
    let mut share = |held_ms| {
        device.held_down.set(Duration::from_millis(held_ms));
        rounds.value(&device, "gpu.0.throttle_power")
    };
    assert_eq!(share(9_000), None, "what was before the capture");
    assert_eq!(share(9_100), Some(40.0));
    assert_eq!(share(9_100), Some(0.0));
    assert_eq!(share(9_600), Some(100.0), "a step longer than the round");
    assert_eq!(share(100), None, "the counter began anew");
    assert_eq!(share(350), Some(100.0));
}

#[test]
fn a_limit_that_no_counter_shows_is_seen_in_the_state_of_the_moment() {
    let mut rounds = Rounds::new(None);
    let device = Script::default();
    let mut share = |reasons| {
        device.reasons.set(reasons);
        rounds.value(&device, "gpu.0.throttle_thermal")
    };
    assert_eq!(share(ThrottleReasons::empty()), Some(0.0));
    assert_eq!(share(ThrottleReasons::HW_THERMAL_SLOWDOWN), Some(100.0));
    assert_eq!(share(ThrottleReasons::SW_POWER_CAP), Some(0.0));
}

#[test]
fn a_counter_that_moves_takes_over_from_the_state() {
    let mut rounds = Rounds::new(None);
    let device = Script::default();
    device.reasons.set(ThrottleReasons::SW_POWER_CAP);
    let mut share = |held_ms| {
        device.held_down.set(Duration::from_millis(held_ms));
        rounds.value(&device, "gpu.0.throttle_power")
    };
    assert_eq!(share(0), Some(100.0));
    assert_eq!(share(25), Some(10.0));
}

#[test]
fn what_the_device_does_not_have_is_left_out_and_asked_again_ever_more_rarely() {
    let asked = std::rc::Rc::new(Cell::new(0));
    let count = std::rc::Rc::clone(&asked);
    let device = Script::default();
    *device.power.borrow_mut() = Box::new(move || {
        count.set(count.get() + 1);
        Err(NvmlError::NotSupported)
    });
    let mut rounds = Rounds::new(None);
    let hour = 3600 * 4;
    let mut by_round = Vec::new();
    for _ in 0..hour {
        let values = rounds.next(&device);
        assert!(values.iter().all(|(name, ..)| name != "gpu.0.power"));
        assert!(values.iter().any(|(name, ..)| name == "gpu.0.energy"));
        by_round.push(asked.get());
    }
    assert_eq!(
        (by_round[0], by_round[7], by_round[8]),
        (1, 1, 2),
        "two seconds later"
    );
    assert!(asked.get() < 25, "{} times in an hour", asked.get());
}

#[test]
fn a_reading_that_comes_back_is_taken_in_every_round_again() {
    let mut refusals = 1;
    let device = Script::default();
    *device.power.borrow_mut() = Box::new(move || {
        refusals -= 1;
        if refusals == 0 {
            Err(NvmlError::NoData)
        } else {
            Ok(1_000)
        }
    });
    let mut rounds = Rounds::new(None);
    let has_power: Vec<_> = (0..12)
        .map(|_| rounds.value(&device, "gpu.0.power").is_some())
        .collect();
    let expected: Vec<_> = (0..12).map(|round| round >= 8).collect();
    assert_eq!(has_power, expected);
}

#[test]
fn a_lost_device_is_asked_nothing_more() {
    let device = Script::default();
    *device.power.borrow_mut() = Box::new(|| Err(NvmlError::GpuLost));
    let mut rounds = Rounds::new(Some(0));
    let (values, outcome) = rounds.try_next(&device);
    let error = outcome.unwrap_err();
    assert!(matches!(error, ReadError::Lost(NvmlError::GpuLost)));
    assert!(std::error::Error::source(&error).is_some());
    assert!(rounds.reader.is_lost());
    let names: Vec<_> = values.iter().map(|(name, ..)| name.as_str()).collect();
    assert!(names.contains(&"gpu.0.memory_used"), "asked before");
    assert!(!names.contains(&"gpu.0.energy"), "asked after");
    assert!(device.pcie.borrow().is_empty());
}

#[test]
fn a_device_that_answers_nothing_says_so() {
    let device = Script::default();
    device.is_silent.set(true);
    *device.power.borrow_mut() = Box::new(|| Err(NvmlError::NotSupported));
    let mut rounds = Rounds::new(None);
    let (values, outcome) = rounds.try_next(&device);
    assert!(values.is_empty());
    assert!(matches!(outcome, Err(ReadError::Silent(_))));
    assert!(!rounds.reader.is_lost());

    // One that has answered before is in some passing trouble.
    device.is_silent.set(false);
    rounds.now += Duration::from_secs(3);
    assert!(!rounds.next(&device).is_empty());
    device.is_silent.set(true);
    assert!(rounds.try_next(&device).1.is_ok());
}

#[test]
fn memory_of_a_process_that_the_driver_does_not_list_is_unknown() {
    let device = Script::default();
    device.own.set(None);
    let mut rounds = Rounds::new(None);
    assert_eq!(rounds.value(&device, "gpu.0.process_memory"), None);
    device.own.set(Some(0));
    assert_eq!(rounds.value(&device, "gpu.0.process_memory"), Some(0.0));
}

#[test]
fn pcie_traffic_is_read_once_a_second_in_one_direction() {
    for turn in 0..8 {
        let device = Script::default();
        let mut rounds = Rounds::new(Some(turn));
        let mut reads = Vec::new();
        for _ in 0..16 {
            let before = device.pcie.borrow().len();
            rounds.next(&device);
            reads.push(device.pcie.borrow().len() - before);
        }
        let expected: Vec<_> = (0..16)
            .map(|round| usize::from(round % 4 == turn % 4))
            .collect();
        assert_eq!(reads, expected, "turn {turn}");
        let receives: Vec<_> = device
            .pcie
            .borrow()
            .iter()
            .map(|counter| *counter == PcieUtilCounter::Receive)
            .collect();
        assert_eq!(receives, [true, false, true, false]);
    }
}

fn listed(index: u32, uuid: &str) -> Listed {
    Listed {
        index,
        name: Some("NVIDIA H200".to_owned()),
        uuid: Some(uuid.to_owned()),
        memory_bytes: Some(1),
    }
}

fn prefixes(selection: &Selection) -> Vec<(u32, &str, u32)> {
    let chosen = selection.chosen.iter();
    chosen
        .map(|chosen| (chosen.index, chosen.prefix.as_str(), chosen.device.ordinal))
        .collect()
}

#[test]
fn devices_have_the_ordinals_of_cuda_whatever_nvml_counts() {
    let all = vec![
        listed(0, "GPU-aa"),
        listed(1, "GPU-BB"),
        listed(2, "GPU-cc"),
    ];
    let visible = [(0, "GPU-cc".to_owned()), (1, "bb".to_owned())];
    let selection = select(all, Some(&visible));
    assert_eq!(prefixes(&selection), [(2, "gpu.0", 0), (1, "gpu.1", 1)]);
    assert!(selection.missing.is_empty());
}

#[test]
fn devices_that_nvml_does_not_know_are_named() {
    let visible = [(0, "MIG-1".to_owned()), (1, "GPU-zz".to_owned())];
    let selection = select(vec![listed(0, "GPU-aa")], Some(&visible));
    assert!(selection.chosen.is_empty());
    let [divided, unknown] = selection.missing.as_slice() else {
        panic!("{selection:?}");
    };
    assert!(divided.contains("device 0 (MIG-1)"), "{divided}");
    assert!(unknown.contains("device 1 (GPU-zz)"), "{unknown}");
}

#[test]
fn numbers_of_nvml_are_not_taken_for_those_of_cuda() {
    let selection = select(vec![listed(0, "GPU-aa"), listed(1, "GPU-bb")], None);
    assert_eq!(
        prefixes(&selection),
        [(0, "gpu.nvml0", 0), (1, "gpu.nvml1", 1)]
    );
    let none = select(Vec::new(), None);
    assert_eq!((none.chosen.len(), none.missing.len()), (0, 1));
}

#[test]
fn without_the_library_there_is_one_notice_and_nothing_to_read() {
    let missing = OsStr::new("/nonexistent/libnvidia-ml.so.1");
    let readings = GpuReadings::open(Some(missing), None, ROUND);
    assert!(readings.sources.is_empty() && readings.devices.is_empty());
    let [notice] = readings.notices.as_slice() else {
        panic!("{:?}", readings.notices);
    };
    assert_eq!(notice.what, "utilisation, memory, power");
    assert!(notice.why.contains("/nonexistent/libnvidia-ml.so.1"));
    assert!(notice.why.contains("NVIDIA's driver"), "{}", notice.why);
}

#[cfg(target_os = "linux")]
#[test]
fn a_library_that_is_not_nvml_is_refused() {
    // The C library, which every test has open.
    let readings = GpuReadings::open(Some(OsStr::new("libc.so.6")), None, ROUND);
    assert!(readings.sources.is_empty());
    assert_eq!(readings.notices.len(), 1);
}
