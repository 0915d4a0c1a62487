//! The ways a process ends without dropping the guard.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Once, Weak};

use super::lock;
use super::session::Session;
use crate::capture::process::{is_forked_child, watch};

static SESSIONS: Mutex<Vec<Weak<Session>>> = Mutex::new(Vec::new());

/// Has the session finished when the process exits, or is about to abort.
pub(super) fn register(session: &Arc<Session>) {
    let mut sessions = lock(&SESSIONS);
    sessions.retain(|session| session.strong_count() > 0);
    sessions.push(Arc::downgrade(session));
    drop(sessions);
    watch(at_exit);
    #[cfg(feature = "cuda")]
    if session.gpu.is_some() {
        crate::capture::process::watch_before_drivers(at_exit);
    }
    if cfg!(panic = "abort") {
        hook_panics();
    }
}

fn finish_all() {
    if is_forked_child() {
        return;
    }
    let sessions = std::mem::take(&mut *lock(&SESSIONS));
    for session in sessions.iter().filter_map(Weak::upgrade) {
        // The process is ending; there is nobody left to tell but the report.
        let _ = session.finish();
    }
}

extern "C" fn at_exit() {
    // Unwinding into the C library would abort the process with the wrong status.
    let _ = catch_unwind(AssertUnwindSafe(finish_all));
}

/// Where a panic aborts, no destructor runs: the panic hook is the last chance.
fn hook_panics() {
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            previous(info);
            finish_all();
        }));
    });
}

/// Finishes the session on SIGINT and SIGTERM, then lets the signal have its usual effect.
#[cfg(all(unix, feature = "signals"))]
pub(super) fn on_signals(session: &Arc<Session>) -> std::io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let session = Arc::downgrade(session);
    std::thread::Builder::new()
        .name("cortex-signal".to_owned())
        .spawn(move || {
            crate::capture::suppress_on_this_thread();
            for signal in signals.forever() {
                if let Some(session) = session.upgrade() {
                    let _ = session.finish();
                }
                // Ends the process with the status that the signal gives it.
                let _ = emulate_default_handler(signal);
            }
        })?;
    Ok(())
}
