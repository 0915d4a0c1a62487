//! The spans as ranges of NVTX, which NVIDIA's tools draw beside kernels and calls.
//!
//! NVTX hands everything to the tool that the process runs under. Without one it has no domain to give, and nothing is
//! marked at all.
#![expect(
    unsafe_code,
    reason = "NVTX is a C library that is opened at run time, because programs run where it is missing"
)]

use std::error::Error;
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::fmt::Write as _;
use std::ptr::NonNull;
use std::sync::OnceLock;

use libloading::Library;

use crate::model::{GpuNotice, SiteId, SpanMarks};

/// That of CUDA 13, then those of older toolkits.
const LIBRARIES: [&str; 3] = [
    "libnvtx3interop.so.1",
    "libnvToolsExt.so.1",
    "libnvToolsExt.so",
];

/// What the tools show the ranges under.
const DOMAIN: &CStr = c"tracing-cortex";

/// Names a site beyond the table, which are far more than any program has.
const OTHER: &CStr = c"(other)";

/// The functions of NVTX that are used, as `nvToolsExt.h` declares them.
#[derive(Clone, Copy)]
struct Table {
    domain_create: unsafe extern "C" fn(*const c_char) -> *mut c_void,
    register_string: unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void,
    range_push: unsafe extern "C" fn(*mut c_void, *const Attributes) -> c_int,
    range_pop: unsafe extern "C" fn(*mut c_void) -> c_int,
}

impl Table {
    fn open(library: &OsStr) -> Result<Table, libloading::Error> {
        // SAFETY: initialisers of NVTX's library set up nothing but variables of its own, on whatever thread loads it.
        let library = unsafe { Library::new(library) }?;
        // SAFETY: the names and types are those of `nvToolsExt.h`, which have not changed since they came with version 2.
        let table = unsafe {
            Table {
                domain_create: *library.get("nvtxDomainCreateA")?,
                register_string: *library.get("nvtxDomainRegisterStringA")?,
                range_push: *library.get("nvtxDomainRangePushEx")?,
                range_pop: *library.get("nvtxDomainRangePop")?,
            }
        };
        // The tool behind it may keep threads and hooks of its own, so it stays until the process ends.
        std::mem::forget(library);
        Ok(table)
    }
}

/// `nvtxEventAttributes_t`.
#[repr(C)]
struct Attributes {
    version: u16,
    size: u16,
    category: u32,
    color_type: i32,
    color: u32,
    payload_type: i32,
    reserved: i32,
    payload: u64,
    message_type: i32,
    message: *const c_void,
}

const NVTX_VERSION: u16 = 3;
const MESSAGE_ASCII: i32 = 1;
const MESSAGE_REGISTERED: i32 = 3;

impl Attributes {
    /// Describes a range that has nothing but a message.
    fn new(message_type: i32, message: *const c_void) -> Attributes {
        Attributes {
            version: NVTX_VERSION,
            size: size_of::<Attributes>() as u16,
            category: 0,
            color_type: 0,
            color: 0,
            payload_type: 0,
            reserved: 0,
            payload: 0,
            message_type,
            message,
        }
    }
}

/// Something of the tool's that is only handed back to it.
#[derive(Debug, Clone, Copy)]
struct Handle(NonNull<c_void>);

// SAFETY: NVTX's functions may be called from any thread with the same handles, and here they are never read through.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

/// A site's name as the tool takes it.
#[derive(Debug)]
enum Name {
    Registered(Handle),
    /// For tools that do not register strings.
    Text(CString),
}

/// The names of the sites, found without a lock.
struct Names {
    chunks: [OnceLock<Box<[OnceLock<Name>; CHUNK]>>; CHUNKS],
}

const CHUNK: usize = 256;
const CHUNKS: usize = 256;

impl Names {
    const fn new() -> Names {
        Names {
            chunks: [const { OnceLock::new() }; CHUNKS],
        }
    }

