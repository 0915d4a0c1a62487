//! The sites and threads that records named, kept because operations outlive the records.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{Site, SiteId, Thread};

/// Sites by their id, threads by their index. Copied when something new comes, which is rare, so that rounds that are on
/// their way can go on reading.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    sites: Vec<Option<Arc<Site>>>,
    threads: HashMap<u32, Arc<Thread>>,
    /// The thread that was noted last; records come thread by thread.
    last_thread: Option<u32>,
}

#[inline]
pub(super) fn note_site(known: &mut Arc<Known>, site: &Site) {
    if known.get_site(site.id).is_none() {
        add_site(Arc::make_mut(known), site);
    }
}

#[cold]
fn add_site(known: &mut Known, site: &Site) {
    let index = site.id.0 as usize;
    if known.sites.len() <= index {
        known.sites.resize(index + 1, None);
    }
    if let Some(place) = known.sites.get_mut(index) {
        *place = Some(Arc::new(site.clone()));
    }
}

#[inline]
pub(super) fn note_thread(known: &mut Arc<Known>, thread: &Thread) {
    if known.last_thread != Some(thread.index) {
        add_thread(known, thread);
    }
}

#[cold]
fn add_thread(known: &mut Arc<Known>, thread: &Thread) {
    if known.get_thread(thread.index).is_none() {
        let threads = &mut Arc::make_mut(known).threads;
        threads.insert(thread.index, Arc::new(thread.clone()));
    }
    if let Some(known) = Arc::get_mut(known) {
        known.last_thread = Some(thread.index);
    }
}

impl Known {
    #[inline]
    pub(super) fn get_site(&self, id: SiteId) -> Option<&Site> {
        self.sites.get(id.0 as usize)?.as_deref()
    }

    pub(super) fn get_thread(&self, index: u32) -> Option<&Thread> {
        self.threads.get(&index).map(Arc::as_ref)
    }
}
