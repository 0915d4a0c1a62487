//! Opening libraries and looking up what is in them.
#![expect(
    unsafe_code,
    reason = "opening a library runs its initialisers; a symbol has the type that its header says"
)]

use std::error::Error;
use std::ffi::{CStr, OsStr, OsString};

use libloading::Library;

/// Opens the first of these that is there; says what the loader said of the first otherwise.
pub(super) fn open_first(names: &[OsString]) -> Result<Library, String> {
    let mut first = None;
    for name in names {
        // SAFETY: these are NVIDIA's libraries, whose initialisers any program that uses a GPU runs.
        match unsafe { Library::new(name) } {
            Ok(library) => return Ok(library),
            Err(error) => {
                first.get_or_insert_with(|| why_not(name, &error));
            }
        }
    }
    Err(first.unwrap_or_else(|| "no library to look for".to_owned()))
}

/// The loader's own words are the error's source.
fn why_not(name: &OsStr, error: &libloading::Error) -> String {
    let name = name.to_string_lossy();
    let why = error.source().unwrap_or(error).to_string();
    match why.contains(&*name) {
        true => why,
        false => format!("{name}: {why}"),
    }
}

/// Returns the first of these that the program has loaded already.
pub(super) fn open_loaded(names: &[OsString]) -> Option<Library> {
    names.iter().find_map(loaded)
}

#[cfg(unix)]
fn loaded(name: &OsString) -> Option<Library> {
    use libloading::os::unix;

    /// `RTLD_NOLOAD`, which libloading does not name.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const ONLY_IF_LOADED: std::ffi::c_int = 4;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const ONLY_IF_LOADED: std::ffi::c_int = 0x10;
    // SAFETY: nothing is loaded, so nothing is run.
    let library = unsafe { unix::Library::open(Some(name), unix::RTLD_NOW | ONLY_IF_LOADED) };
    library.ok().map(Library::from)
}

#[cfg(not(unix))]
fn loaded(name: &OsString) -> Option<Library> {
    libloading::os::windows::Library::open_already_loaded(name)
        .ok()
        .map(Library::from)
}

/// The symbols of a library.
pub(super) struct Symbols<'a>(&'a Library);

impl<'a> Symbols<'a> {
    pub(super) fn new(library: &'a Library) -> Symbols<'a> {
        Symbols(library)
    }

    /// Returns a symbol's address as a function.
    ///
    /// # Safety
    ///
    /// `T` must be a pointer to a function with the signature that the symbol has, and must not be used after the
    /// library is unloaded.
    pub(super) unsafe fn get<T: Copy>(&self, name: &CStr) -> Result<T, String> {
        // SAFETY: as the caller says.
        match unsafe { self.0.get::<T>(name.to_bytes_with_nul()) } {
            Ok(symbol) => Ok(*symbol),
            Err(_) => Err(format!("it lacks {}", name.to_string_lossy())),
        }
    }
}