    fn get(&self, site: SiteId) -> Option<&Name> {
        let at = site.0 as usize;
        self.chunks.get(at / CHUNK)?.get()?[at % CHUNK].get()
    }

    fn get_or_init(&self, site: SiteId, name: impl FnOnce() -> Name) {
        let at = site.0 as usize;
        if let Some(chunk) = self.chunks.get(at / CHUNK) {
            let chunk = chunk.get_or_init(|| Box::new([const { OnceLock::new() }; CHUNK]));
            chunk[at % CHUNK].get_or_init(name);
        }
    }
}

/// The ranges of one capture.
pub(crate) struct Nvtx {
    table: Table,
    domain: Handle,
    names: Names,
}

impl Nvtx {
    /// Opens NVTX; `None` where the process runs under no tool. `library` is another file than the system's.
    pub(crate) fn open(library: Option<&OsStr>) -> Result<Option<Nvtx>, GpuNotice> {
        let candidates = match library {
            Some(library) => vec![library],
            None => LIBRARIES.map(OsStr::new).to_vec(),
        };
        let mut why = String::from(
            "NVTX cannot be opened; it comes with the CUDA toolkit, and LD_LIBRARY_PATH says where to look",
        );
        for library in candidates {
            match Table::open(library) {
                Ok(table) => return Ok(Nvtx::start(table)),
                Err(error) => {
                    // What the system said is the cause. Writing to a string cannot fail.
                    let _ = write!(why, "; {error}");
                    if let Some(cause) = error.source() {
                        let _ = write!(why, ": {cause}");
                    }
                }
            }
        }
        Err(GpuNotice::new("NVTX ranges", why))
    }

    fn start(table: Table) -> Option<Nvtx> {
        // SAFETY: the text ends with a zero and is there for good.
        let domain = unsafe { (table.domain_create)(DOMAIN.as_ptr()) };
        Some(Nvtx {
            table,
            domain: Handle(NonNull::new(domain)?),
            names: Names::new(),
        })
    }

    fn register(&self, name: &str) -> Name {
        // A zero would end the text, and no name has one that a reader could miss.
        let text = CString::new(name.replace('\0', "")).unwrap_or_default();
        // SAFETY: the domain is NVTX's own; the text ends with a zero and outlives the call, which copies it.
        let handle = unsafe { (self.table.register_string)(self.domain.0.as_ptr(), text.as_ptr()) };
        match NonNull::new(handle) {
            Some(handle) => Name::Registered(Handle(handle)),
            None => Name::Text(text),
        }
    }
}

impl SpanMarks for Nvtx {
    fn name(&self, site: SiteId, name: &'static str) {
        self.names.get_or_init(site, || self.register(name));
    }

    fn push(&self, site: SiteId) {
        let (message_type, message) = match self.names.get(site) {
            Some(Name::Registered(handle)) => (MESSAGE_REGISTERED, handle.0.as_ptr().cast_const()),
            Some(Name::Text(text)) => (MESSAGE_ASCII, text.as_ptr().cast()),
            None => (MESSAGE_ASCII, OTHER.as_ptr().cast()),
        };
        let attributes = Attributes::new(message_type, message);
        // SAFETY: the domain is NVTX's own; the attributes and their message outlive the call, which keeps neither.
        unsafe { (self.table.range_push)(self.domain.0.as_ptr(), &raw const attributes) };
    }

