//! Calls into the driver as events.

use super::json;
use super::work::{caller, number};
use crate::model::{GpuApi, GpuCall};

/// Returns the function of CUDA's runtime that does the same. Tools that know only the runtime's names then understand
/// programs that call the driver.
pub(in crate::sink) fn runtime_name(call: &GpuCall) -> &'static str {
    match (call.api, call.function) {
        (GpuApi::Launch, "cuLaunchKernelEx") => "cudaLaunchKernelExC",
        (GpuApi::Launch, _) => "cudaLaunchKernel",
        (GpuApi::GraphLaunch, _) => "cudaGraphLaunch",
        (GpuApi::Copy, _) => "cudaMemcpy",
        (GpuApi::CopyAsync, _) => "cudaMemcpyAsync",
        (GpuApi::Set, _) => "cudaMemset",
        (GpuApi::SetAsync, _) => "cudaMemsetAsync",
        (GpuApi::Synchronize, "cuStreamSynchronize") => "cudaStreamSynchronize",
        (GpuApi::Synchronize, "cuEventSynchronize") => "cudaEventSynchronize",
        (GpuApi::Synchronize, _) => "cudaDeviceSynchronize",
        (GpuApi::Allocate, "cuMemAllocAsync" | "cuMemAllocFromPoolAsync") => "cudaMallocAsync",
        (GpuApi::Allocate, "cuMemAllocManaged") => "cudaMallocManaged",
        (GpuApi::Allocate, "cuMemAllocPitch") => "cudaMallocPitch",
        (GpuApi::Allocate, _) => "cudaMalloc",
        (GpuApi::Free, "cuMemFreeAsync") => "cudaFreeAsync",
        (GpuApi::Free, _) => "cudaFree",
    }
}

/// Appends `,"args":{..}`. Never an argument `stream`, by which tools tell a device's work from a call.
pub(in crate::sink) fn args(out: &mut Vec<u8>, call: &GpuCall, with_function: bool) {
    out.extend_from_slice(b",\"args\":{\"correlation\":");
    json::unsigned(out, u64::from(call.correlation));
    number(out, b"context", u64::from(call.context));
    if with_function {
        out.extend_from_slice(b",\"driver_api\":");
        json::string(out, call.function);
    }
    if let Some(memory) = call.memory {
        // As text: viewers read numbers as `f64`.
        out.extend_from_slice(b",\"address\":\"");
        json::hex(out, memory.address);
        out.push(b'"');
        if let Some(bytes) = memory.bytes {
            number(out, b"bytes", bytes);
        }
    }
    if let Some(error) = call.error {
        number(out, b"error", u64::from(error));
    }
    if call.end.is_none() {
        out.extend_from_slice(b",\"unfinished\":true");
    }
    caller(out, call.caller.as_ref());
    out.push(b'}');
}
