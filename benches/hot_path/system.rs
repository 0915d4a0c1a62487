//! The subscribers under test.

use std::path::{Path, PathBuf};

use serde::Serialize;
use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, dispatcher};
use tracing_chrome::ChromeLayerBuilder;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::{Registry, registry};
use tracing_timing::Histogram;

use crate::cortex;

/// A subscriber under test, always on top of [`Registry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum System {
    /// A layer that does nothing: the baseline. The registry alone frees no closed span, so it is none.
    Empty,
    /// Statistics and call tree.
    CortexStats,
    /// The same, and trees of sampled roots: what is collected unless the program says otherwise.
    CortexTrees,
    /// The same, with the resource sampler.
    CortexResources,
    /// Statistics, call tree and a Chrome trace with fields that loses what it cannot keep up with.
    CortexChrome,
    /// The same, but it waits instead.
    CortexChromeBlock,
    /// `CortexChrome` with room for every record, so that counted instructions are never those of a drop.
    CortexChromeRoomy,
    /// tracing-chrome as it comes: without fields.
    TracingChrome,
    /// tracing-chrome with `include_args`.
    TracingChromeArgs,
    /// tracing-timing with one sample per span.
    TracingTiming,
}

impl System {
    pub(crate) const ALL: [System; 10] = [
        System::Empty,
        System::CortexStats,
        System::CortexTrees,
        System::CortexResources,
        System::CortexChrome,
        System::CortexChromeBlock,
        System::CortexChromeRoomy,
        System::TracingChrome,
        System::TracingChromeArgs,
        System::TracingTiming,
    ];

    pub(crate) fn id(self) -> &'static str {
        match self {
            System::Empty => "empty",
            System::CortexStats => "cortex-stats",
            System::CortexTrees => "cortex-trees",
            System::CortexResources => "cortex-resources",
            System::CortexChrome => "cortex-chrome",
            System::CortexChromeBlock => "cortex-chrome-block",
            System::CortexChromeRoomy => "cortex-chrome-roomy",
            System::TracingChrome => "tracing-chrome",
            System::TracingChromeArgs => "tracing-chrome-args",
            System::TracingTiming => "tracing-timing",
        }
    }

    pub(crate) fn parse(id: &str) -> Option<System> {
        System::ALL.into_iter().find(|system| system.id() == id)
    }

    /// Makes the system the default of this process. `folder` is where it may write.
    pub(crate) fn install(self, level: LevelFilter, folder: &Path) -> Installed {
        let path = folder.join("trace.json");
        match self {
            System::Empty => {
                set_default(Empty, level);
                Installed::without_trace()
            }
            System::CortexStats
            | System::CortexTrees
            | System::CortexResources
            | System::CortexChrome
            | System::CortexChromeBlock
            | System::CortexChromeRoomy => cortex::install(self, level, path),
            System::TracingChrome | System::TracingChromeArgs => {
                let (layer, guard) = ChromeLayerBuilder::new()
                    .file(&path)
                    .include_args(self == System::TracingChromeArgs)
                    .build();
                set_default(layer, level);
                Installed {
                    trace: Some(path),
                    finish: Box::new(move || {
                        drop(guard);
                        None
                    }),
                }
            }
            System::TracingTiming => {
                let layer = tracing_timing::Builder::default()
                    .no_span_recursion()
                    .span_close_events()
                    .layer(|| Histogram::new_with_max(1_000_000_000, 2).unwrap());
                let downcaster = layer.downcaster();
                set_default(layer, level);
                Installed {
                    trace: None,
                    finish: Box::new(move || {
                        dispatcher::get_default(|dispatch| {
                            downcaster.downcast(dispatch).unwrap().force_synchronize();
                        });
                        None
                    }),
                }
            }
        }
    }
}

/// A system that is the default of this process.
pub(crate) struct Installed {
    /// The trace file that it writes, if it writes one.
    pub(crate) trace: Option<PathBuf>,
    /// Flushes everything and returns how many span records were dropped, where the system counts that.
    pub(crate) finish: Box<dyn FnOnce() -> Option<u64>>,
}

impl Installed {
    pub(crate) fn without_trace() -> Installed {
        Installed {
            trace: None,
            finish: Box::new(|| None),
        }
    }
}

pub(crate) fn set_default(layer: impl Layer<Registry> + Send + Sync, level: LevelFilter) {
    // A filter that lets everything through is left out: it would be a second layer on the hot path.
    let result = if level == LevelFilter::TRACE {
        tracing::subscriber::set_global_default(registry().with(layer))
    } else {
        tracing::subscriber::set_global_default(registry().with(layer).with(level))
    };
    result.unwrap();
}

struct Empty;

impl<S: Subscriber> Layer<S> for Empty {}
