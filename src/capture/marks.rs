//! Ranges in another tool for the spans that a thread has entered.
//!
//! A tool only knows a stack per thread. Here there is one range per frame, in the order of the frames: where a span is
//! left before those that were entered after it, their ranges end and begin anew.
//!
//! What is open when the capture ends stays open in the tool: no thread can end the ranges of another.

use std::sync::atomic::Ordering::Relaxed;

use super::capture::Capture;
use super::frame::FRAME_MARKED;
use super::local::{ThreadShared, Work};
use crate::model::SiteId;

/// Begins the range of the frame that is about to be put on the stack; returns the frame's flag.
#[cold]
pub(super) fn entered(
    capture: &Capture,
    shared: &ThreadShared,
    work: &mut Work,
    site: SiteId,
) -> u32 {
    let Some(tool) = &capture.marks else { return 0 };
    debug_assert_eq!(work.marks.len(), shared.depth.load(Relaxed));
    work.marks.push(site);
    tool.push(site);
    FRAME_MARKED
}

/// Ends the range of the frame that was at `at`.
#[cold]
pub(super) fn left(capture: &Capture, work: &mut Work, at: usize) {
    let Some(tool) = &capture.marks else { return };
    if at >= work.marks.len() {
        return;
    }
    for _ in at..work.marks.len() {
        tool.pop();
    }
    work.marks.remove(at);
    for &site in &work.marks[at..] {
        tool.push(site);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use tracing_core::callsite::DefaultCallsite;
    use tracing_core::metadata::Kind;
    use tracing_core::{Level, Metadata, metadata};
    use tracing_subscriber::prelude::*;

    use super::*;
    use crate::capture::lifecycle::Declared;
    use crate::capture::local::with;
    use crate::capture::{CortexLayer, Limits, Overflow, Settings, Streams};
    use crate::capture::{enter, exit, lifecycle};
    use crate::clock::{Clock, ManualClock};
    use crate::model::SpanMarks;

    thread_local! {
        /// What the tool shows on this thread.
        static SHOWN: RefCell<Vec<SiteId>> = const { RefCell::new(Vec::new()) };
    }

    /// A tool that fails where a range ends that was not begun, or has no name.
    #[derive(Clone, Default)]
    struct Tool {
        names: Arc<Mutex<HashMap<SiteId, &'static str>>>,
    }

    impl Tool {
        fn shown(&self) -> Vec<&'static str> {
            let names = self.names.lock().unwrap();
            SHOWN.with_borrow(|shown| shown.iter().map(|site| names[site]).collect())
        }
    }

    impl SpanMarks for Tool {
        fn name(&self, site: SiteId, name: &'static str) {
            let earlier = self.names.lock().unwrap().insert(site, name);
            assert!(earlier.is_none_or(|earlier| earlier == name));
        }

        fn push(&self, site: SiteId) {
            SHOWN.with_borrow_mut(|shown| shown.push(site));
        }

        fn pop(&self) {
            SHOWN.with_borrow_mut(|shown| shown.pop().unwrap());
        }
    }

    macro_rules! site {
        ($name:literal) => {{
            static CALLSITE: DefaultCallsite = DefaultCallsite::new(&METADATA);
            static METADATA: Metadata<'static> = metadata! {
                name: $name,
                target: "test",
                level: Level::INFO,
                fields: &[],
                callsite: &CALLSITE,
                kind: Kind::SPAN,
            };
            &METADATA
        }};
    }

    /// The site of the span with this id; two spans share one.
    fn site_of(id: u64) -> &'static Metadata<'static> {
        match id % 4 {
            0 => site!("a"),
            1 => site!("b"),
            2 => site!("c"),
            _ => site!("d"),
        }
    }

    fn capture(tool: &Tool, ids: bool) -> Capture {
        Capture::new(Settings {
            clock: Clock::manual(ManualClock::new()),
            limits: Limits {
                max_record_bytes: 1 << 20,
                max_tree_nodes: 20,
                max_path_depth: 6,
                max_field_bytes: 100,
                max_open_spans: 100,
            },
            streams: Streams {
                ids,
                ..Streams::default()
            },
            overflow: Overflow::DropNewest,
            held: None,
            ambient: None,
            sampler: None,
            marks: Some(Box::new(tool.clone())),
        })
    }

    fn open(capture: &Capture, id: u64) {
        with(capture, |local| {
            lifecycle::open(capture, local, site_of(id), Declared::Contextual, id)
        });
    }

    fn enter(capture: &Capture, id: u64) {
        with(capture, |local| enter::enter(capture, local, id, || None));
    }

    fn exit(capture: &Capture, id: u64) {
        with(capture, |local| exit::exit(capture, local, id));
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Open(u64),
        Enter(u64),
        Exit(u64),
        Close(u64),
        Reset,
    }

    fn step() -> impl Strategy<Value = Step> {
        let id = 1..=5_u64;
        prop_oneof![
            4 => id.clone().prop_map(Step::Open),
            8 => id.clone().prop_map(Step::Enter),
            8 => id.clone().prop_map(Step::Exit),
            1 => id.prop_map(Step::Close),
            1 => Just(Step::Reset),
        ]
    }

    proptest! {
        #[test]
        fn the_tool_shows_what_is_entered(
            steps in prop::collection::vec(step(), 0..120),
            ids in any::<bool>(),
        ) {
            SHOWN.take();
            let tool = Tool::default();
            let capture = capture(&tool, ids);
            let mut known = [false; 6];
            let mut entered = Vec::new();
            for step in steps {
                match step {
                    Step::Open(id) if !known[id as usize] => {
                        open(&capture, id);
                        known[id as usize] = true;
                    }
                    Step::Open(_) => {}
                    Step::Enter(id) => {
                        enter(&capture, id);
                        if known[id as usize] {
                            entered.push(id);
                        }
                    }
                    Step::Exit(id) => {
                        exit(&capture, id);
                        if let Some(at) = entered.iter().rposition(|entered| *entered == id) {
                            entered.remove(at);
                        }
                    }
                    Step::Close(id) => {
                        with(&capture, |local| lifecycle::close(&capture, local, id));
                        known[id as usize] = false;
                    }
                    Step::Reset => capture.reset(),
                }
                let expected: Vec<_> = entered.iter().map(|id| site_of(*id).name()).collect();
                prop_assert_eq!(tool.shown(), expected, "after {:?}", step);
            }

            // What ends after the capture is nobody's range any more.
            capture.close();
            let open = tool.shown();
            for id in entered {
                exit(&capture, id);
            }
            prop_assert_eq!(tool.shown(), open);
        }
    }

    #[test]
    fn each_thread_has_ranges_of_its_own() {
        let tool = Tool::default();
        let capture = capture(&tool, false);
        for id in 0..4 {
            open(&capture, 4 + id);
        }
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (tool, capture) = (&tool, &capture);
                scope.spawn(move || {
                    for round in 0..200 {
                        let [first, second] = [thread + round, thread + 1].map(|id| 4 + id % 4);
                        enter(capture, first);
                        enter(capture, second);
                        let names = [first, second].map(|id| site_of(id).name());
                        assert_eq!(tool.shown(), names);
                        exit(capture, first);
                        exit(capture, second);
                        assert!(tool.shown().is_empty());
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_ends_the_ranges_that_it_leaves() {
        let tool = Tool::default();
        let layer = CortexLayer::new(Arc::new(capture(&tool, false)));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info_span!("outer").in_scope(|| {
                let caught = std::panic::catch_unwind(|| {
                    let _inner = tracing::info_span!("inner").entered();
                    tracing::info!("events are no ranges");
                    let shown = tool.shown();
                    std::panic::resume_unwind(Box::new(shown));
                });
                let shown = caught.unwrap_err();
                let shown = shown.downcast_ref::<Vec<&str>>().unwrap();
                assert_eq!(*shown, ["outer", "inner"]);
                assert_eq!(tool.shown(), ["outer"]);
            });
        });
        assert!(tool.shown().is_empty());
    }

    #[test]
    fn polls_are_ranges_each() {
        let tool = Tool::default();
        let capture = capture(&tool, false);
        open(&capture, 1);
        for _ in 0..50 {
            enter(&capture, 1);
            assert_eq!(tool.shown(), ["b"]);
            exit(&capture, 1);
            assert!(tool.shown().is_empty());
        }
    }
}
