//! The cases: what a span has the device do, and what is known of it without us.

use std::fmt;

use cudarc::cublas::{CudaBlas, Gemm, GemmConfig, sys::cublasOperation_t};
use cudarc::driver::result;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::gpu::{BLOCK, Gpu};

pub struct Case {
    pub name: &'static str,
    pub what: &'static str,
    /// Makes what the spans need, outside of all spans.
    pub prepare: for<'a> fn(&'a Gpu, small: bool) -> Result<Prepared<'a>>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Case {
    fn eq(&self, other: &Case) -> bool {
        self.name == other.name
    }
}

/// A case that is ready to run.
pub struct Prepared<'a> {
    /// Does the work of one span and waits for it; returns the device's time by events, in nanoseconds.
    pub span: Box<dyn FnMut() -> Result<f64> + 'a>,
    pub expected: Expected,
    /// The single pieces of work, for other programs that do the same.
    pub work: Option<Work>,
}

/// What one span has the device do.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    pub compare: Compare,
    /// `None` where a library decides how many.
    pub kernels: Option<u64>,
    /// Calls that start work; `None` where a library decides how many.
    pub launches: Option<u64>,
    pub copies: u64,
    pub to_device_bytes: u64,
    pub to_host_bytes: u64,
    pub pageable_bytes: u64,
    /// Kernels run at the same time.
    pub overlap: bool,
}

/// Which of our numbers is what events show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// The union of intervals: the pieces are long and follow each other at once.
    #[default]
    Busy,
    /// From the begin of the first to the end of the last: events show the pauses between small pieces as well.
    Extent,
}

/// One piece of work that another program can repeat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Work {
    Compute {
        blocks: u32,
        threads: u32,
        rounds: u32,
    },
    Memory {
        n: u32,
        threads: u32,
    },
    Copy {
        bytes: u64,
        to_device: bool,
        pinned: bool,
    },
    Multiply {
        n: u32,
    },
}

pub const ALL: &[Case] = &[
    Case {
        name: "compute_bound",
        what: "kernels of 2 ms that only calculate",
        prepare: compute_bound,
    },
    Case {
        name: "memory_bound",
        what: "kernels that only read and write memory",
        prepare: memory_bound,
    },
    Case {
        name: "tiny_10k",
        what: "10,000 empty kernels",
        prepare: tiny_10k,
    },
    Case {
        name: "tiny_100k",
        what: "100,000 empty kernels",
        prepare: tiny_100k,
    },
    Case {
        name: "htod_pageable",
        what: "pageable copies to the device",
        prepare: htod_pageable,
    },
    Case {
        name: "dtoh_pageable",
        what: "pageable copies to the host",
        prepare: dtoh_pageable,
    },
    Case {
        name: "htod_pinned",
        what: "pinned copies to the device",
        prepare: htod_pinned,
    },
    Case {
        name: "dtoh_pinned",
        what: "pinned copies to the host",
        prepare: dtoh_pinned,
    },
    Case {
        name: "two_streams",
        what: "two streams at the same time",
        prepare: two_streams,
    },
    Case {
        name: "graph",
        what: "a captured graph of 20 kernels, launched many times",
        prepare: graph,
    },
    Case {
        name: "cublas",
        what: "matrix products by cuBLAS, through the CUDA runtime",
        prepare: cublas,
    },
];

/// Returns how many rounds make a kernel of 2 ms; where that cannot be found out, as many as would on today's devices.
fn rounds_of_2_ms(gpu: &Gpu, blocks: u32) -> Result<u32> {
    const TARGET_NS: f64 = 2e6;
    let out = gpu.allocate((blocks * BLOCK) as usize * 4)?;
    let mut rounds = 100_000;
    for _ in 0..3 {
        let took = gpu.timed(|| gpu.compute(&gpu.stream, blocks, out, rounds))?;
        let wanted = f64::from(rounds) * TARGET_NS / took.max(1_000.0);
        rounds = wanted.clamp(10_000.0, 4_000_000.0) as u32;
    }
    Ok(rounds)
}