    fn pop(&self) {
        // SAFETY: the domain is NVTX's own. A pop without a push is an error code of NVTX's, not undefined.
        unsafe { (self.table.range_pop)(self.domain.0.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::ptr::null_mut;

    use super::*;

    thread_local! {
        static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    fn log(line: String) {
        LOG.with_borrow_mut(|log| log.push(line));
    }

    fn text(text: *const c_char) -> String {
        // SAFETY: everything that is handed over ends with a zero.
        unsafe { CStr::from_ptr(text) }.to_str().unwrap().to_owned()
    }

    /// A handle that is the text itself, kept for good.
    fn keep(kept: *const c_char) -> *mut c_void {
        CString::new(text(kept)).unwrap().into_raw().cast()
    }

    unsafe extern "C" fn create(name: *const c_char) -> *mut c_void {
        log(format!("domain {}", text(name)));
        keep(name)
    }

    unsafe extern "C" fn create_none(_: *const c_char) -> *mut c_void {
        null_mut()
    }

    unsafe extern "C" fn register(domain: *mut c_void, name: *const c_char) -> *mut c_void {
        log(format!("string {} {}", text(domain.cast()), text(name)));
        keep(name)
    }

    unsafe extern "C" fn register_none(_: *mut c_void, _: *const c_char) -> *mut c_void {
        null_mut()
    }

    unsafe extern "C" fn push(domain: *mut c_void, attributes: *const Attributes) -> c_int {
        // SAFETY: the caller has it on its stack.
        let attributes = unsafe { &*attributes };
        assert_eq!((attributes.version, attributes.size), (3, 48));
        let kind = match attributes.message_type {
            MESSAGE_ASCII => "ascii",
            MESSAGE_REGISTERED => "registered",
            other => panic!("{other}"),
        };
        let message = text(attributes.message.cast());
        log(format!("push {} {kind} {message}", text(domain.cast())));
        0
    }

    unsafe extern "C" fn pop(domain: *mut c_void) -> c_int {
        log(format!("pop {}", text(domain.cast())));
        0
    }

    const TOOL: Table = Table {
        domain_create: create,
        register_string: register,
        range_push: push,
        range_pop: pop,
    };

    #[test]
    fn a_name_is_registered_once_and_its_ranges_are_in_the_domain() {
        let nvtx = Nvtx::start(TOOL).unwrap();
        for _ in 0..2 {
            nvtx.name(SiteId(700), "forward");
            nvtx.push(SiteId(700));
            nvtx.pop();
        }
        nvtx.push(SiteId(701));
        nvtx.push(SiteId(u32::MAX));
        let range = [
            "push tracing-cortex registered forward",
            "pop tracing-cortex",
        ];
        let other = "push tracing-cortex ascii (other)";
        let mut expected = vec!["domain tracing-cortex", "string tracing-cortex forward"];
        expected.extend([range, range].concat());
        expected.extend([other, other]);
        assert_eq!(LOG.take(), expected);
    }

    #[test]
    fn a_tool_that_registers_no_strings_gets_the_names_as_they_are() {
        let nvtx = Nvtx::start(Table {
            register_string: register_none,
            ..TOOL
        });
        let nvtx = nvtx.unwrap();
        nvtx.name(SiteId(1), "with\0zero");
        LOG.take();
        nvtx.push(SiteId(1));
        assert_eq!(LOG.take(), ["push tracing-cortex ascii withzero"]);
    }

    #[test]
    fn without_a_tool_there_are_no_marks() {
        let nvtx = Nvtx::start(Table {
            domain_create: create_none,
            ..TOOL
        });
        assert!(nvtx.is_none());
        assert!(LOG.take().is_empty());
    }

    #[test]
    fn a_missing_library_is_named() {
        let missing = OsStr::new("/nonexistent/libnvToolsExt.so.1");
        let Err(notice) = Nvtx::open(Some(missing)) else {
            panic!("it is not there");
        };
        assert_eq!(notice.what, "NVTX ranges");
        assert!(notice.why.contains("/nonexistent/libnvToolsExt.so.1"));
        assert!(notice.why.contains("LD_LIBRARY_PATH"), "{}", notice.why);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_library_without_the_functions_is_refused() {
        let Err(notice) = Nvtx::open(Some(OsStr::new("libc.so.6"))) else {
            panic!("the C library has no ranges");
        };
        assert!(notice.why.contains("nvtxDomainCreateA"), "{}", notice.why);
    }
}
