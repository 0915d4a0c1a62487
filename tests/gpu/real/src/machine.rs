//! What the machine has: the driver's devices, and the libraries that this process has loaded.

use std::ffi::c_int;
use std::fs;

use libloading::Library;
use serde::{Deserialize, Serialize};

/// Returns how many devices there are; says why there are none otherwise. Not through cudarc, which ends the process
/// where there is no driver.
pub fn devices() -> Result<usize, String> {
    // SAFETY: the driver's library can be loaded at any time.
    let driver = unsafe { Library::new("libcuda.so.1") }
        .map_err(|why| format!("there is no NVIDIA driver here ({why})"))?;
    let mut count: c_int = 0;
    // SAFETY: the signatures are those of `cuda.h`.
    let (init, answered) = unsafe {
        let init = driver.get::<unsafe extern "C" fn(u32) -> u32>(b"cuInit\0");
        let count_of = driver.get::<unsafe extern "C" fn(*mut c_int) -> u32>(b"cuDeviceGetCount\0");
        match (init, count_of) {
            (Ok(init), Ok(count_of)) => (init(0), count_of(&raw mut count)),
            _ => return Err("libcuda.so.1 is not NVIDIA's".to_owned()),
        }
    };
    // The driver does not like to be unloaded.
    std::mem::forget(driver);
    match (init, answered, usize::try_from(count)) {
        (0, 0, Ok(count)) if count > 0 => Ok(count),
        (0, 0, _) | (100, ..) => Err("the driver has no device".to_owned()),
        (0, code, _) | (code, ..) => Err(format!("the driver does not start (error {code})")),
    }
}

/// Looks up the first version of `cuEventElapsedTime`: bindings of CUDA 13 call the second, which older drivers lack.
pub fn elapsed_time() -> crate::Result<unsafe extern "C" fn(*mut f32, usize, usize) -> u32> {
    // SAFETY: the driver is loaded already; the signature is that of `cuda.h`, with handles as numbers.
    unsafe {
        let driver = Library::new("libcuda.so.1")?;
        let elapsed = *driver.get(b"cuEventElapsedTime\0")?;
        std::mem::forget(driver);
        Ok(elapsed)
    }
}

/// A library that this process has loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Loaded {
    pub path: String,
    pub version: Option<u32>,
}

/// Returns the CUPTI that this process has loaded, whoever did.
pub fn cupti() -> Option<Loaded> {
    let path = loaded_path(&fs::read_to_string("/proc/self/maps").ok()?, "libcupti")?;
    let mut version = 0;
    // SAFETY: it is loaded already; the signature is that of `cupti_version.h`.
    let status = unsafe {
        let library = Library::new(&path).ok()?;
        let get_version = *library
            .get::<unsafe extern "C" fn(*mut u32) -> u32>(b"cuptiGetVersion\0")
            .ok()?;
        std::mem::forget(library);
        get_version(&raw mut version)
    };
    Some(Loaded {
        path,
        version: (status == 0).then_some(version),
    })
}

fn loaded_path(maps: &str, name: &str) -> Option<String> {
    let paths = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| &line[at..]));
    let is_it = |path: &&str| {
        path.rsplit('/')
            .next()
            .is_some_and(|file| file.starts_with(name))
    };
    paths.into_iter().find(is_it).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loaded_library_is_found_by_the_begin_of_its_name() {
        let maps = "7f00-7f01 r-xp 0 fd:01 1 /opt/libcupti/libother.so\n\
                    7f01-7f02 r--p 0 fd:01 2 /usr/local/cuda/lib64/libcupti.so.2025.3.1\n\
                    7f02-7f03 rw-p 0 00:00 0 \n";
        let path = loaded_path(maps, "libcupti");
        assert_eq!(
            path.as_deref(),
            Some("/usr/local/cuda/lib64/libcupti.so.2025.3.1")
        );
        assert_eq!(loaded_path(maps, "libnvrtc"), None);
    }
}