pub fn compute_bound(gpu: &Gpu, _: bool) -> Result<Prepared<'_>> {
    const LAUNCHES: u64 = 10;
    let blocks = gpu.multiprocessors * 4;
    let rounds = rounds_of_2_ms(gpu, blocks)?;
    let out = gpu.allocate((blocks * BLOCK) as usize * 4)?;
    Ok(Prepared {
        span: Box::new(move || {
            gpu.timed(|| {
                (0..LAUNCHES).try_for_each(|_| gpu.compute(&gpu.stream, blocks, out, rounds))
            })
        }),
        expected: kernels(LAUNCHES, Compare::Busy),
        work: Some(Work::Compute {
            blocks,
            threads: BLOCK,
            rounds,
        }),
    })
}

fn memory_bound(gpu: &Gpu, small: bool) -> Result<Prepared<'_>> {
    const LAUNCHES: u64 = 20;
    // 1 GiB each, of which a device reads and writes 3 GiB in about a millisecond.
    let n: u32 = if small { 1 << 20 } else { 1 << 28 };
    let memory = [0; 3].map(|_| gpu.allocate(n as usize * 4));
    let [out, x, y] = memory;
    let memory = [out?, x?, y?];
    Ok(Prepared {
        span: Box::new(move || gpu.timed(|| (0..LAUNCHES).try_for_each(|_| gpu.triad(memory, n)))),
        expected: kernels(LAUNCHES, Compare::Busy),
        work: Some(Work::Memory { n, threads: BLOCK }),
    })
}

fn tiny_10k(gpu: &Gpu, small: bool) -> Result<Prepared<'_>> {
    tiny(gpu, if small { 1_000 } else { 10_000 })
}

fn tiny_100k(gpu: &Gpu, small: bool) -> Result<Prepared<'_>> {
    tiny(gpu, if small { 10_000 } else { 100_000 })
}

fn tiny(gpu: &Gpu, launches: u64) -> Result<Prepared<'_>> {
    Ok(Prepared {
        span: Box::new(move || gpu.timed(|| (0..launches).try_for_each(|_| gpu.tiny()))),
        expected: kernels(launches, Compare::Extent),
        work: None,
    })
}

fn kernels(launches: u64, compare: Compare) -> Expected {
    Expected {
        compare,
        kernels: Some(launches),
        launches: Some(launches),
        ..Expected::default()
    }
}

fn htod_pageable(gpu: &Gpu, small: bool) -> Result<Prepared<'_>> {
    copies(gpu, small, true, false)
}

fn dtoh_pageable(gpu: &Gpu, small: bool) -> Result<Prepared<'_>> {
    copies(gpu, small, false, false)
}

fn htod_pinned(gpu: &Gpu, small: bool) -> Result<Prepared<'_>> {
    copies(gpu, small, true, true)
}

fn dtoh_pinned(gpu: &Gpu, small: bool) -> Result<Prepared<'_>> {
    copies(gpu, small, false, true)
}

fn copies(gpu: &Gpu, small: bool, to_device: bool, pinned: bool) -> Result<Prepared<'_>> {
    const COPIES: u64 = 4;
    let bytes: usize = if small { 16 << 20 } else { 256 << 20 };
    let device = gpu.allocate(bytes)?;
    let host = match pinned {
        true => gpu.pinned(bytes)?,
        false => vec![1_u8; bytes].leak(),
    };
    let total = COPIES * bytes as u64;
    Ok(Prepared {
        span: Box::new(move || {
            gpu.timed(|| {
                for _ in 0..COPIES {
                    let stream = gpu.stream.cu_stream();
                    // SAFETY: both are `bytes` long, live on, and nobody else looks at them before the stream is done.
                    unsafe {
                        match to_device {
                            true => result::memcpy_htod_async(device.0, host, stream),
                            false => result::memcpy_dtoh_async(host, device.0, stream),
                        }
                    }?;
                }
                Ok(())
            })
        }),
        expected: Expected {
            kernels: Some(0),
            launches: Some(COPIES),
            copies: COPIES,
            to_device_bytes: if to_device { total } else { 0 },
            to_host_bytes: if to_device { 0 } else { total },
            pageable_bytes: if pinned { 0 } else { total },
            // The host may wait for each.
            compare: if pinned {
                Compare::Busy
            } else {
                Compare::Extent
            },
            ..Expected::default()
        },
        work: Some(Work::Copy {
            bytes: bytes as u64,
            to_device,
            pinned,
        }),
    })
}

