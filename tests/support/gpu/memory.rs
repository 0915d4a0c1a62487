//! Memory, copies and memsets of the driver.

use std::ffi::c_void;

use super::driver::{Context, Driver, Stream, check, out};

/// Pinned host memory.
pub struct Pinned {
    driver: Driver,
    start: *mut c_void,
    length: usize,
}

impl std::ops::Deref for Pinned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.length) }
    }
}

impl std::ops::DerefMut for Pinned {
    fn deref_mut(&mut self) -> &mut [u8] {
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.length) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        unsafe { (self.driver.table.cuMemFreeHost)(self.start) };
    }
}

impl Driver {
    pub fn pinned(self, bytes: usize) -> Result<Pinned, u32> {
        let mut start = std::ptr::null_mut();
        check(unsafe { (self.table.cuMemHostAlloc)(&mut start, bytes, 0) })?;
        Ok(Pinned {
            driver: self,
            start,
            length: bytes,
        })
    }

    /// Device memory, by its address.
    pub fn alloc(self, bytes: usize) -> Result<u64, u32> {
        out(|address| unsafe { (self.table.cuMemAlloc_v2)(address, bytes) })
    }

    pub fn free(self, address: u64) -> Result<(), u32> {
        check(unsafe { (self.table.cuMemFree_v2)(address) })
    }

    pub fn alloc_async(self, bytes: usize, stream: Stream) -> Result<u64, u32> {
        out(|address| unsafe { (self.table.cuMemAllocAsync)(address, bytes, stream.0) })
    }

    pub fn free_async(self, address: u64, stream: Stream) -> Result<(), u32> {
        check(unsafe { (self.table.cuMemFreeAsync)(address, stream.0) })
    }

    /// Waits until the copy has ended.
    pub fn copy_to_device(self, to: u64, from: &[u8]) -> Result<(), u32> {
        check(unsafe { (self.table.cuMemcpyHtoD_v2)(to, from.as_ptr().cast(), from.len()) })
    }

    pub fn copy_to_device_async(self, to: u64, from: &[u8], stream: Stream) -> Result<(), u32> {
        let copy = self.table.cuMemcpyHtoDAsync_v2;
        check(unsafe { copy(to, from.as_ptr().cast(), from.len(), stream.0) })
    }

    /// Waits until the copy has ended.
    pub fn copy_to_host(self, to: &mut [u8], from: u64) -> Result<(), u32> {
        check(unsafe { (self.table.cuMemcpyDtoH_v2)(to.as_mut_ptr().cast(), from, to.len()) })
    }

    pub fn copy_to_host_async(self, to: &mut [u8], from: u64, stream: Stream) -> Result<(), u32> {
        let copy = self.table.cuMemcpyDtoHAsync_v2;
        check(unsafe { copy(to.as_mut_ptr().cast(), from, to.len(), stream.0) })
    }

    pub fn copy_on_device(
        self,
        to: u64,
        from: u64,
        bytes: usize,
        stream: Stream,
    ) -> Result<(), u32> {
        check(unsafe { (self.table.cuMemcpyDtoDAsync_v2)(to, from, bytes, stream.0) })
    }

    pub fn copy_to_peer(
        self,
        (to, to_context): (u64, Context),
        (from, from_context): (u64, Context),
        bytes: usize,
        stream: Stream,
    ) -> Result<(), u32> {
        let copy = self.table.cuMemcpyPeerAsync;
        check(unsafe { copy(to, to_context.0, from, from_context.0, bytes, stream.0) })
    }

    /// On the default stream.
    pub fn memset(self, to: u64, value: u8, bytes: usize) -> Result<(), u32> {
        check(unsafe { (self.table.cuMemsetD8_v2)(to, value, bytes) })
    }

    pub fn memset_async(self, to: u64, value: u8, bytes: usize, stream: Stream) -> Result<(), u32> {
        check(unsafe { (self.table.cuMemsetD8Async)(to, value, bytes, stream.0) })
    }
}
