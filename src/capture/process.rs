//! What the C library tells a process about its end and about forks. The only unsafe code that is in every build.
#![cfg_attr(
    unix,
    expect(
        unsafe_code,
        reason = "`atexit` and `pthread_atfork` have no safe counterpart; without the first `process::exit` loses the \
                  report, without the second a forked child could wait for threads that it does not have"
    )
)]

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static FORKED: AtomicBool = AtomicBool::new(false);

/// Whether this process was forked off one in which a capture ran: it has the capture's memory, but none of its
/// threads, and its locks may be held by threads that do not exist here.
#[inline]
pub(crate) fn is_forked_child() -> bool {
    FORKED.load(Relaxed)
}

/// Learns of forks from now on, and has `at_exit` called when the process exits by `std::process::exit` or by
/// returning from `main`. Only the first call has an effect. Does nothing outside Unix.
pub(crate) fn watch(at_exit: extern "C" fn()) {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| watch_once(at_exit));
}

/// Has `at_exit` called before what drivers registered that were loaded since [`watch`]: the functions are called in
/// reverse order, and a driver that is shut down hands over nothing. Only the first call has an effect.
#[cfg(feature = "cuda")]
pub(crate) fn watch_before_drivers(at_exit: extern "C" fn()) {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| call_at_exit(at_exit));
}

#[cfg(unix)]
fn call_at_exit(at_exit: extern "C" fn()) {
    unsafe extern "C" {
        fn atexit(callback: extern "C" fn()) -> std::ffi::c_int;
    }

    // SAFETY: `atexit` takes a function that may be called once at any time until the process ends. `at_exit` is a
    // plain function, which lives as long as the program, and does not unwind: its caller catches panics inside. Where
    // no memory is left it returns non-zero; then the process has no such hook, which is safe.
    unsafe { atexit(at_exit) };
}

#[cfg(all(not(unix), feature = "cuda"))]
fn call_at_exit(_: extern "C" fn()) {}

#[cfg(unix)]
fn watch_once(at_exit: extern "C" fn()) {
    use std::ffi::c_int;

    type Callback = extern "C" fn();

    unsafe extern "C" {
        fn pthread_atfork(
            prepare: Option<Callback>,
            parent: Option<Callback>,
            child: Option<Callback>,
        ) -> c_int;
    }

    extern "C" fn in_child() {
        FORKED.store(true, Relaxed);
        super::local::ask_again();
    }

    call_at_exit(at_exit);
    // SAFETY: `in_child` is called in a forked child, where only async-signal-safe work is allowed; it does nothing but
    // store to an atomic and to a thread-local variable that has no initialiser and no destructor.
    unsafe { pthread_atfork(None, None, Some(in_child)) };
}

#[cfg(not(unix))]
fn watch_once(_: extern "C" fn()) {}