fn two_streams(gpu: &Gpu, _: bool) -> Result<Prepared<'_>> {
    const LAUNCHES: u64 = 5;
    // So few that both streams have room.
    let blocks = (gpu.multiprocessors / 4).max(1);
    let rounds = rounds_of_2_ms(gpu, blocks)?;
    let bytes = (blocks * BLOCK) as usize * 4;
    let (out, other_out) = (gpu.allocate(bytes)?, gpu.allocate(bytes)?);
    let other = gpu.context.new_stream()?;
    Ok(Prepared {
        span: Box::new(move || {
            let (begin, end) = (gpu.event()?, gpu.event()?);
            begin.record(&gpu.stream)?;
            other.wait(&begin)?;
            for _ in 0..LAUNCHES {
                gpu.compute(&gpu.stream, blocks, out, rounds)?;
                gpu.compute(&other, blocks, other_out, rounds)?;
            }
            gpu.stream.join(&other)?;
            end.record(&gpu.stream)?;
            gpu.stream.synchronize()?;
            gpu.between(&begin, &end)
        }),
        expected: Expected {
            overlap: true,
            ..kernels(2 * LAUNCHES, Compare::Busy)
        },
        work: None,
    })
}

fn graph(gpu: &Gpu, small: bool) -> Result<Prepared<'_>> {
    const NODES: u64 = 20;
    let launches: u64 = if small { 20 } else { 500 };
    let blocks = gpu.multiprocessors;
    let out = gpu.allocate((blocks * BLOCK) as usize * 4)?;
    gpu.stream
        .begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
    for _ in 0..NODES {
        gpu.compute(&gpu.stream, blocks, out, 10_000)?;
    }
    let graph = gpu.stream.end_capture(CUgraphInstantiate_flags(0))?;
    let graph = graph.ok_or("the captured graph is empty")?;
    Ok(Prepared {
        span: Box::new(move || gpu.timed(|| Ok((0..launches).try_for_each(|_| graph.launch())?))),
        expected: Expected {
            kernels: Some(launches * NODES),
            launches: Some(launches),
            compare: Compare::Extent,
            ..Expected::default()
        },
        work: None,
    })
}

fn cublas(gpu: &Gpu, small: bool) -> Result<Prepared<'_>> {
    const PRODUCTS: u64 = 10;
    // SAFETY: looks whether the library is there.
    if !unsafe { cudarc::cublas::sys::is_culib_present() } {
        return Err(crate::run_case::skipped("there is no libcublas"));
    }
    let n: u32 = if small { 512 } else { 4096 };
    let count = (n * n) as usize;
    let blas = CudaBlas::new(gpu.stream.clone())?;
    let a = gpu.stream.alloc_zeros::<f32>(count)?;
    let b = gpu.stream.alloc_zeros::<f32>(count)?;
    let mut c = gpu.stream.alloc_zeros::<f32>(count)?;
    let side = i32::try_from(n)?;
    let shape = GemmConfig {
        transa: cublasOperation_t::CUBLAS_OP_N,
        transb: cublasOperation_t::CUBLAS_OP_N,
        m: side,
        n: side,
        k: side,
        alpha: 1.0,
        lda: side,
        ldb: side,
        beta: 0.0,
        ldc: side,
    };
    Ok(Prepared {
        span: Box::new(move || {
            gpu.timed(|| {
                for _ in 0..PRODUCTS {
                    // SAFETY: the matrices have the sizes that the shape says.
                    unsafe { blas.gemm(shape, &a, &b, &mut c) }?;
                }
                Ok(())
            })
        }),
        expected: Expected {
            compare: Compare::Extent,
            ..Expected::default()
        },
        work: Some(Work::Multiply { n }),
    })
}
