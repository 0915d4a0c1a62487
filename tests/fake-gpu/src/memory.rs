//! Device memory, which is only counted, and pinned host memory, which exists.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::c_void;

use crate::capture;
use crate::driver::current_device;
use crate::errors::{INVALID_VALUE, OUT_OF_MEMORY, Outcome, put};
use crate::knobs::{self, Knob};
use crate::state::{State, lock};

const PAGE: u64 = 512;

/// Where memory is.
#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
pub enum Kind {
    Pageable = 1,
    Pinned = 2,
    Device = 3,
}

impl State {
    pub fn allocated(&self, device: usize) -> u64 {
        let of_device = self
            .allocations
            .values()
            .filter(|allocation| allocation.1 == device);
        of_device.map(|allocation| allocation.0).sum()
    }

    pub fn kind_of_host(&self, address: usize) -> Kind {
        let before = self.pinned.range(..=address).next_back();
        match before {
            Some((start, bytes)) if address < start + bytes => Kind::Pinned,
            _ => Kind::Pageable,
        }
    }

    /// Of an address in the one address space that host and devices share.
    pub fn kind_of(&self, address: u64) -> Kind {
        match self.device_at(address) {
            Some(_) => Kind::Device,
            None => self.kind_of_host(address as usize),
        }
    }

    pub fn device_at(&self, address: u64) -> Option<usize> {
        let (start, (bytes, device)) = self.allocations.range(..=address).next_back()?;
        (address < start + bytes).then_some(*device)
    }

    fn allocate(&mut self, device: usize, bytes: usize) -> Result<u64, u32> {
        let bytes = bytes as u64;
        if bytes == 0 {
            return Err(INVALID_VALUE);
        }
        let total = knobs::get_of(Knob::MEMORY_BYTES, device) as u64;
        if self.allocated(device) + bytes > total {
            return Err(OUT_OF_MEMORY);
        }
        let last = self.allocations.last_key_value();
        let end = last.map_or(0x0a00_0000_0000, |(start, (bytes, _))| start + bytes);
        let address = end.next_multiple_of(PAGE);
        self.allocations.insert(address, (bytes, device));
        Ok(address)
    }

    fn free(&mut self, address: u64) -> Outcome {
        match self.allocations.remove(&address) {
            None if address != 0 => Err(INVALID_VALUE),
            _ => Ok(()),
        }
    }
}

fn layout(bytes: usize) -> Result<Layout, u32> {
    Layout::from_size_align(bytes.max(1), 4096).map_err(|_| INVALID_VALUE)
}

unsafe fn allocate_host(out: *mut *mut c_void, bytes: usize) -> Outcome {
    current_device()?;
    let memory = alloc_zeroed(layout(bytes)?);
    lock().pinned.insert(memory as usize, bytes);
    put(out, memory.cast())
}

traced! {
    243 => fn cuMemAlloc_v2(dptr: *mut u64, bytesize: usize), |_call| {
        capture::may_ask()?;
        let device = current_device()?;
        let address = lock().allocate(device, bytesize)?;
        put(dptr, address)
    }

    245 => fn cuMemFree_v2(dptr: u64), |_call| {
        lock().free(dptr)
    }

    598 => fn cuMemAllocAsync(dptr: *mut u64, bytesize: usize, stream: usize), |_call| {
        let address = {
            let mut state = lock();
            let stream = state.stream(stream)?;
            let device = state.streams[stream].device;
            state.allocate(device, bytesize)?
        };
        put(dptr, address)
    }

    600 => fn cuMemFreeAsync(dptr: u64, stream: usize), |_call| {
        let mut state = lock();
        state.stream(stream)?;
        state.free(dptr)
    }
}

driver! {
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        let device = current_device()?;
        let bytes = knobs::get_of(Knob::MEMORY_BYTES, device) as u64;
        put(free, (bytes - lock().allocated(device)) as usize)?;
        put(total, bytes as usize)
    }

    fn cuMemAllocHost_v2(out: *mut *mut c_void, bytes: usize) {
        allocate_host(out, bytes)
    }

    fn cuMemHostAlloc(out: *mut *mut c_void, bytes: usize, _flags: u32) {
        allocate_host(out, bytes)
    }

    fn cuMemFreeHost(memory: *mut c_void) {
        let bytes = lock().pinned.remove(&(memory as usize)).ok_or(INVALID_VALUE)?;
        dealloc(memory.cast(), layout(bytes)?);
        Ok(())
    }
}
