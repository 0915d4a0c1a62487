//! Ranges in another tool, with the names of the spans.

use super::SiteId;

/// Has another tool show what each thread is in. Every push is followed by one pop on the same thread, and they nest.
///
/// Called from inside the program's spans, so nothing here may wait, panic, or call into the program.
pub(crate) trait SpanMarks: Send + Sync {
    /// Names a site before it is first pushed; told several times, in any order, by any thread.
    fn name(&self, site: SiteId, name: &'static str);

    /// Begins a range on this thread.
    fn push(&self, site: SiteId);

    /// Ends the innermost range of this thread.
    fn pop(&self);
}
