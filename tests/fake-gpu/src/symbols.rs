//! The driver's own look-up of its functions.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::null_mut;

use crate::errors::{INVALID_VALUE, NOT_FOUND, Outcome, put};

const RTLD_LAZY: c_int = 1;
const RTLD_NOLOAD: c_int = 4;
const FOUND: u32 = 0;
const SYMBOL_NOT_FOUND: u32 = 1;
/// From this version on a context can be named.
const SYNCHRONIZE_V2: i32 = 13_000;

#[repr(C)]
struct Place {
    file: *const c_char,
    base: *mut c_void,
    symbol: *const c_char,
    address: *mut c_void,
}

unsafe extern "C" {
    fn dladdr(address: *const c_void, place: *mut Place) -> c_int;
    fn dlopen(file: *const c_char, mode: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, symbol: *const c_char) -> *mut c_void;
    fn dlclose(library: *mut c_void) -> c_int;
}

unsafe fn find(name: &CStr, version: i32) -> *mut c_void {
    let mut place: Place = std::mem::zeroed();
    if dladdr(find as *const c_void, &mut place) == 0 {
        return null_mut();
    }
    let library = dlopen(place.file, RTLD_LAZY | RTLD_NOLOAD);
    if library.is_null() {
        return null_mut();
    }
    let newer = [name.to_bytes(), b"_v2"].concat();
    let newer = CString::new(newer).unwrap_or_default();
    let is_old = name == c"cuCtxSynchronize" && version < SYNCHRONIZE_V2;
    let mut found = if is_old {
        null_mut()
    } else {
        dlsym(library, newer.as_ptr())
    };
    if found.is_null() {
        found = dlsym(library, name.as_ptr());
    }
    dlclose(library);
    found
}

unsafe fn look_up(
    name: *const c_char,
    out: *mut *mut c_void,
    version: i32,
    status: *mut u32,
) -> Outcome {
    if name.is_null() {
        return Err(INVALID_VALUE);
    }
    let found = find(CStr::from_ptr(name), version);
    put(out, found)?;
    if !status.is_null() {
        status.write(if found.is_null() {
            SYMBOL_NOT_FOUND
        } else {
            FOUND
        });
        return Ok(());
    }
    if found.is_null() {
        Err(NOT_FOUND)
    } else {
        Ok(())
    }
}

driver! {
    fn cuGetProcAddress(name: *const c_char, out: *mut *mut c_void, version: i32, _flags: u64) {
        look_up(name, out, version, null_mut())
    }

    fn cuGetProcAddress_v2(
        name: *const c_char, out: *mut *mut c_void, version: i32, _flags: u64, status: *mut u32,
    ) {
        look_up(name, out, version, status)
    }
}
