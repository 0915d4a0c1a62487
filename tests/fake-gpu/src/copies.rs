//! Copies and memsets. They take time and move nothing.

use std::ffi::c_void;

use crate::activities::{MEMCPY, MEMCPY_PEER, MEMSET, Record};
use crate::callbacks::Call;
use crate::capture;
use crate::clock;
use crate::driver::device_of;
use crate::errors::Outcome;
use crate::knobs::{self, Knob};
use crate::memory::Kind;
use crate::state::{State, lock};

/// Bytes per ns.
const PINNED_RATE: u64 = 50;
const PAGEABLE_RATE: u64 = 12;
const DEVICE_RATE: u64 = 2_000;
const SHORTEST_NS: u64 = 1_000;

/// One end of a copy.
#[derive(Clone, Copy)]
enum Place {
    Host(usize),
    Device,
    /// Whatever is at the address.
    Address(u64),
}

impl Place {
    fn kind(self, state: &State) -> Kind {
        match self {
            Place::Host(address) => state.kind_of_host(address),
            Place::Device => Kind::Device,
            Place::Address(address) => state.kind_of(address),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Sync,
    Async,
}

fn duration(fixed: Knob, bytes: u64, rate: u64) -> u64 {
    match knobs::get(fixed) {
        ns @ 0.. => ns as u64,
        _ => SHORTEST_NS.max(bytes / rate),
    }
}

fn copy(call: Call, from: Place, to: Place, bytes: usize, stream: usize, mode: Mode) -> Outcome {
    if mode == Mode::Sync {
        capture::may_ask()?;
    }
    let now = clock::now();
    let wait = {
        let mut state = lock();
        let stream = state.stream(stream)?;
        if state.is_captured(stream) {
            return Ok(());
        }
        let kinds = (from.kind(&state), to.kind(&state));
        let rate = match kinds {
            (Kind::Device, Kind::Device) => DEVICE_RATE,
            (Kind::Pageable, _) | (_, Kind::Pageable) => PAGEABLE_RATE,
            _ => PINNED_RATE,
        };
        let times = state.schedule(stream, now, duration(Knob::COPY_NS, bytes as u64, rate));
        if state.wants(MEMCPY) {
            let device = state.streams[stream].device;
            let is_async = mode == Mode::Async;
            let record = Record::memcpy(
                kinds,
                is_async,
                bytes,
                times,
                call.correlation,
                device,
                stream,
            );
            state.push(record);
        }
        // A copy to pageable memory has ended when the call returns, whatever its name.
        let waits = mode == Mode::Sync && kinds != (Kind::Device, Kind::Device)
            || kinds.1 == Kind::Pageable;
        waits.then_some(times.1)
    };
    crate::buffers::supply();
    if let Some(end) = wait {
        clock::wait_until(end);
    }
    Ok(())
}

fn copy_peer(
    call: Call,
    from: usize,
    to: usize,
    bytes: usize,
    stream: usize,
    mode: Mode,
) -> Outcome {
    let (from, to) = (device_of(from)?, device_of(to)?);
    let now = clock::now();
    let end = {
        let mut state = lock();
        let stream = state.stream(stream)?;
        let times = state.schedule(
            stream,
            now,
            duration(Knob::COPY_NS, bytes as u64, PINNED_RATE),
        );
        if state.wants(MEMCPY_PEER) {
            let device = state.streams[stream].device;
            let record =
                Record::memcpy_peer((from, to), bytes, times, call.correlation, device, stream);
            state.push(record);
        }
        times.1
    };
    crate::buffers::supply();
    if mode == Mode::Sync {
        clock::wait_until(end);
    }
    Ok(())
}

fn set(call: Call, value: u32, bytes: usize, stream: usize) -> Outcome {
    let now = clock::now();
    {
        let mut state = lock();
        let stream = state.stream(stream)?;
        if state.is_captured(stream) {
            return Ok(());
        }
        let times = state.schedule(
            stream,
            now,
            duration(Knob::MEMSET_NS, bytes as u64, DEVICE_RATE),
        );
        if state.wants(MEMSET) {
            let device = state.streams[stream].device;
            let record = Record::memset(value, bytes, times, call.correlation, device, stream);
            state.push(record);
        }
    }
    crate::buffers::supply();
    Ok(())
}

traced! {
    276 => fn cuMemcpyHtoD_v2(dst: u64, src: *const c_void, bytes: usize), |call| {
        copy(call, Place::Host(src as usize), Place::Device, bytes, 0, Mode::Sync)
    }
    277 => fn cuMemcpyHtoDAsync_v2(dst: u64, src: *const c_void, bytes: usize, stream: usize), |call| {
        copy(call, Place::Host(src as usize), Place::Device, bytes, stream, Mode::Async)
    }
    278 => fn cuMemcpyDtoH_v2(dst: *mut c_void, src: u64, bytes: usize), |call| {
        copy(call, Place::Device, Place::Host(dst as usize), bytes, 0, Mode::Sync)
    }
    279 => fn cuMemcpyDtoHAsync_v2(dst: *mut c_void, src: u64, bytes: usize, stream: usize), |call| {
        copy(call, Place::Device, Place::Host(dst as usize), bytes, stream, Mode::Async)
    }
    280 => fn cuMemcpyDtoD_v2(dst: u64, src: u64, bytes: usize), |call| {
        copy(call, Place::Device, Place::Device, bytes, 0, Mode::Sync)
    }
    281 => fn cuMemcpyDtoDAsync_v2(dst: u64, src: u64, bytes: usize, stream: usize), |call| {
        copy(call, Place::Device, Place::Device, bytes, stream, Mode::Async)
    }
    305 => fn cuMemcpy(dst: u64, src: u64, bytes: usize), |call| {
        copy(call, Place::Address(src), Place::Address(dst), bytes, 0, Mode::Sync)
    }
    306 => fn cuMemcpyAsync(dst: u64, src: u64, bytes: usize, stream: usize), |call| {
        copy(call, Place::Address(src), Place::Address(dst), bytes, stream, Mode::Async)
    }
    318 => fn cuMemcpyPeer(dst: u64, to: usize, src: u64, from: usize, bytes: usize), |call| {
        copy_peer(call, from, to, bytes, 0, Mode::Sync)
    }
    319 => fn cuMemcpyPeerAsync(dst: u64, to: usize, src: u64, from: usize, bytes: usize, stream: usize), |call| {
        copy_peer(call, from, to, bytes, stream, Mode::Async)
    }
    249 => fn cuMemsetD8_v2(dst: u64, value: u8, count: usize), |call| {
        set(call, u32::from(value), count, 0)
    }
    251 => fn cuMemsetD32_v2(dst: u64, value: u32, count: usize), |call| {
        set(call, value, 4 * count, 0)
    }
    216 => fn cuMemsetD8Async(dst: u64, value: u8, count: usize, stream: usize), |call| {
        set(call, u32::from(value), count, stream)
    }
    220 => fn cuMemsetD32Async(dst: u64, value: u32, count: usize, stream: usize), |call| {
        set(call, value, 4 * count, stream)
    }
}
